"""`AnimatedImage`: the frames of a GIF, animated WebP, PNG or AVIF, read like a video."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from PIL import Image

from molmo2_ground.clip import RgbArray
from molmo2_ground.errors import SourceError
from molmo2_ground.sources.images import image_to_rgb, opened_image
from molmo2_ground.sources.losses import Losses
from molmo2_ground.sources.shots import Shot

# Browsers show frames that ask for 10 ms or less for 100 ms: such files come from tools that meant "default".
_LEAST_MS = 10
_DEFAULT_MS = 100


class AnimatedImage:
    """An open animated picture; see `MovingSource` for the fields."""

    def __init__(self, path: Path, image: Image.Image) -> None:
        self.name = path.name
        self.losses = Losses()
        self.lost_at_start, self.lost_at_end = 0, 0  # its frames are counted as they are read
        self.has_audio = False
        self.codec = (image.format or "").lower()
        self.width_px, self.height_px = image.size
        self._image = image
        # The first picture of an animated PNG may be one for viewers that know no animation: not shown.
        self._first = 1 if getattr(image, "default_image", False) else 0
        promised = int(getattr(image, "n_frames", 1)) - self._first
        self._lengths_ms = self._measure()
        if not self._lengths_ms:
            raise SourceError(f"{self.name} is a damaged picture: none of its {promised} frames can be read")
        self.frame_count: int | None = len(self._lengths_ms)
        self.duration_s = sum(self._lengths_ms) / 1000
        self.fps: float | None = len(self._lengths_ms) / self.duration_s
        if len(self._lengths_ms) < promised:
            self.losses.note(f"the file is cut short: it holds {len(self._lengths_ms)} of {promised} frames")

    def _measure(self) -> list[float]:
        """How long each readable frame is shown, milliseconds."""
        lengths: list[float] = []
        try:
            while True:
                self._image.seek(self._first + len(lengths))
                self._image.load()
                length = float(self._image.info.get("duration") or 0)
                lengths.append(length if length > _LEAST_MS else _DEFAULT_MS)
        except (EOFError, OSError, SyntaxError, ValueError):
            # EOFError is Pillow's word for "no more frames"; the others end a damaged file, which is counted.
            return lengths

    def shots(self) -> Iterator[Shot]:
        """Every frame in order of presentation."""
        elapsed_ms = 0.0
        for index, length in enumerate(self._lengths_ms):
            yield Shot(
                index=index,
                time_s=elapsed_ms / 1000,
                end_s=(elapsed_ms + length) / 1000,
                hole_before=False,
                paint=partial(self._paint, index),
            )
            elapsed_ms += length

    def _paint(self, index: int) -> RgbArray:
        self._image.seek(self._first + index)
        return image_to_rgb(self._image.copy(), source=self.name)


@contextmanager
def open_animation(path: Path) -> Iterator[AnimatedImage]:
    """Open an animated picture; raises `SourceError` when no frame can be had."""
    with opened_image(path) as image:
        if image is None:
            raise SourceError(f"{path.name} is no picture")
        yield AnimatedImage(path, image)
