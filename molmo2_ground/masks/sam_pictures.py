"""`SamPictures`: frames as SAM reads them, without torchvision.

C colours, S pixels of a side.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from molmo2_ground.clip import Frame
from molmo2_ground.errors import CheckpointError
from molmo2_ground.model.weight_files import read_json

# A checkpoint says how its pictures are made in one of these, the first that is there: (file, key in it).
_PLACES: tuple[tuple[str, str | None], ...] = (
    ("video_preprocessor_config.json", None),
    ("preprocessor_config.json", None),
    ("processor_config.json", "video_processor"),
    ("processor_config.json", "image_processor"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SamPictures:
    """Pictures of S x S pixels, whatever their shape was, with each colour brought to mean 0 and spread 1."""

    side_px: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @classmethod
    def of_folder(
        cls, folder: Path, *, side_px: int, mean: tuple[float, ...], std: tuple[float, ...]
    ) -> SamPictures:
        """What a checkpoint's files say; where they say nothing, the published `mean` and `std`.

        side_px: what the network reads. Raises `CheckpointError` when the files ask for another size, or
        cannot be read.
        """
        where, written = _settings(folder)
        size = written.get("size")
        wanted = size if size is not None else {"height": side_px, "width": side_px}
        if not isinstance(wanted, Mapping) or [wanted.get("height"), wanted.get("width")] != [side_px] * 2:
            raise CheckpointError(
                f"{where}: pictures of {wanted}, and config.json's network reads {side_px} px"
            )
        return cls(
            side_px=side_px,
            mean=_three(written.get("image_mean") or mean, where),
            std=_three(written.get("image_std") or std, where),
        )

    def shrunk(self, frame: Frame) -> torch.Tensor:
        """uint8[C, S, S]: bilinear, with the pixels between averaged, as SAM's own processor does it."""
        rgb_HWC = torch.from_numpy(frame.rgb if frame.rgb.flags.writeable else frame.rgb.copy())
        bytes_1CHW = rgb_HWC.permute(2, 0, 1)[None]
        if rgb_HWC.shape[:2] != (self.side_px, self.side_px):
            bytes_1CHW = torch.nn.functional.interpolate(
                bytes_1CHW, size=(self.side_px, self.side_px), mode="bilinear", antialias=True
            )
        return bytes_1CHW[0].contiguous()

    def pixels(self, bytes_CSS: torch.Tensor, *, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
        """[1, C, S, S], as the network reads a picture."""
        mean_C11 = torch.tensor(self.mean, device=device)[:, None, None]
        std_C11 = torch.tensor(self.std, device=device)[:, None, None]
        scaled_CSS = (bytes_CSS.to(device).float() / 255 - mean_C11) / std_C11
        return scaled_CSS[None].to(dtype)


def _settings(folder: Path) -> tuple[Path, Mapping[str, Any]]:
    for name, key in _PLACES:
        if not (folder / name).is_file():
            continue
        written: Any = read_json(folder / name)
        if key is not None:
            written = written.get(key)
        if isinstance(written, Mapping):
            return folder / name, written
    return folder, {}


def _three(numbers: Any, where: Path) -> tuple[float, float, float]:
    try:
        red, green, blue = (float(number) for number in numbers)
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"{where}: expected three numbers for red, green and blue, got {numbers!r}"
        ) from error
    return red, green, blue
