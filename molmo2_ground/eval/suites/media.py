"""Where a dataset's videos lie, and videos made of a folder of frames or of a part of a longer video."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

from molmo2_ground.clip import Frame, RgbArray
from molmo2_ground.errors import SourceError
from molmo2_ground.eval.suites.records import BadRowError
from molmo2_ground.render.video import write_video
from molmo2_ground.sources import SourceInfo, iter_frames, open_clip, probe

_VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v")
_ORIENTATION = 0x0112  # of EXIF
_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp")


class Shelf:
    """The media files below a folder, found by name without suffix. Headers are opened once each.

    without: folders below it whose files are left alone.
    """

    def __init__(self, folder: Path, suffixes: Sequence[str], *, without: Sequence[Path] = ()) -> None:
        self.folder = folder
        self._suffixes = tuple(suffixes)
        self._without = {path.resolve() for path in without}

    @classmethod
    def of_videos(cls, folder: Path, *, without: Sequence[Path] = ()) -> Shelf:
        """The videos below a folder."""
        return cls(folder, _VIDEO_SUFFIXES, without=without)

    @classmethod
    def of_images(cls, folder: Path, *, without: Sequence[Path] = ()) -> Shelf:
        """The pictures below a folder."""
        return cls(folder, _IMAGE_SUFFIXES, without=without)

    @property
    def paths(self) -> tuple[Path, ...]:
        """All of the files, in the order of their names."""
        return tuple(sorted(path for paths in self._by_stem.values() for path in paths))

    def has(self, *names: str) -> bool:
        """Whether any file is called by one of these names."""
        return any(name in self._by_stem for name in names)

    def find(self, *names: str, within: str = "") -> Path:
        """The file called by the first of these names that there is; raises `BadRowError`.

        within: when several files are called so, the one below a folder whose name starts with this.
        """
        for name in names:
            found = self._by_stem.get(name, [])
            if len(found) > 1 and within:
                found = [path for path in found if self._is_within(path, within)] or found
            if len(found) > 1:
                listed = ", ".join(str(path.relative_to(self.folder)) for path in found[:3])
                raise BadRowError(f"several files are called {name}: {listed}")
            if found:
                return found[0]
        raise BadRowError(f"no file is called {' or '.join(names)} below {self.folder}")

    def info(self, path: Path) -> SourceInfo:
        """What the file's header says; raises `SourceError` when it cannot be opened."""
        if path not in self._infos:
            self._infos[path] = probe(path)
        return self._infos[path]

    def video(self, path: Path, size_px: tuple[int, int] | None = None) -> SourceInfo:
        """The same for a video, of this size when one is given; raises `BadRowError` when it is not."""
        info = self.info(path)
        if info.kind != "video":
            raise BadRowError(f"{path.name} is no video")
        found = info.width_px, info.height_px
        if size_px is not None and found != size_px:
            raise BadRowError(
                f"{path.name} has {found[0]} x {found[1]} pixels; the row says {size_px[0]} x {size_px[1]}"
            )
        return info

    @functools.cached_property
    def _infos(self) -> dict[Path, SourceInfo]:
        return {}

    @functools.cached_property
    def _by_stem(self) -> dict[str, list[Path]]:
        found: dict[str, list[Path]] = {}
        root = self.folder.resolve()
        # Where the shelf itself lies in such a folder, its files are meant.
        without = {folder for folder in self._without if root in folder.parents}
        for path in sorted(self.folder.rglob("*")):
            if without and not without.isdisjoint((root / path.relative_to(self.folder)).parents):
                continue
            if path.suffix.lower() in self._suffixes and path.is_file():
                found.setdefault(path.stem, []).append(path)
        return found

    def _is_within(self, path: Path, within: str) -> bool:
        parents = path.relative_to(self.folder).parts[:-1]
        return any(part.casefold().startswith(within.casefold()) for part in parents)


class Films:
    """Folders of frames, and the videos that are written of them when they are asked about."""

    def __init__(self) -> None:
        self._films: dict[Path, tuple[tuple[Path, ...], tuple[float, ...], float]] = {}

    def add(
        self, folder: Path, names: Sequence[str], *, fps: float, times_s: Sequence[float] | None = None
    ) -> tuple[int, int]:
        """Check the frames of a folder and remember them; gives their (width, height).

        times_s: when each is shown, seconds; without it, frame i at i / fps. Raises `BadRowError` for a
        missing frame, one that cannot be opened, and frames of several sizes.
        """
        if folder not in self._films:
            paths = frame_files(folder, names)
            times = tuple(i / fps for i in range(len(paths))) if times_s is None else tuple(times_s)
            self._films[folder] = paths, times, fps
        return image_size(self._films[folder][0][0])

    def prepare(self, folder: Path, out_folder: Path, *, name: str) -> Path:
        """The video of a folder's frames, written into `out_folder` unless it is there."""
        path = out_folder / f"{name}-{folder.parent.name}-{folder.name}.mp4"
        if not path.exists():
            paths, times_s, fps = self._films[folder]
            write_film(paths, path, times_s=times_s, fps=fps)
        return path


def frame_files(folder: Path, names: Sequence[str]) -> tuple[Path, ...]:
    """The pictures of these names in a folder, of which all must be there and of one size.

    Raises `BadRowError`. Only the headers are read.
    """
    paths: list[Path] = []
    sizes: dict[tuple[int, int], str] = {}
    for name in names:
        path = folder / name if Path(name).suffix.lower() in _IMAGE_SUFFIXES else folder / f"{name}.jpg"
        paths.append(path)
        sizes.setdefault(image_size(path), path.name)
    if len(sizes) > 1:
        listed = ", ".join(f"{name} {width} x {height}" for (width, height), name in sizes.items())
        raise BadRowError(f"the frames of {folder.name} differ in size: {listed}")
    return tuple(paths)


def image_size(path: Path) -> tuple[int, int]:
    """(width, height) of a picture held upright, from its header; raises `BadRowError` for no picture."""
    try:
        with Image.open(path) as image:
            width, height = image.size
            # What follows 4 lies on its side; pictures are read upright.
            turned = image.getexif().get(_ORIENTATION, 1) > 4
            return (height, width) if turned else (width, height)
    except FileNotFoundError:
        raise BadRowError(f"{path.parent.name}/{path.name} is missing") from None
    except (OSError, ValueError) as error:
        raise BadRowError(f"{path.name} cannot be opened as a picture: {error}") from error


def write_film(paths: Sequence[Path], out_path: Path, *, times_s: Sequence[float], fps: float) -> None:
    """A video of these pictures, each shown from its time on."""

    def painted() -> Iterator[tuple[Frame, RgbArray]]:
        for number, (path, time_s) in enumerate(zip(paths, times_s, strict=True)):
            frame = open_clip(path).frames[0]
            yield _at(frame, time_s, number), frame.rgb

    write_video(painted(), out_path, fps=fps)


def cut_film(path: Path, out_path: Path, *, start_s: float, end_s: float, fps: float | None) -> None:
    """The part of a video from `start_s` to `end_s`, both included, with times that start at 0.

    Raises `SourceError` when no frame lies in it.
    """

    def painted() -> Iterator[tuple[Frame, RgbArray]]:
        for number, frame in enumerate(iter_frames(path)):
            time_s = frame.time_s
            assert time_s is not None
            # A frame's time is a rounded one: a thousandth of a second belongs to neither side.
            if start_s - 1e-3 <= time_s <= end_s + 1e-3:
                yield _at(frame, max(0.0, time_s - start_s), number), frame.rgb
            if time_s > end_s:
                return

    try:
        write_video(painted(), out_path, fps=fps)
    except SourceError as error:
        raise SourceError(f"{path.name}, {start_s:g} to {end_s:g} s: {error}") from error


def _at(frame: Frame, time_s: float, number: int) -> Frame:
    return Frame(
        rgb=frame.rgb,
        width_px=frame.width_px,
        height_px=frame.height_px,
        source_index=number,
        time_s=time_s,
        shown_time_s=time_s,
    )
