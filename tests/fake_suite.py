"""A small evaluation for tests: pictures with bright squares, and a model that looks for them and errs.

Number 1, 5, 9, … of the pictures hold no square; the model points beside the square in number 3, 7, …; it
writes nonsense about number 2, 10, 18, …. All of it is a function of the pixels and the question.
"""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from molmo2_ground.answer import RawAnswer
from molmo2_ground.backends.scripted import ScriptedBackend
from molmo2_ground.clip import Clip, RgbArray
from molmo2_ground.eval.candidate import Candidate
from molmo2_ground.eval.example import (
    Example,
    Problem,
    Result,
    Settings,
    Truth,
    TruthFrame,
    TruthObject,
    mean_summary,
)
from molmo2_ground.eval.pace import OnProgress
from molmo2_ground.grounder import Grounder
from molmo2_ground.model.limits import ModelLimits
from molmo2_ground.query import Prompt, Query
from molmo2_ground.results import Count, Points
from molmo2_ground.rle import Rle

WIDTH_PX, HEIGHT_PX = 120, 80
SIDE_PX = 12
NONSENSE = "It is a lovely day, isn't it? \ud83d"


def square_of(number: int) -> tuple[int, int] | None:
    """Left and top of the square in a picture, pixels; None when it holds none."""
    if number % 4 == 1:
        return None
    return 10 + number * 7 % 90, 8 + number * 5 % 55


def picture_of(number: int) -> RgbArray:
    """uint8[80, 120, 3]; the number is written in the first pixel, where the model reads it."""
    rgb = np.full((HEIGHT_PX, WIDTH_PX, 3), 70, dtype=np.uint8)
    corner = square_of(number)
    if corner is not None:
        left, top = corner
        rgb[top : top + SIDE_PX, left : left + SIDE_PX] = (240, 220, 40)
    rgb[0, 0] = (number // 256, number % 256, 0)
    return rgb


_SETTINGS = Settings(max_new_tokens=64, note="made up for tests")


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeSuite:
    """`count` pictures, two questions each: where is the square, and how many are there.

    broken: numbers of pictures whose file is missing.   folder: the pictures are made there by `prepare`
    """

    count: int = 8
    broken: tuple[int, ...] = ()
    name: str = "fake"
    settings: Settings = _SETTINGS
    headline: tuple[str, ...] = ("f1", "count")

    def check(self, *, on_progress: OnProgress | None = None) -> tuple[Problem, ...]:
        return tuple(Problem(row=f"picture {n}", reason="the file is missing") for n in self.broken)

    def examples(self) -> Sequence[Example]:
        return [_example(n, task) for n in range(self.count) for task in ("point", "count")]

    def prepare(self, example: Example, folder: Path) -> Path:
        path = folder / example.media
        number = int(path.stem)
        if number not in self.broken and not path.exists():
            Image.fromarray(picture_of(number)).save(path)
        return path

    def score(self, example: Example, result: Result | None) -> dict[str, float]:
        corner = square_of(int(Path(example.media).stem))
        if example.query.task == "count":
            right = isinstance(result, Count) and int(result) == (corner is not None)
            return {"count": float(right)}
        if not isinstance(result, Points):
            return {"f1": 0.0}
        if corner is None:
            return {"f1": float(len(result) == 0)}
        left, top = corner
        hits = [left <= x < left + SIDE_PX and top <= y < top + SIDE_PX for x, y in result.xy_px]
        return {"f1": 2 * sum(hits) / (len(hits) + 1)}

    def summary(self, rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
        return mean_summary(rows)


def _example(number: int, task: str) -> Example:
    corner = square_of(number)
    objects: tuple[TruthObject, ...] = ()
    if corner is not None:
        left, top = corner
        mask = np.zeros((HEIGHT_PX, WIDTH_PX), dtype=np.bool_)
        mask[top : top + SIDE_PX, left : left + SIDE_PX] = True
        frame = TruthFrame(
            time_s=None,
            source_index=0,
            xy_px=(left + SIDE_PX / 2, top + SIDE_PX / 2),
            mask=Rle.encode(mask),
        )
        objects = (TruthObject(object_id=1, frames=(frame,)),)
    return Example(
        key=f"{number:03d}-{task}",
        media=f"{number:03d}.png",
        query=Query.point("the <yellow> square") if task == "point" else Query.count("squares"),
        truth=Truth(size_px=(WIDTH_PX, HEIGHT_PX), count=len(objects), objects=objects),
        tags={
            "task": task,
            "objects": float(len(objects)),
            "size_share": 0.001 * (1 + number % 5),
            "category": "even" if number % 2 == 0 else "odd",
        },
    )


class SquareFinder(ScriptedBackend):
    """Looks for the square; errs as the module says, the other way round when it `squints`.

    log: a file that gets a line for each question.   kills_at: ends `victim` by SIGKILL when so many lines
    are in it, or, when `victim` is -1, presses Ctrl-C for all processes of the terminal.
    """

    def __init__(
        self,
        *,
        log: Path | None = None,
        kills_at: int | None = None,
        victim: int = 0,
        squints: bool = False,
        limits: ModelLimits | None = None,
    ) -> None:
        super().__init__(
            (),
            model_id="finder",
            limits=limits or ModelLimits(max_frames=8, max_fps=2, max_crops=1, context_tokens=64),
        )
        self._log, self._kills_at, self._victim, self._squints = log, kills_at, victim, squints

    def next_answer(self, prompt: Prompt, clip: Clip) -> RawAnswer:
        if self._log is not None:
            with self._log.open("a") as file:
                file.write(prompt.text + "\n")
            if self._kills_at is not None and len(self._log.read_text().splitlines()) >= self._kills_at:
                if self._victim < 0:
                    os.killpg(os.getpgid(0), signal.SIGINT)
                else:
                    os.kill(self._victim or os.getpid(), signal.SIGKILL)
        text = self._text(clip.frames[0].rgb, counting=prompt.task == "count")
        return RawAnswer(
            text=text,
            stop_reason="end",
            tokens_in=9,
            tokens_out=len(text),
            forwards=1,
            model_id=self.model_id,
            revision=None,
            backend="scripted",
            recipe="scripted/1",
            timings_ms={"decode_text": 2.0},
        )

    def _text(self, rgb: RgbArray, *, counting: bool) -> str:
        number = int(rgb[0, 0, 0]) * 256 + int(rgb[0, 0, 1])
        if number % 8 == 2 and not self._squints:
            return NONSENSE
        rows, columns = np.nonzero(rgb[:, :, 0] > 200)
        if not rows.size:
            return "There are none."
        x, y = columns.mean() + 0.5, rows.mean() + 0.5
        if number % 4 == (0 if self._squints else 3):
            x += SIDE_PX
        place = f"1 {round(1000 * x / WIDTH_PX):03d} {round(1000 * y / HEIGHT_PX):03d}"
        points = f'<points coords="1 {place}">squares</points>'
        return f"Counting the {points} shows a total of 1." if counting else points


def load_finder(
    settings: Settings,
    *,
    log: Path | None = None,
    kills_at: int | None = None,
    kills_parent: bool = False,
    interrupts: bool = False,
    squints: bool = False,
) -> Grounder:
    """A grounder with a `SquareFinder`, as a `Candidate` loads it."""
    victim = -1 if interrupts else os.getppid() if kills_parent else 0
    return Grounder(SquareFinder(log=log, kills_at=kills_at, victim=victim, squints=squints))


def finder(
    *,
    log: Path | None = None,
    kills_at: int | None = None,
    kills_parent: bool = False,
    interrupts: bool = False,
    squints: bool = False,
) -> Candidate:
    """The model that looks for squares, ready to be examined; picklable."""
    load = functools.partial(
        load_finder,
        log=log,
        kills_at=kills_at,
        kills_parent=kills_parent,
        interrupts=interrupts,
        squints=squints,
    )
    return Candidate(name="squinting" if squints else "finder", identity=f"finder/{squints}", load=load)
