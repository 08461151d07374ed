"""From a decoded video frame to RGB as a player shows it: upright, with square pixels."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
import numpy.typing as npt
from av.sidedata.sidedata import Type as SideDataType
from av.video.reformatter import VideoReformatter

from molmo2_ground.clip import RgbArray
from molmo2_ground.errors import SourceError

# FFmpeg itself refuses about the same area; no camera or screen comes near.
MAX_SIDE_PX = 16384
MAX_PIXELS = MAX_SIDE_PX * MAX_SIDE_PX


def check_size(width_px: int, height_px: int, *, source: str) -> None:
    """Raise `SourceError` for a picture that no memory should be set aside for."""
    if max(width_px, height_px) > MAX_SIDE_PX or width_px * height_px > MAX_PIXELS:
        raise SourceError(
            f"{source} says that its pictures are {width_px}×{height_px} pixels; "
            f"at most {MAX_SIDE_PX} a side are read. The file is damaged, or must be made smaller first."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Orientation:
    """How a stored picture is turned to be shown: first transposed, then flipped."""

    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False

    @classmethod
    def of(cls, frame: av.VideoFrame) -> Orientation:
        """What the frame's display matrix says; upright without one."""
        data = frame.side_data.get(SideDataType.DISPLAYMATRIX)  # type: ignore[call-overload]
        if data is None:
            return cls()
        return cls.from_matrix(np.frombuffer(bytes(data), dtype=np.int32, count=9))

    @classmethod
    def from_matrix(cls, matrix: npt.NDArray[np.int32]) -> Orientation:
        """The nearest of the eight right-angled placements.

        matrix: int32[9], rows (a b u)(c d v)(x y w): a stored point (x, y) is shown at
        (a·x + c·y, b·x + d·y).
        """
        a, b, c, d = (int(matrix[i]) for i in (0, 1, 3, 4))
        if abs(b) + abs(c) > abs(a) + abs(d):
            return cls(transpose=True, flip_x=c < 0, flip_y=b < 0)
        return cls(flip_x=a < 0, flip_y=d < 0)

    def apply(self, rgb: RgbArray) -> RgbArray:
        """The picture as it is shown; a copy only when something turns."""
        if self == Orientation():
            return rgb
        if self.transpose:
            rgb = rgb.transpose(1, 0, 2)
        rgb = rgb[:: -1 if self.flip_y else 1, :: -1 if self.flip_x else 1]
        return np.ascontiguousarray(rgb)


class Painter:
    """Turns decoded frames of one stream into RGB, all in the shown size of the first.

    Players keep their window when a stream changes its size on the way, and so does this.
    """

    def __init__(self, first: av.VideoFrame, *, pixel_aspect: Fraction | None, source: str) -> None:
        aspect = pixel_aspect if pixel_aspect is not None and pixel_aspect > 0 else Fraction(1)
        # Players keep the height and stretch or shrink the width.
        self._stored_size = (max(1, round(first.width * aspect)), first.height)
        check_size(*self._stored_size, source=source)
        self._orientation = Orientation.of(first)
        width, height = self._stored_size
        self.width_px, self.height_px = (height, width) if self._orientation.transpose else (width, height)
        self._reformatter, self._source = VideoReformatter(), source

    def paint(self, frame: av.VideoFrame) -> RgbArray:
        """uint8[height_px, width_px, 3], transparent places white."""
        transparent = any(component.is_alpha for component in frame.format.components)
        width, height = self._stored_size
        # One thread: the decoder has the others, and the result must not depend on how many there are.
        target = "rgba" if transparent else "rgb24"
        try:
            shown = self._reformatter.reformat(frame, width=width, height=height, format=target, threads=1)
        except av.FFmpegError as error:
            raise SourceError(
                f"{self._source}: pictures stored as {frame.format.name} cannot be turned into RGB "
                f"({error.strerror}). Convert the file to H.264 first."
            ) from error
        array = np.asarray(shown.to_ndarray(), dtype=np.uint8)
        return self._orientation.apply(over_white(array) if transparent else array)


def over_white(rgba: npt.NDArray[np.uint8]) -> RgbArray:
    """uint8[h, w, 3] from uint8[h, w, 4]: transparent places show white, as on a page."""
    alpha = rgba[..., 3:].astype(np.uint16)
    blended = (rgba[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255
    return np.asarray(blended, dtype=np.uint8)
