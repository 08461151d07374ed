"""`ask_in_step`: questions that share a model's runs without knowing of each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from inspect import GEN_CLOSED, getgeneratorstate

import numpy as np
import pytest

from molmo2_ground.answer import RawAnswer
from molmo2_ground.asking import Ask, Asking, ask_in_step, ask_one, gather
from molmo2_ground.backends.base import BackendSession
from molmo2_ground.backends.scripted import ScriptedBackend
from molmo2_ground.clip import Clip
from molmo2_ground.errors import BackendError, Interrupted
from molmo2_ground.query import Decoding, Prompt, Query, build_prompt
from molmo2_ground.results import Tracks

GREEDY = Decoding()


class Echo(ScriptedBackend):
    """Answers with what the clip's pixels say; takes `most` clips together; fails or is stopped on some."""

    def __init__(
        self, *, most: int = 4, bad: Sequence[int] = (), failure: BaseException | None = None
    ) -> None:
        super().__init__([])
        self._most, self._bad, self._failure = most, bad, failure
        self.groups: list[list[int]] = []

    def at_once(self, clip: Clip) -> int:
        return self._most

    def answer_together(
        self, asked: Sequence[tuple[BackendSession, Prompt]], *, decoding: Decoding
    ) -> list[RawAnswer]:
        self.groups.append([])
        return super().answer_together(asked, decoding=decoding)

    def next_answer(self, prompt: Prompt, clip: Clip) -> RawAnswer:
        number = int(clip.frames[0].rgb[0, 0, 0])
        self.groups[-1].append(number)
        if number in self._bad:
            raise self._failure or BackendError(f"no answer to {number}")
        return RawAnswer(
            text=str(number),
            stop_reason="end",
            tokens_in=0,
            tokens_out=0,
            forwards=0,
            model_id="echo",
            revision=None,
            backend="scripted",
            recipe="scripted/1",
        )


def asking(
    backend: Echo, *steps: Sequence[int], log: list[str] | None = None, found: Tracks | None = None
) -> Asking[list[str]]:
    """Asks about clips of these numbers, step by step, and returns what was answered.

    found: what Ctrl-C is answered with, in place of passing it on.
    """
    heard: list[str] = []
    prompt = build_prompt(Query.ask("?"), clip(0))
    try:
        for numbers in steps:
            if log is not None:
                log.append(f"reads {list(numbers)}")
            asks = [
                Ask(clip=shown, session=backend.open(shown), prompt=prompt)
                for shown in (clip(number) for number in numbers)
            ]
            answers = yield asks
            heard += [answer.text for answer in answers]
    except KeyboardInterrupt:
        if found is None:
            raise
    else:
        return heard
    raise Interrupted("stopped", partial=found)


def clip(number: int) -> Clip:
    return Clip.from_arrays(np.full((1, 4, 4, 3), number, dtype=np.uint8), fps=1.0)


@pytest.mark.parametrize(
    ("most", "groups"),
    [
        pytest.param(1, [[1, 2], [3], [4], [5], [6, 7]], id="no-room-for-two"),
        pytest.param(4, [[1, 2, 4], [3, 5, 6, 7]], id="some-together"),
        pytest.param(16, [[1, 2, 4, 5, 6, 7], [3]], id="all-together"),
    ],
)
def test_steps_of_several_questions_are_answered_together(most: int, groups: list[list[int]]) -> None:
    backend = Echo(most=most)
    questions = [
        asking(backend, [1, 2], [3]),
        asking(backend, [4]),
        asking(backend, [5]),
        asking(backend, [6, 7]),
    ]
    found = [outcome.get() for outcome in ask_in_step(backend, questions, decoding=GREEDY)]
    assert found == [["1", "2", "3"], ["4"], ["5"], ["6", "7"]]
    assert [sorted(group) for group in backend.groups] == groups
    assert ask_one(backend, asking(backend, [1, 2], [3]), decoding=GREEDY) == found[0]


def test_the_next_is_read_when_there_is_room_for_it() -> None:
    backend, log = Echo(most=2), list[str]()

    def questions() -> Iterator[Asking[list[str]]]:
        for number in range(1, 6):
            yield asking(backend, [number], log=log)

    read = []
    for outcome in ask_in_step(backend, questions(), decoding=GREEDY):
        outcome.get()
        read.append(len(log))
    assert read == [2, 2, 4, 4, 5]


def test_one_that_fails_costs_the_others_nothing() -> None:
    backend = Echo(bad=[2])
    outcomes = list(ask_in_step(backend, [asking(backend, [n]) for n in (1, 2, 3)], decoding=GREEDY))
    assert [outcome.error is None for outcome in outcomes] == [True, False, True]
    assert outcomes[2].get() == ["3"]
    with pytest.raises(BackendError, match="no answer to 2"):
        outcomes[1].get()


def test_one_that_fails_before_it_asks_is_handed_out_before_more_is_read() -> None:
    backend, log = Echo(), list[str]()

    def broken() -> Asking[list[str]]:
        log.append("broken")
        raise ValueError("no such file")
        yield []

    outcomes = ask_in_step(backend, [broken(), asking(backend, [1], log=log)], decoding=GREEDY)
    assert isinstance(next(outcomes).error, ValueError)
    assert log == ["broken"]
    assert next(outcomes).get() == ["1"]
    assert list(outcomes) == []


def test_a_step_with_nothing_to_ask_is_gone_on_from_at_once() -> None:
    backend = Echo()
    questions = [asking(backend, [], [1], [], [2]), asking(backend, [])]
    assert [one.get() for one in ask_in_step(backend, questions, decoding=GREEDY)] == [["1", "2"], []]
    assert backend.groups == [[1], [2]]


def test_questions_gathered_into_one_are_asked_in_one_go() -> None:
    backend = Echo(most=1)
    together = gather([asking(backend, [1], [2]), asking(backend, [3]), asking(backend, [4], [5, 6])])
    outcomes = ask_one(backend, together, decoding=GREEDY)
    assert [outcome.get() for outcome in outcomes] == [["1", "2"], ["3"], ["4", "5", "6"]]
    assert backend.groups == [[1, 3, 4], [2, 5, 6]]


def test_of_gathered_questions_one_that_fails_costs_the_others_nothing() -> None:
    backend = Echo(most=1, bad=[3])
    together = gather([asking(backend, [1], [2]), asking(backend, [3]), asking(backend, [4])])
    first, failed, last = ask_one(backend, together, decoding=GREEDY)
    assert (first.get(), last.get()) == (["1", "2"], ["4"])
    assert isinstance(failed.error, BackendError)


def test_ctrl_c_reaches_gathered_questions(tracks: Tracks) -> None:
    backend = Echo(bad=[2], failure=KeyboardInterrupt())
    questions = [asking(backend, [1]), asking(backend, [2], found=tracks)]
    with pytest.raises(Interrupted) as caught:
        ask_one(backend, gather(questions), decoding=GREEDY)
    assert caught.value.partial is tracks
    assert caught.value.__context__ is None
    assert all(getgeneratorstate(question) == GEN_CLOSED for question in questions)


def test_no_questions_have_no_outcome() -> None:
    assert list(ask_in_step(Echo(), [], decoding=GREEDY)) == []
    assert ask_one(Echo(), gather([]), decoding=GREEDY) == []


def test_ctrl_c_is_what_the_first_makes_of_it_that_had_found_something(tracks: Tracks) -> None:
    backend = Echo(most=8, bad=[3], failure=KeyboardInterrupt())
    questions = [
        asking(backend, [1]),
        asking(backend, [2], found=tracks),
        asking(backend, [3]),
    ]
    with pytest.raises(Interrupted) as caught:
        list(ask_in_step(backend, questions, decoding=GREEDY))
    assert caught.value.partial is tracks
    assert all(getgeneratorstate(question) == GEN_CLOSED for question in questions)


def test_ctrl_c_before_anything_was_found_is_a_plain_one() -> None:
    backend = Echo(bad=[1], failure=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt) as caught:
        ask_one(backend, asking(backend, [1]), decoding=GREEDY)
    assert not isinstance(caught.value, Interrupted)


def test_who_stops_listening_ends_those_under_way() -> None:
    backend = Echo(most=2)
    questions = [asking(backend, [n], [n]) for n in (1, 2, 3)]
    outcomes = ask_in_step(backend, iter(questions), decoding=GREEDY)
    assert next(outcomes).get() == ["1", "1"]
    outcomes.close()
    assert getgeneratorstate(questions[1]) == GEN_CLOSED


@pytest.fixture
def tracks() -> Tracks:
    from molmo2_ground.grounder import Grounder

    text = '<tracks coords="0.0 1 100 500">car</tracks>'
    return Grounder(ScriptedBackend([text])).track(clip(1), "car")
