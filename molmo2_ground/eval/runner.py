"""`evaluate`: every example of a suite asked, kept and scored, in a folder that a killed run goes on with."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import platform
import shutil
import statistics
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from molmo2_ground import __version__
from molmo2_ground.eval.candidate import Candidate
from molmo2_ground.eval.examiner import Examined, Plan
from molmo2_ground.eval.example import Problem, Suite
from molmo2_ground.eval.intervals import Interval, bootstrap_summary
from molmo2_ground.eval.pace import OnProgress, Pace
from molmo2_ground.eval.predictions import PredictionFile, code_digest
from molmo2_ground.eval.record import PREDICTIONS, Card, Figure, Row, Run, write_run
from molmo2_ground.eval.workers import examine

_DECIDE = ("numpy", "torch", "transformers", "av", "opencv-python-headless", "pillow")


def evaluate(
    suite: Suite,
    candidate: Candidate,
    folder: str | Path,
    *,
    workers: int = 1,
    threads: int = 1,
    limit: int | None = None,
    left_out: Sequence[Problem] = (),
    on_progress: OnProgress | None = None,
) -> Run:
    """Ask every example, or the first `limit`, and score the answers; what is in `folder` is not asked again.

    workers: processes, each with its own model; the result does not depend on their number.
    threads: CPU threads a process.   left_out: bad rows that `suite.check()` found, for the record.
    Ctrl-C and a kill leave the answers that were given; the same call goes on from there.
    Raises `SourceError` when another run holds the folder, and what loading the model raises. An example that
    cannot be asked is a row of status `failed`.
    """
    if workers < 1 or threads < 1:
        raise ValueError(f"workers and threads are 1 or more; got {workers} and {threads}")
    if limit is not None and limit < 1:
        raise ValueError(f"limit is 1 or more, or None for all; got {limit}")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    total = len(suite.examples())
    count = total if limit is None else min(limit, total)
    scratch = folder / ".media"
    kept_file = folder / PREDICTIONS
    plan = Plan(suite=suite, candidate=candidate, predictions=kept_file, scratch=scratch, threads=threads)
    try:
        with PredictionFile(kept_file) as kept:
            shutil.rmtree(scratch, ignore_errors=True)  # a killed run may have left some
            done = _examine(plan, count, kept, workers=workers, on_progress=on_progress)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    times_ms = [one.answer_ms for one in done if one.answer_ms is not None]
    rows = tuple(sorted((one.row for one in done), key=lambda row: row.index))
    card = dataclasses.replace(
        _card(plan),
        examples=total,
        limit=limit,
        left_out=tuple(left_out),
        answer_ms=round(statistics.median(times_ms), 1) if times_ms else None,
    )
    run = Run(folder=folder, card=card, rows=rows, figures=_figures(suite, rows))
    write_run(run)
    return run


def _card(plan: Plan) -> Card:
    """What was known before the first question."""
    return Card(
        suite=plan.suite.name,
        headline=tuple(plan.suite.headline),
        settings=plan.suite.settings,
        model=plan.candidate.name,
        identity=plan.candidate.identity,
        threads=plan.threads,
        code=code_digest(),
        versions=_versions(),
    )


def _examine(
    plan: Plan, count: int, kept: PredictionFile, *, workers: int, on_progress: OnProgress | None
) -> list[Examined]:
    done: list[Examined] = []
    pace = Pace(count, on_progress)
    with closing(examine(plan, count, workers=workers)) as all_examined:
        for one in all_examined:
            if one.fresh is not None:
                kept.add(one.fresh)
                one = dataclasses.replace(one, fresh=None)  # it is on the disk now
            done.append(one)
            pace.step()
    return done


def _figures(suite: Suite, rows: Sequence[Row]) -> tuple[Figure, ...]:
    """The suite's own summary with its intervals; the headline first, whether answers could be read last."""
    scored = [row for row in rows if row.status != "failed"]
    if not scored:
        return ()
    files = [row.media for row in scored]
    found = bootstrap_summary([row.scores for row in scored], suite.summary, clusters=files)
    order = [*suite.headline, *(name for name in found if name != "readable"), "readable"]
    return tuple(_figure(name, found[name], scored) for name in dict.fromkeys(order) if name in found)


def _figure(name: str, interval: Interval, scored: Sequence[Row]) -> Figure:
    # A pooled score is no example's own; all of them are in it.
    examples = [row for row in scored if name in row.scores] or scored
    return Figure(
        name=name,
        value=interval.value,
        low=interval.low,
        high=interval.high,
        examples=len(examples),
        files=len({row.media for row in examples}),
    )


def _versions() -> dict[str, str]:
    """What decides an answer beside the weights."""
    found = {"molmo2-ground": __version__, "python": platform.python_version()}
    for name in _DECIDE:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found
