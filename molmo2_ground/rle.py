"""`Rle`, a mask as lengths of runs, in the form that COCO and most video datasets store.

The pixels are read column by column, top to bottom; the runs are background, object, background, …, the
first one 0 long when the top left pixel belongs to the object. Two spellings hold the same runs: a list of
numbers ("uncompressed"), and a string of 6-bit characters ("compressed"), in which every run from the
fourth on is written as the difference to the run two before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

# A character holds five bits of the number and one that says that more follow; 48 keeps it printable.
_FIRST_CHARACTER, _LAST_CHARACTER = 48, 48 + 63
# Twelve characters hold 60 bits: more than any picture has pixels, and no overflow.
_LONGEST_NUMBER = 12


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Crop:
    """The part of a mask that holds the object.

    inside  bool[h, w] of the smallest rectangle around the object, True on it.
    left_px, top_px  where its first pixel lies in the whole mask.
    """

    left_px: int
    top_px: int
    inside: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rle:
    """One mask of a picture of `size_hw` (height, width) pixels.

    counts  the runs as numbers, or the compressed string as bytes; kept as given and read when needed,
            so that a whole dataset of masks stays small. `decode` and `runs` raise `ValueError` when
            they make no mask of this size.
    """

    size_hw: tuple[int, int]
    counts: bytes | tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.size_hw) != 2 or min(self.size_hw) < 1:
            raise ValueError(f"a mask's size is (height, width), both at least 1; got {self.size_hw}")

    @classmethod
    def encode(cls, mask: npt.NDArray[np.bool_]) -> Rle:
        """The compressed form of bool[height, width]."""
        if mask.ndim != 2:
            raise ValueError(f"a mask is bool[height, width]; got shape {list(mask.shape)}")
        height, width = mask.shape
        # Most objects fill a few columns, and reading a picture column by column is slow.
        columns = np.flatnonzero(mask.any(axis=0))
        first, last = (int(columns[0]), int(columns[-1]) + 1) if columns.size else (0, 0)
        pixels = np.zeros((last - first) * height + 2, dtype=bool)
        pixels[1:-1] = np.asarray(mask[:, first:last], dtype=bool).ravel(order="F")
        changes = np.flatnonzero(pixels[1:] != pixels[:-1]) + first * height
        runs = np.diff(changes, prepend=0, append=height * width)
        if changes.size and changes[-1] == height * width:
            runs = runs[:-1]  # the object reaches the last pixel, and no background follows
        return cls(size_hw=(int(height), int(width)), counts=_compress(runs))

    @classmethod
    def from_coco(cls, record: Mapping[str, Any]) -> Rle:
        """Read `{"size": [height, width], "counts": string or list}`, as datasets store it."""
        try:
            size, counts = record["size"], record["counts"]
        except (KeyError, TypeError):
            raise ValueError(f"a mask has the fields size and counts; got {_shortly(record)}") from None
        if not isinstance(size, Sequence) or len(size) != 2:
            raise ValueError(f"a mask's size is [height, width]; got {_shortly(size)}")
        size_hw = int(size[0]), int(size[1])
        if isinstance(counts, str):
            try:
                return cls(size_hw=size_hw, counts=counts.encode("ascii"))
            except UnicodeEncodeError:
                raise ValueError(f"a compressed mask is plain ASCII; got {_shortly(counts)}") from None
        if isinstance(counts, bytes):
            return cls(size_hw=size_hw, counts=counts)
        if not isinstance(counts, Sequence) or not all(isinstance(run, int) for run in counts):
            raise ValueError(
                f"a mask's counts are a string or a list of whole numbers; got {_shortly(counts)}"
            )
        return cls(size_hw=size_hw, counts=tuple(counts))

    def to_coco(self) -> dict[str, Any]:
        """`{"size": [height, width], "counts": str or list}`, ready for JSON."""
        counts = self.counts.decode("ascii") if isinstance(self.counts, bytes) else list(self.counts)
        return {"size": list(self.size_hw), "counts": counts}

    def runs(self) -> npt.NDArray[np.int64]:
        """int64[n]: lengths of the runs, background first. Raises `ValueError` when they make no mask."""
        if isinstance(self.counts, bytes):
            runs = _decompress(self.counts)
        else:
            runs = np.array(self.counts, dtype=np.int64).reshape(-1)
        if runs.size and runs.min() < 0:
            raise ValueError(f"run {int(runs.argmin())} of a mask is {int(runs.min())} pixels long")
        height, width = self.size_hw
        if int(runs.sum()) != height * width:
            raise ValueError(
                f"the runs of a mask cover {int(runs.sum())} pixels; "
                f"expected {height} x {width} = {height * width}"
            )
        return runs

    def decode(self) -> npt.NDArray[np.bool_]:
        """bool[height, width], True on the object. Raises `ValueError` when the runs make no mask."""
        runs = self.runs()
        inside = np.arange(runs.size) % 2 == 1
        height, width = self.size_hw
        return np.repeat(inside, runs).reshape((width, height)).T

    def crop(self) -> Crop | None:
        """The object alone, None for an empty mask: for a small object far cheaper than `decode`.

        Raises `ValueError` when the runs make no mask of this size.
        """
        starts, stops = self._filled()
        box_px = self._box_px(starts, stops)
        if box_px is None:
            return None
        left_px, top_px, right_px, bottom_px = box_px
        rows, columns = bottom_px - top_px, right_px - left_px
        height, _ = self.size_hw
        # A run that goes on into the next column makes the box as high as the mask, and then the pixels
        # of the box follow each other as those of the mask do; else each run lies in one column.
        moved = (starts // height - left_px) * rows + starts % height - top_px
        edges = np.empty(2 * starts.size + 1, dtype=np.int64)
        edges[0:-1:2], edges[1::2], edges[-1] = moved, moved + stops - starts, rows * columns
        inside = np.arange(edges.size) % 2 == 1
        pixels = np.repeat(inside, np.diff(edges, prepend=0)).reshape((columns, rows)).T
        return Crop(left_px=left_px, top_px=top_px, inside=np.ascontiguousarray(pixels))

    @property
    def area_px(self) -> int:
        """How many pixels belong to the object."""
        return int(self.runs()[1::2].sum())

    @property
    def box_px(self) -> tuple[int, int, int, int] | None:
        """(left, top, right, bottom) of the smallest rectangle that holds the object, None when it is empty.

        Outer corners of pixels: right and bottom are the first column and row outside.
        """
        return self._box_px(*self._filled())

    def _filled(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Where the object's runs begin and end, counted in pixels; runs of no length left out."""
        ends = np.cumsum(self.runs())
        starts, stops = ends[0:-1:2], ends[1::2]
        filled = stops > starts
        return starts[filled], stops[filled]

    def _box_px(
        self, starts: npt.NDArray[np.int64], stops: npt.NDArray[np.int64]
    ) -> tuple[int, int, int, int] | None:
        if not starts.size:
            return None
        height, _ = self.size_hw
        first_columns, last_columns = starts // height, (stops - 1) // height
        # A run that goes on into the next column touches the bottom of the one and the top of the other.
        turns = first_columns != last_columns
        tops = np.where(turns, 0, starts % height)
        bottoms = np.where(turns, height - 1, (stops - 1) % height)
        return int(first_columns[0]), int(tops.min()), int(last_columns[-1]) + 1, int(bottoms.max()) + 1

    def overlap_px(self, other: Rle) -> int:
        """How many pixels belong to both objects. Raises `ValueError` for masks of different sizes."""
        if self.size_hw != other.size_hw:
            raise ValueError(f"masks of one picture have one size; got {self.size_hw} and {other.size_hw}")
        mine, theirs = np.cumsum(self.runs()), np.cumsum(other.runs())
        ends = np.union1d(mine, theirs)
        lengths = np.diff(ends, prepend=0)
        # Between two ends nothing changes: inside both where both have passed an odd number of ends.
        inside = np.searchsorted(mine, ends, side="left") % 2 & np.searchsorted(theirs, ends, side="left") % 2
        return int(lengths[inside == 1].sum())

    def iou(self, other: Rle) -> float:
        """Shared pixels over covered pixels, 0 to 1; 1 for two empty masks."""
        shared = self.overlap_px(other)
        covered = self.area_px + other.area_px - shared
        return shared / covered if covered else 1.0

    def covers(self, column: int, row: int) -> bool:
        """True when this pixel lies in the picture and belongs to the object."""
        height, width = self.size_hw
        if not (0 <= column < width and 0 <= row < height):
            return False
        ends = np.cumsum(self.runs())
        return bool(np.searchsorted(ends, column * height + row, side="right") % 2 == 1)


def _compress(runs: npt.NDArray[np.int64]) -> bytes:
    out = bytearray()
    for place, run in enumerate(runs.tolist()):
        left = run - int(runs[place - 2]) if place > 2 else run
        while True:
            bits, left = left & 0x1F, left >> 5
            # The fifth bit is the sign: the number ends when what is left only repeats it.
            done = left == (-1 if bits & 0x10 else 0)
            out.append(_FIRST_CHARACTER + (bits if done else bits | 0x20))
            if done:
                break
    return bytes(out)


def _decompress(counts: bytes) -> npt.NDArray[np.int64]:
    characters = np.frombuffer(counts, dtype=np.uint8).astype(np.int64)
    if not characters.size:
        return np.zeros(0, dtype=np.int64)
    wrong = (characters < _FIRST_CHARACTER) | (characters > _LAST_CHARACTER)
    if wrong.any():
        place = int(wrong.argmax())
        raise ValueError(
            f"character {place} of a compressed mask is {counts[place : place + 1]!r}; "
            f"expected one from {chr(_FIRST_CHARACTER)!r} to {chr(_LAST_CHARACTER)!r}"
        )
    bits = characters - _FIRST_CHARACTER
    last = (bits & 0x20) == 0
    if not last[-1]:
        raise ValueError(f"a compressed mask of {len(counts)} characters ends within a number; it is cut off")
    ends = np.flatnonzero(last)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > _LONGEST_NUMBER:
        raise ValueError(f"a number in a compressed mask is {int(lengths.max())} characters long")
    place_in_number = np.arange(bits.size) - np.repeat(starts, lengths)
    numbers = np.add.reduceat((bits & 0x1F) << (5 * place_in_number), starts)
    negative = (bits[ends] & 0x10) != 0
    numbers = numbers - np.where(negative, np.left_shift(1, 5 * lengths), 0)
    runs = numbers.copy()
    # From the fourth on, each is the difference to the run two before it.
    runs[1::2] = np.cumsum(numbers[1::2])
    runs[2::2] = np.cumsum(numbers[2::2])
    return runs


def _shortly(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
