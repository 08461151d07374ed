from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from molmo2_ground.answer import Group, ParsedPoint, RawAnswer, format_answer, parse_answer, points_answer
from molmo2_ground.clip import Clip, Frame
from molmo2_ground.errors import AnswerError
from molmo2_ground.placement import (
    FrameRef,
    Shown,
    frame_refs,
    make_receipt,
    place_count,
    place_points,
    place_tracks,
)
from molmo2_ground.query import Decoding, Query, build_prompt
from molmo2_ground.results import Count, Points, Receipt, Tracks

FIXED = settings(derandomize=True, deadline=None)

PIXEL = np.zeros((1, 1, 3), dtype=np.uint8)


def video(*shown_s: float, size_px: tuple[int, int] = (640, 360), late_s: float = 0.02) -> Clip:
    """Frames that lie a little later in the file than the times the model is told."""
    frames = tuple(
        Frame(
            rgb=PIXEL,
            width_px=size_px[0],
            height_px=size_px[1],
            source_index=15 * i + 1,
            time_s=shown + late_s,
            shown_time_s=shown,
        )
        for i, shown in enumerate(shown_s)
    )
    return Clip(frames=frames, fps=30.0, source="street.mp4", lost=("frame 7",))


def images(*sizes_px: tuple[int, int]) -> Clip:
    frames = tuple(
        Frame(rgb=PIXEL, width_px=width, height_px=height, source_index=i)
        for i, (width, height) in enumerate(sizes_px)
    )
    return Clip(frames=frames, source="images")


def raw(text: str, **fields: Any) -> RawAnswer:
    made: dict[str, Any] = {
        "stop_reason": "end",
        "tokens_in": 11,
        "tokens_out": 7,
        "forwards": 7,
        "model_id": "tiny",
        "revision": "r1",
        "backend": "scripted",
        "recipe": "greedy/1",
        "timings_ms": {"decode": 1.5},
    }
    return RawAnswer(text=text, **{**made, **fields})


def receipt_of(query: Query, text: str, clip: Clip, **fields: Any) -> Receipt:
    return make_receipt(query, build_prompt(query, clip), raw(text, **fields), clip)


def points(text: str, clip: Clip, **fields: Any) -> Points:
    return place_points(parse_answer(text), clip, receipt_of(Query.point("a"), text, clip, **fields))


def tracks(text: str, clip: Clip) -> Tracks:
    return place_tracks(parse_answer(text), clip, receipt_of(Query.track("a"), text, clip))


def count(text: str, clip: Clip) -> Count:
    return place_count(parse_answer(text), clip, receipt_of(Query.count("a"), text, clip))


VIDEO = video(0.0, 0.5, 1.0, 1.5)


def test_thousandths_become_pixels_of_each_pictures_own_size() -> None:
    text = '<points coords="1 1 000 1000;2 2 500 500 3 333 001">cup</points>'
    found = points(text, images((640, 360), (1279, 719)))
    assert [(p.object_id, p.source_index, p.x_px, p.y_px) for p in found] == [
        (1, 0, 0.0, 360.0),
        (2, 1, 639.5, 359.5),
        (3, 1, 333 * 1279 / 1000, 0.719),
    ]
    assert [(p.x_norm, p.y_norm) for p in found] == [(0.0, 1.0), (0.5, 0.5), (0.333, 0.001)]
    assert {(p.label, p.state, p.time_s) for p in found} == {("cup", "observed", None)}
    assert found.receipt.report.clean


def test_times_lead_to_the_frame_that_was_shown_then() -> None:
    found = points(
        '<points coords="0.5 1 100 200;1.4 2 100 200;2 3 100 200">a</points>', video(0.0, 0.5, 1.33, 2.0)
    )
    assert [(p.source_index, p.time_s) for p in found] == [(16, 0.52), (31, 1.35), (46, 2.02)]


@pytest.mark.parametrize(
    ("key", "index"),
    [
        pytest.param("1.8", 46, id="half-a-step-and-rounding-after-the-end"),
        pytest.param("1.9", None, id="too-late"),
        pytest.param("60.0", None, id="far-too-late"),
        pytest.param("0.7", 16, id="between-two"),
    ],
)
def test_a_time_away_from_all_frames_is_left_out(key: str, index: int | None) -> None:
    found = points(f'<points coords="0.0 1 100 200;{key} 2 300 040">a</points>', VIDEO)
    placed = [p.source_index for p in found if p.object_id == 2]
    rejected = found.receipt.report.rejected
    if index is not None:
        assert placed == [index]
        assert rejected == ()
    else:
        assert placed == []
        assert [piece.text for piece in rejected] == [f"{key} 2 300 040"]
        assert "the nearest is at 1.5 s" in rejected[0].reason


def test_a_hole_in_the_video_is_no_place_for_a_point() -> None:
    found = points('<points coords="0.5 1 100 200;3.0 2 100 200">a</points>', video(0.0, 0.5, 1.0, 5.0, 5.5))
    assert [p.object_id for p in found] == [1]
    assert len(found.receipt.report.rejected) == 1


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        pytest.param("0", "there is no image 0; expected 1 to 2", id="0"),
        pytest.param("3", "there is no image 3; expected 1 to 2", id="3"),
        pytest.param("1.5", "no image number", id="1.5"),
    ],
)
def test_an_image_that_does_not_exist_is_left_out(key: str, reason: str) -> None:
    found = points(f'<points coords="2 1 100 200;{key} 2 300 400">a</points>', images((10, 10), (10, 10)))
    assert [p.source_index for p in found] == [1]
    assert reason in found.receipt.report.rejected[0].reason


def test_tracks_are_sorted_by_object_and_time() -> None:
    found = tracks(
        '<tracks coords="1.0 2 100 200 1 300 400;0.5 1 500 600;1.5 3 1000 0000">car</tracks>', VIDEO
    )
    assert [track.object_id for track in found] == [1, 2, 3]
    assert [(s.time_s, s.source_index, s.x_px, s.y_px) for s in found[0].samples] == [
        (0.52, 16, 320.0, 216.0),
        (1.02, 31, 192.0, 144.0),
    ]
    assert {track.label for track in found} == {"car"}
    assert found.receipt.report.clean


def test_an_object_has_one_place_in_a_frame() -> None:
    found = tracks('<tracks coords="0.5 1 100 200;0.6 1 300 400">car</tracks>', VIDEO)
    assert [s.x_norm for s in found[0].samples] == [0.1]
    assert [piece.text for piece in found.receipt.report.rejected] == ["0.6 1 300 400"]


def test_elements_that_number_their_own_objects_do_not_share_ids() -> None:
    text = (
        '<tracks coords="0.0 1 100 200 2 300 400">cars</tracks> and '
        '<tracks coords="0.0 1 500 600">a bus</tracks> and <tracks coords="0.0 9 700 800">a bike</tracks>'
    )
    assert [(track.object_id, track.label) for track in tracks(text, VIDEO)] == [
        (1, "cars"),
        (2, "cars"),
        (3, "a bus"),
        (9, "a bike"),
    ]


def test_tracks_for_points_and_points_for_tracks_are_taken_with_a_note() -> None:
    as_tracks = '<tracks coords="0.0 1 100 200;0.5 1 110 200">a</tracks>'
    as_points = '<points coords="0.0 1 100 200;0.5 1 110 200">a</points>'
    assert [(p.object_id, p.x_norm) for p in points(as_tracks, VIDEO)] == [(1, 0.1), (1, 0.11)]
    assert "<tracks>" in points(as_tracks, VIDEO).receipt.notes[0]
    (track,) = tracks(as_points, VIDEO)
    assert [s.x_norm for s in track.samples] == [0.1, 0.11]
    assert "<points>" in tracks(as_points, VIDEO).receipt.notes[0]
    assert points(as_points, VIDEO).receipt.notes == ()


def test_each_kind_of_element_goes_where_it_was_asked_for() -> None:
    text = '<points coords="0.0 1 100 200">a</points> <tracks coords="0.0 1 300 400;0.5 1 300 400">b</tracks>'
    assert [p.label for p in points(text, VIDEO)] == ["a"]
    assert [track.label for track in tracks(text, VIDEO)] == ["b"]


def test_still_images_have_no_tracks() -> None:
    clip = images((10, 10))
    text = '<tracks coords="1 1 100 200">a</tracks>'
    receipt = receipt_of(Query.ask("follow it"), text, clip)
    with pytest.raises(AnswerError, match="still images have none"):
        place_tracks(parse_answer(text), clip, receipt)


ONE = '<points coords="1 1 100 200">a</points>'


@pytest.mark.parametrize(
    ("text", "value", "stated", "agrees"),
    [
        pytest.param(f"Counting the {ONE} shows a total of 1.", 1, 1, True, id="agrees"),
        pytest.param(f"Counting the {ONE} shows a total of 4.", 1, 4, False, id="points-count"),
        pytest.param(ONE, 1, None, True, id="points-alone"),
        pytest.param("4", 4, 4, True, id="number-alone"),
        pytest.param("There are none.", 0, None, True, id="none"),
        pytest.param("0", 0, 0, True, id="zero"),
        pytest.param(
            'There are 2 <points coords="7 1 100 200">a</points>.', 2, 2, True, id="points-left-out"
        ),
    ],
)
def test_counts(text: str, value: int, stated: int | None, agrees: bool) -> None:
    found = count(text, images((10, 10)))
    assert (int(found), found.stated, found.agrees) == (value, stated, agrees)


def test_a_count_of_tracks_counts_objects() -> None:
    found = count('<tracks coords="0.5 1 100 200 2 300 400;1.0 2 310 400;0.0 2 290 400">a</tracks>', VIDEO)
    assert int(found) == 2
    assert sorted((p.object_id, p.x_norm) for p in found.points) == [(1, 0.1), (2, 0.29)]


def test_an_answer_that_was_cut_off_before_a_place_says_so() -> None:
    with pytest.raises(
        AnswerError, match=r"cut off after 7 tokens, before a place .*--max-new-tokens"
    ) as caught:
        points("I", VIDEO, stop_reason="length")
    assert "err." not in str(caught.value)


@pytest.mark.parametrize("text", ["There are none.", "There are no cars.", "0", "No tracks available."])
def test_found_none_is_an_answer(text: str) -> None:
    assert len(points(text, VIDEO)) == 0
    assert len(tracks(text, VIDEO)) == 0
    assert points(text, VIDEO).receipt.report.clean


@pytest.mark.parametrize(
    ("text", "why"),
    [
        pytest.param("", "place could be read from the|cut off after 7 tokens, before a place", id="empty"),
        pytest.param("A quiet street.", "A quiet street", id="prose"),
        pytest.param("There are 3 cars.", "There are 3", id="number-without-points"),
        pytest.param('<points coords="0.0 1 10', "cut off", id="cut-before-the-first-point"),
        pytest.param(
            '<points coords="77.0 1 100 200">a</points>', "no frame was seen at 77", id="all-left-out"
        ),
    ],
)
def test_no_place_to_be_read_is_an_error_that_holds_the_text(text: str, why: str) -> None:
    with pytest.raises(AnswerError, match=why) as caught:
        points(text, VIDEO, stop_reason="length")
    assert caught.value.answer == raw(text, stop_reason="length", recipe="point-video/1; greedy/1")
    assert "\n" not in str(caught.value)
    with pytest.raises(AnswerError, match=why):
        tracks(text, VIDEO)


@pytest.mark.parametrize("text", ["A quiet street.", '<points coords="77.0 1 100 200">a</points>'])
def test_a_count_that_cannot_be_read_is_an_error(text: str) -> None:
    with pytest.raises(AnswerError, match="no place could be read"):
        count(text, VIDEO)


def test_the_report_joins_what_reading_and_placing_left_out() -> None:
    text = '<points coords="0.0 1 100 2000 2 300 400;9.9 3 500 600">a</points> and <points coords="0.5 1 70'
    found = points(text, VIDEO)
    report = found.receipt.report
    assert [p.object_id for p in found] == [2]
    assert [piece.text for piece in report.rejected] == ["1 100 2000", "1 70", "9.9 3 500 600"]
    assert report.truncated


def test_a_stop_in_the_middle_is_told_even_when_the_text_ends_well() -> None:
    text = '<points coords="0.0 1 100 200">a</points>'
    assert points(text, VIDEO, stop_reason="length").receipt.report.truncated
    assert not points(text, VIDEO).receipt.report.truncated


def test_the_receipt_tells_how_the_answer_came_about() -> None:
    query = Query.track("the car", fps=4, max_objects=3)
    receipt = receipt_of(query, "There are none.", VIDEO)
    assert receipt == Receipt(
        task="track",
        query="the car",
        model_id="tiny",
        revision="r1",
        backend="scripted",
        recipe="track-fps/1; greedy/1",
        prompt="Track the car at 4 FPS.",
        raw_text="There are none.",
        stop_reason="end",
        source="street.mp4",
        frame_times_s=(0.02, 0.52, 1.02, 1.52),
        shown_times_s=(0.0, 0.5, 1.0, 1.5),
        frame_source_indices=(1, 16, 31, 46),
        size_px=(640, 360),
        source_fps=30.0,
        max_objects=3,
        lost=("frame 7",),
        timings_ms={"decode": 1.5},
        tokens_in=11,
        tokens_out=7,
        forwards=7,
    )
    assert Receipt.model_validate_json(receipt.model_dump_json()) == receipt


@pytest.mark.parametrize(
    "clip",
    [
        pytest.param(VIDEO, id="video"),
        pytest.param(images((640, 360)), id="image"),
        pytest.param(images((640, 360), (640, 360)), id="images-of-one-size"),
        pytest.param(images((640, 360), (10, 20)), id="images-of-two-sizes"),
        pytest.param(images(), id="nothing"),
    ],
)
def test_a_receipt_knows_the_pictures_without_their_pixels(clip: Clip) -> None:
    receipt = receipt_of(Query.ask("What?"), "There are none.", clip)
    assert frame_refs(receipt) == frame_refs(clip)
    assert len(frame_refs(clip)) == len(clip)


def test_a_receipt_that_was_changed_is_refused() -> None:
    receipt = receipt_of(Query.point("a"), "", VIDEO).model_copy(update={"frame_times_s": (0.0,)})
    with pytest.raises(ValueError, match="one time for each of its 4 frames"):
        frame_refs(receipt)


def test_placing_again_from_the_receipt_changes_nothing() -> None:
    text = '<tracks coords="0.0 1 100 200;9.9 1 100 200;0.5 1 300 4000">a</tracks>'
    first = points(text, VIDEO)
    again = place_points(parse_answer(first.receipt.raw_text), first.receipt, first.receipt)
    assert again == first


@pytest.mark.slow
@FIXED
@given(
    st.tuples(st.integers(1, 5000), st.integers(1, 5000)),
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=5),
)
def test_a_place_survives_writing_and_placing_within_half_a_thousandth(
    size_px: tuple[int, int], shares: list[tuple[float, float]]
) -> None:
    written = points_answer(
        "a",
        [
            Group(
                key=0.5,
                points=tuple(
                    ParsedPoint(object_id=1, x=round(1000 * x), y=round(1000 * y)) for x, y in shares
                ),
            )
        ],
    )
    shown: Shown = [
        FrameRef(width_px=size_px[0], height_px=size_px[1], source_index=3, time_s=0.5, shown_time_s=0.5)
    ]
    clip = video(0.5, size_px=size_px)
    text = format_answer(written)
    found = place_points(parse_answer(text), shown, receipt_of(Query.point("a"), text, clip))
    assert len(found) == len(shares)
    for x, y in shares:
        off = np.abs(found.xy_px - (x * size_px[0], y * size_px[1])) / size_px
        assert off.max(axis=1).min() <= 0.0005 + 1e-9


CIRCLES = ";".join(f"{n / 2:.1f} {n + 1} 500 400" for n in range(9))


def test_points_written_in_circles_are_left_out_and_told() -> None:
    clip = video(*(n / 2 for n in range(10)))
    found = points(f'<points coords="{CIRCLES};4.5 10 100 100">the light</points>', clip)
    assert [(p.object_id, p.x_norm) for p in found] == [(1, 0.5), (10, 0.1)]
    assert found.receipt.report.repeats_cut == 8
    assert not found.receipt.report.clean
    assert "circles (8 new things running in one place): 8 places" in found.receipt.notes[0]


def test_so_are_things_that_are_followed_and_never_move_on() -> None:
    clip = video(*(n / 2 for n in range(10)))
    found = tracks(f'<tracks coords="{CIRCLES};4.5 1 510 400 9 500 400">the light</tracks>', clip)
    assert [(track.object_id, len(track.samples)) for track in found] == [(1, 2)]
    assert found.receipt.report.repeats_cut == 9


def test_a_parked_thing_told_in_points_is_followed_too() -> None:
    clip = video(*(n / 2 for n in range(20)))
    coords = ";".join(f"{n / 2:.1f} 1 500 400" for n in range(20))
    found = tracks(f'<points coords="{coords}">the light</points>', clip)
    assert len(found[0].samples) == 20


def test_mugs_in_one_place_on_many_pictures_all_count() -> None:
    coords = ";".join(f"{n + 1} {n + 1} 500 500" for n in range(10))
    found = points(f'<points coords="{coords}">mug</points>', images(*[(64, 48)] * 10))
    assert len(found) == 10


def test_a_parked_thing_is_followed_as_long_as_it_is_there() -> None:
    clip = video(*(n / 2 for n in range(30)))
    coords = ";".join(f"{n / 2:.1f} 1 500 400" for n in range(30))
    found = tracks(f'<tracks coords="{coords}">the light</tracks>', clip)
    assert len(found[0].samples) == 30
    assert found.receipt.report.clean


def test_circles_are_kept_on_request() -> None:
    clip, query = video(*(n / 2 for n in range(10))), Query.point("the light")
    text = f'<points coords="{CIRCLES}">the light</points>'
    kept = make_receipt(
        query, build_prompt(query, clip), raw(text), clip, decoding=Decoding(cut_runaways=False)
    )
    found = place_points(parse_answer(text), clip, kept)
    assert len(found) == 9
    assert found.receipt.report.clean
