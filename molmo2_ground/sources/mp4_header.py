"""The few facts of an MP4 header that FFmpeg does not pass on: is there one, and what sizes does it claim.

FFmpeg takes the size of the coded picture and forgets what the header said; a header that claims gigantic
pictures is a damaged or hostile file, and a missing one deserves a better sentence than "invalid data".
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_BRANCHES = (b"moov", b"trak", b"mdia", b"minf", b"stbl")
FIRST_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot", b"styp", b"moof")
_PHOTO_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1", b"hevc", b"hevx")
# Boxes are skipped, not read; a file with more of them than this is no film.
_MAX_BOXES = 20000


def lacks_index(path: Path) -> bool:
    """True for an MP4 or MOV without its index (`moov`): one that was cut short while it was written."""
    with path.open("rb") as file:
        top = [kind for kind, _, _ in _boxes(file, 0, path.stat().st_size)]
    return bool(top) and top[0] in FIRST_BOXES and b"moov" not in top


def is_photo(path: Path) -> bool:
    """True for a HEIC photo: built like an MP4, and FFmpeg would show one tile of it as a film."""
    with path.open("rb") as file:
        head = file.read(12)
    return head[4:8] == b"ftyp" and head[8:12] in _PHOTO_BRANDS


def claimed_sizes(path: Path) -> list[tuple[int, int]]:
    """(width, height) in pixels of each video track's sample description and of its place on the screen."""
    sizes = []
    with path.open("rb") as file:
        for track in _tracks(file, path.stat().st_size):
            if track.get(b"hdlr", b"")[8:12] != b"vide":
                continue
            description, header = track.get(b"stsd", b""), track.get(b"tkhd", b"")
            if len(description) >= 44:
                sizes.append((_int(description[40:42]), _int(description[42:44])))
            if len(header) >= 84:
                # 16.16 fixed point, the last eight bytes in both versions of the box
                sizes.append((_int(header[-8:-6]), _int(header[-4:-2])))
    return sizes


def _tracks(file: BinaryIO, size: int) -> Iterator[dict[bytes, bytes]]:
    for kind, start, end in _boxes(file, 0, size):
        if kind != b"moov":
            continue
        for child, child_start, child_end in _boxes(file, start, end):
            if child == b"trak":
                yield dict(_leaves(file, child_start, child_end))


def _leaves(file: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, bytes]]:
    for kind, inner_start, inner_end in _boxes(file, start, end):
        if kind in _BRANCHES:
            yield from _leaves(file, inner_start, inner_end)
        elif kind in (b"tkhd", b"hdlr", b"stsd"):
            file.seek(inner_start)
            yield kind, file.read(min(inner_end - inner_start, 256 if kind != b"tkhd" else 128))


def _boxes(file: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(kind, start, end) of the contents of each box between two places of the file."""
    for _ in range(_MAX_BOXES):
        if start + 8 > end:
            return
        file.seek(start)
        head = file.read(16)
        if len(head) < 8:
            return
        length, kind, header = _int(head[:4]), head[4:8], 8
        if length == 1 and len(head) == 16:
            length, header = _int(head[8:16]), 16
        elif length == 0:  # to the end of the file
            length = end - start
        if length < header:
            return
        yield kind, start + header, min(start + length, end)
        start += length


def _int(data: bytes) -> int:
    return int.from_bytes(data, "big")
