from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel, ValidationError

from molmo2_ground.results import (
    Answer,
    Count,
    ParseReport,
    Point,
    Points,
    Receipt,
    Rejected,
    Sample,
    Track,
    Tracks,
)

RECEIPT = Receipt(
    task="point",
    query="cars",
    model_id="tiny",
    backend="scripted",
    recipe="point-video/1; greedy/1",
    prompt="Point to cars in the video.",
    raw_text="There are none.",
    stop_reason="end",
    source="street.mp4",
    frame_times_s=(0.0, 0.5),
    shown_times_s=(0.0, 0.5),
    frame_source_indices=(0, 15),
    size_px=(640, 360),
    report=ParseReport(rejected=(Rejected(text="1 1200 300", reason="x is out of range"),), truncated=True),
    timings_ms={"decode": 1.25},
    windows=(
        Receipt(
            task="point",
            query="cars",
            model_id="tiny",
            backend="scripted",
            recipe="r",
            prompt="p",
            raw_text="",
            stop_reason="length",
            source="street.mp4",
            frame_times_s=(),
            shown_times_s=(),
            frame_source_indices=(),
            size_px=(640, 360),
        ),
    ),
)


def point(object_id: int, x_px: float = 64.0, y_px: float = 36.0, **changes: Any) -> Point:
    fields: dict[str, Any] = {
        "object_id": object_id,
        "x_px": x_px,
        "y_px": y_px,
        "x_norm": x_px / 640,
        "y_norm": y_px / 360,
        "time_s": 0.5,
        "source_index": 15,
        "label": "car",
    }
    return Point(**{**fields, **changes})


def sample(time_s: float, x_px: float = 64.0) -> Sample:
    return Sample(
        time_s=time_s, source_index=round(30 * time_s), x_px=x_px, y_px=36.0, x_norm=x_px / 640, y_norm=0.1
    )


def points(*found: Point) -> Points:
    return Points(points=found, receipt=RECEIPT)


TRACK = Track(object_id=3, label="car", samples=(sample(0.0), sample(0.5, 128.0), sample(2.0, 256.0)))
TRACKS = Tracks(
    tracks=(TRACK, Track(object_id=5, label="bus", samples=(sample(0.5, 320.0),))), receipt=RECEIPT
)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(points(), id="no-points"),
        pytest.param(points(point(1), point(2, time_s=None, state="predicted")), id="points"),
        pytest.param(TRACKS, id="tracks"),
        pytest.param(Tracks(tracks=(), receipt=RECEIPT), id="no-tracks"),
        pytest.param(Count(value=1, stated=2, points=points(point(1))), id="count"),
        pytest.param(
            Answer(text="A <b>", points=points(point(1)), tracks=TRACKS, receipt=RECEIPT), id="answer"
        ),
        pytest.param(Answer(text="", receipt=RECEIPT), id="words-only"),
        pytest.param(RECEIPT, id="receipt"),
    ],
)
def test_results_survive_json(value: BaseModel) -> None:
    again = type(value).model_validate_json(value.model_dump_json())
    assert again == value
    assert type(again) is type(value)


def test_results_are_not_changed_after_they_were_made() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        point(1).x_px = 0.0  # type: ignore[misc]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"x_px": math.nan}, id="nan"),
        pytest.param({"y_norm": math.inf}, id="endless"),
        pytest.param({"state": "guessed"}, id="unknown-state"),
        pytest.param({"score": 0.9}, id="made-up-confidence"),
        pytest.param({"label": None}, id="no-label"),
    ],
)
def test_what_is_no_point_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        point(1, **changes)


def test_the_names_of_given_fields_are_kept_once_for_all_samples() -> None:
    place = {"time_s": 0.5, "source_index": 15, "x_px": 1.0, "y_px": 2.0, "x_norm": 0.1, "y_norm": 0.2}
    one, other = Sample(**place), Sample(**place | {"time_s": 1.0})
    read = Sample.model_validate_json(one.model_dump_json(exclude_unset=True))
    assert one.model_fields_set is other.model_fields_set is read.model_fields_set
    assert one.model_dump(exclude_unset=True) == place
    moved = one.model_copy(update={"state": "propagated"})
    assert moved.model_fields_set == {*place, "state"}
    assert one.model_fields_set == set(place)


def test_points_are_a_sequence() -> None:
    found = points(point(1), point(2, 128.0), point(3))
    assert len(found) == 3
    assert [p.object_id for p in found] == [1, 2, 3]
    assert found[1].x_px == 128.0
    assert found[-1].object_id == 3
    assert [p.object_id for p in found[:2]] == [1, 2]
    with pytest.raises(IndexError):
        found[3]


def test_places_come_as_arrays() -> None:
    found = points(point(1, 1.0, 2.0), point(2, 3.0, 4.0))
    assert found.xy_px.tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert points().xy_px.shape == (0, 2)
    assert TRACK.xy_px.tolist() == [[64.0, 36.0], [128.0, 36.0], [256.0, 36.0]]
    assert TRACK.times_s.tolist() == [0.0, 0.5, 2.0]
    assert {found.xy_px.dtype, points().xy_px.dtype, TRACK.xy_px.dtype} == {np.dtype(np.float64)}


@pytest.mark.parametrize(
    ("time_s", "tolerance_s", "expected"),
    [
        pytest.param(0.5, 0.05, 0.5, id="there"),
        pytest.param(0.54, 0.05, 0.5, id="within"),
        pytest.param(0.6, 0.05, None, id="beyond"),
        pytest.param(1.2, 1.0, 0.5, id="nearest-of-two"),
        pytest.param(9.0, 10.0, 2.0, id="after-the-end"),
    ],
)
def test_a_track_knows_where_it_was(time_s: float, tolerance_s: float, expected: float | None) -> None:
    found = TRACK.at(time_s, tolerance_s=tolerance_s)
    assert (found.time_s if found else None) == expected


def test_a_track_has_ends() -> None:
    assert (TRACK.first.time_s, TRACK.last.time_s) == (0.0, 2.0)


def test_tracks_at_a_time_are_points_with_their_object() -> None:
    found = TRACKS.at(0.5)
    assert [(p.object_id, p.label, p.x_px, p.time_s, p.source_index) for p in found] == [
        (3, "car", 128.0, 0.5, 15),
        (5, "bus", 320.0, 0.5, 15),
    ]
    assert [p.object_id for p in TRACKS.at(2.0)] == [3]
    assert len(TRACKS.at(1.0)) == 0
    assert TRACKS.at(1.0).receipt == RECEIPT


def test_tracks_are_a_sequence() -> None:
    assert [track.label for track in TRACKS] == ["car", "bus"]
    assert (len(TRACKS), TRACKS[1].object_id, len(TRACKS[:1])) == (2, 5, 1)


@pytest.mark.parametrize(
    ("value", "stated", "agrees"), [(1, 1, True), (1, None, True), (1, 2, False), (0, 0, True)]
)
def test_a_count_says_whether_its_words_agree(value: int, stated: int | None, agrees: bool) -> None:
    found = Count(value=value, stated=stated, points=points(*[point(1)] * value))
    assert found.agrees is agrees
    assert int(found) == value
    assert found.receipt == RECEIPT


@pytest.mark.parametrize(
    ("report", "clean"),
    [
        pytest.param(ParseReport(), True, id="clean"),
        pytest.param(ParseReport(rejected=(Rejected(text="a", reason="b"),)), False, id="rejected"),
        pytest.param(ParseReport(truncated=True), False, id="truncated"),
        pytest.param(ParseReport(repeats_cut=1), False, id="repeats"),
    ],
)
def test_a_report_is_clean_when_everything_was_used(report: ParseReport, clean: bool) -> None:
    assert report.clean is clean
