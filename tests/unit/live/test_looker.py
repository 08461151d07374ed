from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from molmo2_ground.clip import Clip
from molmo2_ground.errors import BackendError, PromptTooLongError
from molmo2_ground.live.live_picture import LivePicture
from molmo2_ground.live.looker import Looker, LookRequest
from molmo2_ground.live.sampled_window import SampledWindow
from molmo2_ground.query import Prompt, Query
from molmo2_ground.results import Count, Tracks
from tests.live_scenes import Places, Street, TruthBackend


def places(time_s: float) -> Places:
    return {1: (0.2, 0.5), 2: (0.6, 0.5)}


ROOT = Path(__file__).parents[3]
STREET = Street(places, size_px=(64, 36))


def request(*queries: Query, frames: int = 3) -> LookRequest:
    window = SampledWindow(fps=2.0, max_frames=8, resize=lambda rgb: rgb)
    for number in range(frames):
        window.take(LivePicture(capture=STREET.capture(number, number / 2), time_s=number / 2))
    made = window.window()
    assert made is not None
    questions = {f"q{number}": query for number, query in enumerate(queries)}
    return LookRequest(window=made, questions=questions, reasons=("age",), asked_ns=5)


class GatedBackend(TruthBackend):
    """Answers when it is let."""

    def __init__(self) -> None:
        super().__init__(places)
        self.let, self.entered = threading.Event(), threading.Event()

    def written(self, prompt: Prompt, clip: Clip) -> str:
        self.entered.set()
        assert self.let.wait(10)
        return super().written(prompt, clip)


def test_all_questions_are_answered_over_one_window() -> None:
    backend = TruthBackend(places)
    with_all = Looker(backend).answer(request(Query.track("cars"), Query.count("cars"), Query.track("vans")))
    kinds = {name: type(result) for name, result in with_all.results.items()}
    assert kinds == {"q0": Tracks, "q1": Count, "q2": Tracks}
    assert [len(clip) for _, clip in backend.asked] == [3, 1, 3]
    # What two questions share is read once: 100 for the clip, 100 for the still picture, 10 written for each.
    assert with_all.tokens == 230


@pytest.mark.parametrize("error", [BackendError("out of memory"), PromptTooLongError("too long")])
def test_what_the_model_cannot_do_is_an_answer(error: Exception) -> None:
    done = Looker(TruthBackend(places, fails={0: error})).answer(request(Query.track("cars")))
    assert done.results["q0"] is error


def test_one_answer_that_cannot_be_read_does_not_cost_the_others() -> None:
    backend = TruthBackend(places, fails={0: "I would rather not."})
    done = Looker(backend).answer(request(Query.track("cars"), Query.count("cars")))
    assert "no place could be read" in str(done.results["q0"])
    assert isinstance(done.results["q1"], Count)


def test_a_question_that_cannot_be_asked_of_the_window_does_not_cost_the_others() -> None:
    outside = Query.track("it", at=(40.0, 3.0, 3.0))
    done = Looker(TruthBackend(places)).answer(request(outside, Query.track("cars")))
    assert "at= names the time 40 s" in str(done.results["q0"])
    assert isinstance(done.results["q1"], Tracks)


def test_one_request_at_a_time_in_a_thread_of_its_own() -> None:
    backend = GatedBackend()
    looker = Looker(backend)
    assert looker.take() is None
    looker.ask(request(Query.track("cars")))
    assert looker.busy
    assert looker.take() is None
    with pytest.raises(ValueError, match="one request at a time"):
        looker.ask(request(Query.track("cars")))
    backend.let.set()
    done = looker.take(timeout_s=10)
    assert done is not None
    assert isinstance(done.results["q0"], Tracks)
    assert not looker.busy
    looker.ask(request(Query.track("cars")))
    assert looker.take(timeout_s=10) is not None
    assert looker.close()
    with pytest.raises(ValueError, match="none once closed"):
        looker.ask(request(Query.track("cars")))


def test_closing_does_not_wait_for_ever_for_a_model_that_does_not_answer() -> None:
    backend = GatedBackend()
    looker = Looker(backend)
    looker.ask(request(Query.track("cars")))
    assert backend.entered.wait(10)
    assert not looker.close(wait_s=0.05)
    backend.let.set()
    assert looker.close()


def test_what_no_answer_can_hold_is_raised_where_it_is_taken_and_once() -> None:
    looker = Looker(TruthBackend(places, fails={0: ZeroDivisionError("a bug")}))
    looker.ask(request(Query.track("cars")))
    with pytest.raises(ZeroDivisionError, match="a bug"):
        looker.take(timeout_s=10)
    assert looker.take() is None
    assert not looker.busy
    assert looker.close()


@pytest.mark.slow
def test_a_program_that_ends_during_a_look_waits_for_it() -> None:
    program = """
import threading, time
from molmo2_ground.live.looker import Looker
from molmo2_ground.query import Query
from tests.live_scenes import TruthBackend
from tests.unit.live.test_looker import places, request

class Slow(TruthBackend):
    def written(self, prompt, clip):
        print("asked", flush=True)
        entered.set()
        time.sleep(0.5)
        print("answered", flush=True)
        return super().written(prompt, clip)

entered = threading.Event()
looker = Looker(Slow(places))
looker.ask(request(Query.track("cars")))
assert entered.wait(10)
assert not looker.close(wait_s=0)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout.split()) == (0, ["asked", "answered"]), done.stderr
