"""Caption F1: which single statements of a caption hold, and which true ones it makes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from molmo2_ground.eval.metrics.matched import Matched, matched


class Judge(Protocol):
    """Decides about one statement; usually a language model behind a function of the user's."""

    def __call__(self, statement: str, *, given: Sequence[str]) -> bool:
        """True when `statement` follows from the statements `given`."""


def caption_f1(caption: Sequence[str], truth: Sequence[str], *, judge: Judge) -> Matched:
    """Precision, recall and F1 of a caption that was split into single statements.

    Precision is the share of the caption's statements that follow from the true ones, recall the share of
    true statements that follow from the caption's. `hits` counts the former. Nothing to say and nothing
    said is 1; one of both empty is 0, and the judge is not asked.
    """
    if not caption or not truth:
        return matched(0, len(caption), len(truth))
    supported = sum(judge(statement, given=truth) for statement in caption)
    covered = sum(judge(statement, given=caption) for statement in truth)
    precision, recall = supported / len(caption), covered / len(truth)
    f1 = 2 * precision * recall / (precision + recall) if precision and recall else 0.0
    return Matched(
        precision=precision, recall=recall, f1=f1, hits=supported, predicted=len(caption), wanted=len(truth)
    )
