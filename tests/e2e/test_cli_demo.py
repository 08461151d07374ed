"""The demo: with recorded answers for the files it leaves, with the bundled model for what it finds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import av
import pytest
from PIL import Image

from molmo2_ground.backends.scripted import ScriptedBackend
from molmo2_ground.cli import main
from molmo2_ground.export import read_masks, read_result
from molmo2_ground.grounder import Grounder
from molmo2_ground.replay import derive, differences
from molmo2_ground.results import Tracks
from molmo2_ground.rle import Rle
from molmo2_ground.train.toy.clip_file import write_clip
from molmo2_ground.train.toy.street import demo_scene

pytestmark = pytest.mark.slow  # writes, reads and draws eight seconds of video

FILES = ["frames.png", "report.html", "street.mp4", "tracked.mp4", "tracks.json"]
RED_CAR = 3  # the actor's number in the demo's scene


def seen_where(tracks: Tracks) -> tuple[int, int, int]:
    """(places on the car, places elsewhere, half-seconds in which the car is in sight) of the best object."""
    scene = demo_scene()
    best = (0, 0, 0)
    in_sight = sum(
        scene.truth(time_s, scene.render(time_s)[1])[RED_CAR - 1].visible
        for time_s in tracks.receipt.shown_times_s
    )
    for track in tracks:
        hits = sum(
            int(scene.render(s.time_s)[1][min(359, int(s.y_px)), min(639, int(s.x_px))]) == RED_CAR
            for s in track.samples
        )
        best = max(best, (hits, len(track.samples) - hits, in_sight))
    return best


def scripted(answers: Sequence[str]) -> Grounder:
    return Grounder(ScriptedBackend(answers))


def test_the_demo_leaves_a_clip_a_video_numbers_and_pictures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = '<tracks coords="0.0 1 320 528;0.5 1 368 528;7.5 1 900 528">the red car</tracks>'
    out = tmp_path / "made" / "here"
    assert main(["demo", "--out", str(out)], loader=lambda *_, **__: scripted([answer])) == 0
    assert sorted(path.name for path in out.iterdir()) == FILES
    printed = capsys.readouterr().out
    assert printed.startswith("#1 the red car: 0.0 s (205, 190)")
    assert all(f"{out / name}: " in printed for name in FILES)
    for name in ("street.mp4", "tracked.mp4"):
        with av.open(str(out / name)) as container:
            stream = container.streams.video[0]
            assert (stream.codec_context.name, stream.width, stream.height) == ("h264", 640, 360)
            assert stream.pix_fmt == "yuv420p"
            assert sum(1 for _ in container.decode(stream)) == 240
    with Image.open(out / "frames.png") as sheet:
        assert sheet.size[0] > 640
    assert "tracked.mp4" in (out / "report.html").read_text()
    tracks = read_result(out / "tracks.json")
    assert differences(tracks, derive(tracks.receipt)) == ()


def test_a_demo_that_finds_nothing_exits_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loader = lambda *_, **__: scripted(["There are none."])  # noqa: E731 - one line says it
    assert main(["demo", "--out", str(tmp_path)], loader=loader) == 1
    assert "did not find the red car" in capsys.readouterr().err


def test_the_bundled_model_follows_the_red_car_and_lets_it_hide(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "--out", str(tmp_path), "--model", "tiny", "--quiet"]) == 0
    tracks = read_result(tmp_path / "tracks.json")
    assert isinstance(tracks, Tracks)
    scene = demo_scene()
    places = [(s, scene.render(s.time_s)[1]) for track in tracks for s in track.samples]
    on_the_car = {
        s.time_s for s, ids in places if ids[min(359, int(s.y_px)), min(639, int(s.x_px))] == RED_CAR
    }
    _, _, in_sight = seen_where(tracks)
    assert len(on_the_car) >= 0.9 * in_sight
    assert len(on_the_car) == len(places), "a dot on something else"
    hidden = {s.time_s for s, ids in places if not (ids == RED_CAR).any()}
    assert not hidden, "a dot while nothing of the car can be seen"
    capsys.readouterr()
    clip = str(tmp_path / "street.mp4")
    assert main(["track", clip, "the red car", "--model", "tiny", "--json", "-", "--quiet"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["tracks"] == json.loads((tmp_path / "tracks.json").read_text())["tracks"]
    assert main(["replay", str(tmp_path / "tracks.json"), "--quiet"]) == 0


def test_the_bundled_model_keeps_one_red_car_across_the_bridge(tmp_path: Path) -> None:
    assert main(["demo", "--out", str(tmp_path), "--model", "tiny", "--quiet"]) == 0
    tracks = read_result(tmp_path / "tracks.json")
    assert isinstance(tracks, Tracks)
    hits, misses, in_sight = seen_where(tracks)
    assert hits >= 0.8 * in_sight
    assert misses <= 2  # where the footbridge begins and ends


def test_a_session_gives_what_single_questions_give(tmp_path: Path) -> None:
    from molmo2_ground import Query, load
    from molmo2_ground.train.toy.clip_file import write_clip

    write_clip(demo_scene(), tmp_path / "street.mp4")
    grounder = load("tiny", device="cpu")
    with grounder.open(tmp_path / "street.mp4") as session:
        tracks, count, points = session.run(
            [Query.track("the red car"), Query.count("cars"), Query.point("the yellow bus")]
        )
    assert differences(tracks, grounder.track(tmp_path / "street.mp4", "the red car")) == ()
    assert differences(count, grounder.count(tmp_path / "street.mp4", "cars")) == ()
    assert differences(points, grounder.point(tmp_path / "street.mp4", "the yellow bus")) == ()


def test_masks_of_the_red_car_by_the_bundled_model_cover_it(tmp_path: Path) -> None:
    clip, out = tmp_path / "street.mp4", tmp_path / "masks.json"
    drawn = tmp_path / "drawn.mp4"
    scene = demo_scene()
    write_clip(scene, clip)
    words = ["track", str(clip), "the red car", "-o", str(drawn), "--masks-json", str(out), "--masks"]
    assert main([*words, "--model", "tiny", "--quiet"]) == 0
    masks = read_masks(out)
    (car,) = masks.object_ids
    overlaps = []
    for index in range(240):
        ids = scene.render(index / 30)[1]
        truth = Rle.encode(ids == RED_CAR)
        if scene.truth(index / 30, ids)[RED_CAR - 1].visible:
            mask = masks.get(car, index)
            overlaps.append(0.0 if mask is None else mask.rle.iou(truth))
    assert sum(overlaps) / len(overlaps) >= 0.8
    states = {mask.state for mask in masks}
    assert states == {"observed", "propagated"}
    with av.open(str(drawn)) as container:
        assert container.streams.video[0].frames == 240
