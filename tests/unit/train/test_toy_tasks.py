from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from molmo2_ground.eval.example import Example, Suite, TruthFrame
from molmo2_ground.results import Sample, Track, Tracks
from molmo2_ground.rle import Rle
from molmo2_ground.train.toy_examples import first_last_prompt
from molmo2_ground.train.toy_held_out import Asked
from molmo2_ground.train.toy_suite import ToySuite
from molmo2_ground.train.toy_tasks import FIRST_SEED, LONG, SHORT, ToyTasks
from molmo2_ground.train.toy_view import FIRST_TRAINING_SEED
from tests.made_up_answers import empty, perfect

_CLIPS = 4


@pytest.fixture(scope="module")
def suite() -> ToyTasks:
    return ToyTasks(_CLIPS)


@pytest.fixture(scope="module")
def examples(suite: ToyTasks) -> list[Example]:
    return list(suite.examples())


@pytest.fixture(scope="module")
def many() -> list[Example]:
    return list(ToyTasks(12).examples())


def _asked(example: Example) -> Asked:
    return ToyTasks(1).asked(example.key)[1]


def _first(examples: list[Example], wanted: Callable[[Example], bool]) -> Example:
    return next(e for e in examples if e.truth.objects and wanted(e))


def test_it_is_a_suite_that_travels_to_another_process(suite: ToyTasks, examples: list[Example]) -> None:
    assert isinstance(suite, Suite)
    assert list(pickle.loads(pickle.dumps(suite)).examples()) == examples


def test_a_clip_depends_on_its_seed_alone(examples: list[Example]) -> None:
    alone = list(ToyTasks(1, first_seed=FIRST_SEED + 3).examples())
    assert alone == examples[3 * ToyTasks.per_clip :]


def test_seeds_are_neither_those_of_training_nor_those_of_the_other_suite() -> None:
    tasks, plain = ToyTasks(), ToySuite()
    assert plain.first_seed + plain.clips <= tasks.first_seed
    assert tasks.first_seed + tasks.clips <= FIRST_TRAINING_SEED
    with pytest.raises(ValueError, match="held-out seeds"):
        ToyTasks(1, first_seed=FIRST_TRAINING_SEED)


def test_clips_are_short_and_long_in_turns(examples: list[Example]) -> None:
    lengths = {e.media: e.tags["clip_s"] for e in examples}
    assert list(lengths.values()) == [SHORT / 2, LONG / 2] * (_CLIPS // 2)
    whole = {len(e.truth.frame_times_s) for e in examples if _asked(e).after_s is None}
    assert whole == {SHORT, LONG}


def test_every_clip_gives_every_task_and_questions_that_compare(examples: list[Example]) -> None:
    assert len({e.key for e in examples}) == len(examples)
    for clip in range(_CLIPS):
        own = examples[clip * ToyTasks.per_clip : (clip + 1) * ToyTasks.per_clip]
        assert [e.key.rsplit("-", 1)[1] for e in own[:5]] == ["track", "follow", "ends", "point", "count"]
        assert {e.media for e in own} == {own[0].media}
    compared = Counter(_asked(e).question.group for e in examples if _asked(e).compared)
    assert compared.keys() == {"motion", "size", "position"}


def test_questions_are_put_as_in_training(examples: list[Example]) -> None:
    for example in examples:
        asked = _asked(example)
        if asked.ask == "first_last":
            assert example.query.task == "ask"
            assert example.query.phrase == first_last_prompt(asked.question.phrase)
        else:
            assert (example.query.task, example.query.phrase) == (asked.question.task, asked.question.phrase)


def test_a_click_lies_on_the_thing_before_it_is_seen_again(suite: ToyTasks, examples: list[Example]) -> None:
    clicked = [e for e in examples if e.query.at is not None]
    assert len(clicked) == _CLIPS
    for example in clicked:
        held_out, asked = suite.asked(example.key)
        assert example.query.at is not None
        time_s, x_px, y_px = example.query.at
        ids = held_out.id_map(round(time_s * held_out.fps))
        assert ids[int(y_px), int(x_px)] == asked.question.object_ids[0]
        assert example.truth.objects
        assert min(example.truth.frame_times_s) == time_s + 0.5


@pytest.mark.slow
def test_a_perfect_answer_scores_one_in_everything(suite: ToyTasks, examples: list[Example]) -> None:
    rows = [suite.score(example, perfect(example)) for example in examples]
    assert {value for row in rows for value in row.values()} == {1.0}
    assert set(suite.headline) <= set(suite.summary(rows))


@pytest.mark.slow
def test_an_unreadable_answer_scores_zero_in_what_a_readable_one_is_scored_by(
    suite: ToyTasks, examples: list[Example]
) -> None:
    for example in examples:
        row = suite.score(example, None)
        kept = {name for name in suite.score(example, perfect(example)) if not name.startswith("identity")}
        assert row.keys() == kept
        assert set(row.values()) == {0.0}


def test_saying_none_is_right_only_when_there_is_none(suite: ToyTasks, examples: list[Example]) -> None:
    tracked = ("track", "follow", "compared")
    for example in examples:
        row = suite.score(example, empty(example))
        named = {"none", "not_none", "first_last_f1", "point_f1", "count", "count_f1"} & row.keys()
        assert {row[name] for name in named} == {float(not example.truth.objects)}
        # A track also scores the half seconds in which the object really is out of sight.
        for name in row.keys() - named - {"readable"}:
            if _asked(example).ask in tracked and "recall" in name:
                assert row[name] < 1


def test_a_question_that_compares_has_one_score_of_its_own(suite: ToyTasks, examples: list[Example]) -> None:
    for example in examples:
        asked = _asked(example)
        if asked.compared:
            row = suite.score(example, perfect(example))
            assert row.keys() == {"readable", "not_none", f"{asked.question.group}_f1"}


def test_short_and_long_tracks_are_scored_apart(suite: ToyTasks, examples: list[Example]) -> None:
    plain = [e for e in examples if e.key.endswith("-track") and e.truth.objects]
    assert {e.tags["clip_s"] for e in plain} == {SHORT / 2, LONG / 2}
    for example in plain:
        frames, other = (SHORT, LONG) if example.tags["clip_s"] == SHORT / 2 else (LONG, SHORT)
        row = suite.score(example, perfect(example))
        assert row[f"track_f1_{frames}"] == row["track_f1"]
        assert f"track_f1_{other}" not in row


def _moved(track: Track, samples: tuple[Sample, ...]) -> Track:
    return track.model_copy(update={"samples": samples})


def test_first_and_last_seen_at_another_moment_are_wrong(suite: ToyTasks, many: list[Example]) -> None:
    def long_seen(example: Example) -> bool:
        item = example.truth.objects[0]
        return example.key.endswith("-ends") and len(item.frames) == 2 and len(example.truth.objects) == 1

    example = _first(many, long_seen)
    right = perfect(example)
    assert isinstance(right, Tracks)
    (track,) = right
    held_out, asked = suite.asked(example.key)
    (object_id,) = asked.question.object_ids
    between = next(
        (number, state)
        for number, frame in enumerate(held_out.states)
        for state in frame
        if state.object_id == object_id
        and state.visible
        and track.first.time_s < number / 2 < track.last.time_s
    )
    number, state = between
    late = track.first.model_copy(
        update={
            "time_s": number / 2,
            "source_index": held_out.source_index(number),
            "x_px": state.x_px,
            "y_px": state.y_px,
        }
    )
    cases = {
        "the first a while later": ((late, track.last), 0.5),
        "a place too many": ((track.first, late, track.last), 0.8),
        "the last one only": ((track.last,), 2 / 3),
        "beside it": ((track.first.model_copy(update={"x_px": 0.5, "y_px": 0.5}), track.last), None),
    }
    for name, (samples, f1) in cases.items():
        row = suite.score(example, right.model_copy(update={"tracks": (_moved(track, samples),)}))
        assert row["first_last_f1"] == pytest.approx(0.5 if f1 is None else f1), name
        assert row["not_none"] == 1.0


def test_first_and_last_are_those_of_the_frames_that_were_shown(suite: ToyTasks, many: list[Example]) -> None:
    example = _first(
        many,
        lambda e: e.key.endswith("-ends") and len(e.truth.objects[0].frames) == 2,
    )
    right = perfect(example)
    assert isinstance(right, Tracks)
    first = {track.first.source_index for track in right}
    shown = tuple(i for i in right.receipt.frame_source_indices if i not in first)
    receipt = right.receipt.model_copy(update={"frame_source_indices": shown})
    # The frame in which it is first seen was not shown: that place is none that the model could have named.
    row = suite.score(example, right.model_copy(update={"receipt": receipt}))
    assert row["first_last_f1"] < 1


def test_what_is_said_before_the_click_is_not_judged(suite: ToyTasks, examples: list[Example]) -> None:
    example = _first(examples, lambda e: e.query.at is not None and e.query.at[0] > 0)
    right = perfect(example)
    assert isinstance(right, Tracks)
    (track,) = right
    early = track.first.model_copy(update={"time_s": 0.0, "source_index": 0, "x_px": 0.5, "y_px": 0.5})
    row = suite.score(example, right.model_copy(update={"tracks": (_moved(track, (early, *track.samples)),)}))
    assert row["follow_f1"] == 1.0
    wrong = tuple(sample.model_copy(update={"x_px": 0.5, "y_px": 0.5}) for sample in track.samples)
    row = suite.score(example, right.model_copy(update={"tracks": (_moved(track, wrong),)}))
    assert row["follow_recall"] < 1


def test_ids_that_are_swapped_lower_identity(suite: ToyTasks, many: list[Example]) -> None:
    example = _first(
        many,
        lambda e: e.key.endswith("-track") and sum(len(o.frames) > 4 for o in e.truth.objects) > 1,
    )
    right = perfect(example)
    assert isinstance(right, Tracks)
    a, b = [track for track in right if len(track.samples) > 4][:2]
    half_s = a.samples[len(a.samples) // 2].time_s
    early_a, late_a = _cut(a, half_s)
    early_b, late_b = _cut(b, half_s)
    rest = tuple(track for track in right if track not in (a, b))
    swapped = (_moved(a, early_a + late_b), _moved(b, early_b + late_a), *rest)
    row = suite.score(example, right.model_copy(update={"tracks": swapped}))
    assert row["track_f1"] == 1.0
    assert row["identity"] == row[f"identity_{round(2 * float(example.tags['clip_s']))}"] < 1.0


def _cut(track: Track, time_s: float) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    early = tuple(sample for sample in track.samples if sample.time_s < time_s)
    return early, track.samples[len(early) :]


def test_a_look_at_ends_moves_them_to_the_frames_that_were_named(
    suite: ToyTasks, many: list[Example]
) -> None:
    example = _first(
        many,
        lambda e: e.key.endswith("-ends") and len(e.truth.objects[0].frames) == 2,
    )
    item = example.truth.objects[0]
    first, last = item.frames
    named = first.source_index + 1
    truth = suite.truth_at(example, [named])
    assert [f.source_index for f in truth.objects[0].frames] == [named, last.source_index]
    assert suite.truth_at(example, []).objects == example.truth.objects


def _tracks(example: Example, *places: TruthFrame) -> Tracks:
    right = perfect(example)
    assert isinstance(right, Tracks)
    samples = tuple(
        Sample(time_s=p.time_s or 0.0, source_index=p.source_index, x_px=x, y_px=y, x_norm=0, y_norm=0)
        for p in places
        for x, y in [_on(p)]
    )
    return right.model_copy(update={"tracks": (Track(object_id=1, label="it", samples=samples),)})


def _on(frame: TruthFrame) -> tuple[float, float]:
    assert frame.mask is not None
    rows, columns = np.nonzero(frame.mask.decode())
    return float(columns[0]) + 0.5, float(rows[0]) + 0.5


@pytest.mark.parametrize(
    ("ends", "f1"),
    [
        pytest.param((0, 35), 1.0, id="the half seconds of training"),
        pytest.param((0, 39), 1.0, id="the very end that a user's question is shown"),
        pytest.param((0, 35, 39), 0.8, id="one end twice"),
        pytest.param((0, 30), 0.5, id="too early"),
        pytest.param((35, 39), 0.5, id="no beginning"),
    ],
)
def test_a_clips_end_is_its_last_half_second_or_the_very_end(
    ends: tuple[int, ...], f1: float, suite: ToyTasks, many: list[Example]
) -> None:
    example = _first(
        many,
        lambda e: (
            e.key.endswith("-ends")
            and e.truth.duration_s == SHORT / 2
            and len(e.truth.objects) == 1
            and [f.source_index for f in e.truth.objects[0].frames] == [0, 35]
        ),
    )
    held_out, asked = suite.asked(example.key)
    (object_id,) = asked.question.object_ids
    maps = {i: held_out.id_map(i) for i in ends}
    frames = (
        TruthFrame(time_s=held_out.time_s(i), source_index=i, mask=Rle.encode(ids == object_id))
        for i, ids in maps.items()
    )
    result = _tracks(example, *frames)
    indices = (*result.receipt.frame_source_indices, 39)
    receipt = result.receipt.model_copy(update={"frame_source_indices": indices})
    row = suite.score(example, result.model_copy(update={"receipt": receipt}))
    assert row["first_last_f1"] == pytest.approx(f1)
