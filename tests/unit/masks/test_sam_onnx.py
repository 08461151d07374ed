from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from molmo2_ground.cli import main
from molmo2_ground.errors import CheckpointError
from molmo2_ground.masks.mask_decoder import DecoderGraph, with_decoder
from molmo2_ground.masks.sam2 import Sam2, load_sam2
from molmo2_ground.masks.sam_onnx import (
    DECODER_GRAPH_FILE,
    DECODER_RECORD_FILE,
    GRAPH_FILE,
    RECORD_FILE,
    decoder_inputs,
    export_decoder,
    export_encoder,
    open_decoder,
    open_encoder,
)
from molmo2_ground.masks.sam_random import write_random_sam2
from molmo2_ground.model.onnx_export import ALLOWED_DIFFERENCE, relative_difference
from tests.small_sam import (
    HEIGHT_PX,
    SHORT_MEMORY,
    WIDTH_PX,
    assert_same,
    frames,
    point,
    single_frame,
    walked,
)

# The exporter takes ten seconds and more, whatever the size of the network.
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_sam2(tmp_path_factory.mktemp("sam2"), **SHORT_MEMORY)


@pytest.fixture(scope="module")
def sam(sound: Path) -> Sam2:
    return load_sam2(sound, device="cpu")


@pytest.fixture(scope="module")
def exported(sound: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("onnx") / "deep"
    assert main(["export", "segmenter", str(sound), "-o", str(folder), "--quiet"]) == 0
    return folder


def test_features_are_those_of_torch(sam: Sam2, exported: Path) -> None:
    encoder = open_encoder(sam, exported, provider="cpu")
    assert encoder.provider == "CPUExecutionProvider"
    walk = sam.start(width_px=WIDTH_PX, height_px=HEIGHT_PX)
    for frame in frames(3):
        pixels = sam.pictures.pixels(walk.prepare(frame), device=sam.device, dtype=sam.dtype)
        ours, theirs = encoder.encode(pixels), sam.encoder.encode(pixels)
        for found, expected in zip(ours.levels, theirs.levels, strict=True):
            assert relative_difference(found, expected) < ALLOWED_DIFFERENCE
        assert relative_difference(ours.positions[-1], theirs.positions[-1]) < ALLOWED_DIFFERENCE


def test_masks_are_those_of_torch_but_for_pixels_on_the_rim(sam: Sam2, exported: Path) -> None:
    with_onnx = Sam2(sam.checkpoint, sam.network, encoder=open_encoder(sam, exported))
    shown, points = frames(8), [point(1, 0, 20, 30), point(2, 3, 80, 60), point(1, 5, 60, 20)]
    for ours, theirs in zip(walked(with_onnx, shown, points), walked(sam, shown, points), strict=True):
        assert ours.keys() == theirs.keys()
        for object_id, mask in ours.items():
            assert (mask != theirs[object_id]).mean() < 0.005


@pytest.mark.parametrize(("objects", "points"), [(1, 0), (1, 1), (1, 2), (3, 4)])
def test_decoded_masks_are_those_of_torch(sam: Sam2, exported: Path, objects: int, points: int) -> None:
    decoder, graph = open_decoder(sam, exported, provider="cpu"), DecoderGraph(sam.network).eval()
    assert decoder.provider == "CPUExecutionProvider"
    for seed in range(1, 6):
        inputs = decoder_inputs(sam, objects=objects, points=points, seed=seed)
        ours = decoder.decode(*inputs)
        for name, expected in zip(("masks", "scores", "pointers", "sight"), graph(*inputs), strict=True):
            assert relative_difference(getattr(ours, name), expected) < ALLOWED_DIFFERENCE, (name, seed)


@pytest.mark.parametrize("several", [True, False], ids=["three masks", "one mask"])
@pytest.mark.parametrize("points", [0, 1, 3])
def test_a_frame_is_that_of_the_library(sam: Sam2, exported: Path, points: int, several: bool) -> None:
    other = with_decoder(sam.network, open_decoder(sam, exported))
    for seed in range(1, 6):
        inputs = decoder_inputs(sam, objects=1, points=points, seed=seed)
        ours, theirs = (
            single_frame(network, inputs, points=points, several=several) for network in (other, sam.network)
        )
        for name in ("iou_scores", "pred_masks", "high_res_masks", "object_pointer", "object_score_logits"):
            found, expected = getattr(ours, name), getattr(theirs, name)
            assert relative_difference(found, expected) < ALLOWED_DIFFERENCE, (name, seed)


def test_a_walk_with_both_graphs_is_that_of_torch_but_for_pixels_on_the_rim(
    sound: Path, sam: Sam2, exported: Path
) -> None:
    with_onnx = load_sam2(sound, device="cpu", onnx=exported)
    points = [point(1, 0, 20, 30), point(2, 3, 80, 60), point(1, 5, 60, 20), point(1, 5, 50, 20)]
    for seed in range(3):
        shown = frames(8, seed=seed)
        for ours, theirs in zip(walked(with_onnx, shown, points), walked(sam, shown, points), strict=True):
            assert ours.keys() == theirs.keys()
            for object_id, mask in ours.items():
                assert (mask != theirs[object_id]).mean() < 0.005


def test_an_export_without_a_decoder_leaves_it_to_torch(
    sound: Path, sam: Sam2, exported: Path, tmp_path: Path
) -> None:
    for name in json.loads((exported / RECORD_FILE).read_text())["files"]:
        shutil.copy(exported / name, tmp_path)
    shutil.copy(exported / RECORD_FILE, tmp_path)
    older = load_sam2(sound, device="cpu", onnx=tmp_path)
    by_hand = Sam2(sam.checkpoint, sam.network, encoder=open_encoder(sam, exported))
    assert_same(walked(older, frames(4), [point(1, 0)]), walked(by_hand, frames(4), [point(1, 0)]))


@pytest.mark.parametrize("file", [RECORD_FILE, DECODER_RECORD_FILE])
def test_the_record_says_what_was_exported(sam: Sam2, exported: Path, file: str) -> None:
    written = json.loads((exported / file).read_text())
    assert written["source"] == sam.name
    assert written["side_px"] == 64
    assert written["difference"] < ALLOWED_DIFFERENCE
    stem = file.removesuffix("json")
    assert set(written["files"]) == {path.name for path in exported.glob(f"{stem}*")} - {file}
    assert written["files"].keys() >= {f"{stem}onnx"}


def test_an_export_of_other_weights_is_refused(exported: Path, tmp_path: Path) -> None:
    other = load_sam2(write_random_sam2(tmp_path, seed=1, **SHORT_MEMORY), device="cpu")
    with pytest.raises(CheckpointError, match=r"a stale export, made from .* export it again with: "):
        open_encoder(other, exported)
    with pytest.raises(CheckpointError, match=r"decoder\.json: a stale export, made from .* again with: "):
        open_decoder(other, exported)


def test_a_damaged_export_is_refused(sam: Sam2, exported: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"encoder\.json is missing"):
        open_encoder(sam, tmp_path)
    folder = tmp_path / "damaged"
    shutil.copytree(exported, folder)
    (folder / GRAPH_FILE).write_bytes((folder / GRAPH_FILE).read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"encoder\.onnx: expected \d+ bytes"):
        open_encoder(sam, folder)
    (folder / RECORD_FILE).write_text('{"files": {}}')
    with pytest.raises(CheckpointError, match="is no record of an export"):
        open_encoder(sam, folder)


def test_a_damaged_decoder_is_refused_and_not_left_to_torch(
    sound: Path, exported: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(exported, folder)
    (folder / DECODER_GRAPH_FILE).write_bytes((folder / DECODER_GRAPH_FILE).read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"decoder\.onnx: expected \d+ bytes, got .* again with: "):
        load_sam2(sound, device="cpu", onnx=folder)
    (folder / DECODER_RECORD_FILE).unlink()
    with pytest.raises(CheckpointError, match=r"decoder\.json is missing"):
        load_sam2(sound, device="cpu", onnx=folder)


def test_an_export_is_made_in_float32(sound: Path, tmp_path: Path) -> None:
    rough = load_sam2(sound, device="cpu", dtype="bfloat16")
    for export in (export_encoder, export_decoder):
        with pytest.raises(ValueError, match=r"in float32 on the CPU; this segmenter is in torch\.bfloat16"):
            export(rough, tmp_path)
