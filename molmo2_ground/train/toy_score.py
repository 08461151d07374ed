"""The figures of the tiny model's card: the toy suite asked, and its scores in a few lines.

`python -m molmo2_ground.train.toy_score --model tiny` prints them. It asks the questions that
`molmo2-ground eval toy` asks and takes the scores that it takes (`train/toy_suite.py` says what each counts),
so that a figure is the same wherever it is read: the mean over the questions that have it. A question group
is a task and what its objects are asked for by; its figure is the mean of its questions' main score.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from molmo2_ground.eval.candidate import checkpoint_candidate
from molmo2_ground.eval.runner import evaluate
from molmo2_ground.train.toy_suite import ToySuite

if TYPE_CHECKING:
    from molmo2_ground.eval.candidate import Candidate
    from molmo2_ground.eval.record import Run

logger = logging.getLogger(__name__)

# What the card calls a score of the suite. Others that the suite shows first follow under their own names.
CARD: Mapping[str, str] = {
    "track_f1": "track_f1",
    "point_f1": "point_f1",
    "count_f1": "count_f1",
    "count_exact": "count",
    "close": "count_close",
    "none": "none",
    "not_none": "not_none",
    "colour": "colour",
    "identity": "identity",
}
_TOLD_EVERY = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupFigure:
    """How one group of questions went.

    task, category  what was to be done, and what the objects were asked for by.
    score           which of the suite's scores `value` is the mean of, over so many `examples`.
    """

    task: str
    category: str
    score: str
    value: float
    examples: int


def score(candidate: Candidate, *, clips: int, first_seed: int = 0, workers: int = 1) -> Run:
    """Ask the suite's questions about held-out clips; nothing is kept, progress goes to the log."""

    def tell(done: int, total: int, left_s: float | None) -> None:
        if done % _TOLD_EVERY == 0 or done == total:
            logger.info("%d of %d questions, %.0f s left", done, total, left_s or 0.0)

    with tempfile.TemporaryDirectory() as folder:
        suite = ToySuite(clips, first_seed=first_seed)
        return evaluate(suite, candidate, Path(folder), workers=workers, on_progress=tell)


def figures(run: Run) -> dict[str, float | None]:
    """The card's figures, shares from 0 to 1 rounded to three digits; None where no question has one."""
    found = {figure.name: round(figure.value, 3) for figure in run.figures}
    card = {name: found.get(own) for name, own in CARD.items()}
    others = [name for name in run.card.headline if name not in CARD.values()]
    return card | {name: found.get(name) for name in others}


def group_figures(run: Run) -> tuple[GroupFigure, ...]:
    """The mean main score of every group of questions, by task, category and score."""
    groups: dict[tuple[str, str, str], list[float]] = {}
    for row in run.scored:
        name = run.main_score(row)
        if name is not None:
            key = (row.task, str(row.tags.get("category", "")), name)
            groups.setdefault(key, []).append(row.scores[name])
    return tuple(
        GroupFigure(
            task=task,
            category=category,
            score=name,
            value=round(sum(values) / len(values), 3),
            examples=len(values),
        )
        for (task, category, name), values in sorted(groups.items())
    )


def main(arguments: Sequence[str] | None = None, *, candidate: Candidate | None = None) -> int:
    """The command line: print the figures as a table, or as JSON.

    candidate: the model, in place of the one that --model names.
    """
    parser = argparse.ArgumentParser(prog="python -m molmo2_ground.train.toy_score", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--model", default="tiny", help="tiny, a folder or a hub id (default: tiny)")
    parser.add_argument("--clips", type=int, default=150, help="how many held-out clips (default: 150)")
    parser.add_argument("--first-seed", type=int, default=0, help="seed of the first clip (default: 0)")
    parser.add_argument("--workers", type=int, default=1, help="processes, each with its own model")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    run = score(
        candidate or checkpoint_candidate(options.model),
        clips=options.clips,
        first_seed=options.first_seed,
        workers=options.workers,
    )
    if options.json:
        print(json.dumps({"clips": options.clips, "questions": len(run.rows), **figures(run)}))
        return 0
    print(
        f"{options.clips} held-out clips from seed {options.first_seed}, {len(run.rows)} questions, "
        "answers written greedily"
    )
    for name, value in figures(run).items():
        print(f"{name:12} {'not asked' if value is None else f'{value:.3f}'}")
    print()
    for group in group_figures(run):
        print(f"{group.task:6} {group.category:20} {group.score:10} {group.value:.3f}  n={group.examples}")
    failed = sum(row.status == "failed" for row in run.rows)
    if failed:
        print(f"{failed} questions could not be asked and are in no figure")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
