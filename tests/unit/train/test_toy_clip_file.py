from __future__ import annotations

import json
from dataclasses import replace
from itertools import product
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from molmo2_ground.train.toy.clip_file import (
    frame_count,
    mask_from_runs,
    run_lengths,
    write_clip,
    write_truth,
)
from molmo2_ground.train.toy.scene import Scene
from molmo2_ground.train.toy.sprites import COLOUR_RGB
from molmo2_ground.train.toy.stamp import Bytes
from molmo2_ground.train.toy.street import make_scene


@pytest.fixture(scope="module")
def scene() -> Scene:
    return make_scene(8, duration_s=0.8)


def test_a_clip_is_a_file_that_browsers_play(scene: Scene, tmp_path: Path) -> None:
    path = tmp_path / "street.mp4"
    write_clip(scene, path, fps=10)
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        assert video.codec_context.name == "h264"
        assert video.pix_fmt == "yuv420p"
        assert video.average_rate == 10
        assert not container.streams.audio
        frames = list(container.decode(video=0))
    assert [round(frame.time * 10) for frame in frames if frame.time is not None] == list(range(8))
    for index, frame in enumerate(frames):
        drawn = scene.render(index / 10)[0].astype(np.float64)
        assert np.abs(frame.to_ndarray(format="rgb24") - drawn).mean() < 8
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    assert [p.name for p in tmp_path.iterdir()] == ["street.mp4"]


@pytest.mark.parametrize("quick", [False, True])
def test_the_same_scene_gives_the_same_bytes(quick: bool, tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        write_clip(make_scene(8, duration_s=0.8), tmp_path / name, fps=10, quick=quick)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


@pytest.mark.parametrize(
    "colour",
    [
        pytest.param(colour, id="-".join(map(str, colour)))
        for colour in (*product((0, 255), repeat=3), *COLOUR_RGB.values(), (128, 128, 128), (1, 254, 127))
    ],
)
def test_the_quick_way_keeps_colours_as_the_other_does(
    colour: tuple[int, int, int], scene: Scene, tmp_path: Path
) -> None:
    plain = np.full((360, 640, 3), colour, dtype=np.uint8)
    empty = replace(scene, actors=(), occluders=(), background=plain, duration_s=0.1)
    shown = {}
    for quick in (False, True):
        write_clip(empty, tmp_path / "plain.mp4", fps=10, quick=quick)
        (shown[quick],) = decoded(tmp_path / "plain.mp4")
    # One step of brightness is 1.2 of a colour and one of the blue plane 2.0 of blue; another matrix or the
    # full range would be tens away.
    assert np.abs(shown[True] - shown[False]).max() <= 3
    assert np.abs(shown[True] - plain).max() <= 4


def test_the_quick_way_takes_the_mean_colour_of_small_things(scene: Scene, tmp_path: Path) -> None:
    stripes = np.zeros((360, 640, 3), dtype=np.uint8)
    stripes[:, ::2], stripes[:, 1::2] = (255, 0, 0), (0, 0, 255)
    empty = replace(scene, actors=(), occluders=(), background=stripes, duration_s=0.1)
    shown = {}
    for quick in (False, True):
        write_clip(empty, tmp_path / "stripes.mp4", fps=10, quick=quick)
        (shown[quick],) = decoded(tmp_path / "stripes.mp4")
    # Off the borders of the picture, where FFmpeg's filter has nothing to take a mean of.
    means = {quick: frame[20:-20, 20:-20].mean(axis=(0, 1)) for quick, frame in shown.items()}
    assert np.abs(means[True] - means[False]).max() < 4
    assert np.abs(means[True] - [127.5, 0, 127.5]).max() < 40


@pytest.mark.slow
def test_the_quick_way_films_what_is_there(scene: Scene, tmp_path: Path) -> None:
    write_clip(scene, tmp_path / "street.mp4", fps=10, quick=True)
    frames = decoded(tmp_path / "street.mp4")
    assert len(frames) == 8
    for index, frame in enumerate(frames):
        assert np.abs(frame - scene.render(index / 10)[0]).mean() < 4


def decoded(path: Path) -> list[npt.NDArray[np.float64]]:
    """The frames of a film, [h, w, 3], RGB."""
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return [frame.astype(np.float64) for frame in frames]


def test_a_clip_can_have_sound(scene: Scene, tmp_path: Path) -> None:
    path = tmp_path / "street.mp4"
    write_clip(scene, path, fps=10, audio=True)
    with av.open(str(path)) as container:
        sound = container.streams.audio[0]
        assert sound.codec_context.name == "aac"
        blocks = [frame.to_ndarray() for frame in container.decode(audio=0)]
    samples = np.concatenate(blocks, axis=1)
    assert samples.shape[1] / 48_000 == pytest.approx(0.8, abs=0.05)
    assert 0.01 < np.abs(samples).max() < 0.2


def test_fractional_rates(scene: Scene, tmp_path: Path) -> None:
    path = tmp_path / "street.mp4"
    write_clip(scene, path, fps=29.97)
    with av.open(str(path)) as container:
        assert float(container.streams.video[0].average_rate or 0) == pytest.approx(29.97, abs=0.01)
        assert sum(1 for _ in container.decode(video=0)) == 24


def test_the_truth_of_every_frame(scene: Scene, tmp_path: Path) -> None:
    path = tmp_path / "street.json"
    write_truth(scene, path, fps=10)
    truth = json.loads(path.read_text(encoding="utf-8"))
    assert (truth["width_px"], truth["height_px"], truth["fps"]) == (640, 360, 10)
    assert [a["object_id"] for a in truth["actors"]] == [a.object_id for a in scene.actors]
    assert len(truth["frames"]) == 8
    shown = 0
    for row in truth["frames"]:
        _, ids = scene.render(row["time_s"])
        for thing in row["objects"]:
            mask = mask_from_runs(thing["runs"], width_px=640, height_px=360)
            assert np.array_equal(mask, ids == thing["object_id"])
            assert mask[int(thing["y_px"]), int(thing["x_px"])]
            shown += 1
        assert {t["object_id"] for t in row["objects"]} == set(np.unique(ids).tolist()) - {0}
    assert shown > 0


def test_nothing_half_written_stays(scene: Scene, tmp_path: Path) -> None:
    class Broken(Exception):
        pass

    class BrokenAtTheEnd(Scene):
        def picture(self, time_s: float) -> Bytes:
            if time_s > 0.5:
                raise Broken
            return super().picture(time_s)

    broken = BrokenAtTheEnd(
        seed=scene.seed,
        duration_s=scene.duration_s,
        actors=scene.actors,
        background=scene.background,
        occluders=scene.occluders,
        sun=scene.sun,
    )
    path = tmp_path / "street.mp4"
    path.write_bytes(b"the file from before")
    with pytest.raises(Broken):
        write_clip(broken, path, fps=10)
    assert path.read_bytes() == b"the file from before"
    assert [p.name for p in tmp_path.iterdir()] == ["street.mp4"]


def test_every_clip_has_a_frame(scene: Scene) -> None:
    assert frame_count(replace(scene, duration_s=0.0), fps=30) == 1
    with pytest.raises(ValueError, match="fps"):
        frame_count(scene, fps=0)


@pytest.mark.slow
@given(st.lists(st.lists(st.booleans(), min_size=5, max_size=5), min_size=1, max_size=6))
def test_run_lengths_and_back(rows: list[list[bool]]) -> None:
    mask = np.array(rows)
    runs = run_lengths(mask)
    assert all(length > 0 for length in runs[1:])
    assert np.array_equal(mask_from_runs(runs, width_px=5, height_px=len(rows)), mask)


@pytest.mark.parametrize(
    "runs",
    [
        pytest.param([5], id="too-short"),
        pytest.param([3, 4, 20], id="too-long"),
        pytest.param([-1, 13], id="negative"),
    ],
)
def test_runs_that_are_no_mask(runs: list[int]) -> None:
    with pytest.raises(ValueError, match="runs"):
        mask_from_runs(runs, width_px=4, height_px=3)
