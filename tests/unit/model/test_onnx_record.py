"""Which exports belong to a checkpoint. None of these needs onnx or onnxruntime."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from molmo2_ground.errors import CheckpointError, MissingExtraError
from molmo2_ground.model import load_checkpoint
from molmo2_ground.model.checkpoint import Checkpoint, open_checkpoint
from molmo2_ground.model.onnx_export import (
    ExportRecord,
    export_vision,
    read_record,
    vision_digest,
    vision_graph,
)
from molmo2_ground.model.onnx_vision import cache_folder, check_fresh
from tests.fake_onnxruntime import CPU, FakeOnnxruntime

RECORD = ExportRecord(
    format="molmo2-ground/vision-onnx/1",
    source="a/model",
    revision=None,
    digest="0123456789abcdef",
    opset=20,
    dtype="float32",
    patches=("C", 36, 588),
    pooling=("T", "K"),
    features=("T", 48),
    difference=1e-6,
    files={"vision.onnx": 3},
    made_by={"torch": "2"},
)


@pytest.fixture
def checkpoint(folders: dict[str, Path]) -> Checkpoint:
    return open_checkpoint(folders["qwen"])


def changed(folder: Path, target: Path, name: str) -> Checkpoint:
    """A copy of a checkpoint with the first number of one weight changed a little."""
    shutil.copytree(folder, target)
    weights = load_file(target / "model.safetensors")
    (found,) = [key for key in weights if name in key]
    weights[found].view(-1)[0] += 1e-3
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
    return open_checkpoint(target)


def with_settings(
    folder: Path, target: Path, change: Callable[[dict[str, Any]], None], *files: str
) -> Checkpoint:
    """A copy of a checkpoint with settings changed in the files named."""
    shutil.copytree(folder, target)
    for file in files:
        settings = json.loads((target / file).read_text())
        change(settings)
        (target / file).write_text(json.dumps(settings))
    return open_checkpoint(target)


@pytest.mark.slow
def test_the_digest_is_the_same_for_the_same_files(checkpoint: Checkpoint, tmp_path: Path) -> None:
    shutil.copytree(checkpoint.folder, tmp_path / "copy")
    digest = vision_digest(checkpoint)
    assert len(digest) == 32
    assert vision_digest(open_checkpoint(tmp_path / "copy")) == digest


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        pytest.param("image_vit.patch_embedding.weight", id="tower"),
        pytest.param("image_pooling_2d.wq.weight", id="connector"),
        pytest.param("image_projector.w3.weight", id="projector"),
    ],
)
def test_the_digest_follows_every_vision_weight(checkpoint: Checkpoint, tmp_path: Path, name: str) -> None:
    other = changed(checkpoint.folder, tmp_path / "other", name)
    assert vision_digest(other) != vision_digest(checkpoint)


@pytest.mark.slow
def test_the_digest_does_not_follow_the_language_model(checkpoint: Checkpoint, tmp_path: Path) -> None:
    other = changed(checkpoint.folder, tmp_path / "other", "transformer.ln_f.weight")
    assert vision_digest(other) == vision_digest(checkpoint)


@pytest.mark.slow
def test_the_digest_follows_the_settings_of_pictures_and_tower(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    def brighter(settings: dict[str, Any]) -> None:
        settings["image_mean"] = [0.4, 0.5, 0.5]

    def other_layers(settings: dict[str, Any]) -> None:
        settings["adapter_config"]["vit_layers"] = [-1, -4]

    folder = checkpoint.folder
    others = [
        # Both kinds of pictures are to be read alike, so both files change.
        with_settings(
            folder,
            tmp_path / "pictures",
            brighter,
            "preprocessor_config.json",
            "video_preprocessor_config.json",
        ),
        with_settings(folder, tmp_path / "layers", other_layers, "config.json"),
    ]
    digests = {vision_digest(one) for one in (checkpoint, *others)}
    assert len(digests) == 3


@pytest.mark.slow
def test_the_module_of_the_graph_gives_what_the_loaded_network_gives(
    folders: dict[str, Path], checkpoint: Checkpoint
) -> None:
    model = load_checkpoint(folders["qwen"], device="cpu")
    patches = torch.randint(
        0, 256, (3, 36, 588), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    pooling = torch.arange(3 * 36).reshape(-1, 4)
    pooling[::2, 2:] = -1
    with torch.inference_mode():
        expected = model.vision.tower.tokens(patches, pooling)
        found = vision_graph(checkpoint)(patches, pooling)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_no_weight_of_the_language_model_is_read(checkpoint: Checkpoint) -> None:
    network = vision_graph(checkpoint)._tower[0]
    assert network.model.language_model.embed_tokens.weight.is_meta
    assert not [name for name, weight in network.model.vision_tower.named_parameters() if weight.is_meta]


def write(folder: Path, record: ExportRecord) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "vision.json").write_text(json.dumps(dataclasses.asdict(record)))


def test_a_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    (tmp_path / "vision.onnx").write_bytes(b"123")
    write(tmp_path, RECORD)
    assert read_record(tmp_path) == RECORD


def test_a_folder_without_a_record_holds_no_export(tmp_path: Path) -> None:
    (tmp_path / "vision.onnx").write_bytes(b"123")
    assert read_record(tmp_path) is None
    assert read_record(tmp_path / "nothing") is None


@pytest.mark.parametrize(
    ("text", "graph", "message"),
    [
        pytest.param("{", b"123", "cannot be read as JSON", id="no-json"),
        pytest.param('{"format": "x"}', b"123", "is no record of an export", id="a-field-is-missing"),
        pytest.param(None, b"12", "expected 3 bytes, got 2", id="graph-cut-short"),
        pytest.param(None, None, "expected 3 bytes, got no file", id="graph-gone"),
    ],
)
def test_a_damaged_export_is_one_line(
    tmp_path: Path, text: str | None, graph: bytes | None, message: str
) -> None:
    write(tmp_path, RECORD)
    if text is not None:
        (tmp_path / "vision.json").write_text(text)
    if graph is not None:
        (tmp_path / "vision.onnx").write_bytes(graph)
    with pytest.raises(CheckpointError, match=message) as caught:
        read_record(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_stale_export_is_refused_in_one_line(checkpoint: Checkpoint) -> None:
    check_fresh(RECORD, checkpoint, digest=RECORD.digest, folder=Path("out"))
    with pytest.raises(CheckpointError) as caught:
        check_fresh(RECORD, checkpoint, digest="fedcba9876543210", folder=Path("out"))
    message = str(caught.value)
    assert "\n" not in message
    for part in ("a/model", "0123456789ab", "fedcba987654", checkpoint.model_id, "export vision", "-o out"):
        assert part in message


def test_an_export_without_onnx_says_what_to_install(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", FakeOnnxruntime(lists=[CPU], works=[CPU]))
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingExtraError, match=r"onnx is needed.*molmo2-ground\[onnx\]"):
        export_vision(checkpoint, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_model_is_not_loaded_when_onnxruntime_is_missing(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r"molmo2-ground\[onnx\].*\[onnx-gpu\]"):
        load_checkpoint(folders["qwen"], device="cpu", vision="onnx")


def test_exports_are_kept_in_the_user_s_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    kept = cache_folder("allenai/Molmo2 4B", "0123456789abcdef99")
    assert kept == Path("/somewhere/molmo2-ground/vision/Molmo2-4B-0123456789abcdef")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder("tiny", "01").is_relative_to(Path.home() / ".cache")
