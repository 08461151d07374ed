"""`Story`: one example to look at, with the answer and the truth drawn on its frames."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Protocol, runtime_checkable

from molmo2_ground.errors import AnswerError, GroundError
from molmo2_ground.eval.example import Example, Result, Suite, Truth
from molmo2_ground.eval.pictures import Picture, frames_of, pictures_of
from molmo2_ground.eval.predictions import Prediction, read_predictions
from molmo2_ground.eval.record import PREDICTIONS, Row, Run

UNREADABLE = "In what the model wrote, no answer could be read."


@runtime_checkable
class FrameByFrame(Protocol):
    """A suite that knows what is true in every frame, not only in those that it scores."""

    def truth_at(self, example: Example, source_indices: Sequence[int]) -> Truth:
        """The example's truth with these frames of its media added."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Story:
    """One example that was asked.

    result    the answer, None when it could not be read.   text  what the model wrote.
    pictures  empty when the media cannot be drawn; `trouble` says why.
    """

    row: Row
    score: str
    result: Result | None
    text: str
    pictures: tuple[Picture, ...] = ()
    trouble: str = ""


def worst_and_best(run: Run, *, count: int) -> tuple[list[Row], list[Row]]:
    """At most `count` rows with the lowest and with the highest main score, each of another file.

    All kinds of questions take turns, so that one that is always right or wrong does not fill the list; of
    equally good ones those with more objects come first.
    """
    judged = [row for row in run.scored if run.main_score(row) is not None]
    lowest = sorted(judged, key=lambda row: (_score(run, row), row.index))
    highest = sorted(judged, key=lambda row: (-_score(run, row), -_objects(row), row.index))
    middle = _score(run, lowest[len(lowest) // 2]) if lowest else 0.0
    worst = _in_turns([row for row in lowest if _score(run, row) < max(middle, 0.5)], count)
    kept = {row.key for row in worst}
    best = _in_turns([r for r in highest if r.key not in kept and _score(run, r) > min(middle, 0.5)], count)
    return (
        sorted(worst, key=lambda row: (_score(run, row), row.index)),
        sorted(best, key=lambda row: (-_score(run, row), -_objects(row), row.index)),
    )


def _score(run: Run, row: Row) -> float:
    name = run.main_score(row)
    assert name is not None, "only rows with a main score are ranked"
    return row.scores[name]


def _objects(row: Row) -> float:
    objects = row.tags.get("objects", 0.0)
    return 0.0 if isinstance(objects, str) else objects


def _in_turns(rows: Sequence[Row], count: int) -> list[Row]:
    by_task: dict[str, list[Row]] = {}
    for row in rows:
        by_task.setdefault(row.task, []).append(row)
    taken: list[Row] = []
    media: set[str] = set()
    for turn in zip_longest(*by_task.values()):
        for row in turn:
            if row is not None and len(taken) < count and row.media not in media:
                taken.append(row)
                media.add(row.media)
    return taken


def stories(run: Run, suite: Suite, rows: Iterable[Row]) -> list[Story]:
    """The rows with their pictures, in their order; without where the suite's data has changed since."""
    kept = read_predictions(run.folder / PREDICTIONS)
    examples = suite.examples()
    return [_story(run, suite, _example_of(row, examples), row, kept.get(row.asked)) for row in rows]


def _example_of(row: Row, examples: Sequence[Example]) -> Example | None:
    """The example that a row is about: at its place, or wherever it stands now in a set that has changed."""
    # A suite may make its examples as they are looked at: going through all of them for a few takes long.
    if row.index < len(examples) and (example := examples[row.index]).key == row.key:
        return example
    return next((example for example in examples if example.key == row.key), None)


def _story(run: Run, suite: Suite, example: Example | None, row: Row, kept: Prediction | None) -> Story:
    result: Result | None = None
    text = ""
    if kept is not None:
        text = kept.text if kept.receipt is None else kept.receipt.raw_text
        try:
            result = kept.result()
        except AnswerError:  # kept by a version that could read it
            result = None
    score = run.main_score(row) or ""
    if example is None:
        trouble = f"the suite's data holds no example {row.key} now"
        return Story(row=row, score=score, result=result, text=text, trouble=trouble)
    if isinstance(suite, FrameByFrame):
        example = replace(example, truth=suite.truth_at(example, frames_of(result)))
    try:
        with tempfile.TemporaryDirectory() as folder:
            media = suite.prepare(example, Path(folder))
            pictures = tuple(pictures_of(media, example, result))
    except (GroundError, OSError) as error:
        trouble = " ".join(str(error).split())
        return Story(row=row, score=score, result=result, text=text, trouble=trouble)
    return Story(row=row, score=score, result=result, text=text, pictures=pictures)
