"""Arrays handed in by the caller: checked, and told apart from the usual mistakes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from molmo2_ground.clip import Clip, Frame, RgbArray
from molmo2_ground.errors import SourceError
from molmo2_ground.sources.picture import over_white

_CHANNELS = (1, 3, 4)
_EXPECTED = "expected RGB uint8[height, width, 3] with values 0–255"


def is_array(media: object) -> bool:
    """True for NumPy arrays and for what turns into one (a torch tensor in main memory)."""
    return isinstance(media, np.ndarray) or hasattr(media, "__array__")


def array_clip(media: Any) -> Clip:
    """Still pictures from one array: [h, w], [h, w, 1|3|4] or [n, h, w, 1|3|4]."""
    array = _as_uint8(media)
    if array.ndim != 4:
        return Clip(frames=(array_frame(array, number=0),), source="array")
    if array.shape[0] == 0:
        raise SourceError(f"the array holds no pictures: shape {list(array.shape)}")
    return Clip(frames=tuple(array_frame(a, number=i) for i, a in enumerate(array)), source="array")


def array_frame(media: Any, *, number: int) -> Frame:
    """One picture as frame `number`; gray becomes RGB, transparent places become white."""
    rgb = _to_rgb(_as_uint8(media))
    return Frame(rgb=rgb, width_px=rgb.shape[1], height_px=rgb.shape[0], source_index=number)


def _as_uint8(media: Any) -> npt.NDArray[np.uint8]:
    try:
        array = np.asarray(media)
    except (TypeError, ValueError, RuntimeError) as error:
        # A tensor on an accelerator, or one that keeps gradients, says so itself.
        raise SourceError(
            f"{_EXPECTED}; a {type(media).__name__} cannot be turned into it: {error}"
        ) from error
    if array.dtype == np.uint8:
        return array
    hint = "Convert with .astype(numpy.uint8)."
    if array.dtype.kind == "f":
        hint = "If white is 1.0, convert with (255 * a).round().astype(numpy.uint8)."
    elif array.dtype == np.uint16:
        hint = "If white is 65535, convert with (a >> 8).astype(numpy.uint8)."
    raise SourceError(f"{_EXPECTED}; got {array.dtype}{list(array.shape)}. {hint}")


def _to_rgb(array: npt.NDArray[np.uint8]) -> RgbArray:
    shape = list(array.shape)
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in _CHANNELS:
        hint = ""
        if array.ndim == 3 and array.shape[0] in _CHANNELS:
            hint = " The channels seem to come first: turn them with numpy.moveaxis(a, 0, -1)."
        raise SourceError(f"{_EXPECTED}; got uint8{shape}.{hint}")
    if 0 in array.shape:
        raise SourceError(f"{_EXPECTED}; got a picture without pixels: uint8{shape}")
    if array.shape[2] == 4:
        return over_white(array)
    return np.ascontiguousarray(np.repeat(array, 3, axis=2) if array.shape[2] == 1 else array)
