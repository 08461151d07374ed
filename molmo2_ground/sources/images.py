"""Still pictures: files, folders of them, and what Pillow hands over, as upright RGB."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from molmo2_ground.clip import Clip, Frame, RgbArray
from molmo2_ground.errors import SourceError
from molmo2_ground.sources.picture import check_size, over_white

# By content, not by name. Left out: formats that Pillow recognises by chance or cannot show (MPEG, EPS, PDF).
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000", "ICO", "HEIF")
_ANIMATIONS = ("GIF", "PNG", "WEBP", "AVIF")
_SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("jpg", "jpeg", "jpe", "jfif", "png", "apng", "webp", "gif", "bmp"),
        *("tif", "tiff", "ppm", "pgm", "pbm", "pnm", "avif", "jp2", "ico"),
    )
)


@contextmanager
def opened_image(path: Path) -> Iterator[Image.Image | None]:
    """The picture in a file, its pixels not yet read; None when the file is no picture."""
    Image.init()  # Pillow knows the less common formats only after this; later calls cost nothing
    try:
        with warnings.catch_warnings():
            # Pillow warns of large pictures and odd tags; what cannot be read is an error, the rest is fine.
            warnings.simplefilter("ignore")
            # AVIF needs a Pillow built with it, HEIF (phone photos) a plugin that the caller registered.
            image = Image.open(path, formats=[name for name in _FORMATS if name in Image.OPEN])
    except UnidentifiedImageError:
        yield None
        return
    except Image.DecompressionBombError as error:
        raise SourceError(
            f"{path.name} says that its picture is gigantic; "
            f"at most {2 * (Image.MAX_IMAGE_PIXELS or 0) // 1_000_000} million pixels are read. "
            f"The file is damaged, or must be made smaller first."
        ) from error
    except PermissionError as error:
        raise SourceError(f"{path.name} cannot be opened: permission denied") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise SourceError(f"{path.name} is a damaged picture: {_first_line(error)}") from error
    with image:
        check_size(image.width, image.height, source=path.name)
        yield image


def is_animated(image: Image.Image) -> bool:
    """True for a GIF, PNG, WebP or AVIF with several frames (a TIFF's pages are no film)."""
    return image.format in _ANIMATIONS and getattr(image, "n_frames", 1) > 1


def image_frame(image: Image.Image, *, number: int, source: str) -> Frame:
    """The picture as frame `number`, upright."""
    rgb = image_to_rgb(image, source=source)
    return Frame(rgb=rgb, width_px=rgb.shape[1], height_px=rgb.shape[0], source_index=number)


def image_to_rgb(image: Image.Image, *, source: str) -> RgbArray:
    """uint8[h, w, 3]: turned as its EXIF tag says, transparent places white, 16 bits brought to 8."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image.load()
            upright = ImageOps.exif_transpose(image)
            return _to_rgb(upright, source=source)
    except SourceError:
        raise
    except Exception as error:  # Decoders of hostile bytes raise nearly anything; each means the same here.
        raise SourceError(f"{source} is a damaged picture: {_first_line(error)}") from error


def _to_rgb(image: Image.Image, *, source: str) -> RgbArray:
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise SourceError(
                f"{source} has 32-bit values ({values.min()} to {values.max()}); "
                f"expected 8 or 16 bits a channel. Convert it first."
            )
        gray = ((values + 128) // 257).astype(np.uint8)
        return np.ascontiguousarray(np.repeat(gray[:, :, None], 3, axis=2))
    if image.mode == "F":
        raise SourceError(
            f"{source} has floating-point values, which have no agreed white. Convert it first."
        )
    if "A" in image.getbands() or "a" in image.getbands() or "transparency" in image.info:
        return over_white(np.asarray(image.convert("RGBA")))
    return np.array(image.convert("RGB"))


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0].strip() or type(error).__name__


def picture_files(folder: Path) -> list[Path]:
    """The files in a folder that are called pictures, in natural order: picture i of a result is the i-th."""
    paths = [p for p in folder.iterdir() if p.suffix.lower() in _SUFFIXES and not p.name.startswith(".")]
    return sorted((p for p in paths if p.is_file()), key=_natural)


def folder_clip(folder: Path) -> Clip:
    """The pictures in a folder in natural order (2 before 10); unreadable ones are named in `lost`."""
    paths = picture_files(folder)
    frames: list[Frame] = []
    lost: list[str] = []
    for number, path in enumerate(paths):
        try:
            frames.append(file_frame(path, number=number))
        except SourceError as error:
            lost.append(str(error))
    if not frames:
        found = f"its {len(paths)} image files are all unreadable" if paths else "it holds no image files"
        raise SourceError(
            f"the folder {folder.name} cannot be used: {found}; expected JPEG, PNG, WebP or such"
        )
    return Clip(frames=tuple(frames), source=f"{folder.name}: {_count(len(frames))}", lost=tuple(lost))


def file_frame(path: Path, *, number: int) -> Frame:
    """One image file as frame `number`; raises `SourceError` for anything else."""
    if path.stat().st_size == 0:
        raise SourceError(f"{path.name} is empty (0 bytes)")
    with opened_image(path) as image:
        if image is None or is_animated(image):
            kind = "no picture" if image is None else "an animated picture"
            raise SourceError(
                f"{path.name} is {kind}; a list or folder holds still pictures. Give a video by itself."
            )
        return image_frame(image, number=number, source=path.name)


def _count(number: int) -> str:
    return "1 image" if number == 1 else f"{number} images"


def _natural(path: Path) -> list[tuple[bool, int, str]]:
    parts = re.split(r"(\d+)", path.name.lower())
    return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts]
