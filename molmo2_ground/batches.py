"""Many clips, the same question: asked together where memory allows, answered in the order given.

A clip that cannot be read or answered costs the others nothing: its place holds a `Failed`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Literal, get_args

from molmo2_ground.answer import RawAnswer
from molmo2_ground.clip import Clip
from molmo2_ground.errors import GroundError
from molmo2_ground.query import Decoding, Query
from molmo2_ground.replay import Result
from molmo2_ground.session import Prepared, Session
from molmo2_ground.sources import MediaLike

if TYPE_CHECKING:
    from molmo2_ground.backends.base import Backend

OnError = Literal["keep", "raise"]

# What one clip may fail with while the next may go well; anything else is a fault of this package or of the
# machine, and hiding it in every place of a long batch would help nobody.
_OF_ONE_CLIP = (GroundError, ValueError, OSError, MemoryError)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Failed:
    """In place of a result: the clip that brought none, as it was handed in, and what it failed with."""

    media: MediaLike
    error: Exception

    def __str__(self) -> str:
        name = f"{os.fspath(self.media)!s}: " if isinstance(self.media, str | os.PathLike) else ""
        return f"{name}{self.error}"


def ask_all(
    backend: Backend,
    medias: Iterable[MediaLike],
    queries: Sequence[Query],
    *,
    decoding: Decoding | None = None,
    on_error: OnError = "keep",
) -> Iterator[tuple[Result, ...] | Failed]:
    """Every question about every clip: a tuple a clip, in order, each as `Session.run` alone would give it.

    Clips are read when their turn comes, as many as the backend takes together (`Backend.at_once`) and no
    more; a long video is tracked by itself, window by window.
    on_error: "keep" puts a `Failed` in the place of a clip that fails, "raise" ends with its error there.
    Raises `ValueError` at once for wrong arguments.
    """
    if on_error not in get_args(OnError):
        raise ValueError(f'on_error is "keep" or "raise"; got {on_error!r}')
    if isinstance(medias, str | os.PathLike | Clip):
        raise ValueError("expected several clips; got one: put it in a list")
    if isinstance(queries, str) or not all(isinstance(query, Query) for query in queries):
        raise ValueError('expected questions such as Query.track("the red car")')
    return _all_answers(backend, medias, tuple(queries), decoding or Decoding(), on_error)


def _all_answers(
    backend: Backend,
    medias: Iterable[MediaLike],
    queries: tuple[Query, ...],
    decoding: Decoding,
    on_error: OnError,
) -> Iterator[tuple[Result, ...] | Failed]:
    with ExitStack() as still_open:
        waiting: list[_Place] = []
        for media in medias:
            waiting.append(_Place(media=media))
            waiting[-1].open(backend, queries)
            still_open.callback(waiting[-1].close)
            if _is_full(backend, waiting):
                yield from _answered(backend, waiting, queries, decoding, on_error)
                still_open.close()
                waiting.clear()
        yield from _answered(backend, waiting, queries, decoding, on_error)


@dataclass(slots=True, kw_only=True)
class _Place:
    """One clip of a batch: its session and questions, or what it failed with.

    questions  one a query; None for one that is tracked by windows.
    """

    media: MediaLike
    session: Session | None = None
    questions: tuple[Prepared | None, ...] = ()
    error: Exception | None = None

    def open(self, backend: Backend, queries: Sequence[Query]) -> None:
        try:
            self.session = Session(backend, self.media)
            self.questions = tuple(self.session.prepare(query) for query in queries)
        except _OF_ONE_CLIP as error:
            self.fail(error)

    def fail(self, error: Exception) -> None:
        self.error = error
        self.close()

    def close(self) -> None:
        if self.session is not None:
            self.session.close()
        self.session, self.questions = None, ()

    @property
    def together(self) -> list[Prepared]:
        """The questions that can be asked together with others."""
        return [question for question in self.questions if question is not None]

    def results(
        self, raws: Sequence[RawAnswer], queries: Sequence[Query], decoding: Decoding
    ) -> tuple[Result, ...] | None:
        """From the answers to `together` to results, with those of what is tracked by windows.

        None when one fails; `error` then says why.
        """
        assert self.session is not None, "results are asked of clips that opened"
        answers = iter(raws)
        try:
            return tuple(
                self.session.answer(query, decoding=decoding)
                if question is None
                else question.derived(next(answers), decoding)
                for query, question in zip(queries, self.questions, strict=True)
            )
        except _OF_ONE_CLIP as error:
            self.fail(error)
            return None


def _is_full(backend: Backend, waiting: Sequence[_Place]) -> bool:
    """Whether to ask now: another clip like the longest would be too much, or waiting would gain nothing."""
    still_fine = [place for place in waiting if place.error is None]
    if not still_fine or any(None in place.questions for place in still_fine):
        return True
    clips = {id(question.clip): question.clip for place in still_fine for question in place.together}
    shares = [Fraction(1, backend.at_once(clip)) for clip in clips.values()]
    return sum(shares) + max(shares, default=Fraction(1)) > 1


def _answered(
    backend: Backend,
    waiting: Sequence[_Place],
    queries: Sequence[Query],
    decoding: Decoding,
    on_error: OnError,
) -> Iterator[tuple[Result, ...] | Failed]:
    """Answer what waits, all together, and give it in order."""
    raws = _raw_answers(backend, waiting, decoding)
    for place, answers in zip(waiting, raws, strict=True):
        found = None if place.error is not None else place.results(answers, queries, decoding)
        place.close()
        if found is not None:
            yield found
            continue
        assert place.error is not None, "a clip without results has an error"
        if on_error == "raise":
            raise place.error
        yield Failed(media=place.media, error=_without_tracebacks(place.error))


def _without_tracebacks(error: Exception) -> Exception:
    """The same error; tracebacks would keep the frames of the clip for as long as the error is kept."""
    one: BaseException | None = error
    while one is not None:
        one.__traceback__ = None
        one = one.__cause__ or one.__context__
    return error


def _raw_answers(
    backend: Backend, waiting: Sequence[_Place], decoding: Decoding
) -> list[Sequence[RawAnswer]]:
    """For each place the answers to its questions, those that are asked together; none where it failed."""
    asked = [question.asked for place in waiting for question in place.together]
    if not asked:
        return [()] * len(waiting)
    try:
        answers = iter(backend.answer_together(asked, decoding=decoding))
        return [[next(answers) for _ in place.together] for place in waiting]
    except _OF_ONE_CLIP:
        # One of them cannot be answered, and only asking one by one tells which. What was read is not lost.
        return [_answers_alone(backend, place, decoding) for place in waiting]


def _answers_alone(backend: Backend, place: _Place, decoding: Decoding) -> Sequence[RawAnswer]:
    try:
        return backend.answer_together([q.asked for q in place.together], decoding=decoding)
    except _OF_ONE_CLIP as error:
        place.fail(error)
        return ()
