"""Tracking in windows that a deadline or Ctrl-C ends early: what was found by then is kept, and told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest

import molmo2_ground as mg
from molmo2_ground.answer import RawAnswer
from molmo2_ground.backends.base import BackendSession
from molmo2_ground.backends.scripted import ScriptedBackend
from molmo2_ground.clip import Clip, Frame
from molmo2_ground.deadline import Deadline
from molmo2_ground.errors import AnswerError, DeadlineError, Interrupted
from molmo2_ground.grounder import Grounder
from molmo2_ground.model.limits import ModelLimits
from molmo2_ground.query import Decoding, Prompt, Query
from molmo2_ground.replay import derive, differences
from molmo2_ground.results import Tracks
from tests.asked import track_windows
from tests.media import Shelf, constant_rate

CAR = Query.track("the red car")
WHOLE_S = 4.0
# Three windows of four frames on the half-second grid, two frames shared; the car moves on steadily.
ANSWERS = (
    '<tracks coords="0.0 1 100 500;0.5 1 200 500;1.0 1 300 500;1.5 1 400 500">the red car</tracks>',
    '<tracks coords="0.0 1 300 500;0.5 1 400 500;1.0 1 500 500;1.5 1 600 500">the red car</tracks>',
    '<tracks coords="0.0 1 500 500;0.5 1 600 500;1.0 1 700 500;1.5 1 800 500">the red car</tracks>',
)


def clip(start: int, stop: int) -> Clip:
    rgb = np.zeros((10, 20, 3), dtype=np.uint8)
    frames = tuple(
        Frame(rgb=rgb, width_px=20, height_px=10, source_index=15 * k, time_s=k / 2, shown_time_s=k / 2)
        for k in range(start, stop)
    )
    return Clip(frames=frames, fps=30.0, duration_s=WHOLE_S, source="street.mp4")


WINDOWS = (clip(0, 4), clip(2, 6), clip(4, 8))


class Hand:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Busy(ScriptedBackend):
    """Takes `most` windows at once and does something before each answer: lets time pass, presses Ctrl-C."""

    def __init__(self, answers: Sequence[str], *, before: Callable[[int], None], most: int = 1) -> None:
        super().__init__(answers)
        self._before, self._most = before, most

    def at_once(self, clip: Clip) -> int:
        return self._most

    def answer_together(
        self, asked: Sequence[tuple[BackendSession, Prompt]], *, decoding: Decoding
    ) -> list[RawAnswer]:
        self._before(len(self.prompts) + 1)
        return super().answer_together(asked, decoding=decoding)


def press_at(number: int) -> Callable[[int], None]:
    """Ctrl-C while window `number` is being answered."""

    def before(window: int) -> None:
        if window == number:
            raise KeyboardInterrupt

    return before


def tracked_until(
    deadline_s: float, *, a_window_s: float, most: int = 1, answers: Sequence[str] = ANSWERS
) -> Tracks:
    """Every batch of windows takes `a_window_s` seconds of a clock that stands still otherwise."""
    hand = Hand()

    def before(window: int) -> None:
        hand.now_s += a_window_s

    backend = Busy(answers, before=before, most=most)
    deadline = Deadline.after(deadline_s, clock=hand)
    return track_windows(backend, WINDOWS, CAR, decoding=Decoding(), duration_s=WHOLE_S, deadline=deadline)


@pytest.mark.parametrize(
    ("deadline_s", "most", "windows", "up_to_s"),
    [
        pytest.param(0.5, 1, 1, 1.5, id="in-the-first-window"),
        pytest.param(1.0, 1, 1, 1.5, id="as-the-first-window-ends"),
        pytest.param(1.5, 1, 2, 2.5, id="in-the-second"),
        pytest.param(0.5, 2, 2, 2.5, id="in-the-first-two-at-once"),
    ],
)
def test_a_deadline_ends_the_tracking_after_the_windows_at_hand(
    deadline_s: float, most: int, windows: int, up_to_s: float
) -> None:
    tracks = tracked_until(deadline_s, a_window_s=1.0, most=most)
    assert len(tracks) == 1
    assert tracks[0].last.time_s == up_to_s
    assert len(tracks.receipt.frame_times_s) == 2 + 2 * windows
    assert tracks.receipt.notes[-1] == (
        f"the deadline of {deadline_s:g} s passed; the video was looked at up to {up_to_s} s of 4.0 s"
    )
    # What a deadline leaves is a result like any other.
    assert differences(tracks, derive(tracks.receipt)) == ()
    assert Tracks.model_validate_json(tracks.model_dump_json()) == tracks


@pytest.mark.parametrize(
    ("deadline_s", "most"),
    [
        pytest.param(9.0, 1, id="in-time"),
        pytest.param(2.5, 1, id="passes-in-the-last-window"),
        pytest.param(0.5, 8, id="all-windows-at-once"),
    ],
)
def test_a_video_looked_at_to_its_end_has_no_note_of_a_deadline(deadline_s: float, most: int) -> None:
    tracks = tracked_until(deadline_s, a_window_s=1.0, most=most)
    assert tracks == track_windows(
        ScriptedBackend(ANSWERS), WINDOWS, CAR, decoding=Decoding(), duration_s=WHOLE_S
    )


def test_windows_read_before_the_deadline_are_asked_after_it() -> None:
    hand = Hand()

    def slowly() -> Iterator[Clip]:
        for window in WINDOWS:
            hand.now_s += 1.0
            yield window

    tracks = track_windows(
        Busy(ANSWERS, before=lambda _: None, most=3),
        slowly(),
        CAR,
        decoding=Decoding(),
        deadline=Deadline.after(1.5, clock=hand),
    )
    assert len(tracks.receipt.windows) == 2
    # Without a duration in the header nobody knows how much is left.
    assert tracks.receipt.notes[-1].endswith("passed; the video was looked at up to 2.5 s")


def test_a_deadline_that_passes_before_anything_is_read_is_an_error() -> None:
    hand = Hand()
    deadline = Deadline.after(0.5, clock=hand)
    hand.now_s += 1.0
    with pytest.raises(DeadlineError, match=r"the deadline of 0\.5 s passed before any window") as caught:
        track_windows(ScriptedBackend(ANSWERS), WINDOWS, CAR, decoding=Decoding(), deadline=deadline)
    assert isinstance(caught.value, TimeoutError)


def test_the_windows_of_a_point_to_follow_obey_the_deadline_too() -> None:
    hand = Hand()

    def before(window: int) -> None:
        hand.now_s += 1.0

    tracks = track_windows(
        Busy(ANSWERS[1:], before=before),
        WINDOWS,
        Query.track("the red car", at=(2.5, 10.0, 5.0)),
        decoding=Decoding(),
        duration_s=WHOLE_S,
        deadline=Deadline.after(0.5, clock=hand),
    )
    assert tracks.receipt.notes[0].startswith("window 0.0–1.5 s was not asked")
    assert tracks.receipt.notes[-1].endswith("looked at up to 2.5 s of 4.0 s")


# Ctrl-C


@pytest.mark.parametrize(
    ("number", "most", "windows", "up_to_s"),
    [
        pytest.param(2, 1, 1, 1.5, id="second-window"),
        pytest.param(3, 1, 2, 2.5, id="third-window"),
        pytest.param(3, 2, 2, 2.5, id="second-pair"),
    ],
)
def test_ctrl_c_carries_what_was_found(number: int, most: int, windows: int, up_to_s: float) -> None:
    backend = Busy(ANSWERS, before=press_at(number), most=most)
    with pytest.raises(KeyboardInterrupt) as caught:
        track_windows(backend, WINDOWS, CAR, decoding=Decoding(), duration_s=WHOLE_S)
    stop = caught.value
    assert isinstance(stop, Interrupted)
    assert str(stop) == f"interrupted; the video was looked at up to {up_to_s} s of 4.0 s"
    assert stop.partial.receipt.notes[-1] == str(stop)
    assert stop.partial[0].last.time_s == up_to_s
    assert len(stop.partial.receipt.frame_times_s) == 2 + 2 * windows
    assert differences(stop.partial, derive(stop.partial.receipt)) == ()
    # The frames of the window that was given up are not kept alive by the error.
    assert stop.__context__ is None


def test_ctrl_c_between_windows_keeps_the_one_that_was_answered() -> None:
    def press(what: str, share: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(Interrupted) as caught:
        track_windows(
            ScriptedBackend(ANSWERS), WINDOWS, CAR, decoding=Decoding(), duration_s=WHOLE_S, on_progress=press
        )
    assert caught.value.partial[0].last.time_s == 1.5


def test_ctrl_c_while_a_window_is_read_keeps_those_before() -> None:
    def windows() -> Iterator[Clip]:
        yield from WINDOWS[:2]
        raise KeyboardInterrupt

    with pytest.raises(Interrupted) as caught:
        track_windows(ScriptedBackend(ANSWERS), windows(), CAR, decoding=Decoding(), duration_s=WHOLE_S)
    assert caught.value.partial[0].last.time_s == 2.5


def test_ctrl_c_before_anything_was_found_is_a_plain_one() -> None:
    backend = Busy(ANSWERS, before=press_at(1))
    with pytest.raises(KeyboardInterrupt) as caught:
        track_windows(backend, WINDOWS, CAR, decoding=Decoding())
    assert not isinstance(caught.value, Interrupted)


def test_ctrl_c_when_no_answer_could_be_read_is_a_plain_one() -> None:
    backend = Busy(("no", "no", "no"), before=press_at(3))
    with pytest.raises(KeyboardInterrupt) as caught:
        track_windows(backend, WINDOWS, CAR, decoding=Decoding())
    assert not isinstance(caught.value, Interrupted)
    assert isinstance(caught.value.__cause__, AnswerError)


# Through the public calls, over a real file of six seconds in windows of three


class Slow(Busy):
    """As `Busy`, for a model that sees six frames."""

    @property
    def limits(self) -> ModelLimits:
        return ModelLimits(max_frames=6, max_fps=2.0, max_crops=8, context_tokens=36864)


SIX_FRAMES = '<tracks coords="0.0 1 100 500;0.5 1 150 500;1.0 1 200 500">the red car</tracks>'


def test_an_interrupted_call_gives_what_an_uninterrupted_one_gives_up_to_there(media: Shelf) -> None:
    video = media(constant_rate, frame_count=60)
    whole = Grounder(Slow([SIX_FRAMES] * 3, before=lambda _: None)).track(video, "the red car", max_objects=1)
    with pytest.raises(mg.Interrupted) as caught:
        Grounder(Slow([SIX_FRAMES] * 3, before=press_at(3))).track(video, "the red car", max_objects=1)
    partial = caught.value.partial
    assert partial.receipt.recipe == whole.receipt.recipe
    assert partial.receipt.windows == whole.receipt.windows[:2]
    assert len(partial) == 1
    assert "kept the first 1 of 2 objects, as asked (max_objects=1)" in partial.receipt.notes
    assert any(note.startswith("interrupted; ") for note in partial.receipt.notes)


def test_deadline_s_counts_from_the_start_of_the_call(media: Shelf) -> None:
    video = media(constant_rate, frame_count=60)
    ask = Grounder(Slow([SIX_FRAMES] * 6, before=lambda _: None))
    with pytest.raises(DeadlineError):  # opening the file alone takes longer than this
        ask.track(video, "the red car", deadline_s=1e-9)
    with ask.open(video) as session, pytest.raises(DeadlineError):
        session.track("the red car", deadline_s=1e-9)
    assert len(mg.track(video, "the red car", model=ask, deadline_s=3600).receipt.windows) == 3
    with pytest.raises(ValueError, match="above 0"):
        ask.track(video, "the red car", deadline_s=0)


def test_a_short_video_is_looked_at_whatever_the_deadline(media: Shelf) -> None:
    ask = Grounder(ScriptedBackend([SIX_FRAMES]))
    tracks = ask.track(media(constant_rate, frame_count=60), "the red car", deadline_s=1e-9)
    assert len(tracks) == 1
    assert tracks.receipt.notes == ()
