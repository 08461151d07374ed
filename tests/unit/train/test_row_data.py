from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from molmo2_ground.errors import SourceError
from molmo2_ground.train.example import PreparedExample
from molmo2_ground.train.example_source import Failure
from molmo2_ground.train.mixture import ExampleKey
from molmo2_ground.train.row_data import open_folders, open_root, row_maker
from molmo2_ground.train.stages import StageConfig, stage1_images, stage2_joint, stage3_long
from tests.made_up_rows import moments, point, row_folder, track_row
from tests.made_up_sets_to_train import FLAGS
from tests.media import Shelf
from tests.trees import CODEC


@pytest.fixture
def root(media: Shelf, tmp_path: Path) -> Path:
    row_folder(media, tmp_path / "mevis_track", track_row("a"), track_row("b"))
    row_folder(media, tmp_path / "minmax_0_5", track_row("c"))
    row_folder(media, tmp_path / "of_another_name", track_row("d"))
    return tmp_path


def test_a_root_holds_the_sets_of_the_table_and_the_rest_is_named(root: Path) -> None:
    data = open_root(root, stage2_joint().mixture)
    assert data.sizes == {"mevis_track": 2, "minmax_0_5": 1}
    shares = data.mixture.shares(data.sizes)
    assert shares == {"mevis_track": pytest.approx(0.5), "minmax_0_5": pytest.approx(0.5)}
    assert len(data.missing) == len(stage2_joint().mixture.members) - 2
    assert {"tgif", "tulu4_max_4096"} < set(data.missing)


def test_a_root_without_any_set_is_an_error_that_names_some(root: Path) -> None:
    with pytest.raises(SourceError, match=r"none of the \d+ data sets .* pixmo_cap_with_transcripts"):
        open_root(root, stage1_images().mixture)


def test_folders_are_drawn_by_their_rates_or_by_the_root_of_their_size(root: Path) -> None:
    paths = [root / "mevis_track", root / "minmax_0_5"]
    rated = open_folders(paths, rates=(1, 3))
    assert rated.mixture.shares(rated.sizes) == {"mevis_track": 0.25, "minmax_0_5": 0.75}
    free = open_folders(paths)
    shares = free.mixture.shares(free.sizes)
    assert shares["mevis_track"] / shares["minmax_0_5"] == pytest.approx(2**0.5)


def test_folders_of_one_name_are_told_apart(media: Shelf, tmp_path: Path) -> None:
    paths = [row_folder(media, tmp_path / name / "rows", track_row()) for name in ("a", "b")]
    assert list(open_folders(paths).folders) == [str(path) for path in paths]


@pytest.mark.parametrize(
    ("names", "rates", "what"),
    [
        ((), (), "one folder of rows or more"),
        (("mevis_track",), (1.0, 2.0), "a rate for each folder, 1 in all"),
        (("mevis_track", "mevis_track"), (), "named twice"),
        (("mevis_track",), (-1.0,), "must be over 0"),
    ],
)
def test_wrong_folders_and_rates_are_told(
    root: Path, names: tuple[str, ...], rates: tuple[float, ...], what: str
) -> None:
    with pytest.raises(ValueError, match=what):
        open_folders([root / name for name in names], rates=rates)


STAGES = [stage1_images(), stage2_joint(), stage3_long(values="released")]


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_what_a_stage_says_reaches_the_examples(root: Path, stage: StageConfig) -> None:
    table = stage2_joint().mixture
    stage = replace(stage, mixture=table, max_frames=7, max_fps=5.0)
    maker = row_maker(open_root(root, table), stage, codec=CODEC, flags=FLAGS, context_tokens=5000)
    assert maker.max_tokens == min(5000, stage.limits.max_tokens)
    assert (maker.writer.rule, maker.seed) == (stage.weight_rule, stage.data_seed)
    pointing, tracking = maker.crops["minmax_0_5"], maker.crops["mevis_track"]
    assert (pointing.max_crops, pointing.high_res_crops, pointing.high_res_share) == (
        stage.image_crops,
        stage.image_crops_large,
        stage.image_share_large,
    )
    assert (tracking.max_crops, tracking.high_res_share) == (stage.image_crops, 0.0)
    parts = maker.sources["mevis_track"].parts(0, rng=np.random.default_rng(0))
    assert parts.clip is not None
    assert {frame.rgb.shape for frame in parts.clip.frames} == {(FLAGS.image_size_px, FLAGS.image_size_px, 3)}
    assert (parts.clip.frames[0].width_px, parts.clip.frames[0].height_px) == (96, 64)


def test_frames_and_pictures_over_the_stage_s_number_are_an_error_of_the_row(root: Path) -> None:
    stage = replace(stage2_joint(), max_frames=2)
    data = open_root(root, stage.mixture)
    maker = row_maker(data, stage, codec=CODEC, flags=FLAGS, context_tokens=5000)
    failure = maker.try_make(ExampleKey(dataset="mevis_track", epoch=0, index=1))
    assert isinstance(failure, Failure)
    assert "row b" in str(failure)
    assert "more than the 2 frames that are shown" in failure.reason


def test_a_row_that_the_validator_refuses_is_an_error_of_the_row(media: Shelf, tmp_path: Path) -> None:
    row_folder(media, tmp_path / "rows", track_row(media=("../rows/clip.mp4",)))
    data = open_folders([tmp_path / "rows"])
    stage = replace(stage2_joint(), mixture=data.mixture)
    maker = row_maker(data, stage, codec=CODEC, flags=FLAGS, context_tokens=4096)
    made = maker.try_make(ExampleKey(dataset="rows", epoch=0, index=0))
    assert isinstance(made, Failure)
    assert "a path below the folder of the rows" in made.reason


def made_of(media: Shelf, folder: Path, **fields: Any) -> PreparedExample | Failure:
    row_folder(media, folder, track_row(**fields))
    data = open_folders([folder])
    stage = replace(stage2_joint(), mixture=data.mixture)
    maker = row_maker(data, stage, codec=CODEC, flags=FLAGS, context_tokens=4096)
    return maker.try_make(ExampleKey(dataset=folder.name, epoch=0, index=0))


def test_places_are_held_against_the_picture_s_own_edges(media: Shelf, tmp_path: Path) -> None:
    far = {"task": ("point",), "label": "dogs", "moments": moments((0.0,), point(1, 900.0))}
    made = made_of(media, tmp_path / "rows", annotations=[far], size_px=())
    assert isinstance(made, Failure)
    assert "outside the picture of 96 x 64 pixels" in made.reason


def test_a_row_of_which_nothing_can_be_asked_says_why(media: Shelf, tmp_path: Path) -> None:
    many = {
        "task": ("point",),
        "label": "dogs",
        "moments": moments((0.0,), *(point(i, float(i)) for i in range(1, 62))),
    }
    made = made_of(media, tmp_path / "rows", annotations=[many])
    assert isinstance(made, Failure)
    assert "nothing of it can be asked: annotations[0]: its answer has 61 points; at most 60" in made.reason
