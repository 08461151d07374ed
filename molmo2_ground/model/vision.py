"""Pictures to features: the vision tower in chunks, keeping the two layers that the connector reads.

Shapes: C crops or frames, N patches of each, P bytes of a patch, F features of a patch (the kept layers side
by side); T patch tokens, K patches of each, D width of the language model.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from molmo2_ground.model.flags import InputFlags
from molmo2_ground.model.inputs import VisualInputs

# On an accelerator, features of a few hundred frames of a large model; on a CPU, hundreds of a small one's.
_CACHE_BYTES = 256 * 2**20
_CACHE_BYTES_CPU = 32 * 2**20


def feature_cache_bytes(device: torch.device) -> int:
    """Bytes of features that a loaded model keeps on a device, at most."""
    return _CACHE_BYTES_CPU if device.type == "cpu" else _CACHE_BYTES


def crops_at_once(device: torch.device) -> int:
    """Crops that a loaded model's picture tower runs together on a device."""
    return 8 if device.type == "cpu" else 32


class FeatureCache:
    """Features of pictures seen lately, by their pixels; the oldest go first.

    A feature has no time in it, so one frame serves every question and every overlapping window.
    """

    def __init__(self, *, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._kept: OrderedDict[bytes, torch.Tensor] = OrderedDict()
        self.used_bytes = 0

    def get(self, key: bytes) -> torch.Tensor | None:
        """The features kept under `key`, or None."""
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
        return found

    def put(self, key: bytes, features_TD: torch.Tensor) -> None:
        """Keep features; too large ones and the oldest are dropped."""
        if key in self._kept or features_TD.nbytes > self._max_bytes:
            return
        # A copy of its own: a slice would keep its whole chunk alive.
        self._kept[key] = features_TD.clone()
        self.used_bytes += features_TD.nbytes
        while self.used_bytes > self._max_bytes:
            _, dropped = self._kept.popitem(last=False)
            self.used_bytes -= dropped.nbytes

    def __len__(self) -> int:
        return len(self._kept)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Unit:
    """One frame, or one image with its crops; pooling counts from its own first patch."""

    key: bytes
    patches_CNP: torch.Tensor
    pooling_TK: torch.Tensor


def normalised(patches_CNP: torch.Tensor, *, flags: InputFlags, dtype: torch.dtype) -> torch.Tensor:
    """Bytes to the numbers that the tower was trained on, on the device where the bytes are."""
    repeats = patches_CNP.shape[-1] // 3
    device = patches_CNP.device
    # Channels vary fastest inside a patch. Mean and deviation are stated for pixels divided by 255.
    mean = torch.tensor(flags.pixel_mean, device=device).mul(255.0).repeat(repeats)
    std = torch.tensor(flags.pixel_std, device=device).mul(255.0).repeat(repeats)
    return ((patches_CNP.float() - mean) / std).to(dtype)


def patch_features(network: Any, pixels_CNP: torch.Tensor) -> torch.Tensor:
    """Run the vision tower; returns [C, N, F], the layers that the connector reads side by side.

    network: `Molmo2ForConditionalGeneration`; pixels as `normalised` gives them. Layers behind the last one
    that is read are not run, and the others' outputs are not kept.
    """
    tower = network.model.vision_tower
    wanted = [layer % len(tower.layers) for layer in network.config.adapter_config.vision_feature_layer]
    hidden = tower.patch_embedding(pixels_CNP) + tower.positional_embedding[None].to(pixels_CNP.dtype)
    kept: dict[int, torch.Tensor] = {}
    for number, layer in enumerate(tower.layers[: max(wanted) + 1]):
        hidden = layer(hidden, None)
        if number in wanted:
            kept[number] = hidden
    return torch.cat([kept[number] for number in wanted], dim=-1)


def pooled_tokens(network: Any, features_CNF: torch.Tensor, pooling_TK: torch.Tensor) -> torch.Tensor:
    """Pool patches into tokens of the language model's width, [T, D]."""
    tokens: torch.Tensor = network.model.multi_modal_projector(features_CNF, pooling_TK).last_hidden_state
    return tokens


class VisionTower(Protocol):
    """The vision tower and the connector, whatever runs them.

    name           a word for receipts.
    crops_at_once  the encoder gives so many crops at most, unless one image alone has more.
    """

    name: str
    crops_at_once: int

    def tokens(self, patches_CNP: torch.Tensor, pooling_TK: torch.Tensor) -> torch.Tensor:
        """Features of patch tokens, [T, D], on the language model's device and in its numbers.

        patches: uint8. pooling: int64, patches of each token counted over all C crops, -1 where a token has
        fewer; no row is all -1. Both are on the CPU.
        """
        ...


class TorchTower:
    """The library's own modules, on the device where the network is."""

    name = "torch"

    def __init__(self, network: Any, *, flags: InputFlags, crops_at_once: int = 16) -> None:
        """Take the network as loaded. crops_at_once bounds the memory of the tower's run."""
        self._network = network
        self._flags = flags
        self.crops_at_once = crops_at_once

    def tokens(self, patches_CNP: torch.Tensor, pooling_TK: torch.Tensor) -> torch.Tensor:
        """Features of patch tokens, [T, D]; an image of many crops goes through the tower in parts."""
        weight = self._network.model.vision_tower.patch_embedding.weight
        parts = []
        for part in torch.split(patches_CNP, self.crops_at_once):
            pixels = normalised(part.to(weight.device), flags=self._flags, dtype=weight.dtype)
            parts.append(patch_features(self._network, pixels))
        return pooled_tokens(self._network, torch.cat(parts), pooling_TK.to(weight.device))


class VisionEncoder:
    """Turns the pictures of a prompt into one feature a patch token."""

    def __init__(self, tower: VisionTower, *, cache: FeatureCache | None = None) -> None:
        """Take what runs the vision tower; without a cache nothing is kept from one prompt to the next."""
        self.tower = tower
        self._cache = FeatureCache(max_bytes=0) if cache is None else cache

    def encode(self, visual: VisualInputs) -> torch.Tensor:
        """Features of all patch tokens in order, [T, D], on the network's device."""
        units = list(_units(visual))
        known: dict[bytes, torch.Tensor] = {}
        missing: list[_Unit] = []
        for unit in units:
            if unit.key in known:
                continue
            found = self._cache.get(unit.key)
            if found is None:
                missing.append(unit)
            # A placeholder keeps a second copy of the same picture from being run twice.
            known[unit.key] = torch.empty(0) if found is None else found
        for chunk in self._chunks(missing):
            for unit, features in zip(chunk, self._encode_chunk(chunk), strict=True):
                known[unit.key] = features
                self._cache.put(unit.key, features)
        return torch.cat([known[unit.key] for unit in units])

    def _chunks(self, units: list[_Unit]) -> Iterator[list[_Unit]]:
        chunk: list[_Unit] = []
        crops = 0
        for unit in units:
            if chunk and crops + len(unit.patches_CNP) > self.tower.crops_at_once:
                yield chunk
                chunk, crops = [], 0
            chunk.append(unit)
            crops += len(unit.patches_CNP)
        if chunk:
            yield chunk

    def _encode_chunk(self, units: list[_Unit]) -> tuple[torch.Tensor, ...]:
        patches = torch.cat([unit.patches_CNP for unit in units])
        pooling, first_patch = [], 0
        for unit in units:
            pooling.append(torch.where(unit.pooling_TK >= 0, unit.pooling_TK + first_patch, unit.pooling_TK))
            first_patch += unit.patches_CNP.shape[0] * unit.patches_CNP.shape[1]
        tokens = self.tower.tokens(*_without_second_copy(patches, torch.cat(pooling)))
        return torch.split(tokens, [len(unit.pooling_TK) for unit in units])


def _without_second_copy(
    patches_CNP: torch.Tensor, pooling_TK: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """A small image has one crop, and it is the whole image again: one of them is enough."""
    if len(patches_CNP) != 2 or not torch.equal(patches_CNP[0], patches_CNP[1]):
        return patches_CNP, pooling_TK
    patches = patches_CNP.shape[1]
    return patches_CNP[:1], torch.where(pooling_TK >= patches, pooling_TK - patches, pooling_TK)


def _units(visual: VisualInputs) -> Iterator[_Unit]:
    crop = token = 0
    patches_per_crop = visual.patches_CNP.shape[1]
    for unit in visual.units:
        patches = visual.patches_CNP[crop : crop + unit.crops]
        pooling = visual.pooling_TK[token : token + unit.tokens]
        pooling = torch.where(pooling >= 0, pooling - crop * patches_per_crop, pooling)
        digest = hashlib.blake2b(patches.numpy().tobytes(), digest_size=16)
        digest.update(pooling.numpy().tobytes())
        yield _Unit(key=digest.digest(), patches_CNP=patches, pooling_TK=pooling)
        crop += unit.crops
        token += unit.tokens
