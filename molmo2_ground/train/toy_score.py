"""The figures of the tiny model's card: the toy suites asked, and their scores in a few lines.

`python -m molmo2_ground.train.toy_score --model tiny` prints them. It asks the questions that
`molmo2-ground eval toy` and `eval toy-tasks` ask and takes the scores that they take
(`train/toy_suite.py` and `train/toy_tasks.py` say what each counts), so that a figure is the same wherever it
is read: the mean over the questions that have it, here with its 95 % interval and how many questions those
are. A question group is a task and what its objects are asked for by; its figure is the mean of its
questions' main score.
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
from typing import TYPE_CHECKING, Literal, get_args

from molmo2_ground._parser import Parser
from molmo2_ground.eval.candidate import checkpoint_candidate
from molmo2_ground.eval.runner import evaluate
from molmo2_ground.train.toy_suite import ToySuite
from molmo2_ground.train.toy_tasks import ToyTasks

if TYPE_CHECKING:
    from molmo2_ground.eval.candidate import Candidate
    from molmo2_ground.eval.record import Figure, Run

logger = logging.getLogger(__name__)

SuiteName = Literal["toy", "toy-tasks"]

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
"""What the card calls a score of `ToySuite`. Others that a suite shows first follow under their own names."""

CARD_TASKS: Mapping[str, str] = {
    "track_f1_8": "track_f1_8",
    "track_f1_32": "track_f1_32",
    "identity": "identity",
    "identity_8": "identity_8",
    "identity_32": "identity_32",
    "point_f1": "point_f1",
    "count_exact": "count",
    "close": "count_close",
    "none": "none",
    "not_none": "not_none",
    "first_last_f1": "first_last_f1",
    "follow_f1": "follow_f1",
    "motion_f1": "motion_f1",
    "size_f1": "size_f1",
    "position_f1": "position_f1",
}
"""What the card calls a score of `ToyTasks`."""

_CARDS: Mapping[str, Mapping[str, str]] = {ToySuite.name: CARD, ToyTasks.name: CARD_TASKS}
_CLIPS = 150
# Of every so many clips of `toy` one of `toy-tasks` is asked about, which has more and longer questions.
_CLIPS_A_TASKS_CLIP = 3
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


def score(
    candidate: Candidate,
    *,
    clips: int,
    first_seed: int | None = None,
    workers: int = 1,
    suite: SuiteName = "toy",
) -> Run:
    """Ask a suite's questions about held-out clips; nothing is kept, progress goes to the log.

    first_seed: of the first clip; None takes the suite's own.
    """

    def tell(done: int, total: int, left_s: float | None) -> None:
        if done % _TOLD_EVERY == 0 or done == total:
            logger.info("%s: %d of %d questions, %.0f s left", suite, done, total, left_s or 0.0)

    with tempfile.TemporaryDirectory() as folder:
        held_out = toy_suite(suite, clips, first_seed=first_seed)
        return evaluate(held_out, candidate, Path(folder), workers=workers, on_progress=tell)


def toy_suite(name: str, clips: int, *, first_seed: int | None = None) -> ToySuite:
    """The toy street's suite of this name over so many clips, from its own first seed unless one is given."""
    made = {ToySuite.name: ToySuite, ToyTasks.name: ToyTasks}[name]
    return made(clips) if first_seed is None else made(clips, first_seed=first_seed)


def figures(run: Run) -> dict[str, float | None]:
    """The card's figures, shares from 0 to 1 rounded to three digits; None where no question has one."""
    return {
        name: None if figure is None else round(figure.value, 3) for name, figure in card_figures(run).items()
    }


def card_figures(run: Run) -> dict[str, Figure | None]:
    """The card's figures with their intervals, by the card's names; None where no question has one."""
    found = {figure.name: figure for figure in run.figures}
    card = _CARDS[run.card.suite]
    named = {name: found.get(own) for name, own in card.items()}
    others = [name for name in run.card.headline if name not in card.values()]
    return named | {name: found.get(name) for name in others}


def group_figures(run: Run) -> tuple[GroupFigure, ...]:
    """The mean main score of every group of questions, by task, category and score."""
    groups: dict[tuple[str, str, str], list[float]] = {}
    for row in run.scored:
        name = run.main_score(row)
        if name is not None:
            # A report's word for the task tells following from tracking, where both are there.
            task = str(row.tags.get("task", row.task))
            key = (task, str(row.tags.get("category", "")), name)
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
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    candidate = candidate or checkpoint_candidate(options.model)
    names: tuple[SuiteName, ...] = get_args(SuiteName) if options.suite == "both" else (options.suite,)
    clips: dict[SuiteName, int] = {
        "toy": options.clips,
        "toy-tasks": options.task_clips or max(2, options.clips // _CLIPS_A_TASKS_CLIP),
    }
    runs = {
        name: score(
            candidate,
            clips=clips[name],
            first_seed=options.first_seed,
            workers=options.workers,
            suite=name,
        )
        for name in names
    }
    if options.json:
        told = {
            name: {"clips": clips[name], "questions": len(run.rows), **figures(run)}
            for name, run in runs.items()
        }
        print(json.dumps(told if options.suite == "both" else told[options.suite]))
    else:
        for name, run in runs.items():
            first_seed = toy_suite(name, clips[name], first_seed=options.first_seed).first_seed
            _print(run, clips=clips[name], first_seed=first_seed)
    return 1 if any(row.status == "failed" for run in runs.values() for row in run.rows) else 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m molmo2_ground.train.toy_score", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--model", default="tiny", help="tiny, a folder or a hub id (default: tiny)")
    parser.add_argument(
        "--suite", choices=(*get_args(SuiteName), "both"), default="both", help="what to ask (default: both)"
    )
    parser.add_argument(
        "--clips", type=int, default=_CLIPS, help=f"how many held-out clips of toy (default: {_CLIPS})"
    )
    parser.add_argument(
        "--task-clips",
        type=int,
        help="how many of toy-tasks, half of them long (default: a third of --clips)",
    )
    parser.add_argument("--first-seed", type=int, help="seed of the first clip (default: the suite's own)")
    parser.add_argument("--workers", type=int, default=1, help="processes, each with its own model")
    parser.add_argument("--json", action="store_true", help="print JSON; of both suites, by suite")
    return parser


def _print(run: Run, *, clips: int, first_seed: int) -> None:
    print(
        f"{run.card.suite}: {clips} held-out clips from seed {first_seed}, {len(run.rows)} questions, "
        "answers written greedily"
    )
    for name, figure in card_figures(run).items():
        print(f"{name:13} {_told(figure)}")
    print()
    for group in group_figures(run):
        print(f"{group.task:19} {group.category:20} {group.score:13} {group.value:.3f}  n={group.examples}")
    failed = sum(row.status == "failed" for row in run.rows)
    if failed:
        print(f"{failed} questions could not be asked and are in no figure")
    print()


def _told(figure: Figure | None) -> str:
    if figure is None:
        return "not asked"
    return f"{figure.value:.3f}   {figure.low:.3f} to {figure.high:.3f}   n={figure.examples}"


if __name__ == "__main__":
    raise SystemExit(main())
