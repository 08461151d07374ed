from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from molmo2_ground.clip import Clip
from molmo2_ground.model import Molmo2
from molmo2_ground.model.flags import InputFlags
from molmo2_ground.model.inputs import Media, VisualInputs
from molmo2_ground.model.vision import FeatureCache, TorchTower, VisionEncoder, normalised


def noise(*shape: int, seed: int = 3) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


MEDIA: dict[str, Media] = {
    "image": [noise(100, 190, 3)],
    "images": [noise(100, 190, 3), noise(20, 20, 3), noise(70, 300, 3)],
    "video": Clip.from_arrays(noise(11, 30, 40, 3), fps=2.0),
}


def visual(model: Molmo2, media: Media) -> VisualInputs:
    built = model.build_visual(media)
    assert built is not None
    return built


class CountingTower:
    """Stands in front of the vision tower's first layer and counts the crops that pass."""

    def __init__(self, network: Any) -> None:
        self.crops: list[int] = []
        self._hook = network.model.vision_tower.layers[0].register_forward_pre_hook(self._count)

    def _count(self, module: Any, arguments: tuple[Any, ...]) -> None:
        self.crops.append(len(arguments[0]))

    def __enter__(self) -> CountingTower:
        return self

    def __exit__(self, *error: object) -> None:
        self._hook.remove()


@pytest.mark.parametrize("media", MEDIA.values(), ids=MEDIA.keys())
@pytest.mark.parametrize("at_once", [1, 3, 100])
@torch.inference_mode()
def test_chunks_give_what_one_run_of_the_library_gives(media: Media, at_once: int, model: Molmo2) -> None:
    pictures = visual(model, media)
    encoder = VisionEncoder(TorchTower(model.network, flags=model.flags, crops_at_once=at_once))
    pixels = normalised(pictures.patches_CNP, flags=model.flags, dtype=torch.float32)
    tower = model.network.model.vision_tower(pixels, output_hidden_states=True)
    features = torch.cat([tower.hidden_states[layer + 1] for layer in (4, 2)], dim=-1)
    expected = model.network.model.multi_modal_projector(features, pictures.pooling_TK).last_hidden_state
    with CountingTower(model.network) as tower_runs:
        torch.testing.assert_close(encoder.encode(pictures), expected, atol=1e-5, rtol=0)
    assert max(tower_runs.crops) <= at_once


@torch.inference_mode()
def test_the_only_crop_of_a_small_image_is_run_once(model: Molmo2) -> None:
    encoder = VisionEncoder(TorchTower(model.network, flags=model.flags))
    with CountingTower(model.network) as tower:
        features = encoder.encode(visual(model, [noise(20, 20, 3)]))
    assert tower.crops == [1]
    assert features.shape == (18, 48)


@torch.inference_mode()
def test_frames_seen_before_are_not_run_again(model: Molmo2) -> None:
    frames = noise(8, 30, 40, 3)
    first = visual(model, Clip.from_arrays(frames[:6], fps=2.0))
    second = visual(model, Clip.from_arrays(frames[2:], fps=2.0))
    encoder = VisionEncoder(TorchTower(model.network, flags=model.flags), cache=FeatureCache(max_bytes=10**6))
    alone = VisionEncoder(TorchTower(model.network, flags=model.flags)).encode(second)
    with CountingTower(model.network) as tower:
        encoder.encode(first)
        overlapping = encoder.encode(second)
    assert tower.crops == [6, 2]
    torch.testing.assert_close(overlapping, alone, atol=1e-6, rtol=0)


@torch.inference_mode()
def test_a_still_scene_is_run_once(model: Molmo2) -> None:
    frames = np.repeat(noise(1, 30, 40, 3), 5, axis=0)
    encoder = VisionEncoder(TorchTower(model.network, flags=model.flags))
    with CountingTower(model.network) as tower:
        features = encoder.encode(visual(model, Clip.from_arrays(frames, fps=2.0)))
    assert tower.crops == [1]
    assert torch.equal(features[:4], features[-4:])


def test_cache_drops_the_oldest() -> None:
    cache = FeatureCache(max_bytes=100)
    features = {
        key: torch.full((10,), number, dtype=torch.float32) for number, key in enumerate([b"a", b"b", b"c"])
    }
    cache.put(b"a", features[b"a"])
    cache.put(b"b", features[b"b"])
    assert cache.get(b"a") is not None
    cache.put(b"c", features[b"c"])
    assert cache.get(b"b") is None
    assert [float(found[0]) for key in (b"a", b"c") if (found := cache.get(key)) is not None] == [0.0, 2.0]
    assert (len(cache), cache.used_bytes) == (2, 80)
    cache.put(b"d", torch.zeros(26))
    assert cache.get(b"d") is None


def test_bytes_become_the_trained_numbers(flags_of: Callable[..., InputFlags]) -> None:
    flags = flags_of("qwen", pixel_mean=(0.5, 0.25, 0.0), pixel_std=(0.5, 0.25, 1.0))
    patches = torch.tensor([[[0, 0, 0, 255, 255, 255]]], dtype=torch.uint8)
    pixels = normalised(patches, flags=flags, dtype=torch.float32)
    torch.testing.assert_close(pixels, torch.tensor([[[-1.0, -1.0, 0.0, 1.0, 3.0, 1.0]]]))
    assert normalised(patches, flags=flags, dtype=torch.bfloat16).dtype == torch.bfloat16
