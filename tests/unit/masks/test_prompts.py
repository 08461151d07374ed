from __future__ import annotations

import pytest

from molmo2_ground.masks.prompts import PointedAt, PointPrompt, Prompts
from molmo2_ground.results import Answer, Count, Point, Points, Receipt, Sample, State, Track, Tracks


def receipt(looked: tuple[int, ...], *, windows: tuple[Receipt, ...] = ()) -> Receipt:
    times = tuple(float(index) for index in looked)
    return Receipt(
        task="track", query="x", model_id="m", backend="b", recipe="", prompt="", raw_text="",
        stop_reason="end", source="s", frame_times_s=times, shown_times_s=times,
        frame_source_indices=looked, size_px=(100, 50), windows=windows,
    )  # fmt: skip


def sample(index: int, *, state: State = "observed") -> Sample:
    return Sample(
        time_s=float(index),
        source_index=index,
        x_px=10.0 + index,
        y_px=5.0,
        x_norm=0.1,
        y_norm=0.1,
        state=state,
    )


def point(object_id: int, index: int, *, state: State = "observed") -> Point:
    return Point(
        object_id=object_id, x_px=10.0 + index, y_px=5.0, x_norm=0.1, y_norm=0.1, time_s=None,
        source_index=index, label=f"thing {object_id}", state=state,
    )  # fmt: skip


TRACKS = Tracks(
    tracks=(
        Track(object_id=2, label="thing 2", samples=(sample(3), sample(4, state="interpolated"), sample(6))),
        Track(object_id=1, label="thing 1", samples=(sample(3),)),
    ),
    receipt=receipt((0, 3, 6)),
)
POINTS = Points(
    points=(point(2, 6), point(1, 3), point(3, 3, state="propagated")), receipt=receipt((0, 3, 6))
)


@pytest.mark.parametrize(
    ("result", "places", "labelled"),
    [
        pytest.param(TRACKS, [(3, 1), (3, 2), (6, 2)], {1, 2}, id="tracks"),
        pytest.param(POINTS, [(3, 1), (6, 2)], {1, 2, 3}, id="points"),
        pytest.param(Count(value=3, stated=3, points=POINTS), [(3, 1), (6, 2)], {1, 2, 3}, id="count"),
        pytest.param(
            Answer(text="", points=None, tracks=TRACKS, receipt=TRACKS.receipt),
            [(3, 1), (3, 2), (6, 2)], {1, 2}, id="answer-with-tracks",
        ),
        pytest.param(
            Answer(text="", points=None, tracks=None, receipt=receipt((0, 3, 6))), [], set(),
            id="answer-of-words",
        ),
        pytest.param(Tracks(tracks=(), receipt=receipt((0, 3, 6))), [], set(), id="empty-tracks"),
    ],
)  # fmt: skip
def test_what_a_result_points_to(
    result: PointedAt, places: list[tuple[int, int]], labelled: set[int]
) -> None:
    prompts = Prompts.of(result)
    assert [(p.source_index, p.object_id) for p in prompts.points] == places
    assert all(p.x_px == 10.0 + p.source_index for p in prompts.points)
    assert set(prompts.labels) == labelled
    assert prompts.looked == (0, 3, 6)


def test_the_looks_of_all_windows_count() -> None:
    whole = receipt((0, 2), windows=(receipt((0, 2)), receipt((2, 4))))
    assert Prompts.of(Tracks(tracks=(), receipt=whole)).looked == (0, 2, 4)


def test_a_point_in_a_frame_that_no_receipt_names_was_looked_at_too() -> None:
    prompts = Prompts.of(Tracks(tracks=TRACKS.tracks, receipt=receipt((0,))))
    assert prompts.looked == (0, 3, 6)
    assert prompts.looked_set == {0, 3, 6}


def test_points_by_frame() -> None:
    prompts = Prompts.of(TRACKS)
    assert [p.object_id for p in prompts.in_frame(3)] == [1, 2]
    assert prompts.in_frame(6) == (PointPrompt(object_id=2, source_index=6, x_px=16.0, y_px=5.0),)
    assert prompts.in_frame(4) == ()
