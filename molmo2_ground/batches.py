"""Many clips, the same question: asked together where memory allows, answered in the order given.

A clip that cannot be read or answered costs the others nothing: its place holds a `Failed`.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from molmo2_ground.asking import Asking, Outcome, ask_in_step
from molmo2_ground.clip import Clip
from molmo2_ground.errors import GroundError
from molmo2_ground.query import QUESTION, Decoding, Query
from molmo2_ground.replay import Result
from molmo2_ground.session import Session
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
    more; so are the windows of a long video.
    on_error: "keep" puts a `Failed` in the place of a clip that fails, "raise" ends with its error there.
    Raises `ValueError` at once for wrong arguments.
    """
    if on_error not in get_args(OnError):
        raise ValueError(f'on_error is "keep" or "raise"; got {on_error!r}')
    if isinstance(medias, str | os.PathLike | Clip):
        raise ValueError("expected several clips; got one: put it in a list")
    if not isinstance(medias, Iterable):
        raise ValueError(f"expected several clips; got {medias!r}: put it in a list")
    QUESTION.all_of("questions", queries)
    if not queries:
        raise ValueError("expected at least one question; got none")
    return _all_answers(backend, medias, tuple(queries), Decoding.given(decoding), on_error)


def _all_answers(
    backend: Backend,
    medias: Iterable[MediaLike],
    queries: tuple[Query, ...],
    decoding: Decoding,
    on_error: OnError,
) -> Iterator[tuple[Result, ...] | Failed]:
    places: deque[_Place] = deque()

    def askings() -> Iterator[Asking[list[Outcome[Result]]]]:
        for media in medias:
            places.append(_Place(media, backend))
            yield places[-1].asking(queries, decoding)

    with ExitStack() as still_open:
        outcomes = still_open.enter_context(closing(ask_in_step(backend, askings(), decoding=decoding)))
        still_open.callback(_close_all, places)
        for outcome in outcomes:
            place = places.popleft()
            place.close()
            found = place.told(outcome)
            if isinstance(found, Failed) and on_error == "raise":
                raise found.error
            yield found


class _Place:
    """One clip of a batch, and its session."""

    def __init__(self, media: MediaLike, backend: Backend) -> None:
        self._media = media
        self._backend = backend
        self._session: Session | None = None

    def asking(self, queries: Sequence[Query], decoding: Decoding) -> Asking[list[Outcome[Result]]]:
        """The questions about the clip, which is opened when they start."""
        self._session = Session(self._backend, self._media)
        return (yield from self._session.asking_all(queries, decoding=decoding))

    def told(self, outcome: Outcome[list[Outcome[Result]]]) -> tuple[Result, ...] | Failed:
        """What is told of the clip. Raises what is no fault of its own."""
        try:
            return tuple(one.get() for one in outcome.get())
        except _OF_ONE_CLIP as error:
            return Failed(media=self._media, error=_without_tracebacks(error))

    def close(self) -> None:
        """Let go of the clip."""
        if self._session is not None:
            self._session.close()


def _close_all(places: Iterable[_Place]) -> None:
    for place in places:
        place.close()


def _without_tracebacks(error: Exception) -> Exception:
    """The same error; tracebacks would keep the frames of the clip for as long as the error is kept."""
    one: BaseException | None = error
    while one is not None:
        one.__traceback__ = None
        one = one.__cause__ or one.__context__
    return error
