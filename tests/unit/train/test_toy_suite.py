from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from molmo2_ground.eval.example import Example, Suite
from molmo2_ground.results import Count, Points, Sample, Tracks
from molmo2_ground.sources import iter_frames, probe
from molmo2_ground.train.toy.clip_file import frame_count
from molmo2_ground.train.toy.street import make_scene
from molmo2_ground.train.toy_held_out import EXAM_FPS, GRID_S, clip_of
from molmo2_ground.train.toy_suite import ToySuite
from molmo2_ground.train.toy_view import FIRST_TRAINING_SEED
from tests.made_up_answers import empty, perfect

_CLIPS = 4


@pytest.fixture(scope="module")
def suite() -> ToySuite:
    return ToySuite(_CLIPS)


@pytest.fixture(scope="module")
def examples(suite: ToySuite) -> list[Example]:
    return list(suite.examples())


def test_it_is_a_suite_that_travels_to_another_process(suite: ToySuite, examples: list[Example]) -> None:
    assert isinstance(suite, Suite)
    assert suite.check() == ()
    assert list(pickle.loads(pickle.dumps(suite)).examples()) == examples


def test_examples_are_a_sequence_with_keys_of_their_own(suite: ToySuite, examples: list[Example]) -> None:
    lazy = suite.examples()
    assert len(lazy) == len(examples) == 2 * _CLIPS
    assert len({e.key for e in examples}) == len(examples)
    assert (lazy[-1], lazy[2:4]) == (examples[-1], tuple(examples[2:4]))
    with pytest.raises(IndexError, match="8 examples"):
        lazy[2 * _CLIPS]


def test_the_questions_are_a_mix(examples: list[Example]) -> None:
    assert {e.query.task for e in examples} == {"track", "point", "count"}
    assert any(e.truth.count == 0 for e in examples)
    assert any((e.truth.count or 0) > 1 for e in examples)


def test_a_clip_does_not_depend_on_which_clips_are_beside_it(examples: list[Example]) -> None:
    assert list(ToySuite(1, first_seed=3).examples()) == examples[6:8]


def test_a_perfect_answer_scores_one_in_everything(suite: ToySuite, examples: list[Example]) -> None:
    rows = [suite.score(example, perfect(example)) for example in examples]
    assert {value for row in rows for value in row.values()} == {1.0}
    assert set(suite.headline) <= set(suite.summary(rows))


def test_an_unreadable_answer_scores_zero_in_what_a_readable_one_is_scored_by(
    suite: ToySuite, examples: list[Example]
) -> None:
    for example in examples:
        row = suite.score(example, None)
        # Whether ids are kept can be said of right samples only.
        assert row.keys() == suite.score(example, perfect(example)).keys() - {"identity"}
        assert set(row.values()) == {0.0}


def test_saying_none_is_right_only_when_there_is_none(suite: ToySuite, examples: list[Example]) -> None:
    for example in examples:
        row = suite.score(example, empty(example))
        # A track also scores the half seconds in which the object really is out of sight.
        named = {"none", "not_none", "colour", "hota", "point_f1", "count_f1", "count"} & row.keys()
        assert {row[name] for name in named} == {float(not example.truth.objects)}


def test_an_object_that_changes_its_number_keeps_its_identity_in_part(
    suite: ToySuite, examples: list[Example]
) -> None:
    example = next(e for e in examples if e.query.task == "track" and len(e.truth.objects) == 1)
    tracks = perfect(example)
    assert isinstance(tracks, Tracks)
    whole = tracks[0]
    parts = (whole.samples[:2], whole.samples[2:])
    split = tuple(
        whole.model_copy(update={"object_id": number, "samples": samples})
        for number, samples in enumerate(parts, start=1)
    )
    row = suite.score(example, tracks.model_copy(update={"tracks": split}))
    assert row["identity"] == pytest.approx(1 - 1 / (len(whole.samples) - 1))
    assert row["track_f1"] == 1.0
    single = whole.model_copy(update={"samples": whole.samples[:1]})
    assert "identity" not in suite.score(example, tracks.model_copy(update={"tracks": (single,)}))


@pytest.mark.slow
def test_one_of_several_is_meant_when_most_of_the_answer_lies_on_it() -> None:
    suite = ToySuite(30)
    examples = [e for e in suite.examples() if e.query.task == "track" and e.truth.objects]
    example = next(e for e in examples if "colour" in suite.score(e, empty(e)))
    tracks = perfect(example)
    assert isinstance(tracks, Tracks)
    assert suite.score(example, tracks)["colour"] == 1.0
    road = tuple(s.model_copy(update={"x_px": 0.5, "y_px": 0.5}) for s in tracks[0].samples)
    nowhere = tracks[0].model_copy(update={"samples": road})
    assert suite.score(example, tracks.model_copy(update={"tracks": (nowhere,)}))["colour"] == 0.0
    assert suite.score(example, None)["colour"] == 0.0


def test_the_places_behind_a_count_are_scored_too(suite: ToySuite, examples: list[Example]) -> None:
    example = next(e for e in examples if e.query.task == "count" and len(e.truth.objects) > 1)
    count = perfect(example)
    assert isinstance(count, Count)
    one = count.points.model_copy(update={"points": count.points.points[:1]})
    row = suite.score(example, count.model_copy(update={"points": one}))
    right = len(example.truth.objects)
    assert row["count"] == 1.0
    assert row["count_f1"] == pytest.approx(2 / (1 + right))


def test_the_same_object_pointed_at_twice_is_found_once(suite: ToySuite, examples: list[Example]) -> None:
    example = next(e for e in examples if e.query.task == "point" and len(e.truth.objects) > 1)
    points = perfect(example)
    assert isinstance(points, Points)
    twice = points.model_copy(update={"points": (points[0],) * len(points)})
    row = suite.score(example, twice)
    assert row["point_recall"] == row["point_precision"] == 1 / len(points)


def test_a_place_on_what_hardly_shows_is_not_judged(suite: ToySuite) -> None:
    # A sample on the object in a frame in which it does not count as visible must change nothing.
    for example in ToySuite(12).examples():
        if example.query.task != "track" or len(example.truth.objects) != 1:
            continue
        tracks = perfect(example)
        assert isinstance(tracks, Tracks)
        place = _hardly_visible(example)
        if place is None:
            continue
        samples = sorted((*tracks[0].samples, place), key=lambda s: s.time_s)
        track = tracks[0].model_copy(update={"samples": tuple(samples)})
        row = suite.score(example, tracks.model_copy(update={"tracks": (track,)}))
        assert row["track_f1"] == row["hota"] == 1.0
        return
    pytest.fail("no clip in which something asked for hardly shows; take more clips")


def _hardly_visible(example: Example) -> Sample | None:
    assert example.truth.duration_s is not None
    scene = make_scene(int(example.key.split("-")[1]), duration_s=example.truth.duration_s)
    object_id = example.truth.objects[0].object_id
    for time_s in example.truth.frame_times_s:
        state = scene.truth(time_s, scene.render(time_s)[1])[object_id - 1]
        if state.visible_share > 0 and not state.visible:
            return Sample(
                time_s=time_s,
                source_index=round(time_s * EXAM_FPS),
                x_px=state.x_px,
                y_px=state.y_px,
                x_norm=state.x_px / 640,
                y_norm=state.y_px / 360,
            )
    return None


def test_the_clip_is_written_once_and_fits_its_truth(
    suite: ToySuite, examples: list[Example], tmp_path: Path
) -> None:
    track, other = examples[2:4]
    path = suite.prepare(track, tmp_path)
    info = probe(path)
    assert info.fps == track.truth.fps == EXAM_FPS
    assert (info.width_px, info.height_px) == track.truth.size_px
    assert info.duration_s == pytest.approx(track.truth.duration_s)
    times = {frame.source_index: frame.time_s for frame in iter_frames(path)}
    for item in track.truth.objects:
        for frame in item.frames:
            assert times[frame.source_index] == pytest.approx(frame.time_s)
    written = path.stat().st_mtime_ns
    assert suite.prepare(other, tmp_path) == path
    assert path.stat().st_mtime_ns == written


def test_the_very_end_is_a_picture_that_no_half_second_shows(suite: ToySuite) -> None:
    for seed in range(_CLIPS):
        held_out = suite.held_out(seed)
        last = frame_count(held_out.scene, fps=held_out.fps) - 1
        assert last > held_out.source_index(len(held_out.states) - 1)


def test_kept_answers_are_not_those_of_a_file_of_another_rate(examples: list[Example]) -> None:
    # Their frames are numbers in the file, and the name of the file is part of what tells answers apart.
    assert {str(example.media).rsplit("-", 1)[1] for example in examples} == {f"{EXAM_FPS:g}fps.mp4"}


@pytest.mark.parametrize("fps", [2.0, EXAM_FPS, 10.0, 30.0])
def test_every_half_second_is_a_frame_at_any_rate_that_a_clip_can_have(fps: float) -> None:
    held_out = clip_of(5, duration_s=4.0).filmed_at(fps)
    for number, (states, ids) in enumerate(zip(held_out.states, held_out.id_maps, strict=True)):
        index = held_out.source_index(number)
        assert held_out.time_s(index) == number * GRID_S == states[0].time_s
        assert np.array_equal(held_out.id_map(index), ids)
        assert np.array_equal(ids, held_out.scene.render(number * GRID_S)[1])


def test_what_is_seen_between_the_half_seconds_and_after_the_last_one() -> None:
    held_out = clip_of(5, duration_s=4.0).filmed_at(10.0)
    for index in (1, 4, 6, 39, 40, 45):
        _, ids = held_out.scene.render(index / 10)
        assert np.array_equal(held_out.id_map(index), ids)
        states = held_out.scene.truth(index / 10, ids)
        assert [held_out.is_visible(s.object_id, index) for s in states] == [s.visible for s in states]


@pytest.mark.parametrize("fps", [0.0, -4.0, 5.0, 29.97, float("nan")])
def test_rates_at_which_a_half_second_is_no_frame(fps: float) -> None:
    with pytest.raises(ValueError, match="half a second"):
        clip_of(5, duration_s=1.0).filmed_at(fps)


@pytest.mark.parametrize(
    ("clips", "first_seed"),
    [
        pytest.param(0, 0, id="no clip"),
        pytest.param(1, -1, id="negative seed"),
        pytest.param(2, FIRST_TRAINING_SEED - 1, id="a training seed"),
    ],
)
def test_clips_are_held_out(clips: int, first_seed: int) -> None:
    with pytest.raises(ValueError, match=r"at least one clip|held-out seeds"):
        ToySuite(clips, first_seed=first_seed)
