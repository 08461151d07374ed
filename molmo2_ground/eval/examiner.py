"""`Examiner`: asks the examples of a suite and scores the answers, in one process."""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from molmo2_ground.errors import AnswerError, BackendError, PromptTooLongError, SourceError
from molmo2_ground.eval.candidate import Candidate
from molmo2_ground.eval.example import Example, Result, Suite
from molmo2_ground.eval.predictions import Prediction, asked_digest, located, read_predictions
from molmo2_ground.eval.record import Row, Status
from molmo2_ground.query import Decoding

if TYPE_CHECKING:
    from molmo2_ground.grounder import Grounder
    from molmo2_ground.session import Session

# What one example may fail with while the next may go well. A missing checkpoint is none of them.
_OF_ONE_EXAMPLE = (SourceError, PromptTooLongError, BackendError, ValueError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What every process of a run needs to know; picklable when suite and candidate are.

    predictions  the file with the kept answers.   scratch  a folder for media that the suite makes.
    threads      CPU threads a process. With another number sums are added up in another order, and once in
                 a while another token is likeliest: it is a part of the run, however many processes share it.
    """

    suite: Suite
    candidate: Candidate
    predictions: Path
    scratch: Path
    threads: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """One example, done: its row, the answer when it is new, and how long the answer took, milliseconds."""

    row: Row
    fresh: Prediction | None
    answer_ms: float | None


class Examiner:
    """Asks and scores example after example; a context manager.

    The model is loaded when the first question is not among the kept answers. Examples that follow each other
    and ask about the same file share its frames; each answer is what the question alone would give.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._examples = plan.suite.examples()
        self._kept = read_predictions(plan.predictions)
        self._grounder: Grounder | None = None
        self._media = ""  # what the open session is about: the example's media, before anything was made
        self._folder = plan.scratch / str(os.getpid())
        self._path: Path | None = None
        self._session: Session | None = None
        self._undo = ExitStack()

    def examine(self, index: int) -> Examined:
        """Ask example `index`, unless its answer is kept, and score it."""
        example, plan = self._examples[index], self._plan
        asked = asked_digest(
            example,
            suite=plan.suite.name,
            settings=plan.suite.settings,
            identity=plan.candidate.identity,
            threads=plan.threads,
        )
        kept = self._kept.get(asked)
        if kept is not None:
            return self._scored(index, example, kept, fresh=False)
        self._ready()
        try:
            prediction = self._ask(example, asked)
        except _OF_ONE_EXAMPLE as error:
            self._let_go()
            # The folder of this process means nothing to a reader, and would tell two equal runs apart.
            reason = f"{type(error).__name__}: {error}".replace(f"{self._folder}{os.sep}", "")
            row = _row(index, example, asked, status="failed", reason=reason)
            return Examined(row=row, fresh=None, answer_ms=None)
        return self._scored(index, example, prediction, fresh=True)

    def close(self) -> None:
        """Let go of the media and give the threads back; closing again does nothing."""
        self._let_go()
        self._undo.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _scored(self, index: int, example: Example, prediction: Prediction, *, fresh: bool) -> Examined:
        result: Result | None
        try:
            result, reason = prediction.result(), prediction.reason
        except AnswerError as error:  # kept by a version that could read it
            result, reason = None, str(error)
        scores = {
            **self._plan.suite.score(example, result),
            "readable": 0.0 if result is None else 1.0,
        }
        row = _row(
            index,
            example,
            prediction.asked,
            status="unreadable" if result is None else "answered",
            reason=reason,
            scores=scores,
        )
        times_ms = prediction.receipt.timings_ms.values() if prediction.receipt is not None else ()
        return Examined(
            row=row, fresh=prediction if fresh else None, answer_ms=sum(times_ms) if times_ms else None
        )

    def _ask(self, example: Example, asked: str) -> Prediction:
        session, settings = self._open(example), self._plan.suite.settings
        decoding = Decoding(max_new_tokens=settings.max_new_tokens, temperature=settings.temperature)
        try:
            result = located(session.answer(example.query, decoding=decoding))
        except AnswerError as error:
            return Prediction(key=example.key, asked=asked, text=error.answer.text, reason=str(error))
        return Prediction(key=example.key, asked=asked, receipt=result.receipt)

    def _open(self, example: Example) -> Session:
        """A session about the example's media; the one that is open when it is about the same file."""
        assert self._grounder is not None
        if str(example.media) != self._media:
            self._let_go()
            self._folder.mkdir(parents=True, exist_ok=True)
            self._media = str(example.media)
        path = self._plan.suite.prepare(example, self._folder)
        if self._session is None or path != self._path:
            if self._session is not None:
                self._session.close()
            self._session, self._path = self._grounder.open(path), path
        return self._session

    def _let_go(self) -> None:
        if self._session is not None:
            self._session.close()
        self._session, self._path, self._media = None, None, ""
        shutil.rmtree(self._folder, ignore_errors=True)  # a file that cannot go now goes with the run

    def _ready(self) -> None:
        if self._grounder is None:
            self._grounder = self._plan.candidate.load(self._plan.suite.settings)
            self._take_threads()

    def _take_threads(self) -> None:
        torch = sys.modules.get("torch")  # recorded answers do without
        if torch is not None:
            self._undo.callback(torch.set_num_threads, torch.get_num_threads())
            torch.set_num_threads(self._plan.threads)


def _row(
    index: int,
    example: Example,
    asked: str,
    *,
    status: Status,
    reason: str = "",
    scores: dict[str, float] | None = None,
) -> Row:
    return Row(
        index=index,
        key=example.key,
        media=Path(example.media).name,
        task=example.query.task,
        phrase=example.query.phrase,
        status=status,
        asked=asked,
        reason=" ".join(reason.split()),
        scores=scores or {},
        tags=dict(example.tags),
    )
