"""What a caller may hand in, and what it turns out to be: pictures at hand, or a film in a file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from PIL import Image

from molmo2_ground.clip import Clip, Frame, RgbArray
from molmo2_ground.errors import SourceError
from molmo2_ground.sources.animation import open_animation
from molmo2_ground.sources.arrays import array_clip, array_frame, is_array
from molmo2_ground.sources.feeds.address import is_address, safe_name
from molmo2_ground.sources.images import file_frame, folder_clip, image_frame, is_animated, opened_image
from molmo2_ground.sources.shots import MovingSource
from molmo2_ground.sources.video import open_video

MediaLike: TypeAlias = (
    "str | os.PathLike[str] | Clip | RgbArray | Image.Image "
    "| Sequence[str | os.PathLike[str] | RgbArray | Image.Image]"
)
_ACCEPTED = "a path, a Clip, an RGB array, a Pillow image, or a list of pictures"


@dataclass(frozen=True, slots=True, kw_only=True)
class FilmFile:
    """A file that holds a film: a video, or an animated picture."""

    path: Path
    animated_image: bool

    @contextmanager
    def opened(self, *, measured: bool = True) -> Iterator[MovingSource]:
        """The film, open; see `open_video` for `measured`."""
        if self.animated_image:
            with open_animation(self.path) as animation:
                yield animation
        else:
            with open_video(self.path, measured=measured) as video:
                yield video


def recognise(media: MediaLike) -> Clip | FilmFile:
    """Pictures as a `Clip`, a film as its file; raises `SourceError` for anything else."""
    if isinstance(media, Clip):
        if not media.frames:
            raise SourceError(f"the clip ({media.source}) holds no pictures")
        return media
    if isinstance(media, str | os.PathLike):
        return _recognise_path(_checked_path(media))
    if isinstance(media, Image.Image):
        return Clip(frames=(image_frame(media, number=0, source="the image"),), source="1 image")
    if is_array(media):
        return array_clip(media)
    if isinstance(media, Sequence) and not isinstance(media, bytes | bytearray | memoryview):
        return _list_clip(media)
    raise SourceError(f"expected {_ACCEPTED}; got {type(media).__name__}")


def _checked_path(media: str | os.PathLike[str]) -> Path:
    text = os.fspath(media)
    if not isinstance(text, str):
        raise SourceError(f"expected {_ACCEPTED}; got a path in bytes")
    # People hand in addresses with passwords, well written or not: none may end up in a log.
    name = safe_name(text)
    if is_address(text):
        raise SourceError(f"expected a file on this machine; got an address. Download it first: {name}")
    if not text or "\0" in text:
        raise SourceError(f"expected {_ACCEPTED}; got the path {name!r}")
    path = Path(text).expanduser()
    try:
        there, readable = path.exists(), path.is_file() or path.is_dir()
        problem = "" if there else f"there is no file {name}"
        if there and not readable:
            problem = f"{name} is no regular file and cannot be read as a video or picture"
    except OSError as error:
        problem = f"{name} cannot be opened: {error.strerror}"
    if problem:
        raise SourceError(problem)  # out here, because an OSError would show the path beside it
    return path


def _recognise_path(path: Path) -> Clip | FilmFile:
    try:
        if path.is_dir():
            return folder_clip(path)
        if path.stat().st_size == 0:
            raise SourceError(f"{path.name} is empty (0 bytes)")
        with opened_image(path) as image:
            if image is None or is_animated(image):
                return FilmFile(path=path, animated_image=image is not None)
            frame = image_frame(image, number=0, source=path.name)
    except OSError as error:
        raise SourceError(f"{path.name} cannot be opened: {error.strerror or error}") from error
    return Clip(frames=(frame,), source=path.name)


def _list_clip(items: Sequence[Any]) -> Clip:
    if not items:
        raise SourceError(f"expected {_ACCEPTED}; got an empty list")
    frames = tuple(_list_frame(item, number=number) for number, item in enumerate(items))
    return Clip(frames=frames, source="1 image" if len(frames) == 1 else f"{len(frames)} images")


def _list_frame(item: Any, *, number: int) -> Frame:
    where = f"item {number + 1} of the list"
    try:
        if isinstance(item, str | os.PathLike):
            path = _checked_path(item)
            if path.is_dir():
                raise SourceError(f"{path.name} is a folder; give it by itself, or list its pictures")
            return file_frame(path, number=number)
        if isinstance(item, Image.Image):
            return image_frame(item, number=number, source="the image")
        if is_array(item):
            return array_frame(item, number=number)
    except SourceError as error:
        raise SourceError(f"{where}: {error}") from error
    except OSError as error:
        raise SourceError(f"{where} cannot be opened: {error.strerror or error}") from error
    raise SourceError(f"{where}: expected a path, an RGB array or a Pillow image; got {type(item).__name__}")
