"""`PictureEncoder`: what makes features of a picture, once for all objects in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PictureFeatures:
    """Features of one picture as the library's sessions hold them, from fine to coarse.

    levels, positions: each a tensor [h * w, 1, channels]; features, and codes of their places.
    """

    levels: list[torch.Tensor]
    positions: list[torch.Tensor]


class PictureEncoder(Protocol):
    """Makes features of pictures."""

    def encode(self, pixels_1CSS: torch.Tensor) -> PictureFeatures:
        """Features of [1, 3, S, S] as `SamPictures.pixels` gives it."""
        ...


class TorchEncoder:
    """The network's own encoder."""

    def __init__(self, network: Any) -> None:
        self._network = network

    def encode(self, pixels_1CSS: torch.Tensor) -> PictureFeatures:
        """As `PictureEncoder`."""
        with torch.inference_mode():
            made = self._network.get_image_features(pixels_1CSS, return_dict=True)
        return PictureFeatures(
            levels=list(made.fpn_hidden_states), positions=list(made.fpn_position_encoding)
        )
