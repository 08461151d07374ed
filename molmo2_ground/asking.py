"""`Asking`: a question on its way to its result, and `ask_in_step`, which lets many share a model's runs.

A question reads its frames and says what the model is to be asked; whoever drives it has that answered and
tells it the answers, until it returns its result. So questions about different clips, and windows of
different videos, are answered together without knowing of each other.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from typing import Generic, TypeVar

from molmo2_ground.answer import RawAnswer
from molmo2_ground.backends.base import Backend, BackendSession
from molmo2_ground.clip import Clip
from molmo2_ground.errors import Interrupted
from molmo2_ground.query import Decoding, Prompt

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ask:
    """One prompt for the model, about a clip that is open in it."""

    clip: Clip
    session: BackendSession
    prompt: Prompt


Asking = Generator[Sequence[Ask], Sequence[RawAnswer], T]
"""A question on its way: yields what to ask next, is sent the answers in that order, returns its result.

Where nothing is to be asked, it is sent no answers at once. What the model fails with is thrown into it.
"""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outcome(Generic[T]):
    """What came of a question: its result in a tuple, which is empty where it ended with an error."""

    results: tuple[T, ...] = ()
    error: Exception | None = None

    def get(self) -> T:
        """The result. Raises the error that came in its place."""
        if self.error is not None:
            raise self.error
        return self.results[0]


def ask_one(backend: Backend, asking: Asking[T], *, decoding: Decoding) -> T:
    """The result of one question. Raises what it raises."""
    (outcome,) = ask_in_step(backend, [asking], decoding=decoding)
    return outcome.get()


def ask_in_step(
    backend: Backend, askings: Iterable[Asking[T]], *, decoding: Decoding
) -> Generator[Outcome[T], None, None]:
    """The outcome of every question, in order; each result is what the question alone would give.

    As many are under way, and hold their frames, as the backend takes together (`Backend.at_once`): the next
    is taken from `askings` when there is room for another like the largest so far. One that fails costs the
    others nothing. Ctrl-C is thrown into those that wait; what the first makes of it that had found
    something (`Interrupted`) is raised, or else `KeyboardInterrupt`.
    """
    line = _Line(backend, askings)
    try:
        while line.fill():
            yield from line.outcomes()
            if batch := line.batch():
                _drive(backend, _asked(batch), decoding)
    finally:
        line.close()


def gather(askings: Sequence[Asking[T]]) -> Asking[list[Outcome[T]]]:
    """Several questions as one, for questions about one clip: what they wait for is asked in one go."""
    places = [_Place(asking) for asking in askings]
    try:
        while waiting := [place for place in places if place.outcome is None]:
            yield from _asked(waiting)
    finally:
        for place in places:
            place.close()
    return [place.outcome for place in places if place.outcome is not None]


class _Place(Generic[T]):
    """A question under way: what it waits for, or its outcome."""

    def __init__(self, asking: Asking[T]) -> None:
        self._asking = asking
        self.asks: Sequence[Ask] = ()
        self.outcome: Outcome[T] | None = None
        self._go(lambda: next(asking))

    def answered(self, answers: Sequence[RawAnswer]) -> None:
        """Go on with what the model answered."""
        self._go(lambda: self._asking.send(answers))

    def failed(self, error: Exception) -> None:
        """Go on with what the model failed with."""
        self._go(lambda: self._asking.throw(error))

    def interrupted(self, stop: KeyboardInterrupt) -> KeyboardInterrupt:
        """End with Ctrl-C; returns what the question makes of it."""
        try:
            self._asking.throw(stop)
        except KeyboardInterrupt as made:
            return made
        return stop

    def share(self, backend: Backend) -> Fraction:
        """How much of what the backend takes together it waits for."""
        clips = {id(ask.clip): ask.clip for ask in self.asks}
        return sum((Fraction(1, backend.at_once(clip)) for clip in clips.values()), Fraction(0))

    def close(self) -> None:
        """End it, if it has not ended."""
        self._asking.close()
        self.asks = ()

    def _go(self, step: Callable[[], Sequence[Ask]]) -> None:
        self.asks = ()  # the frames of what was answered
        try:
            self.asks = step()
            while not self.asks:
                self.asks = self._asking.send(())
        except StopIteration as end:
            self.outcome = Outcome(results=(end.value,))
        except Exception as error:
            self.outcome = Outcome(error=error)


class _Line(Generic[T]):
    """The questions under way, in order, and those still to come."""

    def __init__(self, backend: Backend, askings: Iterable[Asking[T]]) -> None:
        self._backend = backend
        self._source = iter(askings)
        self._places: deque[_Place[T]] = deque()
        self._largest = Fraction(0)  # share that a question has waited for

    def fill(self) -> bool:
        """Take in as many as there is room for; False when all are through."""
        held = sum((place.share(self._backend) for place in self._places), Fraction(0))
        # What has come is handed out before anything else is read.
        while not self._places or (self._places[0].outcome is None and held + self._largest <= 1):
            asking = next(self._source, None)
            if asking is None:
                break
            self._places.append(_Place(asking))
            share = self._places[-1].share(self._backend)
            self._largest = max(self._largest, share)
            held += share
        return bool(self._places)

    def outcomes(self) -> Iterator[Outcome[T]]:
        """Those that are there, as far as nothing before them is missing."""
        while self._places and (outcome := self._places[0].outcome) is not None:
            self._places.popleft()
            yield outcome

    def batch(self) -> list[_Place[T]]:
        """The first of those that wait, as many as the backend takes together; one at least."""
        found: list[_Place[T]] = []
        held = Fraction(0)
        for place in self._places:
            if place.outcome is None:
                held += place.share(self._backend)
                if found and held > 1:
                    break
                found.append(place)
        return found

    def close(self) -> None:
        """End those that are under way."""
        for place in self._places:
            place.close()


def _asked(batch: Sequence[_Place[T]]) -> Asking[None]:
    """Ask for all that these wait for in one go, and let them go on."""
    failure: Exception | KeyboardInterrupt
    try:
        answers = iter((yield [ask for place in batch for ask in place.asks]))
    except (Exception, KeyboardInterrupt) as error:
        failure = error
    else:
        for place in batch:
            place.answered([next(answers) for _ in place.asks])
        return
    # Outside of the `except`, so that what is raised does not keep the frames that were at hand.
    if isinstance(failure, KeyboardInterrupt):
        made = [place.interrupted(failure) for place in batch]
        raise next((one for one in made if isinstance(one, Interrupted)), made[0])
    if len(batch) == 1:
        batch[0].failed(failure)
        return
    # One of them cannot be answered, and only asking one by one tells which. What was read is not lost.
    for place in batch:
        yield from _asked([place])


def _drive(backend: Backend, asking: Asking[None], decoding: Decoding) -> None:
    """Have the model answer what is asked, to the end."""
    step: Callable[[], Sequence[Ask]] = functools.partial(next, asking)
    with suppress(StopIteration):
        while True:
            asks = [(ask.session, ask.prompt) for ask in step()]
            try:
                answers = backend.answer_together(asks, decoding=decoding)
            except (Exception, KeyboardInterrupt) as error:
                step = functools.partial(asking.throw, error)
            else:
                step = functools.partial(asking.send, answers)
