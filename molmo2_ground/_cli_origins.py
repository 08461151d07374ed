"""`Origins`: which file each result of a batch was made from, kept beside the results.

A result holds the name of its media and no digest, and many cameras write files of one name. The list has a
line a result; the last one counts. A folder that was written before there was a list has none: then what the
result itself holds is compared, once, and noted.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from molmo2_ground.errors import SourceError

if TYPE_CHECKING:
    from molmo2_ground.results import Receipt

# Results are called .json, so that none of them takes this name.
ORIGINS_FILE = "made-from.jsonl"
_PIECE = 65536  # bytes at the start, in the middle and at the end, which cost the same for files of any size


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What a result was made from.

    result  name of the result file;   media  the file or folder of pictures, as a whole path;
    bytes   how large it is, in all;   digest of its size and of pieces of it.
    """

    result: str
    media: str
    bytes: int
    digest: str

    @classmethod
    def of(cls, media: Path, result: Path) -> Origin:
        """Read it from the media; raises `OSError` when they cannot be read."""
        from molmo2_ground.sources.images import picture_files

        files = picture_files(media) if media.is_dir() else [media]
        sizes = [file.stat().st_size for file in files]
        digest = hashlib.sha256()
        for file, size in zip(files, sizes, strict=True):
            digest.update(f"{file.name if media.is_dir() else ''} {size}\n".encode())
            digest.update(_pieces(file, size))
        whole = str(media.absolute())
        return cls(result=result.name, media=whole, bytes=sum(sizes), digest=digest.hexdigest())

    def check(self, now: Origin, result: Path) -> None:
        """Raises `SourceError` when media are other ones, whatever they are called."""
        if self.digest == now.digest:
            return
        if self.media != now.media:
            raise SourceError(
                f"{result} is there and was made from another file, {self.media}; move it away, or choose "
                "another --out"
            )
        raise SourceError(
            f"{result} is there and was made from what this file held before: {self.bytes} bytes, and now "
            f"{now.bytes} others; move it away, or choose another --out"
        )


class Origins:
    """The list of a folder of results."""

    def __init__(self, folder: Path) -> None:
        """Read it; raises `SourceError` when it cannot be."""
        self._path = folder / ORIGINS_FILE
        self._folder = folder
        self._of_result: dict[str, Origin] = {}
        try:
            lines = self._path.read_bytes().splitlines() if self._path.exists() else []
        except OSError as error:
            raise SourceError(f"{self._path} cannot be read: {error.strerror}") from error
        for line in lines:
            origin = _read(line)
            if origin is not None:
                self._of_result[origin.result] = origin

    def of(self, result: Path) -> Origin | None:
        """What a result was made from; None when nobody noted it."""
        return self._of_result.get(result.name)

    def names(self) -> dict[Path, str]:
        """The names, without .json, of the results that there are, by what they were made from."""
        return {
            Path(origin.media): origin.result.removesuffix(".json")
            for origin in self._of_result.values()
            if (self._folder / origin.result).exists()
        }

    def add(self, origin: Origin) -> None:
        """Note an origin. By one write at the end, so that two batches may fill one folder."""
        self._of_result[origin.result] = origin
        line = json.dumps(asdict(origin)).encode() + b"\n"
        with self._path.open("ab+", buffering=0) as file:
            if file.seek(0, os.SEEK_END):
                file.seek(-1, os.SEEK_END)
                # A line that a kill has torn is ended here, so that this one stands by itself.
                line = line if file.read(1) == b"\n" else b"\n" + line
            file.write(line)


def check_receipt(receipt: Receipt, media: Path, result: Path) -> None:
    """Compare what a result of unknown origin holds with media: name, size, and times of its frames.

    A video is read through once. Raises `SourceError` when it is about others, or they cannot be read.
    """
    from molmo2_ground.frame_times import FrameTimes
    from molmo2_ground.sources.film_facts import FilmFacts
    from molmo2_ground.sources.media import FilmFile, recognise

    found = recognise(media)
    source = media.name if isinstance(found, FilmFile) else found.source
    why = f"it is of {receipt.source}" if receipt.source != source else ""
    if not why and isinstance(found, FilmFile):
        facts, times = FilmFacts.of(media), FrameTimes.of(receipt)
        try:
            times.check_size(facts.size_px, name=source)
            times.check_count(len(facts.times_s), name=source)
            for frame in times.times_s:
                there_s = float(facts.times_s[frame])
                times.check(frame, there_s, name=source, frame_s=2 * facts.half_frame_s)
        except ValueError as error:
            why = str(error).partition(";")[0]
    elif not why and not isinstance(found, FilmFile):
        sizes = [(frame.width_px, frame.height_px) for frame in found.frames]
        if sizes != list(receipt.sizes_px or (receipt.size_px,) * len(receipt.frame_source_indices)):
            why = "its pictures are of other sizes"
    if why:
        raise SourceError(
            f"{result} is there and is about other media: {why}; move it away, or choose another --out"
        )


def _read(line: bytes) -> Origin | None:
    """The origin in a line; None for one that a kill has torn, whose result is then compared by itself."""
    try:
        origin = Origin(**json.loads(line))
    except (ValueError, TypeError):
        return None
    whole = all(isinstance(text, str) for text in (origin.result, origin.media, origin.digest))
    return origin if whole else None


def _pieces(file: Path, size: int) -> bytes:
    found = b""
    with file.open("rb") as opened:
        for start in sorted({0, max(0, (size - _PIECE) // 2), max(0, size - _PIECE)}):
            opened.seek(start)
            found += opened.read(_PIECE)
    return found
