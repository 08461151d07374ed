from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

import molmo2_ground as mg
from molmo2_ground.answer import RawAnswer
from molmo2_ground.backends.base import BackendSession
from molmo2_ground.backends.scripted import ScriptedBackend
from molmo2_ground.batches import Failed
from molmo2_ground.clip import Clip
from molmo2_ground.errors import BackendError, PromptTooLongError, SourceError
from molmo2_ground.grounder import Grounder
from molmo2_ground.model.limits import ModelLimits
from molmo2_ground.query import Decoding, Prompt, Query
from molmo2_ground.replay import differences
from molmo2_ground.results import Count, Points, Tracks
from molmo2_ground.train.toy.clip_file import write_clip
from molmo2_ground.train.toy.street import make_scene
from tests.media import Shelf, constant_rate

CAR = Query.track("the red car")
CARS = Query.point("cars")


def street(level: int, frames: int = 4) -> Clip:
    """A clip in memory of one grey, which is what the model below tells it by."""
    return Clip.from_arrays(np.full((frames, 50, 80, 3), level, dtype=np.uint8), fps=2.0)


class Seeing(ScriptedBackend):
    """Answers by what a clip shows, so that an answer in the wrong place is found out.

    The car is at `level` thousandths. `bad` levels fail, whether asked alone or in company.
    """

    def __init__(
        self, *, most: int = 1, bad: dict[int, Exception] | None = None, max_frames: int = 384
    ) -> None:
        super().__init__([])
        self._most, self._bad, self._max_frames = most, bad or {}, max_frames
        self.groups: list[int] = []

    @property
    def limits(self) -> ModelLimits:
        return ModelLimits(max_frames=self._max_frames, max_fps=2.0, max_crops=8, context_tokens=36864)

    def at_once(self, clip: Clip) -> int:
        return max(1, self._most * 4 // len(clip))  # `most` clips of four frames

    def answer_together(
        self, asked: Sequence[tuple[BackendSession, Prompt]], *, decoding: Decoding
    ) -> list[RawAnswer]:
        self.groups.append(len(asked))
        return super().answer_together(asked, decoding=decoding)

    def next_answer(self, prompt: Prompt, clip: Clip) -> RawAnswer:
        level = int(clip.frames[0].rgb[0, 0, 0])
        if level in self._bad:
            raise self._bad[level]
        tag, key = ("tracks", "0.0") if prompt.task == "track" else ("points", "0.0")
        text = f'<{tag} coords="{key} 1 {level:03d} 500">the red car</{tag}>'
        if prompt.task == "count":
            text = f"Counting the {text} shows a total of 1."
        return RawAnswer(
            text=text if level != 99 else "I would rather not.",
            stop_reason="end",
            tokens_in=0,
            tokens_out=0,
            forwards=0,
            model_id="seeing",
            revision=None,
            backend="scripted",
            recipe="scripted/1",
        )


def places(found: Sequence[object]) -> list[int | str]:
    """Where each clip's car is, thousandths; the error's class where there is none."""
    return [
        round(one[0].samples[0].x_norm * 1000) if isinstance(one, Tracks) else type(one.error).__name__
        for one in found
        if isinstance(one, Tracks | Failed)
    ]


@pytest.mark.parametrize(
    ("most", "groups"),
    [
        pytest.param(1, [1] * 5, id="one-by-one"),
        pytest.param(2, [2, 2, 1], id="two-together"),
        pytest.param(16, [5], id="all-together"),
    ],
)
def test_results_come_in_order_and_are_those_of_asking_one_by_one(most: int, groups: list[int]) -> None:
    clips = [street(level) for level in (10, 20, 30, 40, 50)]
    model = Seeing(most=most)
    found = list(Grounder(model).batch(clips, CAR))
    assert places(found) == [10, 20, 30, 40, 50]
    assert model.groups == groups
    alone = [Grounder(Seeing()).track(clip, "the red car") for clip in clips]
    assert [without_times(one) for one in found if isinstance(one, Tracks)] == [
        without_times(one) for one in alone
    ]


def without_times(tracks: Tracks) -> Tracks:
    """What does not depend on how long reading took."""
    return tracks.model_copy(update={"receipt": tracks.receipt.model_copy(update={"timings_ms": {}})})


def test_memory_bounds_what_is_asked_together_by_the_longest_clip() -> None:
    # Room for four clips of four frames, or two of eight.
    clips = [street(10), street(20, 8), street(30), street(40, 8), street(50, 8), street(60, 8)]
    model = Seeing(most=4)
    assert places(list(Grounder(model).batch(clips, CAR))) == [10, 20, 30, 40, 50, 60]
    assert model.groups == [2, 2, 2]


@pytest.mark.parametrize(("most", "groups"), [(1, [3, 3]), (8, [6])])
def test_several_questions_give_a_tuple_for_each_clip(most: int, groups: list[int]) -> None:
    queries = [CARS, Query.count("cars"), CAR]
    model = Seeing(most=most)
    found = list(Grounder(model).batch([street(10), street(20)], queries))
    assert model.groups == groups
    for one in found:
        assert isinstance(one, tuple)
        points, count, tracks = one
        assert isinstance(points, Points)
        assert isinstance(count, Count)
        assert isinstance(tracks, Tracks)
        assert points[0].x_norm == pytest.approx(tracks[0].samples[0].x_norm)
        assert count.value == 1
    assert len(found) == 2


@pytest.mark.parametrize("most", [1, 2, 16])
@pytest.mark.parametrize(
    "error",
    [
        pytest.param(PromptTooLongError("too long"), id="too-long"),
        pytest.param(BackendError("no memory"), id="memory"),
        pytest.param(ValueError("a picture of no size"), id="library"),
    ],
)
def test_a_clip_that_cannot_be_answered_costs_the_others_nothing(most: int, error: Exception) -> None:
    clips = [street(level) for level in (10, 20, 30, 40)]
    found = list(Grounder(Seeing(most=most, bad={20: error})).batch(clips, CAR))
    assert places(found) == [10, type(error).__name__, 30, 40]
    failed = found[1]
    assert isinstance(failed, Failed)
    assert failed.media is clips[1]
    assert failed.error is error


def test_an_answer_that_cannot_be_read_costs_the_others_nothing() -> None:
    found = list(Grounder(Seeing(most=8)).batch([street(10), street(99), street(30)], CAR))
    assert places(found) == [10, "AnswerError", 30]


def test_a_file_that_cannot_be_read_costs_the_others_nothing(media: Shelf, tmp_path: Path) -> None:
    video, broken = media(constant_rate), tmp_path / "broken.mp4"
    broken.write_bytes(b"no video at all")
    found = list(Grounder(Seeing(most=8)).batch([broken, video, tmp_path / "missing.mp4", video], CAR))
    assert [isinstance(one, Tracks) for one in found] == [False, True, False, True]
    assert isinstance(found[0], Failed)
    assert isinstance(found[0].error, SourceError)
    assert str(found[0]).startswith(f"{broken}: broken.mp4")


@pytest.mark.slow
def test_clips_are_read_when_their_turn_comes_and_let_go_of_after_it() -> None:
    alive: list[weakref.ref[object]] = []
    most = 0

    def clips() -> Iterator[Clip]:
        nonlocal most
        for level in range(1, 9):
            gc.collect()
            most = max(most, sum(reference() is not None for reference in alive))
            clip = street(level)
            alive.append(weakref.ref(clip.frames[0].rgb))
            yield clip
            del clip

    model = Seeing(most=2)
    for number, found in enumerate(Grounder(model).batch(clips(), CAR), start=1):
        assert isinstance(found, Tracks)
        # The first result is there before the third clip is read.
        assert len(alive) == number + number % 2
    assert most <= 2


def test_a_kept_error_does_not_keep_the_frames() -> None:
    clip = street(20)
    rgb = weakref.ref(clip.frames[0].rgb)
    found = next(iter(Grounder(Seeing(bad={20: BackendError("no")})).batch([clip.frames[0].rgb], CARS)))
    assert isinstance(found, Failed)
    assert found.error.__traceback__ is None
    del clip
    assert rgb() is not None  # the array is the media that was handed in, which the place holds
    del found
    gc.collect()
    assert rgb() is None


def test_a_long_video_is_tracked_by_windows_between_the_others(media: Shelf) -> None:
    video = media(constant_rate, frame_count=60)
    model = Seeing(most=8, max_frames=6)
    found = list(Grounder(model).batch([street(10), video, street(30)], CAR))
    assert [type(one) for one in found] == [Tracks, Tracks, Tracks]
    assert isinstance(found[1], Tracks)
    assert len(found[1].receipt.windows) == 3
    first, last = found[0], found[2]
    assert places([first, last]) == [10, 30]


def test_on_error_raise_ends_with_the_first_error_after_what_came_before() -> None:
    found = Grounder(Seeing(most=8, bad={30: BackendError("no")})).batch(
        [street(level) for level in (10, 20, 30, 40)], CAR, on_error="raise"
    )
    assert places([next(found), next(found)]) == [10, 20]
    with pytest.raises(BackendError, match="no"):
        next(found)
    assert list(found) == []


def test_a_fault_that_is_no_clips_own_ends_the_batch() -> None:
    found = Grounder(Seeing(bad={20: RuntimeError("a bug")})).batch([street(10), street(20)], CAR)
    assert isinstance(next(found), Tracks)
    with pytest.raises(RuntimeError, match="a bug"):
        next(found)


def test_no_clips_give_no_results() -> None:
    assert list(Grounder(Seeing()).batch([], CAR)) == []


def test_the_function_asks_the_model_it_is_given() -> None:
    assert places(list(mg.batch([street(10)], CAR, model=Grounder(Seeing())))) == [10]


def test_wrong_arguments_are_told_at_once() -> None:
    ask = Grounder(Seeing())
    with pytest.raises(ValueError, match="put it in a list"):
        ask.batch("street.mp4", CAR)
    with pytest.raises(ValueError, match="put it in a list"):
        ask.batch(street(10), CAR)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="questions are a list, each of it a Query such as"):
        ask.batch([street(10)], "the red car")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match='"keep" or "raise"'):
        ask.batch([street(10)], CAR, on_error="skip")  # type: ignore[call-overload]


def test_an_error_in_words_names_a_file_and_not_the_pixels() -> None:
    error = SourceError("nothing")
    assert str(Failed(media=Path("a.mp4"), error=error)) == "a.mp4: nothing"
    assert str(Failed(media=street(1), error=error)) == "nothing"


@pytest.mark.slow
def test_the_tiny_model_answers_a_batch_as_it_answers_clip_by_clip(tmp_path: Path) -> None:
    # Street scenes of several lengths, one too long for one look, and several questions: what the model takes
    # together must not show.
    clips: list[Path] = []
    for seed, duration_s in ((101, 4.0), (102, 8.0), (103, 3.0), (104, 20.0), (105, 6.0), (106, 8.0)):
        clips.append(tmp_path / f"{seed}.mp4")
        write_clip(make_scene(seed, duration_s=duration_s), clips[-1], fps=10, quick=True)
    ask = mg.load("tiny", device="cpu")
    queries = [Query.track("every object"), Query.count("cars"), Query.point("the people")]
    together = list(ask.batch(clips, queries))
    for clip, found in zip(clips, together, strict=True):
        with ask.open(clip) as session:
            alone = session.run(queries)
        assert isinstance(found, tuple)
        for one, other in zip(found, alone, strict=True):
            assert differences(one, other) == ()
            assert one.receipt.raw_text == other.receipt.raw_text
