from __future__ import annotations

from molmo2_ground.answer import RawAnswer, parse_answer
from molmo2_ground.eval.metrics import counted, image_point_scores, placed_of
from molmo2_ground.placement import FrameRef, place_count, place_points, place_tracks
from molmo2_ground.query import Query
from molmo2_ground.results import Receipt
from tests.truths import Box, video_truth

RAW = RawAnswer(
    text="",
    stop_reason="end",
    tokens_in=1,
    tokens_out=1,
    forwards=1,
    model_id="m",
    revision=None,
    backend="scripted",
    recipe="greedy",
    timings_ms={},
)
VIDEO = tuple(
    FrameRef(width_px=40, height_px=30, source_index=15 * i, time_s=0.5 * i + 0.02, shown_time_s=0.5 * i)
    for i in range(4)
)
IMAGE = (FrameRef(width_px=40, height_px=30, source_index=0),)


def receipt(text: str, frames: tuple[FrameRef, ...]) -> Receipt:
    times = tuple(f.time_s for f in frames if f.time_s is not None)
    return Receipt(
        task="point",
        query="the cars",
        model_id=RAW.model_id,
        backend=RAW.backend,
        recipe=RAW.recipe,
        prompt="Point to the cars.",
        raw_text=text,
        stop_reason=RAW.stop_reason,
        source="made up",
        frame_times_s=times,
        shown_times_s=tuple(f.shown_time_s for f in frames if f.shown_time_s is not None),
        frame_source_indices=tuple(f.source_index for f in frames),
        size_px=(40, 30),
    )


TRACKS = '<tracks coords="0.0 1 500 500 2 250 100;1.0 1 600 500">the cars</tracks>'
POINTS = '<points coords="1 1 500 500 2 250 100">the cars</points>'


def test_tracks_become_places_with_both_times() -> None:
    found = placed_of(place_tracks(parse_answer(TRACKS), VIDEO, receipt(TRACKS, VIDEO)))
    assert [(p.object_id, p.source_index, p.x_px, p.y_px) for p in found] == [
        (1, 0, 20.0, 15.0),
        (1, 30, 24.0, 15.0),
        (2, 0, 10.0, 3.0),
    ]
    assert [(p.time_s, p.shown_time_s, p.named_time_s) for p in found] == [
        (0.02, 0.0, 0.0),
        (1.02, 1.0, 1.0),
        (0.02, 0.0, 0.0),
    ]


def test_points_of_an_image_have_no_time() -> None:
    found = placed_of(place_points(parse_answer(POINTS), IMAGE, receipt(POINTS, IMAGE)))
    assert [(p.x_px, p.y_px, p.named_time_s) for p in found] == [(20.0, 15.0, None), (10.0, 3.0, None)]


def test_a_count_is_its_value_and_for_the_released_evaluator_the_number_in_the_text() -> None:
    told = f"Counting the {POINTS} shows a total of 2."
    both = place_count(parse_answer(told), IMAGE, receipt(told, IMAGE))
    assert (counted(both), counted(both, reference_compat=True), len(placed_of(both))) == (2, 2, 2)
    bare = place_count(parse_answer(POINTS), IMAGE, receipt(POINTS, IMAGE))
    assert (counted(bare), counted(bare, reference_compat=True)) == (2, None)


def test_there_are_none_is_zero_and_the_released_evaluator_never_reads_it() -> None:
    text = "There are none."
    none = place_count(parse_answer(text), IMAGE, receipt(text, IMAGE))
    assert counted(none) == 0
    assert counted(none, reference_compat=True) is None


def test_points_and_tracks_count_their_objects() -> None:
    assert counted(place_tracks(parse_answer(TRACKS), VIDEO, receipt(TRACKS, VIDEO))) == 2
    assert counted(place_points(parse_answer(POINTS), IMAGE, receipt(POINTS, IMAGE))) == 2


def test_an_unreadable_answer_has_no_places_and_no_number() -> None:
    assert placed_of(None) == ()
    assert counted(None) is None
    box: Box = (0, 0, 5, 5)
    truth = video_truth({1: {0.0: box}})
    assert image_point_scores(truth, placed_of(None)).f1 == 0.0
    assert Query.count("cars").task == "count"
