"""The vision tower by onnxruntime against the one by torch, from one export a checkpoint."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

if importlib.util.find_spec("onnxruntime") is None or importlib.util.find_spec("onnxscript") is None:
    pytest.skip("onnxruntime is not installed: pip install '.[onnx]'", allow_module_level=True)

import molmo2_ground as mg
from molmo2_ground.cli import main
from molmo2_ground.clip import Clip
from molmo2_ground.errors import BackendError, CheckpointError
from molmo2_ground.model import Molmo2, load_checkpoint, onnx_export
from molmo2_ground.model.checkpoint import open_checkpoint
from molmo2_ground.model.inputs import Media
from molmo2_ground.model.onnx_export import (
    ALLOWED_DIFFERENCE,
    GRAPH_FILE,
    OPSET,
    export_vision,
    read_record,
    relative_difference,
    trial_input,
)
from molmo2_ground.model.onnx_vision import OnnxVision
from molmo2_ground.model.random_checkpoint import Kind, write_random_checkpoint
from molmo2_ground.model.vision import FeatureCache, TorchTower, VisionEncoder
from molmo2_ground.results import Receipt
from molmo2_ground.train.toy.street import make_scene

# An export takes seconds; the many fast tests of when one is needed are in test_onnx_record.py.
pytestmark = pytest.mark.slow

KINDS: tuple[Kind, ...] = ("qwen", "olmo")


def noise(*shape: int, seed: int = 3) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def video(frames: int) -> Clip:
    return Clip.from_arrays(noise(frames, 30, 40, 3, seed=frames), fps=2.0)


def street(seed: int) -> Clip:
    """Two seconds of the toy street, a frame each half second."""
    scene = make_scene(seed, duration_s=3.0)
    return Clip.from_arrays(np.stack([scene.render(n / 2)[0] for n in range(4)]), fps=2.0)


MEDIA: dict[str, Media] = {
    "image-of-several-crops": [noise(100, 190, 3)],
    "image-of-one-crop": [noise(20, 20, 3)],
    "images": [noise(100, 190, 3), noise(20, 20, 3), noise(70, 300, 3)],
    "video-of-1": video(1),
    "video-of-2": video(2),
    "video-of-11": video(11),
    "video-of-32": video(32),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    # Seven patches a side, so that windows of two and of three reach over the edge.
    changes: dict[str, dict[str, Any]] = {"qwen": {"image_size_px": 98}, "olmo": {}}
    return {
        kind: write_random_checkpoint(tmp_path_factory.mktemp(kind), kind=kind, **changes[kind])
        for kind in KINDS
    }


@pytest.fixture(scope="module")
def models(folders: dict[str, Path]) -> dict[str, Molmo2]:
    return {kind: load_checkpoint(folder, device="cpu") for kind, folder in folders.items()}


@pytest.fixture(scope="module")
def exports(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = tmp_path_factory.mktemp("exports")
    for kind in KINDS:
        export_vision(open_checkpoint(folders[kind]), made / kind)
    return {kind: made / kind for kind in KINDS}


def tower(folder: Path, *, crops_at_once: int = 8, dtype: torch.dtype = torch.float32) -> OnnxVision:
    return OnnxVision(
        folder / GRAPH_FILE,
        device=torch.device("cpu"),
        dtype=dtype,
        crops_at_once=crops_at_once,
        provider="cpu",
        threads=1,
    )


@pytest.mark.parametrize("media", MEDIA.values(), ids=MEDIA.keys())
@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_features_are_torch_s(
    kind: str, media: Media, exports: dict[str, Path], models: dict[str, Molmo2]
) -> None:
    model = models[kind]
    visual = model.build_visual(media)
    assert visual is not None
    assert bool((visual.pooling_TK < 0).any()) == (kind == "qwen")
    if media is MEDIA["image-of-several-crops"]:
        assert len(visual.patches_CNP) > 3
    expected = VisionEncoder(TorchTower(model.network, flags=model.flags)).encode(visual)
    for at_once in (1, 3, 100):
        found = VisionEncoder(tower(exports[kind], crops_at_once=at_once)).encode(visual)
        assert found.shape == expected.shape
        assert relative_difference(found, expected) <= ALLOWED_DIFFERENCE


@pytest.mark.parametrize("seed", range(8))
@torch.inference_mode()
def test_any_pooling_gives_what_torch_gives(
    seed: int, exports: dict[str, Path], models: dict[str, Molmo2]
) -> None:
    rng = np.random.default_rng(seed)
    crops, tokens, per_token = (int(n) for n in rng.integers(1, (5, 40, 12)))
    patches, _ = trial_input(models["qwen"].flags, crops=crops, seed=seed)
    pooling = torch.from_numpy(rng.integers(-1, crops * 49, (tokens, per_token)))
    pooling[rng.random(tokens) < 0.3] = -1  # tokens without any patch are dropped by both
    if seed == 0:
        pooling[:] = -1
    expected = TorchTower(models["qwen"].network, flags=models["qwen"].flags).tokens(patches, pooling)
    found = tower(exports["qwen"]).tokens(patches, pooling)
    assert found.shape == expected.shape
    assert len(found) == 0 or relative_difference(found, expected) <= ALLOWED_DIFFERENCE


@torch.inference_mode()
def test_another_checkpoint_s_graph_gives_other_features(
    exports: dict[str, Path], models: dict[str, Molmo2]
) -> None:
    # What the comparisons above would say of a graph that is not right.
    patches, pooling = trial_input(models["qwen"].flags)
    pixels = patches.clone()
    pixels[0, 0, 0] ^= 128
    found = tower(exports["qwen"])
    assert relative_difference(found.tokens(pixels, pooling), found.tokens(patches, pooling)) > 1e-4


@torch.inference_mode()
def test_the_cache_serves_this_tower_too(exports: dict[str, Path], models: dict[str, Molmo2]) -> None:
    visual = models["qwen"].build_visual(video(5))
    assert visual is not None
    encoder = VisionEncoder(tower(exports["qwen"]), cache=FeatureCache(max_bytes=10**6))
    first = encoder.encode(visual)
    encoder.tower = TorchTower(None, flags=models["qwen"].flags)  # would fail if it were asked
    assert torch.equal(encoder.encode(visual), first)


def test_the_graph_is_plain(exports: dict[str, Path]) -> None:
    import onnx

    graph = onnx.load(exports["qwen"] / GRAPH_FILE, load_external_data=False)
    onnx.checker.check_model(str(exports["qwen"] / GRAPH_FILE))
    assert [(opset.domain, opset.version) for opset in graph.opset_import] == [("", OPSET)]
    assert {node.domain for node in graph.graph.node} == {""}
    assert not graph.functions
    assert [given.name for given in graph.graph.input] == ["patches", "pooling"]
    record = read_record(exports["qwen"])
    assert record is not None
    assert (record.opset, record.patches, record.pooling) == (OPSET, ("C", 49, 588), ("T", "K"))
    assert record.difference <= ALLOWED_DIFFERENCE
    assert sorted(path.name for path in exports["qwen"].iterdir()) == sorted([*record.files, "vision.json"])


def test_a_model_loads_with_it_and_numbers_are_the_model_s(
    exports: dict[str, Path], folders: dict[str, Path]
) -> None:
    choice = f"onnx-cpu:{exports['qwen']}"
    model = load_checkpoint(folders["qwen"], device="cpu", dtype="bfloat16", vision=choice)
    assert str(model.vision.tower).endswith("on CPUExecutionProvider")
    visual = model.build_visual(video(2))
    assert visual is not None
    assert model.vision.encode(visual).dtype == torch.bfloat16


def test_logits_are_torch_s(
    exports: dict[str, Path], folders: dict[str, Path], models: dict[str, Molmo2]
) -> None:
    model = load_checkpoint(folders["olmo"], device="cpu", vision=f"onnx:{exports['olmo']}")
    inputs = model.build_inputs(MEDIA["images"], "Point to the mugs.")
    assert relative_difference(model.logits(inputs), models["olmo"].logits(inputs)) <= ALLOWED_DIFFERENCE


def test_an_export_of_another_checkpoint_is_refused_and_kept(
    exports: dict[str, Path], folders: dict[str, Path]
) -> None:
    before = {path.name: path.read_bytes() for path in exports["qwen"].iterdir()}
    with pytest.raises(CheckpointError, match="a stale export, made from"):
        load_checkpoint(folders["olmo"], device="cpu", vision=f"onnx:{exports['qwen']}")
    assert {path.name: path.read_bytes() for path in exports["qwen"].iterdir()} == before


def test_an_export_that_differs_from_torch_is_not_kept(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_export, "ALLOWED_DIFFERENCE", -1.0)
    with pytest.raises(BackendError, match="differs from torch by"):
        export_vision(open_checkpoint(folders["qwen"]), tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_the_tiny_model_answers_the_same_from_its_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    clips = [street(seed) for seed in (3, 7, 11)]

    def answers(vision: str) -> list[Receipt]:
        model = mg.load("tiny", device="cpu", vision=vision)
        return [model.count(clip, phrase).receipt for clip in clips for phrase in ("cars", "the red car")]

    plain, first = answers("torch"), answers("onnx")
    (record,) = tmp_path.rglob("vision.json")
    made = record.stat().st_mtime_ns
    again = answers("onnx")
    assert record.stat().st_mtime_ns == made
    texts = [receipt.raw_text for receipt in plain]
    assert any("<points" in text for text in texts)
    assert [receipt.raw_text for receipt in first] == texts
    assert [receipt.raw_text for receipt in again] == texts
    assert all("+vision-onnx" in receipt.recipe for receipt in first)
    assert not any("+vision-onnx" in receipt.recipe for receipt in plain)


def test_the_command_exports_and_says_where(
    folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "vision", str(folders["qwen"]), "-o", str(tmp_path / "out")]) == 0
    out, err = capsys.readouterr()
    assert out == f"{tmp_path / 'out' / GRAPH_FILE}\n"
    shapes, difference = err.splitlines()
    assert shapes == ("patches uint8[C, 49, 588], pooling int64[T, K] to features float32[T, 48], opset 20")
    assert "differs from torch by" in difference
    assert json.loads((tmp_path / "out" / "vision.json").read_text())["source"] == str(folders["qwen"])
