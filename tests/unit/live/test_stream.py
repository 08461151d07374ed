from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

import molmo2_ground as mg
from molmo2_ground.answer import RawAnswer
from molmo2_ground.backends.base import BackendSession
from molmo2_ground.clip import Frame
from molmo2_ground.errors import BackendError, SourceError
from molmo2_ground.live.opening import open_stream
from molmo2_ground.live.questions import named
from molmo2_ground.live.stream import Stream
from molmo2_ground.live.update import Update
from molmo2_ground.live.watch import Watch
from molmo2_ground.query import Decoding, Prompt, Query
from molmo2_ground.results import Answer, Count, Points
from molmo2_ground.sources.feeds.file_feed import FileFeed
from molmo2_ground.sources.feeds.given_feed import GivenFeed
from tests.live_scenes import BEGIN_NS, Places, Street, TruthBackend, times
from tests.media import FRAME_COUNT, Shelf, constant_rate

FPS = 10.0
BEGIN_S = BEGIN_NS / 1e9
Asked = Sequence[tuple[BackendSession, Prompt]]


def one_across(time_s: float) -> Places:
    return {1: (0.1 + 0.1 * time_s, 0.5)}


def pictures(seconds: float, *, every_s: float = 0.0) -> Iterator[tuple[float, np.ndarray]]:
    street = Street(one_across)
    for time_s in times(seconds, FPS):
        if every_s:
            time.sleep(every_s)
        yield BEGIN_S + time_s, street.paint(time_s)


def over(backend: TruthBackend, seconds: float = 3.0, **options: object) -> Stream:
    source = options.pop("source", None) or pictures(seconds)
    question = options.pop("question", "things")
    return mg.Grounder(backend).stream(source, question, **options)  # type: ignore[arg-type]


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate()}


class SlowBackend(TruthBackend):
    """Takes so long for each answer; `entered` is set when it has begun."""

    def __init__(self, seconds: float) -> None:
        super().__init__(one_across)
        self.seconds, self.entered = seconds, threading.Event()

    def answer_together(self, asked: Asked, *, decoding: Decoding) -> list[RawAnswer]:
        self.entered.set()
        time.sleep(self.seconds)
        return super().answer_together(asked, decoding=decoding)


class BrokenBackend(TruthBackend):
    def answer_together(self, asked: Asked, *, decoding: Decoding) -> list[RawAnswer]:
        raise ZeroDivisionError("a bug")


@pytest.mark.parametrize("policy", ["block", "every"])
def test_every_picture_has_an_update_and_every_sampled_one_a_look(policy: str) -> None:
    before = threads()
    with over(TruthBackend(one_across), policy=policy) as stream:
        updates = list(stream)
        totals = stream.totals
    assert [update.seq for update in updates] == list(range(30))
    assert [update.looks[0].source_index for update in updates if update.looks] == [0, 5, 10, 15, 20, 25]
    assert all(("every" in u.looks[0].reasons) or ("first" in u.looks[0].reasons) for u in updates if u.looks)
    assert (totals.received, totals.taken, totals.waiting, totals.dropped) == (30, 30, 0, {})
    errors = [abs(t.x_norm - one_across(u.time_s)[1][0]) for u in updates for t in u.tracks]
    assert len(errors) == 30
    assert np.mean(np.array(errors) < 0.03) == 1.0
    assert {track.object_id for update in updates for track in update.tracks} == {1}
    assert threads() == before


@pytest.mark.slow
def test_a_source_that_waits_has_no_late_pictures() -> None:
    with over(SlowBackend(0.05), policy="block", max_age_s=0.01) as stream:
        updates = list(stream)
        totals = stream.totals
    assert (len(updates), totals.taken, totals.dropped) == (30, 30, {})


@pytest.mark.slow
@pytest.mark.slow
@pytest.mark.parametrize(
    ("policy", "late"), [pytest.param("block", False, id="waits"), pytest.param("latest", True, id="goes-on")]
)
def test_a_film_at_its_own_pace_waits_for_the_model_under_block(
    media: Shelf, policy: str, late: bool
) -> None:
    feed = FileFeed(media(constant_rate), speed=2.0)
    with over(
        SlowBackend(1.2), source=feed, policy=policy, max_age_s=0.5 if policy == "block" else 1e-6
    ) as s:
        updates = list(s)
        assert ("late" in s.totals.dropped) == late
    if not late:
        assert [u.capture.index for u in updates] == list(range(FRAME_COUNT))
        assert [u.time_s for u in updates] == pytest.approx([n * 0.05 for n in range(FRAME_COUNT)], abs=0.002)
        assert updates[-1].capture.held_ns > 0


def test_the_loop_goes_on_while_the_model_looks() -> None:
    source = GivenFeed(pictures(2.0, every_s=0.01), paced=True)
    with over(SlowBackend(0.1), source=source) as stream:
        updates = list(stream)
        totals = stream.totals
    assert totals.received == 20
    assert totals.received == totals.taken + totals.waiting + sum(totals.dropped.values())
    assert totals.taken == len(updates)
    told = sum(sum(update.dropped.values()) for update in updates)
    assert told <= sum(totals.dropped.values())
    looked = [update for update in updates if update.looks]
    assert looked
    assert all(update.looks[0].stamp_ns < update.stamp_ns for update in looked)


@pytest.mark.slow
def test_overload_is_counted_exactly_and_ages_stay_bounded() -> None:
    source = GivenFeed(pictures(6.0, every_s=0.005), paced=True)
    ages = []
    updates: list[Update] = []
    with over(SlowBackend(0.05), source=source, max_age_s=0.5) as stream:
        for update in stream:
            time.sleep(0.02)  # a consumer four times slower than the camera
            updates.append(update)
            ages.append(update.age_ms)
        totals = stream.totals
    assert totals.received == 60
    assert totals.received == len(updates) + sum(totals.dropped.values())
    assert set(totals.dropped) <= {"replaced", "late"}
    assert totals.dropped["replaced"] > 20
    assert max(ages) <= 500.0


def test_questions_are_changed_from_another_thread() -> None:
    backend = TruthBackend(one_across)
    with over(backend, 4.0, policy="block", question={"a": "cars"}) as stream:
        assert stream.questions == {"a": Query.track("cars")}
        seen: list[set[str]] = []
        for number, update in enumerate(stream):
            seen.append({track.question for track in update.tracks})
            if number == 8:
                done = threading.Thread(target=lambda: stream.add(Query.track("buses"), name="b"))
                done.start()
                done.join()
            if number == 18:
                stream.remove("a")
            if number == 28:
                stream.change("b", "vans")
    assert seen[8] == {"a"}
    assert seen[15] == {"a", "b"}
    assert seen[25] == {"b"}
    assert [prompt.label for prompt, _ in backend.asked][-1] == "vans"
    with pytest.raises(ValueError, match="no question is called 'a'"):
        stream.remove("a")


def test_points_counts_and_free_questions_come_as_looks() -> None:
    asked = [Query.count("things"), Query.point("things"), Query.ask("What is there?"), "things"]
    with over(TruthBackend(one_across), 0.5, policy="block", question=asked) as stream:
        assert list(stream.questions) == ["things", "things 2", "What is there?", "things 3"]
        (first, *_) = list(stream)
    kinds = {look.question: type(look.result) for look in first.looks}
    assert kinds["things"] is Count
    assert kinds["things 2"] is Points
    assert kinds["What is there?"] is Answer


@pytest.mark.slow
def test_what_the_model_cannot_do_is_told_and_what_it_should_not_do_is_raised() -> None:
    failing = TruthBackend(one_across, fails={1: BackendError("no memory")})
    with over(failing, policy="block") as stream:
        errors = [look.error for update in stream for look in update.looks]
    assert errors == ["", "no memory", "", "", "", ""]
    source = GivenFeed(pictures(3.0, every_s=0.02), paced=True)
    before = threads()
    for policy, pictures_of in (("block", None), ("latest", source)):
        with (
            over(BrokenBackend(one_across), policy=policy, source=pictures_of) as stream,
            pytest.raises(ZeroDivisionError, match="a bug"),
        ):
            list(stream)
    assert threads() == before


def test_a_source_that_fails_is_raised_after_what_it_gave() -> None:
    def breaking() -> Iterator[tuple[float, np.ndarray]]:
        yield from pictures(0.5)
        raise RuntimeError("the camera fell off")

    updates: list[Update] = []
    with over(TruthBackend(one_across), source=breaking(), policy="block") as stream:
        with pytest.raises(SourceError, match="the camera fell off"):
            updates.extend(stream)
        assert stream.health().state == "failed"
    with pytest.raises(StopIteration):
        next(stream)


@pytest.mark.slow
def test_a_stream_that_is_left_leaves_nothing_running() -> None:
    before = threads()
    stream = over(SlowBackend(0.05), 100.0)
    for _ in stream:
        break
    stream.close()
    stream.close()
    assert threads() == before
    assert list(stream) == []
    forgotten = over(TruthBackend(one_across), 100.0)
    next(forgotten)
    del forgotten
    gc.collect()
    assert threads() == before


class Gate:
    """A segmenter in which the loop stands still; says whether it was let go of meanwhile."""

    name, from_both_ends = "gate", False

    def __init__(self) -> None:
        self.reached, self.go = threading.Event(), threading.Event()
        self.inside = self.closed_under_it = self.closed = False

    def start(self, *, width_px: int, height_px: int) -> Gate:
        return self

    def prepare(self, frame: Frame) -> None:
        self.inside = True
        self.reached.set()
        assert self.go.wait(10)
        self.inside = False

    def step(self, prepared: None, points: object = ()) -> dict[int, Any]:
        return {}

    def forget(self, object_id: int) -> None: ...

    def close(self) -> None:
        self.closed, self.closed_under_it = True, self.closed_under_it or self.inside


def test_closing_from_another_thread_takes_nothing_from_under_the_loop() -> None:
    before = threads()
    gate, updates = Gate(), list[Update]()
    stream = over(TruthBackend(one_across), 100.0, carry=gate)
    loop = threading.Thread(target=lambda: updates.extend(stream))
    loop.start()
    assert gate.reached.wait(10)
    closing = threading.Thread(target=stream.close)
    closing.start()
    while not stream._closed:
        time.sleep(0.001)
    gate.go.set()
    for thread in (loop, closing):
        thread.join(10)
    assert threads() == before
    assert gate.closed
    assert not gate.closed_under_it
    assert len(updates) == 1  # what was begun is told


def test_an_interrupt_in_the_loop_closes_the_stream() -> None:
    before = threads()

    class Interrupting(TruthBackend):
        def answer_together(self, asked: Asked, *, decoding: Decoding) -> list[RawAnswer]:
            raise KeyboardInterrupt

    stream = over(Interrupting(one_across), 100.0, policy="block")
    with pytest.raises(KeyboardInterrupt):
        next(stream)
    assert threads() == before


def test_whoever_closes_waits_until_another_has_closed_it() -> None:
    looking, may_end = threading.Event(), threading.Event()

    class Slow(TruthBackend):
        def answer_together(self, asked: Asked, *, decoding: Decoding) -> list[RawAnswer]:
            looking.set()
            assert may_end.wait(10)
            return super().answer_together(asked, decoding=decoding)

    before = threads()
    stream = over(Slow(one_across))
    next(stream)
    assert looking.wait(10)
    closer = threading.Thread(target=stream.close)
    closer.start()
    while not stream._closed:
        pass
    second = threading.Thread(target=stream.close)
    second.start()
    second.join(0.05)
    assert second.is_alive(), "it came back while the model was still at work"
    may_end.set()
    closer.join(10)
    second.join(10)
    assert threads() == before


def test_an_option_that_there_is_not_is_refused() -> None:
    with pytest.raises(TypeError, match="no option capcity; there are: fps"):
        over(TruthBackend(one_across), capcity=5)


@pytest.mark.parametrize(
    ("question", "options", "said"),
    [
        pytest.param(5, {}, "a question is a Query or words, or several of them; got 5", id="a number"),
        pytest.param([5], {}, "a question is a Query or words; got 5", id="a list of numbers"),
        pytest.param("cars", {"watches": ["someone enters"]}, "got 'someone enters'", id="a sentence"),
    ],
)
def test_what_is_no_question_or_watch_is_refused(question: Any, options: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        open_stream(iter(()), question, backend=TruthBackend(one_across), **options)


def test_watches_are_told_with_the_update() -> None:
    watch = Watch.count_at_least(None, 1, name="somebody")
    with over(TruthBackend(one_across), policy="block", watches=[watch]) as stream:
        events = [event for update in stream for event in update.events]
        assert stream.watches == (watch,)
    assert [event.watch for event in events] == ["somebody"]


def test_a_watch_that_may_never_be_told_is_noted_once(caplog: pytest.LogCaptureFixture) -> None:
    watches = [Watch.appears(label="a dog", name="dog"), Watch.appears(label="thing", name="thing")]
    with over(TruthBackend(one_across), policy="block", watches=watches) as stream:
        for number, _ in enumerate(stream):
            if number == 3:
                stream.watch(Watch.appears(question="cars", name="late"))
    notes = [line for line in caplog.messages if "may never be told" in line]
    assert [line.split("'")[1] for line in notes] == ["dog", "late"]
    assert "no question asks for 'a dog'" in notes[0]


def test_health_and_snapshot_tell_how_it_is() -> None:
    with over(TruthBackend(one_across), policy="block", name="door") as stream:
        assert stream.snapshot() is None
        updates = list(stream)
        assert stream.snapshot() is updates[-1]
        health = stream.health()
    assert (health.source, health.state, health.received, health.taken) == ("door", "ended", 30, 30)
    assert health.questions == {"things": "things"}
    assert health.looks["every"] == 5
    assert health.tokens == stream.tokens == 6 * 110
    states = [event.state for event in stream.drain_events()]
    assert states == ["connecting", "connected", "ended"]


@pytest.mark.slow
def test_without_a_carrier_the_last_look_is_waited_for() -> None:
    with over(SlowBackend(0.05), 2.0, carry="none") as stream:
        updates = list(stream)
        totals, health = stream.totals, stream.health()
    # Health and totals are one count, pictures between two steps of the grid (`rate`) included.
    assert (health.received, health.taken, health.dropped) == (totals.received, totals.taken, totals.dropped)
    assert health.tokens == stream.tokens
    assert updates[-1].looks[-1].source_index == updates[-1].capture.index
    assert {track.state for update in updates for track in update.tracks} == {"observed"}
    assert totals.received == 20


@pytest.mark.parametrize(
    ("options", "words"),
    [
        pytest.param({"fps": 0.0}, "fps is above 0", id="no-rate"),
        pytest.param({"policy": "newest"}, "policy must be", id="policy"),
        pytest.param({"carry_fps": 1.0}, "carry_fps is at least fps", id="carry-fps"),
        pytest.param({"window_s": 90.0}, "at most 60 seconds", id="window"),
        pytest.param({"tokens_per_minute": 0}, "tokens_per_minute is above 0", id="tokens"),
        pytest.param({"fps": "2"}, "fps is a number; got '2'", id="rate-in-quotes"),
        pytest.param({"fps": None}, "fps is a number; got None", id="no-rate-at-all"),
        pytest.param({"carry_fps": "9"}, "carry_fps is a number, or None; got '9'", id="carry-fps-in-quotes"),
        pytest.param({"valid_s": True}, "valid_s is a number; got True", id="yes-is-no-number"),
        pytest.param({"capacity": 2.5}, "capacity is a whole number; got 2.5", id="half-a-picture"),
        pytest.param({"policy": 3}, "policy must be latest", id="policy-by-number"),
        pytest.param({"carry": 5}, "carry is 'flow', 'none'", id="carry-by-number"),
        pytest.param({"clips": 5}, "clips is a folder or a ClipRing, or None; got 5", id="clips"),
        pytest.param({"timeouts": 5}, "timeouts is a Timeouts, or None; got 5", id="timeouts"),
        pytest.param({"loop": "no"}, "loop is True or False; got 'no'", id="loop"),
        pytest.param({"watch_rules": {}}, "watch_rules is a Rules, or None; got {}", id="rules"),
        pytest.param({"watches": 5}, "watches are a list of Watch objects; got 5", id="watches"),
        pytest.param({"watches": "someone enters"}, "got 'someone enters'", id="a-sentence-as-watches"),
        pytest.param({"watches": Watch.appears()}, "a list of Watch objects", id="one-watch"),
        pytest.param({"question": []}, "at least one question", id="no-question"),
        pytest.param({"question": {"": "cars"}}, "at least one letter", id="name"),
        pytest.param({"question": " "}, "say in words", id="no-words"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_opened(options: dict[str, Any], words: str) -> None:
    before = threads()
    with pytest.raises(ValueError, match=words):
        over(TruthBackend(one_across), **options)
    assert threads() == before


def test_questions_without_a_name_are_called_by_their_words() -> None:
    assert list(named("the red car")) == ["the red car"]
    assert list(named(["cars.", "cars"])) == ["cars", "cars 2"]
    assert list(named({"n": Query.count("cars")})) == ["n"]


def test_a_track_question_is_asked_at_the_streams_rate() -> None:
    with over(TruthBackend(one_across), 0.2, fps=1.0, question=Query.track("x", fps=5.0)) as stream:
        assert stream.questions == {"x": Query.track("x", fps=1.0)}
