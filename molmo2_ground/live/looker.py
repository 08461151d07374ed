"""`Looker`: the thread that runs the model, one look at a time."""

from __future__ import annotations

import atexit
import logging
import threading
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field

from molmo2_ground.asking import Outcome, ask_one, gather
from molmo2_ground.backends.base import Backend
from molmo2_ground.clip import Clip
from molmo2_ground.clocks import Clocks
from molmo2_ground.errors import AnswerError, BackendError, GroundError, PromptTooLongError
from molmo2_ground.live.sampled_window import Window
from molmo2_ground.query import Decoding, Query
from molmo2_ground.replay import Result
from molmo2_ground.session import Session

AT_EXIT_S = 60.0
"""A large model on a CPU takes about so long for a look; one that takes longer hangs."""

_TELL_S = 1.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LookRequest:
    """What the model is to be asked: questions by name, about one window, and why.

    stamps_ns  of the window's pictures, by number.
    """

    window: Window
    questions: Mapping[str, Query]
    reasons: tuple[str, ...]
    stamps_ns: Mapping[int, int] = field(default_factory=dict)
    asked_ns: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LookAnswer:
    """What came of a request.

    results  by question; an error in place of a result says why there is none.
    tokens   read and written for it: what the questions share is read once, and counted once.
    """

    request: LookRequest
    results: Mapping[str, Result | GroundError]
    tokens: int
    answered_ns: int


def answer(backend: Backend, request: LookRequest, *, decoding: Decoding, clocks: Clocks) -> LookAnswer:
    """Ask all questions of a request together.

    What the model cannot do (`BackendError`, `PromptTooLongError`, an answer that cannot be read) is in the
    answer; anything else is raised.
    """
    window = request.window
    moving = {name for name, query in request.questions.items() if query.task in ("track", "ask")}
    still = request.questions.keys() - moving
    with Session(backend, window.clip) as clip_session, Session(backend, _still_of(window, still)) as session:
        askings = [
            (clip_session if name in moving else session).asking(query, decoding=decoding)
            for name, query in request.questions.items()
        ]
        outcomes = ask_one(backend, gather(askings), decoding=decoding)
    results = dict(zip(request.questions, map(_told, outcomes), strict=True))
    return LookAnswer(
        request=request,
        results=results,
        tokens=sum(_tokens(results[name] for name in names) for names in (moving, still)),
        answered_ns=clocks.unix_ns(),
    )


def _told(outcome: Outcome[Result]) -> Result | GroundError:
    """What a look's answer says of a question."""
    error = outcome.error
    if isinstance(error, AnswerError | BackendError | PromptTooLongError):
        return error.with_traceback(None)
    return BackendError(str(error)) if isinstance(error, ValueError) else outcome.get()


def _tokens(found: Iterable[Result | GroundError]) -> int:
    """Read and written for questions about the same pictures, which are read once."""
    answers = [
        one.answer if isinstance(one, AnswerError) else one.receipt
        for one in found
        if isinstance(one, AnswerError) or not isinstance(one, GroundError)
    ]
    return max((a.tokens_in for a in answers), default=0) + sum(a.tokens_out for a in answers)


def _still_of(window: Window, still: Set[str]) -> Clip:
    """The newest picture, painted only when a question is about it."""
    return window.still if still else window.clip


class Looker:
    """Answers requests in a thread of its own, one at a time; use it in a `with` block or close it.

    A program that ends during a look waits for it, up to `AT_EXIT_S`: the system aborts a program that is
    taken down while one of its threads is at work in the model.
    """

    def __init__(
        self, backend: Backend, *, decoding: Decoding | None = None, clocks: Clocks | None = None
    ) -> None:
        self._backend, self._decoding = backend, Decoding.given(decoding)
        self._clocks = clocks or Clocks()
        self._changed = threading.Condition()
        self._request: LookRequest | None = None
        self._done: LookAnswer | None = None
        self._failure: BaseException | None = None
        self._busy = self._closed = False
        self._thread: threading.Thread | None = None

    @property
    def busy(self) -> bool:
        """True while a request is being answered, or its answer waits to be taken."""
        with self._changed:
            return self._busy

    def ask(self, request: LookRequest) -> None:
        """Start on a request. Raises `ValueError` while another one is under way, or after closing."""
        with self._changed:
            if self._closed or self._busy:
                raise ValueError("a looker answers one request at a time, and none once closed")
            self._request, self._busy = request, True
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="molmo2-looker", daemon=True)
                self._thread.start()
                atexit.register(self._at_exit)
            self._changed.notify_all()

    def answer(self, request: LookRequest) -> LookAnswer:
        """Answer a request here and now, in the caller's thread."""
        return answer(self._backend, request, decoding=self._decoding, clocks=self._clocks)

    def take(self, timeout_s: float = 0.0) -> LookAnswer | None:
        """The answer when it is there within `timeout_s` seconds, else None.

        Raises what the model raised that no answer can hold; it is raised once.
        """
        with self._changed:
            if self._busy and timeout_s > 0:
                self._changed.wait_for(self._came, timeout_s)
            failure, self._failure = self._failure, None
            done, self._done = self._done, None
            if failure is not None or done is not None:
                self._busy = False
        if failure is not None:
            raise failure
        return done

    def close(self, *, wait_s: float = 5.0) -> bool:
        """Take no more requests; True when the thread ended within `wait_s` seconds.

        A look that is under way cannot be stopped; its answer is thrown away.
        """
        with self._changed:
            self._closed, self._request = True, None
            self._changed.notify_all()
        if self._thread is None:
            return True
        self._thread.join(wait_s)
        ended = not self._thread.is_alive()
        if ended:
            atexit.unregister(self._at_exit)
        return ended

    def _at_exit(self) -> None:
        if not self.close(wait_s=_TELL_S):
            _log.warning("waiting for the model to finish a look, up to %g s", AT_EXIT_S)
            self.close(wait_s=AT_EXIT_S)

    def _came(self) -> bool:
        return self._done is not None or self._failure is not None

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._request is not None)
                if self._closed:
                    return
                request, self._request = self._request, None
            assert request is not None
            try:
                done, failure = self.answer(request), None
            except BaseException as error:  # handed to whoever takes the answer, in their own thread
                done, failure = None, error
            del request
            with self._changed:
                self._done, self._failure = done, failure
                self._changed.notify_all()
            del done, failure
