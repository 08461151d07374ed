"""What is of another kind than an option takes is told in one line that names the option, before any work."""

# What is handed in here is wrong on purpose, as a type checker would say.
# mypy: disable-error-code="arg-type, call-overload, dict-item"
from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import molmo2_ground as mg
from molmo2_ground import Query, render
from molmo2_ground._wanted import FUNCTION, NUMBER, WHOLE, WORDS, YES_OR_NO, Wanted, check_kinds
from molmo2_ground.analytics import Line, Zone, find_events, find_speeds
from molmo2_ground.backends.scripted import ScriptedBackend
from molmo2_ground.export import json_schema, write_as
from molmo2_ground.integrations.zeromq import ControlClient, Publisher, Subscriber
from molmo2_ground.live.clip_ring import ClipRing
from molmo2_ground.masks import carry, segment
from molmo2_ground.render.storyboard import storyboard
from molmo2_ground.sources.feeds import Backoff, Ingest, open_feed
from tests.found import track, tracks

ZONE = Zone(name="yard", polygon=((0.0, 0.0), (0.0, 9.0), (9.0, 9.0)))
LINE = Line(name="door", start=(0.0, 0.0), end=(9.0, 9.0))
FOUND = tracks(track({0.0: (10.0, 10.0), 0.5: (12.0, 10.0)}))
ANYWHERE = "tcp://127.0.0.1:*"
NOBODY = "tcp://127.0.0.1:5999"
LISTS = "are a list, each of it"


def grounder() -> mg.Grounder:
    return mg.Grounder(ScriptedBackend([]))


def clip() -> mg.Clip:
    return mg.Clip.from_arrays(np.zeros((4, 50, 80, 3), dtype=np.uint8), fps=2.0)


# The check itself


@pytest.mark.parametrize(
    ("wanted", "value"),
    [
        pytest.param(NUMBER, 5, id="a-whole-number-is-a-number"),
        pytest.param(NUMBER, np.float32(0.5), id="numpys-number"),
        pytest.param(WHOLE, np.int64(5), id="numpys-whole-number"),
        pytest.param(WORDS, "", id="no-words-are-words"),
        pytest.param(YES_OR_NO, False, id="no"),
        pytest.param(FUNCTION, print, id="a-function"),
        pytest.param(NUMBER.or_nothing(), None, id="nothing"),
    ],
)
def test_what_is_of_the_kind_passes(wanted: Wanted, value: object) -> None:
    wanted.check("it", value)


@pytest.mark.parametrize(
    ("wanted", "value", "line"),
    [
        pytest.param(NUMBER, "5", "it is a number; got '5'", id="digits-in-quotes"),
        pytest.param(NUMBER, True, "it is a number; got True", id="yes-is-no-number"),
        pytest.param(WHOLE, 5.0, "it is a whole number; got 5.0", id="a-point-zero"),
        pytest.param(NUMBER, None, "it is a number; got None", id="nothing"),
        pytest.param(NUMBER.or_nothing(), [], "it is a number, or None; got []", id="an-empty-list"),
        pytest.param(WORDS, b"a", "it is words; got b'a'", id="bytes"),
        pytest.param(NUMBER, "x" * 500, "it is a number; got something of type str", id="long"),
        pytest.param(NUMBER, np.eye(2), "it is a number; got something of type ndarray", id="of-two-lines"),
    ],
)
def test_what_is_of_another_kind_is_one_line(wanted: Wanted, value: object, line: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(line)}$"):
        wanted.check("it", value)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        pytest.param(5, "got 5", id="no-list"),
        pytest.param("ab", "got 'ab'", id="words"),
        pytest.param(["a", 5, 6], "number 2 of it is 5", id="mixed"),
        pytest.param(["a" * 500, ["b"]], r"number 2 of it is \['b'\]", id="long"),
        pytest.param([np.eye(2)], "number 1 of it is something of type ndarray", id="of-two-lines"),
    ],
)
def test_a_list_holds_one_kind(values: object, told: str) -> None:
    with pytest.raises(ValueError, match=f"names {LISTS} words; {told}$"):
        WORDS.all_of("names", values)


def test_an_iterator_is_walked_once() -> None:
    def words() -> Iterator[str]:
        yield "a"
        yield "b"

    assert WORDS.all_of("names", words()) == ("a", "b")


def test_options_that_no_table_knows_are_left_to_others() -> None:
    check_kinds({"fps": NUMBER}, {"fps": 2, "unknown": object()})
    with pytest.raises(ValueError, match="fps is a number"):
        check_kinds({"fps": NUMBER}, {"fps": "2"})


# Where users hand something in


@pytest.mark.parametrize(
    ("call", "line"),
    [
        pytest.param(
            lambda: mg.Decoding(max_new_tokens="5"), "max_new_tokens is a whole number", id="tokens"
        ),
        pytest.param(lambda: mg.Decoding(temperature="0"), "temperature is a number", id="temperature"),
        pytest.param(lambda: mg.Decoding(top_p=None), "top_p is a number", id="top-p"),
        pytest.param(lambda: mg.Decoding(seed=0.5), "seed is a whole number", id="seed"),
        pytest.param(lambda: mg.Decoding(seed=2**70), "seed is from 0 to", id="too-large-a-seed"),
        pytest.param(lambda: mg.Decoding(constrained=1), "constrained is True or False", id="constrained"),
        pytest.param(lambda: Query.track("a", at=3.0), "at= is .time_s, x_px, y_px.", id="at-a-time"),
        pytest.param(lambda: Query.track("a", at=("0", 1, 2)), "three finite numbers", id="at-words"),
        pytest.param(lambda: mg.load(None), "model is a path; got None", id="no-model"),
        pytest.param(lambda: mg.load("tiny", vision=5), "vision is words", id="vision"),
        pytest.param(lambda: mg.load("tiny", device=None), "device is a device's name", id="device"),
        pytest.param(
            lambda: mg.track(clip(), "a", model=5), "model is a path, or None", id="model-by-number"
        ),
        pytest.param(
            lambda: grounder().track(clip(), "a", decoding={"seed": 1}),
            "decoding is a Decoding",
            id="decoding",
        ),
        pytest.param(
            lambda: grounder().track(clip(), "a", deadline_s="5"), "a deadline is a number", id="deadline"
        ),
        pytest.param(
            lambda: grounder().track(clip(), "a", on_progress=5), "on_progress is a function", id="progress"
        ),
        pytest.param(lambda: grounder().batch(5, Query.count("a")), "expected several clips", id="clips"),
        pytest.param(lambda: grounder().batch([clip()], "a"), f"questions {LISTS} a Query", id="batch-words"),
        pytest.param(lambda: grounder().batch([clip()], 5), f"questions {LISTS} a Query", id="batch-number"),
        pytest.param(lambda: grounder().open(clip()).run("a"), f"queries {LISTS} a Query", id="run-words"),
        pytest.param(lambda: grounder().open(clip()).answer("a"), "query is a Query", id="answer-words"),
        pytest.param(lambda: mg.Clip(frames="abc"), f"frames {LISTS} a Frame", id="frames"),
        pytest.param(
            lambda: mg.Frame(rgb=[[0]], width_px=1, height_px=1, source_index=0), "got list", id="pixels"
        ),
    ],
)
def test_questions(call: Callable[[], Any], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        call()


@pytest.mark.parametrize(
    ("call", "line"),
    [
        pytest.param(lambda out: render(clip(), "a.json", out), "result is Points, Tracks", id="a-path"),
        pytest.param(lambda out: render(clip(), FOUND, out, masks=FOUND), "masks is Masks", id="masks"),
        pytest.param(lambda out: render(clip(), FOUND, out, trail_s="2"), "trail_s is a number", id="trail"),
        pytest.param(lambda out: render(clip(), FOUND, out, zones=ZONE), f"zones {LISTS} a Zone", id="zone"),
        pytest.param(
            lambda out: render(clip(), FOUND, out, zones=None), f"zones {LISTS} a Zone", id="no-zones"
        ),
        pytest.param(
            lambda out: render(clip(), FOUND, out, on_progress=1), "on_progress is a fun", id="told"
        ),
        pytest.param(
            lambda out: storyboard(clip(), FOUND, out, columns="4"), "columns is a whole", id="columns"
        ),
        pytest.param(lambda out: segment(clip(), "a.json"), "result is Points, Tracks", id="segment-a-path"),
        pytest.param(lambda out: segment(clip(), FOUND, segmenter=5), "segmenter is a name", id="segmenter"),
        pytest.param(lambda out: carry(clip(), "a.json"), "tracks is Tracks", id="carry-a-path"),
        pytest.param(
            lambda out: carry(clip(), FOUND, on_progress=5), "on_progress is a function", id="carry-told"
        ),
        pytest.param(lambda out: find_events("a.json"), "tracks is Tracks", id="events-of-a-path"),
        pytest.param(
            lambda out: find_events(FOUND, zones=ZONE), f"zones {LISTS} a Zone", id="events-one-zone"
        ),
        pytest.param(
            lambda out: find_events(FOUND, lines=LINE), f"lines {LISTS} a Line", id="events-one-line"
        ),
        pytest.param(lambda out: find_events(FOUND, rules={}), "rules is a Rules", id="events-rules"),
        pytest.param(lambda out: find_speeds(None), "tracks is Tracks", id="speeds-of-nothing"),
        pytest.param(lambda out: write_as("csv", "a.json", out), "result is Points", id="write-a-path"),
        pytest.param(
            lambda out: write_as("csv", FOUND, out, image_names="a.png"),
            f"image_names {LISTS} words",
            id="names",
        ),
        pytest.param(lambda out: json_schema("track"), "expected one of", id="schema"),
    ],
)
def test_results(call: Callable[[Path], Any], line: str, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    with pytest.raises(ValueError, match=line):
        call(out)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("call", "line"),
    [
        pytest.param(lambda: Backoff(first_s="1"), "first_s is a number", id="backoff"),
        pytest.param(lambda: Backoff(attempts=1.5), "attempts is a whole number, or None", id="attempts"),
        pytest.param(lambda: Backoff(factor=float("nan")), "factor is at least 1", id="factor"),
        pytest.param(lambda: open_feed("a.mp4", speed="2"), "speed is a number, or None", id="speed"),
        pytest.param(lambda: open_feed("a.mp4", loop=1), "loop is True or False", id="loop"),
        pytest.param(lambda: open_feed("rtsp://127.0.0.1/a", options=[1]), "options is a dict", id="options"),
        pytest.param(lambda: Ingest(open_feed("a.mp4"), capacity="2"), "capacity is a whole", id="capacity"),
        pytest.param(lambda: Ingest(open_feed("a.mp4"), rate_hz="2"), "rate_hz is a number", id="rate"),
        pytest.param(lambda: ClipRing(".", before_s="5"), "before_s is a number", id="before"),
        pytest.param(lambda: ClipRing(".", side_px=64.5), "side_px is a whole number", id="side"),
        pytest.param(
            lambda: Publisher(ANYWHERE, stream_name=5), "a stream's name is words", id="stream-name"
        ),
        pytest.param(lambda: Publisher(5, stream_name="a"), "an address is words", id="address"),
        pytest.param(
            lambda: Publisher(ANYWHERE, stream_name="a", keys="dir"), "keys is a ServerKeys", id="server-keys"
        ),
        pytest.param(
            lambda: Publisher(ANYWHERE, stream_name="a", high_water="9"),
            "high_water is a whole",
            id="publisher",
        ),
        pytest.param(lambda: Subscriber(NOBODY, high_water=0), "high_water is at least 1", id="subscriber"),
        pytest.param(lambda: Subscriber(NOBODY, max_age_s="5"), "max_age_s is a number", id="age"),
        pytest.param(
            lambda: Subscriber(NOBODY, silence_s=float("inf")), "silence_s is a finite", id="silence"
        ),
        pytest.param(lambda: Subscriber(NOBODY, keep="all"), "keep is one of newest, every", id="keep"),
        pytest.param(lambda: Subscriber(NOBODY, kinds="tracks"), "kinds are a list", id="one-kind"),
        pytest.param(lambda: Subscriber(NOBODY, keys="file"), "keys is a ClientKeys", id="client-keys"),
        pytest.param(lambda: ControlClient(NOBODY, timeout_s="5"), "timeout_s is a number", id="timeout"),
        pytest.param(lambda: ControlClient(NOBODY, timeout_s=0), "timeout_s is a finite", id="no-timeout"),
    ],
)
def test_live_parts(call: Callable[[], Any], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        call()


@pytest.mark.parametrize("timeout_s", ["5", float("nan"), float("inf")])
def test_how_long_a_subscriber_waits(timeout_s: Any) -> None:
    with Subscriber(NOBODY) as subscriber, pytest.raises(ValueError, match="timeout_s is a"):
        subscriber.receive(timeout_s)


def test_clips_do_not_go_into_a_file(tmp_path: Path) -> None:
    file = tmp_path / "clips"
    file.write_text("mine")
    with pytest.raises(ValueError, match=r"clips is a folder; .* is a file"):
        grounder().stream(tmp_path / "a.mp4", "a", clips=file)
    assert file.read_text() == "mine"
