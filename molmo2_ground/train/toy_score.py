"""How well a model grounds in the toy street: held-out clips as real files, answers written freely.

`python -m molmo2_ground.train.toy_score --model tiny` prints the figures of the model card. Each clip is
written as H.264, opened again and asked through `Grounder`, exactly as a user would; every seed lies below
the training seeds. What is counted:

track F1   a sample is right when it lies in the visible mask of an object asked for, one sample an object
           and frame; missing samples are those of visible objects without one. Questions with an answer.
           A sample on an object asked for that hardly shows (less than `VISIBLE_SHARE`) is not counted.
point F1   the same, each object asked for once in the whole clip.
count      the number is exactly right.
none       nothing is there and the answer says so.
colour     one of several of a kind is asked for by its colour: most of the answer lies on that one.
identity   of two successive right samples of one object, the share that carry the same id.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from molmo2_ground.errors import AnswerError
from molmo2_ground.grounder import load
from molmo2_ground.query import Query
from molmo2_ground.results import Count, Points, Tracks
from molmo2_ground.train.toy.clip_file import write_clip
from molmo2_ground.train.toy.questions import make_questions
from molmo2_ground.train.toy.street import make_scene
from molmo2_ground.train.toy_view import FIRST_TRAINING_SEED

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

    from molmo2_ground.grounder import Grounder
    from molmo2_ground.train.toy.actors import ActorState
    from molmo2_ground.train.toy.questions import Question
    from molmo2_ground.train.toy.scene import Scene

logger = logging.getLogger(__name__)
FPS = 30


@dataclass(slots=True)
class Tally:
    """Sums over all questions, and the figures made of them."""

    found: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)
    right: Counter[str] = field(default_factory=Counter)
    asked: Counter[str] = field(default_factory=Counter)

    def judge(self, name: str, ok: bool) -> None:
        """Count one yes-or-no verdict."""
        self.asked[name] += 1
        self.right[name] += ok

    def f1(self, name: str) -> float:
        """Harmonic mean of precision and recall; nan when nothing was asked."""
        whole = 2 * self.found[name] + self.wrong[name] + self.missed[name]
        return 2 * self.found[name] / whole if whole else float("nan")

    def share(self, name: str) -> float:
        """Share of verdicts that were yes; nan when nothing was asked."""
        return self.right[name] / self.asked[name] if self.asked[name] else float("nan")

    def figures(self) -> dict[str, float]:
        """Every figure, rounded to three digits."""
        named = {f"{name}_f1": self.f1(name) for name in ("track", "point", "count")}
        named |= {
            name: self.share(name) for name in ("count_exact", "none", "not_none", "colour", "identity")
        }
        return {name: round(value, 3) for name, value in named.items()}


class Truth:
    """What is where in one clip, rendered when asked for and kept."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self._frames: dict[int, tuple[npt.NDArray[np.uint8], tuple[ActorState, ...]]] = {}

    def at(self, time_s: float) -> tuple[npt.NDArray[np.uint8], dict[int, ActorState]]:
        """Id map and states by object id of the frame at this time."""
        number = round(time_s * FPS)
        if number not in self._frames:
            _, ids = self.scene.render(number / FPS)
            self._frames[number] = (ids, self.scene.truth(number / FPS, ids))
        ids, states = self._frames[number]
        return ids, {state.object_id: state for state in states}

    def under(self, time_s: float, x_px: float, y_px: float) -> int:
        """Id of the actor that covers this place, 0 for none."""
        ids, _ = self.at(time_s)
        row, column = min(int(y_px), ids.shape[0] - 1), min(int(x_px), ids.shape[1] - 1)
        return int(ids[row, column])


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """One answered place: where, when, and the id the model gave it."""

    object_id: int
    time_s: float
    x_px: float
    y_px: float


def score_clip(
    grounder: Grounder, scene: Scene, questions: Iterable[Question], path: Path, tally: Tally
) -> None:
    """Ask about one clip file and add what came back to the tally."""
    truth = Truth(scene)
    with grounder.open(path) as session:
        for question in questions:
            try:
                result = session.answer(Query(task=question.task, phrase=question.phrase))
            except AnswerError:
                tally.judge("readable", False)
                result = None
            if isinstance(result, Tracks):
                places = [
                    Placed(object_id=t.object_id, time_s=s.time_s, x_px=s.x_px, y_px=s.y_px)
                    for t in result
                    for s in t.samples
                ]
                shown = result.receipt.frame_times_s
            else:
                points = result.points if isinstance(result, Count) else result
                assert points is None or isinstance(points, Points)
                places = [
                    Placed(object_id=p.object_id, time_s=p.time_s or 0.0, x_px=p.x_px, y_px=p.y_px)
                    for p in points or ()
                ]
                shown = points.receipt.frame_times_s if points is not None else ()
            _judge(question, places, shown, int(result) if isinstance(result, Count) else None, truth, tally)


def _judge(
    question: Question,
    places: list[Placed],
    shown_s: Iterable[float],
    count: int | None,
    truth: Truth,
    tally: Tally,
) -> None:
    wanted = set(question.object_ids)
    if question.task == "count":
        tally.judge("count_exact", count == len(wanted))
    if not wanted:
        tally.judge("none", not places and count in (None, 0))
        return
    tally.judge("not_none", bool(places))
    if question.task == "track":
        _judge_track(wanted, places, shown_s, truth, tally)
    else:
        _judge_points(question.task, wanted, places, truth, tally)
    if len(wanted) == 1 and _is_one_of_several(question, truth.scene):
        hits = Counter(truth.under(p.time_s, p.x_px, p.y_px) for p in places)
        hits.pop(0, None)
        tally.judge("colour", bool(hits) and hits.most_common(1)[0][0] in wanted)


def _judge_track(
    wanted: set[int], places: list[Placed], shown_s: Iterable[float], truth: Truth, tally: Tally
) -> None:
    last_id: dict[int, int] = {}
    for time_s in shown_s:
        _, states = truth.at(time_s)
        open_ids = {i for i in wanted if states[i].visible}
        for place in (p for p in places if p.time_s == time_s):
            under = truth.under(time_s, place.x_px, place.y_px)
            if under in open_ids:
                open_ids.discard(under)
                tally.found["track"] += 1
                if under in last_id:
                    tally.judge("identity", last_id[under] == place.object_id)
                last_id[under] = place.object_id
            elif under not in wanted or states[under].visible:
                tally.wrong["track"] += 1
        tally.missed["track"] += len(open_ids)


def _judge_points(task: str, wanted: set[int], places: list[Placed], truth: Truth, tally: Tally) -> None:
    open_ids = set(wanted)
    for place in places:
        under = truth.under(place.time_s, place.x_px, place.y_px)
        if under in open_ids:
            open_ids.discard(under)
            tally.found[task] += 1
        else:
            tally.wrong[task] += 1
    tally.missed[task] += len(open_ids)


def _is_one_of_several(question: Question, scene: Scene) -> bool:
    """Asked by colour and kind, and there are more of the kind in other colours."""
    target = scene.actors[question.object_ids[0] - 1]
    same_kind = [a for a in scene.actors if a.kind == target.kind]
    return question.group == "both" and len(same_kind) > 1


def held_out(clips: int, *, first_seed: int = 0) -> Iterable[tuple[Scene, list[Question]]]:
    """Scenes of 4 to 8 seconds (8 to 16 frames at 2 fps) and six questions about each."""
    if first_seed + clips > FIRST_TRAINING_SEED:
        raise ValueError(f"seeds from {FIRST_TRAINING_SEED} on are for training")
    for seed in range(first_seed, first_seed + clips):
        rng = np.random.default_rng([seed, 77])
        scene = make_scene(seed, duration_s=float(rng.integers(8, 17)) / 2)
        times = np.arange(0.0, scene.duration_s - 1e-6, 0.5)
        states = [scene.truth(float(t), scene.render(float(t))[1]) for t in times]
        visible = sorted({s.object_id for frame in states for s in frame if s.visible})
        questions = [
            question
            for task in ("track", "point", "count")
            for question in make_questions(scene, rng, visible, 2, tasks=(task,), states=states)
        ]
        yield scene, questions


def score(grounder: Grounder, *, clips: int, first_seed: int = 0) -> Tally:
    """Score a model on held-out clips; progress goes to the log."""
    tally = Tally()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        for number, (scene, questions) in enumerate(held_out(clips, first_seed=first_seed), start=1):
            path = Path(folder) / f"{scene.seed}.mp4"
            write_clip(scene, path, fps=FPS)
            score_clip(grounder, scene, questions, path, tally)
            path.unlink()
            if number % 20 == 0 or number == clips:
                left = (time.monotonic() - started) / number * (clips - number)
                logger.info("%d of %d clips, %.0f s left: %s", number, clips, left, tally.figures())
    return tally


def main(arguments: list[str] | None = None) -> int:
    """The command line: print the figures as a table, or as JSON."""
    parser = argparse.ArgumentParser(prog="python -m molmo2_ground.train.toy_score", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--model", default="tiny", help="tiny, a folder or a hub id (default: tiny)")
    parser.add_argument("--clips", type=int, default=150, help="how many held-out clips (default: 150)")
    parser.add_argument("--first-seed", type=int, default=0, help="seed of the first clip (default: 0)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    tally = score(load(options.model), clips=options.clips, first_seed=options.first_seed)
    figures = tally.figures()
    if options.json:
        print(json.dumps({"clips": options.clips, **figures}))
        return 0
    print(f"{options.clips} held-out clips from seed {options.first_seed}, answers written greedily")
    for name, value in figures.items():
        print(f"{name:12} {value:.3f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
