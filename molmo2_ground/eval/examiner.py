"""`Examiner`: asks the examples of a suite and scores the answers, group by group, in one process."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from molmo2_ground.asking import Outcome
from molmo2_ground.errors import AnswerError, BackendError, PromptTooLongError, SourceError
from molmo2_ground.eval.candidate import Candidate
from molmo2_ground.eval.example import Example, Result, Suite
from molmo2_ground.eval.open_media import OpenMedia
from molmo2_ground.eval.predictions import Prediction, asked_digest, located, read_predictions
from molmo2_ground.eval.record import Row, Status
from molmo2_ground.query import Decoding
from molmo2_ground.replay import Result as AnyResult

if TYPE_CHECKING:
    from molmo2_ground.grounder import Grounder

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
    """Asks and scores groups of examples; a context manager.

    The model is loaded when the first question is not among the kept answers. The questions of a group are
    answered in step, and those about one file share its frames.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._examples = plan.suite.examples()
        self._kept = read_predictions(plan.predictions)
        self._grounder: Grounder | None = None
        self._undo = ExitStack()

    def examine(self, group: Sequence[int]) -> Iterator[Examined]:
        """Ask the examples of a group, given by number, unless all answers are kept; score them, in order.

        Who is asked in company decides how floats are rounded, and once in a while a word. So all of a group
        are asked when one is missing, and a run that was killed gives what it would have given.
        """
        examples = [self._examples[index] for index in group]
        asked = [self._asked(example) for example in examples]
        kept = [self._kept.get(digest) for digest in asked]
        found = iter(kept) if None not in kept else self._ask(examples, asked)
        for index, example, digest, before, now in zip(group, examples, asked, kept, found, strict=True):
            assert now is not None
            if isinstance(now, str):
                row = _row(index, example, digest, status="failed", reason=now)
                yield Examined(row=row, fresh=None, answer_ms=None)
            else:
                yield self._scored(index, example, before or now, fresh=before is None)

    def close(self) -> None:
        """Give the threads back; closing again does nothing."""
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

    def _asked(self, example: Example) -> str:
        plan = self._plan
        return asked_digest(
            example,
            suite=plan.suite.name,
            settings=plan.suite.settings,
            identity=plan.candidate.identity,
            threads=plan.threads,
        )

    def _ask(self, examples: Sequence[Example], asked: Sequence[str]) -> Iterator[Prediction | str]:
        """The answer to each, or why it cannot be asked."""
        self._ready()
        assert self._grounder is not None
        settings = self._plan.suite.settings
        decoding = Decoding(max_new_tokens=settings.max_new_tokens, temperature=settings.temperature)
        with OpenMedia(self._grounder, self._plan.suite, examples, scratch=self._plan.scratch) as media:
            askings = (media.asking(example, decoding=decoding) for example in examples)
            outcomes = self._grounder.ask_in_step(askings, decoding=decoding)
            with closing(outcomes):
                for example, digest, outcome in zip(examples, asked, outcomes, strict=True):
                    media.done(example)
                    yield self._told(example, digest, outcome, folder=media.folder)

    def _told(
        self, example: Example, asked: str, outcome: Outcome[AnyResult], *, folder: Path
    ) -> Prediction | str:
        try:
            return Prediction(key=example.key, asked=asked, receipt=located(outcome.get()).receipt)
        except AnswerError as error:
            return Prediction(key=example.key, asked=asked, text=error.answer.text, reason=str(error))
        except _OF_ONE_EXAMPLE as error:
            # The folder of this process means nothing to a reader, and would tell two equal runs apart.
            return f"{type(error).__name__}: {error}".replace(f"{folder}{os.sep}", "")

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
