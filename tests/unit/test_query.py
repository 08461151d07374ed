from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from molmo2_ground.answer import parse_answer
from molmo2_ground.clip import Clip, Frame
from molmo2_ground.errors import SourceError
from molmo2_ground.query import Decoding, Query, build_prompt

PIXEL = np.zeros((1, 1, 3), dtype=np.uint8)


def video(*times_s: float, size_px: tuple[int, int] = (640, 360)) -> Clip:
    frames = tuple(
        Frame(rgb=PIXEL, width_px=size_px[0], height_px=size_px[1], source_index=i, time_s=t, shown_time_s=t)
        for i, t in enumerate(times_s)
    )
    return Clip(frames=frames, source="street.mp4")


def images(count: int) -> Clip:
    return Clip.from_arrays([PIXEL] * count, source=f"{count} images")


VIDEO = video(0.0, 0.5, 1.0)


@pytest.mark.parametrize(
    ("query", "clip", "text", "template", "max_new_tokens"),
    [
        pytest.param(
            Query.track("the red car"), VIDEO, "Track the red car.", "track-default/1", 4096, id="track"
        ),
        pytest.param(
            Query.track("cars", fps=4), VIDEO, "Track cars at 4 FPS.", "track-fps/1", 4096, id="track-4-fps"
        ),
        pytest.param(
            Query.track("cars", fps=0.5),
            VIDEO,
            "Track cars at 0.5 FPS.",
            "track-fps/1",
            4096,
            id="track-slow",
        ),
        pytest.param(
            Query.track("the dog", at=(0.55, 64, 36)),
            VIDEO,
            "video_single_point_track_per_frame: "
            'Track <points coords="0.5 1 100 100">the dog</points> in 2 FPS.',
            "track-at/1",
            4096,
            id="track-at",
        ),
        pytest.param(Query.point("cups"), images(1), "Point to cups.", "point-image/1", 2048, id="point"),
        pytest.param(
            Query.point("cups"),
            images(3),
            "Point to cups in all images.",
            "point-images/1",
            2048,
            id="point-3",
        ),
        pytest.param(
            Query.point("cups"), VIDEO, "Point to cups in the video.", "point-video/1", 2048, id="point-video"
        ),
        pytest.param(
            Query.count("cups"),
            images(1),
            "How many cups are there in the picture?",
            "count-image/1",
            2048,
            id="count",
        ),
        pytest.param(
            Query.count("cups"),
            images(2),
            "How many cups are there in all images?",
            "count-images/1",
            2048,
            id="count-2",
        ),
        pytest.param(
            Query.count("cups"),
            VIDEO,
            "How many cups are there in the video?",
            "count-video/1",
            2048,
            id="count-video",
        ),
        pytest.param(Query.ask(" Why? \n"), VIDEO, " Why? \n", "ask/1", 1024, id="ask-as-it-is"),
        pytest.param(Query.ask("Hello."), images(0), "Hello.", "ask/1", 1024, id="ask-without-pictures"),
    ],
)
def test_questions_are_worded_as_in_training(
    query: Query, clip: Clip, text: str, template: str, max_new_tokens: int
) -> None:
    prompt = build_prompt(query, clip)
    assert prompt.text == text
    assert prompt.task == query.task
    assert prompt.template == template
    assert prompt.default_max_new_tokens == max_new_tokens


@pytest.mark.parametrize(
    ("phrase", "text"),
    [
        pytest.param("the car.", "Track the car.", id="full-stop"),
        pytest.param("  the \n car ", "Track the car.", id="space"),
        pytest.param("cars in Fig. 2", "Track cars in Fig. 2.", id="full-stop-inside"),
        pytest.param(".", "Track ..", id="full-stop-alone"),
    ],
)
def test_the_phrase_stands_inside_a_sentence(phrase: str, text: str) -> None:
    assert build_prompt(Query.track(phrase), VIDEO).text == text


def test_the_point_to_follow_is_written_as_answers_are() -> None:
    clip = video(0.0, 0.4, size_px=(1279, 719))
    prompt = build_prompt(Query.track("it", at=(0.4, 1279, 3.6), fps=5), clip)
    (element,) = parse_answer(prompt.text).elements
    (group,) = element.groups
    (point,) = group.points
    assert (group.key, point.object_id, point.x, point.y, element.label) == (0.4, 1, 1000, 5, "it")


@pytest.mark.parametrize(
    ("at", "why"),
    [
        pytest.param((9.0, 1.0, 1.0), "nearest frame seen is at 1 s", id="after-the-end"),
        pytest.param((-0.6, 1.0, 1.0), "nearest frame seen is at 0 s", id="before-the-start"),
        pytest.param((0.5, 641.0, 1.0), "outside the picture of 640 x 360", id="right-of-the-picture"),
        pytest.param((0.5, 1.0, -1.0), "outside the picture of 640 x 360", id="above-the-picture"),
    ],
)
def test_a_point_to_follow_outside_the_clip_is_refused(at: tuple[float, float, float], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        build_prompt(Query.track("it", at=at), VIDEO)


@pytest.mark.parametrize(
    ("query", "clip", "why"),
    [
        pytest.param(Query.track("a"), images(2), "tracking needs a video.*2 images", id="track-images"),
        pytest.param(Query.track("a"), images(0), "no picture", id="track-nothing"),
        pytest.param(Query.point("a"), images(0), "no picture", id="point-nothing"),
        pytest.param(Query.count("a"), images(0), "no picture", id="count-nothing"),
    ],
)
def test_a_clip_that_cannot_be_asked_this_is_refused(query: Query, clip: Clip, why: str) -> None:
    with pytest.raises(SourceError, match=why):
        build_prompt(query, clip)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        pytest.param({"task": "dance"}, "task is one of", id="task"),
        pytest.param({"phrase": " \n"}, "say in words", id="blank"),
        pytest.param({"phrase": None}, "say in words", id="no-phrase"),
        pytest.param({"fps": 0}, "fps", id="fps-0"),
        pytest.param({"fps": -1.0}, "fps", id="fps-negative"),
        pytest.param({"fps": 11}, "at most 10", id="fps-too-dense"),
        pytest.param({"fps": math.nan}, "fps", id="fps-nan"),
        pytest.param(
            {"fps": "2"}, "fps is above 0 and at most 10 places a second; got '2'", id="fps-in-quotes"
        ),
        pytest.param({"max_objects": "3"}, "max_objects is at least 1.* got '3'", id="max-objects-in-quotes"),
        pytest.param({"show_fps": "4"}, "show_fps is at least .* got '4'", id="shown-in-quotes"),
        pytest.param({"max_objects": 0}, "max_objects", id="max-objects-0"),
        pytest.param({"at": (0.0, math.nan, 0.0)}, "finite", id="at-nan"),
        pytest.param({"at": (0.0, 1.0)}, "three", id="at-two-numbers"),
        pytest.param({"show_fps": 1.0}, "at least the 2 places", id="shown-less-than-asked"),
        pytest.param({"show_fps": 11.0}, "at most 10", id="shown-too-densely"),
        pytest.param({"show_fps": math.nan}, "show_fps", id="shown-nan"),
        pytest.param({"task": "point", "show_fps": 4.0}, "track question", id="show-fps-for-point"),
        pytest.param({"task": "count", "at": (0.0, 1.0, 1.0)}, "track question", id="at-for-count"),
    ],
)
def test_questions_that_make_no_sense_are_refused(fields: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Query(**{"task": "track", "phrase": "cars", **fields})


def test_makers_fill_in_the_task() -> None:
    assert Query.track("a", fps=1, max_objects=2, at=(0, 1, 2), show_fps=6) == Query(
        task="track", phrase="a", fps=1, max_objects=2, at=(0, 1, 2), show_fps=6
    )
    assert Query.point("a", max_objects=3) == Query(task="point", phrase="a", max_objects=3)
    assert Query.count("a") == Query(task="count", phrase="a")
    assert Query.ask("a") == Query(task="ask", phrase="a")


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"max_new_tokens": 0}, id="no-tokens"),
        pytest.param({"temperature": -0.1}, id="cold"),
        pytest.param({"temperature": math.inf}, id="endless"),
        pytest.param({"temperature": math.nan}, id="nan"),
        pytest.param({"top_p": 0.0}, id="top-p-0"),
        pytest.param({"top_p": 1.1}, id="top-p-above-1"),
    ],
)
def test_decoding_that_makes_no_sense_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(fields))):
        Decoding(**fields)


def test_decoding_is_greedy_unless_told_otherwise() -> None:
    assert Decoding() == Decoding(
        max_new_tokens=None, temperature=0.0, top_p=1.0, seed=0, constrained=True, cut_runaways=True
    )
