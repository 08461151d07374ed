"""`Run`, what an evaluation leaves in its folder: a card that says how it was made, and one `Row` an example.

run.json           the card and the figures
scores.jsonl       one row a line, in the suite's order; equal for equal answers, so it holds no times of day
predictions.jsonl  the answers with their receipts (predictions.py)
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from molmo2_ground._atomic import atomic_path
from molmo2_ground.errors import SourceError
from molmo2_ground.eval.example import Problem, Settings

SCHEMA = "molmo2-ground/evaluation/1"
CARD, SCORES, PREDICTIONS = "run.json", "scores.jsonl", "predictions.jsonl"

Status = Literal["answered", "unreadable", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """How one example went.

    index   its place in the suite.   media  the name of the file that was asked about; rows of one file are
            drawn together in intervals.
    status  `answered`; `unreadable`: the model wrote something in which no answer was found, which scores
            as the suite says; `failed`: it could not be asked, and has no scores.
    reason  why it is not answered.   asked  which kept answer was scored (`Prediction.asked`).
    """

    index: int
    key: str
    media: str
    task: str
    phrase: str
    status: Status
    asked: str
    reason: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str | float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """How a run was made.

    examples   how many the suite holds, bad rows left out;   limit  at most so many were asked, None for all.
    left_out   bad rows of the dataset.   threads  CPU threads a process.
    code       digest of the code that asks.   versions  of Python and the libraries that decide the answer.
    answer_ms  median time for one answer, milliseconds, reading the media included; None when none is known.
    """

    suite: str
    headline: tuple[str, ...]
    settings: Settings
    model: str
    identity: str
    threads: int
    code: str
    versions: Mapping[str, str]
    examples: int = 0
    limit: int | None = None
    left_out: tuple[Problem, ...] = ()
    answer_ms: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One score of the whole set: its value, the interval around it, and over how many examples.

    files  how many files (`Row.media`) those examples are about: what the interval was drawn from. None in
           runs that were written before whole files were drawn.
    """

    name: str
    value: float
    low: float
    high: float
    examples: int
    files: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A finished run, as its folder holds it; the suite's headline comes first in `figures`."""

    folder: Path
    card: Card
    rows: tuple[Row, ...]
    figures: tuple[Figure, ...]

    @property
    def scored(self) -> tuple[Row, ...]:
        """Rows that have scores: all but those that could not be asked."""
        return tuple(row for row in self.rows if row.status != "failed")

    def main_score(self, row: Row) -> str | None:
        """The first of the suite's headline scores that this row has, else the first of its scores.

        A headline score may be one of the whole set only.
        """
        names = (*self.card.headline, *(name for name in row.scores if name != "readable"))
        return next((name for name in names if name in row.scores), None)


def write_run(run: Run) -> None:
    """Write the card and the rows; each file appears whole or not at all."""
    figures = [dataclasses.asdict(figure) for figure in run.figures]
    card = {"schema": SCHEMA, **dataclasses.asdict(run.card), "figures": figures}
    with atomic_path(run.folder / SCORES) as unfinished:
        unfinished.write_text("".join(_line(row) for row in run.rows), encoding="utf-8")
    with atomic_path(run.folder / CARD) as unfinished:
        unfinished.write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")


def _line(row: Row) -> str:
    return json.dumps(dataclasses.asdict(row), separators=(",", ":")) + "\n"


def holds_run(folder: Path) -> bool:
    """Whether a folder holds a run, or what one that was stopped has left of it."""
    return any((folder / name).exists() for name in (CARD, SCORES, PREDICTIONS))


def read_run(folder: str | Path) -> Run:
    """Read what `write_run` wrote. Raises `SourceError` when the folder holds no finished run."""
    folder = Path(folder)
    try:
        fields = json.loads((folder / CARD).read_text(encoding="utf-8"))
        figures = tuple(Figure(**figure) for figure in fields.pop("figures", ()))
        card = _card(fields)
        lines: Iterable[str] = (folder / SCORES).read_text(encoding="utf-8").splitlines()
        rows = tuple(_row(json.loads(line)) for line in lines)
    except FileNotFoundError as error:
        raise SourceError(
            f"{folder} holds no finished run: {Path(str(error.filename)).name} is missing; "
            "expected the folder that `molmo2-ground eval SUITE --report` wrote"
        ) from error
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise SourceError(f"{folder} cannot be read as a run: {error}") from error
    return Run(folder=folder, card=card, rows=rows, figures=figures)


def _card(fields: dict[str, Any]) -> Card:
    schema = fields.pop("schema", None)
    if schema != SCHEMA:
        raise ValueError(f"expected schema {SCHEMA}; got {schema!r}")
    fields["settings"] = Settings(**fields["settings"])
    fields["headline"] = tuple(fields["headline"])
    fields["left_out"] = tuple(Problem(**problem) for problem in fields["left_out"])
    return Card(**fields)


def _row(fields: dict[str, Any]) -> Row:
    row = Row(**fields)
    if row.status not in get_args(Status):
        raise ValueError(f"a row is {', '.join(get_args(Status))}; got {row.status!r}")
    return row
