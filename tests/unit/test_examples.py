from __future__ import annotations

import re
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import molmo2_ground as mg
from molmo2_ground.backends.scripted import ScriptedBackend

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("[0-9][0-9]_*.py"))
MAX_LINES = 60

TRACK = '<tracks coords="0.0 1 250 500;0.5 1 500 500">the red car</tracks>'
COUNT_TWO = 'Counting the <points coords="0.0 1 250 500 2 750 500">cars</points> shows a total of 2.'
NONE = "There are none."
POINT = '<points coords="0.5 1 500 250">the yellow bus</points>'


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One second of the demo's street, 640×360."""
    from molmo2_ground.train.toy.clip_file import write_clip
    from molmo2_ground.train.toy.street import make_scene

    path = tmp_path_factory.mktemp("examples") / "street.mp4"
    write_clip(make_scene(3, duration_s=1.0, max_actors=2), path)
    return path


def main_of(name: str) -> Callable[..., None]:
    (path,) = (example for example in EXAMPLES if example.name.startswith(name))
    main: Callable[..., None] = runpy.run_path(str(path))["main"]
    return main


def scripted(*answers: str) -> mg.Grounder:
    return mg.Grounder(ScriptedBackend(answers))


@pytest.mark.slow
def test_track_prints_places_and_writes_the_video(
    video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "tracked.mp4"
    main_of("01")(str(video), "the red car", str(out), model=scripted(TRACK))
    printed = capsys.readouterr().out
    assert "object 1 first seen at 0.00 s, x 160 px, y 180 px (frame 0)" in printed
    assert "object 1 last seen at 0.50 s, x 320 px, y 180 px" in printed
    assert mg.open_clip(out).frames[0].width_px == 640


def test_point_prints_pixels_of_the_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    picture, out = tmp_path / "shelf.png", tmp_path / "pointed.png"
    Image.new("RGB", (320, 200), "white").save(picture)
    answer = '<points coords="1 1 500 250">mug</points>'
    main_of("02")(str(picture), "every mug", str(out), model=scripted(answer))
    printed = capsys.readouterr().out
    assert "mug 1: x 160.0 px, y 50.0 px\n1 found\nshape of xy_px: (1, 2)" in printed
    with Image.open(out) as drawn:
        assert drawn.size == (320, 200)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param(COUNT_TWO, "cars: 2\n  x 160 px, y 180 px in frame 0", id="pointed"),
        pytest.param(COUNT_TWO.replace("of 2", "of 3"), "wrote 3 and pointed at 2", id="disagrees"),
        pytest.param(NONE, "cars: 0\n", id="none"),
        pytest.param("I like trains", "no number could be read from it: 'I like trains'", id="unreadable"),
    ],
)
def test_count_tells_what_it_counted(
    video: Path, capsys: pytest.CaptureFixture[str], answer: str, expected: str
) -> None:
    main_of("03")(str(video), "cars", model=scripted(answer))
    assert expected in capsys.readouterr().out


@pytest.mark.slow
def test_session_asks_several_questions(video: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main_of("04")(str(video), model=scripted(COUNT_TWO, NONE, POINT, TRACK))
    assert capsys.readouterr().out.splitlines() == [
        "cars: 2",
        "buses: 0",
        "the yellow bus: 1 points",
        "the red car: 1 tracks, 2 samples",
    ]


def test_receipt_shows_both_sides(video: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main_of("05")(str(video), "the red car", model=scripted(TRACK.replace("250", "1250")))
    printed = capsys.readouterr().out
    assert "sent:  Track the red car." in printed
    assert "left out" in printed
    assert "key 0.5: object 1 at 500, 500 thousandths" in printed


@pytest.mark.slow
def test_zones_tell_who_came_in_and_crossed(video: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main_of("06")(str(video), "the red car", model=scripted(TRACK.replace("500 500", "600 500")))
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[4] for line in printed[:2]] == ["zone_entered", "line_crossed"]
    assert printed[3].split()[:4] == ["middle", "1", "1", "1"]
    assert printed[5].split() == ["gate", "1", "0"]


@pytest.mark.slow
def test_robot_turns_to_the_thing_and_stops_when_it_cannot_be_sure() -> None:
    from molmo2_ground.integrations.zeromq import Publisher
    from tests.made_updates import live_track
    from tests.zeromq_peers import ASKED, LOOPBACK, fresh, health

    to_the_left = live_track(x_px=100.0)
    wanted = iter(["no heartbeat", "no place that may", "thing 1 (observed)", "no place that may"])
    told: list[Any] = []
    waiting_for = [next(wanted)]
    with Publisher(LOOPBACK, stream_name="cam") as publisher:

        def drive(wheels: Any) -> bool:
            """Let the world go on as soon as the robot has done what it should."""
            if waiting_for[0] not in wheels.why:
                if waiting_for[0].startswith("thing"):
                    publisher.publish(fresh(0, to_the_left, valid_s=0.5), questions=ASKED)
                return True
            told.append(wheels)
            if len(told) == 1:
                publisher.start_health(health, period_s=0.1)
            waiting_for[0] = next(wanted, "")
            return bool(waiting_for[0])

        main_of("07")(publisher.endpoint, drive=drive)
    assert [(wheels.ahead, wheels.left) for wheels in told[:2]] == [(0, 0), (0, 0)]
    assert told[2].ahead > 0
    assert told[2].left > 0
    assert (told[3].ahead, told[3].left) == (0, 0)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_each_example_is_short_and_in_the_list(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_LINES
    assert f"]({path.name})" in (ROOT / "examples" / "README.md").read_text(encoding="utf-8")


def python_blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.mark.slow
@pytest.mark.parametrize("page", ["README.md", "docs/how-it-works.md"])
def test_the_code_in_a_page_runs_on_the_bundled_model(
    page: str, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out" / "demo").mkdir(parents=True)
    (tmp_path / "out" / "demo" / "street.mp4").write_bytes(video.read_bytes())
    monkeypatch.chdir(tmp_path)
    blocks = python_blocks(page)
    assert blocks
    for block in blocks:
        names: dict[str, Any] = {"__name__": "__page__"}
        exec(compile(block, page, "exec"), names)


@pytest.mark.slow
def test_watch_tells_events_and_writes_their_clips(
    video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from molmo2_ground.sources.feeds.live_source import open_feed
    from tests.live_scenes import TruthBackend

    # Seen left of the middle at 0 s, and right of the gate in it at 0.5 s.
    model = mg.Grounder(TruthBackend(lambda time_s: {1: (0.2 + 0.7 * time_s, 0.5)}))
    feed = open_feed(video, speed=None)  # as fast as it is taken
    main_of("08")(feed, "the red car", str(tmp_path / "clips"), model=model)
    told = capsys.readouterr().out.splitlines()
    assert [line.split("'")[1] for line in told[::2]] == ["enters middle", "something crosses the gate"]
    clips = sorted((tmp_path / "clips").glob("*.mp4"))
    assert [line.split(": ")[1].split(",")[0] for line in told[1::2]] == [str(clip) for clip in clips]
    for clip in clips:
        assert mg.open_clip(clip).frames[0].width_px == 640
        assert clip.with_suffix(".json").exists()
