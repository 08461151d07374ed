"""MOT, MOTS and TrackEval's folders as TrackEval's own readers see them."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from molmo2_ground.export import (
    marks_of,
    write_davis,
    write_mots,
    write_tracker_folder,
    write_truth_folder,
    write_youtube_vis,
)
from molmo2_ground.export.marks import MarkedMedia
from molmo2_ground.export.pixels import owners
from molmo2_ground.rle import Rle
from tests.made_marks import masks, tracks

if importlib.util.find_spec("trackeval") is None:
    pytest.skip("TrackEval is not installed: pip install --no-deps trackeval", allow_module_level=True)
if importlib.util.find_spec("pycocotools") is None:
    pytest.skip("pycocotools is not installed: it comes with the extra test", allow_module_level=True)

from pycocotools import mask as coder
from trackeval.datasets import DAVIS, MotChallenge2DBox, MOTSChallenge, YouTubeVIS
from trackeval.metrics import HOTA

pytestmark = [
    pytest.mark.slow,  # TrackEval takes seconds to import
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning"),
]

NAME = "street_one"


def media() -> MarkedMedia:
    return marks_of(tracks(), masks=masks(), frame_count=20)


def folders(tmp_path: Path, dataset: Any, marked: MarkedMedia) -> Any:
    write_truth_folder(marked, tmp_path / "truth", radius_px=3)
    write_tracker_folder(marked, tmp_path / "trackers", radius_px=3)
    return dataset(
        {
            "GT_FOLDER": str(tmp_path / "truth"),
            "TRACKERS_FOLDER": str(tmp_path / "trackers"),
            "BENCHMARK": "molmo2",
            "PRINT_CONFIG": False,
        }
    )


def test_trackeval_reads_both_folders_and_finds_them_equal(tmp_path: Path) -> None:
    marked = media()
    dataset = folders(tmp_path, MotChallenge2DBox, marked)
    assert dataset.seq_list == [NAME]
    assert dataset.seq_lengths == {NAME: 20}
    assert dataset.tracker_list == ["molmo2-ground"]
    raw = dataset.get_raw_seq_data("molmo2-ground", NAME)
    for frame in range(20):
        here = marked.in_frame(frame)
        assert raw["gt_ids"][frame].tolist() == [mark.object_id for mark in here]
        boxes = np.array([mark.extent_px(3) for mark in here], dtype=float).reshape(-1, 4)
        expected = np.column_stack([boxes[:, :2] + 1, boxes[:, 2:] - boxes[:, :2]])
        assert raw["gt_dets"][frame] == pytest.approx(expected, abs=1e-6)
        assert np.array_equal(raw["gt_dets"][frame], raw["tracker_dets"][frame])
    data = dataset.get_preprocessed_seq_data(raw, "pedestrian")
    assert data["num_gt_dets"] == data["num_tracker_dets"] == len(marked.marks)
    assert data["num_gt_ids"] == 3
    assert HOTA().eval_sequence(data)["HOTA"] == pytest.approx(np.ones(19))


def test_trackeval_reads_mots_without_overlaps(tmp_path: Path) -> None:
    marked = media()
    data_folder = tmp_path / "trackers" / "MOTS-train" / "ours" / "data"
    data_folder.mkdir(parents=True)
    write_truth_folder(marked, tmp_path / "truth", radius_px=3, benchmark="MOTS")
    write_mots(marked, tmp_path / "truth" / "MOTS-train" / NAME / "gt" / "gt.txt")
    write_mots(marked, data_folder / f"{NAME}.txt")
    dataset = MOTSChallenge(
        {
            "GT_FOLDER": str(tmp_path / "truth"),
            "TRACKERS_FOLDER": str(tmp_path / "trackers"),
            "PRINT_CONFIG": False,
        }
    )
    raw = dataset.get_raw_seq_data("ours", NAME)  # raises for overlapping masks
    for frame in range(20):
        found = dict(zip(raw["gt_ids"][frame].tolist(), raw["gt_dets"][frame], strict=True))
        here = {mark.object_id: mark.mask for mark in marked.in_frame(frame) if mark.mask is not None}
        assert set(found) == {2000 + object_id for object_id in here}
        if 2 in here and here[2] is not None:
            assert np.array_equal(coder.decode(found[2002]).astype(bool), here[2].decode())
        union = np.zeros((32, 48), dtype=bool)
        for mask in here.values():
            union |= mask.decode()
        read = sum((coder.decode(one).astype(int) for one in found.values()), np.zeros((32, 48), dtype=int))
        assert read.max(initial=0) <= 1
        assert np.array_equal(read > 0, union)
    data = dataset.get_preprocessed_seq_data(raw, "pedestrian")
    assert data["num_gt_ids"] == 2
    assert HOTA().eval_sequence(data)["HOTA"] == pytest.approx(np.ones(19))


def test_trackeval_reads_palette_pictures(tmp_path: Path) -> None:
    marked = media()
    (tmp_path / "trackers" / "ours").mkdir(parents=True)
    write_davis(marked, tmp_path / "truth")
    write_davis(marked, tmp_path / "trackers" / "ours" / "data")
    davis = DAVIS(
        {
            "GT_FOLDER": str(tmp_path / "truth"),
            "TRACKERS_FOLDER": str(tmp_path / "trackers"),
            "SEQS_TO_EVAL": [NAME],
            "PRINT_CONFIG": False,
        }
    )
    raw = davis.get_raw_seq_data("ours", NAME)
    assert raw["num_timesteps"] == 16
    assert np.array_equal(coder.decode(raw["gt_dets"][0][1]).astype(bool), masks().dense(2, 0))
    for frame in range(16):
        both = zip(raw["gt_dets"][frame], raw["tracker_dets"][frame], strict=True)
        assert all(coder.iou([truth], [found], [False])[0][0] == 1 for truth, found in both)
        owner, _ = owners(marked.in_frame(frame), (48, 32))
        assert sum(coder.area(one) for one in raw["gt_dets"][frame]) == np.count_nonzero(owner)


def test_trackeval_reads_youtube_vis(tmp_path: Path) -> None:
    marked = media()
    truth = tmp_path / "truth" / "youtube_vis_train_sub_split"
    data = tmp_path / "trackers" / "youtube_vis_train_sub_split" / "ours" / "data"
    for folder in (truth, data):
        folder.mkdir(parents=True)
    write_youtube_vis(marked, truth / "all.json")
    found = json.loads((truth / "all.json").read_text())["annotations"]
    for annotation in found:
        annotation["score"] = 1.0
        annotation["segmentations"] = [
            None if one is None else Rle.encode(Rle.from_coco(one).decode()).to_coco()
            for one in annotation["segmentations"]
        ]
    (data / "all.json").write_text(json.dumps(found))
    dataset = YouTubeVIS(
        {
            "GT_FOLDER": f"{tmp_path / 'truth'}/",
            "TRACKERS_FOLDER": f"{tmp_path / 'trackers'}/",
            "PRINT_CONFIG": False,
        }
    )
    raw = dataset.get_raw_seq_data("ours", NAME)
    assert raw["num_timesteps"] == 16
    for frame in range(16):
        here = [mark.mask.decode() for mark in marked.in_frame(frame) if mark.mask is not None]
        read = [coder.decode(one).astype(bool) for one in raw["gt_dets"][frame]]
        assert len(read) == len(here)
        assert all(np.array_equal(ours, theirs) for ours, theirs in zip(here, read, strict=True))
        assert np.array_equal(np.diag(raw["similarity_scores"][frame]), np.ones(len(here)))
