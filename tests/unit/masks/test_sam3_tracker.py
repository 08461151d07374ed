from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from molmo2_ground.errors import CheckpointError
from molmo2_ground.masks.choice import segmenter_named
from molmo2_ground.masks.sam2 import Sam2, load_sam2
from molmo2_ground.masks.sam_random import write_random_sam3_tracker
from tests.small_sam import SHORT_MEMORY, KeepsAll, WholeVideo, assert_same, frames, point, walked


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_sam3_tracker(tmp_path_factory.mktemp("sam3"), **SHORT_MEMORY)


@pytest.fixture(scope="module")
def sam(folder: Path) -> Sam2:
    segmenter = segmenter_named(str(folder), device="cpu")
    assert isinstance(segmenter, Sam2)
    return segmenter


def test_a_folder_of_sam_3_is_found_by_what_it_says(sam: Sam2) -> None:
    assert type(sam.network).__name__ == "Sam3TrackerVideoModel"
    assert sam.pictures.mean == (0.5, 0.5, 0.5)


def released_layout(tracker: Path, folder: Path) -> Path:
    """The same weights as `facebook/sam3` holds them: beside a detector, which has the picture's encoder."""
    config = json.loads((tracker / "config.json").read_text())
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "sam3_video", "tracker_config": config}))
    stored = {"detector_model.text_encoder.weight": torch.zeros(3)}
    for name, weight in load_file(tracker / "model.safetensors").items():
        if name.startswith("vision_encoder.backbone."):
            stored["detector_model." + name] = weight
        elif name.startswith("vision_encoder.neck."):
            stored["tracker_neck." + name.removeprefix("vision_encoder.neck.")] = weight
        else:
            stored["tracker_model." + name] = weight
    save_file(stored, folder / "model.safetensors")
    return folder


@pytest.mark.slow
def test_the_tracker_is_read_from_beside_the_detector(sam: Sam2, folder: Path, tmp_path: Path) -> None:
    released = segmenter_named(str(released_layout(folder, tmp_path / "sam3")), device="cpu")
    assert isinstance(released, Sam2)
    shown, points = frames(4), [point(1, 0, 20, 30)]
    assert_same(walked(released, shown, points), walked(sam, shown, points))


@pytest.mark.slow
def test_streaming_equals_the_whole_video(sam: Sam2) -> None:
    shown = frames(12)
    points = [point(1, 0, 20, 30), point(2, 0, 80, 60)]
    whole = WholeVideo(sam, shown)
    whole.tell(*points)
    assert_same(walked(sam, shown, points), whole.propagate(0, 12))


@pytest.mark.slow
def test_what_is_let_go_is_never_looked_at(sam: Sam2) -> None:
    shown = frames(12)
    points = [point(1, 0, 20, 30), point(1, 7, 40, 40)]
    everything = Sam2(sam.checkpoint, sam.network, memory=KeepsAll)
    assert_same(walked(sam, shown, points), walked(everything, shown, points))


def test_a_sam_3_is_no_sam_2(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="load_sam3_tracker reads it"):
        load_sam2(folder, device="cpu")
