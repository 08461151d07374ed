from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from molmo2_ground.eval.example import Example
from molmo2_ground.query import Query
from molmo2_ground.results import Receipt, Sample, Track, Tracks
from molmo2_ground.sources import probe
from molmo2_ground.train.row_suite import RowTracks
from molmo2_ground.train.rows import Annotation, Place, Row
from tests.made_up_rows import box, mask, moments, point, row_folder, track_row
from tests.media import Shelf


def answer(example: Example, *, dx_px: float = 0.0) -> Tracks:
    """The truth as an answer, moved to the right."""
    tracks = tuple(
        Track(
            object_id=item.object_id,
            label="dog",
            samples=tuple(
                Sample(
                    time_s=frame.time_s or 0.0,
                    source_index=frame.source_index,
                    x_px=20 + dx_px,
                    y_px=20,
                    x_norm=(20 + dx_px) / 96,
                    y_norm=20 / 64,
                )
                for frame in item.frames
            ),
        )
        for item in example.truth.objects
    )
    times = tuple(frame.time_s or 0.0 for item in example.truth.objects for frame in item.frames)
    receipt = Receipt(
        task="track",
        query="dog",
        model_id="none",
        backend="none",
        recipe="test/1",
        prompt="",
        raw_text="",
        stop_reason="end",
        source="test",
        frame_times_s=times,
        shown_times_s=times,
        frame_source_indices=tuple(round(time_s * 10) for time_s in times),
        size_px=(96, 64),
    )
    return Tracks(tracks=tracks, receipt=receipt)


def test_tracks_are_asked_at_their_rate_and_judged_by_their_boxes(media: Shelf, tmp_path: Path) -> None:
    suite = RowTracks(row_folder(media, tmp_path, track_row("walk")))
    assert suite.check() == ()
    (example,) = suite.examples()
    assert example.key == "walk 0"
    assert example.query == Query.track("the dog", fps=2.0)
    assert example.truth.frame_times_s == (0, 0.5, 1.0)
    right, wrong = suite.score(example, answer(example)), suite.score(example, answer(example, dx_px=30))
    assert (right["f1"], right["hota"]) == (1, 1)
    assert (wrong["f1"], wrong["hota"]) == (0, 0)
    assert suite.prepare(example, tmp_path) == tmp_path / "clip.mp4"


def test_a_part_is_asked_about_as_a_film_of_its_own(media: Shelf, tmp_path: Path) -> None:
    track = Annotation(
        task=("track",), label="dog", moments=moments((0.5, 1.0), box(1), mask(2)), rate_fps=2.0
    )
    suite = RowTracks(row_folder(media, tmp_path, track_row(clip_s=(0.5, 1.1), annotations=(track,))))
    (example,) = suite.examples()
    assert example.truth.frame_times_s == (0, 0.5)
    film = pickle.loads(pickle.dumps(suite)).prepare(example, tmp_path)
    assert probe(film).frame_count == 6
    assert film == suite.prepare(example, tmp_path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param({"clip_s": (0.0, 9.0)}, "clip_s is 0 to 9 s", id="too-long"),
        pytest.param({"size_px": ((96, 65),)}, "has 96 x 64 pixels", id="size"),
        pytest.param({"media": ("gone.mp4",)}, "there is no file", id="no-file"),
        pytest.param({"row_id": " "}, "row_id is blank", id="bad-row"),
    ],
)
def test_a_row_that_cannot_be_asked_about_is_a_problem(
    media: Shelf, tmp_path: Path, change: dict[str, object], reason: str
) -> None:
    row = Row.model_validate(track_row().model_dump() | change)
    suite = RowTracks(row_folder(media, tmp_path, row))
    (problem,) = suite.check()
    assert problem.row.startswith("rows.jsonl line 1")
    assert reason in problem.reason
    assert len(suite.examples()) == 0


@pytest.mark.parametrize(
    ("places", "rate_fps", "reason"),
    [
        pytest.param((point(1),), 2.0, "has a point alone", id="points"),
        pytest.param((box(1),), None, "no regular grid", id="irregular"),
    ],
)
def test_tracks_that_cannot_be_judged(
    media: Shelf, tmp_path: Path, places: tuple[Place, ...], rate_fps: float | None, reason: str
) -> None:
    track = Annotation(task=("track",), label="dog", moments=moments((0.5,), *places), rate_fps=rate_fps)
    suite = RowTracks(row_folder(media, tmp_path, track_row(annotations=(track,))))
    (problem,) = suite.check()
    assert reason in problem.reason


def test_a_line_that_is_no_row_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("{oops\n")
    (problem,) = RowTracks(tmp_path).check()
    assert (problem.row, "no JSON" in problem.reason) == ("rows.jsonl line 1", True)
