"""What parts of the recipe are worth: the tiny model trained with and without each, in one table.

`python -m molmo2_ground.train.ablations --work runs/ablations --minutes 20` trains the vision stage once, and
every arm from there by the same stages on the same scenes for the same time or steps. It asks each the same
held-out questions and writes `ablations.md` and `ablations.json`. A run that was stopped goes on where it
was; what is finished is not done again.

With `--start tiny` every arm begins with the weights of a finished toy-street model instead and trains the
last stage alone. That fits two CPU cores and asks something else: what the model loses when a part is taken
away and it is trained on without, not what it would have become. A part that needs much to be learnt anew
looks worth more that way.

The Molmo2 paper's own, at its size: video captions of F1 39.5 with pictures that see each other both ways,
38.5 without; 37.4 without times; counts right in 34.5 % after points, in 28.1 % by the number alone.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from molmo2_ground._atomic import atomic_path
from molmo2_ground._parser import Parser, number_from_1
from molmo2_ground.errors import GroundError
from molmo2_ground.eval.candidate import checkpoint_candidate
from molmo2_ground.eval.compare import Difference, compare
from molmo2_ground.eval.runner import evaluate
from molmo2_ground.train.tiny import STOPPED, Stage, add_run_options, begin, train
from molmo2_ground.train.tiny_start import begun_with, leave_weights
from molmo2_ground.train.tiny_text import Text
from molmo2_ground.train.toy_suite import ToySuite

if TYPE_CHECKING:
    from molmo2_ground.eval.record import Figure
    from molmo2_ground.eval.record import Run as EvaluationRun
    from molmo2_ground.model.checkpoint import Checkpoint
    from molmo2_ground.train.tiny_trainer import Run

logger = logging.getLogger(__name__)

SHOWN = ("track_f1", "identity", "point_f1", "count", "count_close", "count_f1", "none", "colour")
"""Scores of `ToySuite` in the table; the rest is in each arm's own report."""
_SHARED = "shared"
_STUDY_FILE = "study.json"


def _same_text(text: Text) -> Text:
    return text


def _same_stage(stage: Stage) -> Stage:
    return stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One way to train.

    name    of its folder.   title  of its row in the table.
    asks    the scores that the part is about.
    text, stage  change what the recipe has; the vision stage is the same for all.
    """

    name: str
    title: str
    asks: tuple[str, ...] = ()
    text: Callable[[Text], Text] = _same_text
    stage: Callable[[Stage], Stage] = _same_stage


def _one_way(text: Text) -> Text:
    return replace(text, flags=replace(text.flags, mutual_sight=False))


def _no_times(text: Text) -> Text:
    return replace(text, flags=replace(text.flags, frame_times=False))


def _even(text: Text) -> Text:
    writer = replace(text.writer, rule="even", place_boost=1.0, digit_weights=(1.0, 1.0, 1.0))
    return replace(text, writer=writer)


def _number_alone(stage: Stage) -> Stage:
    return stage if stage.data is None else replace(stage, data=replace(stage.data, counting="number"))


RECIPE = Arm(name="recipe", title="the recipe")
ARMS = (
    RECIPE,
    Arm(
        name="one-way",
        title="pictures see only what came before",
        asks=("track_f1", "point_f1"),
        text=_one_way,
    ),
    Arm(name="no-times", title="no time before a frame", asks=("track_f1", "point_f1"), text=_no_times),
    Arm(name="even-weights", title="every token weighs the same", asks=("count", "none"), text=_even),
    Arm(name="number-alone", title="count by the number alone", asks=("count",), stage=_number_alone),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """What all arms share.

    work      a folder an arm, and one for the vision stage.   stages  the recipe's, scaled as wished.
    start     a finished model, whose weights stand in the place of the first stage's; None trains that.
    minutes   about so many for the training of each arm behind the vision stage, and as many for that one
              as its share of a whole run; None: the steps that the stages say, exactly.
    suite     the questions; `asking` processes ask them.
    """

    work: Path
    run: Run
    stages: Sequence[Stage]
    suite: ToySuite
    start: Checkpoint | None = None
    minutes: float | None = None
    asking: int = 1


def train_arm(study: Study, arm: Arm) -> Path | None:
    """The arm's checkpoint, trained unless it is there; None when a signal asked for a stop."""
    folder = study.work / arm.name
    checkpoint = folder / "checkpoint"
    if (checkpoint / "config.json").exists():
        logger.info("%s: taken from %s", arm.name, checkpoint)
        return checkpoint
    vision, *later = study.stages
    start = f"{vision.name}.safetensors"
    if not (folder / start).exists():
        if not (study.work / _SHARED / start).exists() and not _first_stage(study, study.work / _SHARED):
            return None
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(folder / start) as unfinished:
            shutil.copyfile(study.work / _SHARED / start, unfinished)
    return train(
        checkpoint,
        replace(study.run, work=folder),
        stages=[vision, *map(arm.stage, later)],
        minutes=study.minutes,
        text=arm.text(Text.build()),
    )


def _first_stage(study: Study, folder: Path) -> bool:
    """Leave what all arms begin with in `folder`; False when a signal asked for a stop."""
    vision = study.stages[0]
    if study.start is None:
        minutes = None if study.minutes is None else study.minutes * vision.share / (1 - vision.share)
        run = replace(study.run, work=folder)
        return train(folder / "checkpoint", run, stages=[vision], minutes=minutes) is not None
    leave_weights(study.start, folder / f"{vision.name}.safetensors")
    return True


def ask_arm(study: Study, arm: Arm, checkpoint: Path) -> EvaluationRun:
    """The arm's answers to the held-out questions, scored; a stopped one goes on where it was."""
    logger.info("%s: asked about %d clips", arm.name, study.suite.clips)
    candidate = checkpoint_candidate(checkpoint, device="cpu")
    return evaluate(study.suite, candidate, study.work / arm.name / "answers", workers=study.asking)


def told(runs: Mapping[str, EvaluationRun], arms: Sequence[Arm], *, how: str) -> str:
    """The table in Markdown: every arm's figures, and the first arm's differences to each with intervals."""
    by_name = {arm.name: arm for arm in arms}
    base = next(iter(runs))
    lines = [
        "# What parts of the recipe are worth",
        "",
        f"{how} Shares in per cent; in brackets the 95 % interval, drawn over files.",
        "",
        f"| trained with | {' | '.join(f'`{name}`' for name in SHOWN)} |",
        f"|---|{'---:|' * len(SHOWN)}",
    ]
    for name, run in runs.items():
        found = {figure.name: figure for figure in run.figures}
        lines.append(f"| {by_name[name].title} | {' | '.join(_cell(found.get(s)) for s in SHOWN)} |")
    lines += [
        "",
        f"Each less {by_name[base].title}, question by question:",
        "",
        "| trained with | score | change | 95 % interval | |",
        "|---|---|---:|---:|---|",
    ]
    for name, run in runs.items():
        if name == base:
            continue
        differences = {one.name: one for one in compare(runs[base], run).differences}
        for score in by_name[name].asks:
            if score in differences:
                lines.append(_change(by_name[name].title, differences[score]))
    return "\n".join(lines) + "\n"


def _cell(figure: Figure | None) -> str:
    if figure is None:
        return "not asked"
    return f"{100 * figure.value:.1f} ({100 * figure.low:.0f} to {100 * figure.high:.0f})"


def _change(title: str, found: Difference) -> str:
    interval = found.interval
    return (
        f"| {title} | `{found.name}` | {100 * interval.difference:+.1f} | "
        f"{100 * interval.low:+.1f} to {100 * interval.high:+.1f} | {found.verdict} |"
    )


def study_arms(study: Study, arms: Sequence[Arm], *, how: str) -> str | None:
    """Train and ask every arm and write the table after each; None when a signal asked for a stop."""
    runs: dict[str, EvaluationRun] = {}
    table = ""
    for arm in arms:
        checkpoint = train_arm(study, arm)
        if checkpoint is None:
            return None
        runs[arm.name] = ask_arm(study, arm, checkpoint)
        table = told(runs, arms, how=how)
        _write(study.work, table, runs, how=how)
    return table


def _write(folder: Path, table: str, runs: Mapping[str, EvaluationRun], *, how: str) -> None:
    figures = {
        name: {figure.name: [figure.value, figure.low, figure.high] for figure in run.figures}
        for name, run in runs.items()
    }
    with atomic_path(folder / "ablations.md") as unfinished:
        unfinished.write_text(table, encoding="utf-8")
    with atomic_path(folder / "ablations.json") as unfinished:
        unfinished.write_text(json.dumps({"how": how, "figures": figures}, indent=1) + "\n", encoding="utf-8")


def main(
    arguments: Sequence[str] | None = None,
    *,
    stages: Sequence[Stage] | None = None,
    suite: ToySuite | None = None,
) -> int:
    """The command line; `stages`: exactly these in place of the recipe's, `suite` of its own."""
    parser = _parser()
    options = parser.parse_args(arguments)
    arms = _arms(parser, options.arms)
    try:
        suite = ToySuite(options.clips) if suite is None else suite
    except ValueError as error:
        parser.error(f"--clips: {error}")
    try:
        start = None if options.start is None else begun_with(options.start)
    except (GroundError, ValueError) as error:
        parser.error(f"--start: {error}")
    run, stages = begin(parser, options, stages=stages)
    run = replace(run, curves=False)
    if start is not None:
        stages = [stages[0], stages[-1]]
    study = Study(
        work=options.work,
        run=run,
        stages=stages,
        minutes=options.minutes,
        suite=suite,
        start=start,
        asking=options.asking,
    )
    trained = _trained_how(study, options)
    if problem := _of_another_study(study.work, trained):
        parser.error(f"--work {problem}")
    how = f"{trained}; {study.suite.clips} held-out clips of the toy street."
    table = study_arms(study, arms, how=how)
    if table is None:
        print(f"stopped; the same command goes on from {options.work}", file=sys.stderr)
        return STOPPED
    print(table, end="")
    return 0


def _trained_how(study: Study, options: argparse.Namespace) -> str:
    length = (
        f"{study.minutes:g} minutes of training an arm"
        if study.minutes is not None
        else f"{sum(stage.steps for stage in study.stages[1:])} steps an arm"
    )
    begun = "" if study.start is None else f" onward from `{options.start}`"
    return f"{length}{begun} ({study.run.device.type}), seed {study.run.seed}"


def _of_another_study(work: Path, trained: str) -> str:
    """Why a folder's arms do not belong to this study, "" when they do; a new folder is marked as this one's.

    Finished arms are taken as they are, so the table would say of them how they were not trained.
    """
    file = work / _STUDY_FILE
    if not file.exists():
        work.mkdir(parents=True, exist_ok=True)
        with atomic_path(file) as unfinished:
            unfinished.write_text(json.dumps({"trained": trained}) + "\n", encoding="utf-8")
        return ""
    try:
        before = json.loads(file.read_text(encoding="utf-8"))["trained"]
    except (ValueError, KeyError, TypeError):
        return f"{work}: {_STUDY_FILE} cannot be read; name another folder"
    if before == trained:
        return ""
    return f"{work} holds arms of another study ({before}), this one is {trained}; name another folder"


def _arms(parser: argparse.ArgumentParser, wanted: str | None) -> list[Arm]:
    names = {arm.name: arm for arm in ARMS}
    chosen = list(names) if wanted is None else [name.strip() for name in wanted.split(",")]
    unknown = [name for name in chosen if name not in names]
    if unknown:
        parser.error(f"--arms knows {', '.join(names)}; got {', '.join(unknown)}")
    return [RECIPE, *(names[name] for name in dict.fromkeys(chosen) if name != RECIPE.name)]


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m molmo2_ground.train.ablations", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--work", type=Path, default=Path("runs/ablations"), help="everything goes in here")
    parser.add_argument(
        "--arms",
        help=f"some of {', '.join(arm.name for arm in ARMS[1:])}, with commas (default: all); the recipe as "
        "it is always comes first",
    )
    parser.add_argument(
        "--start", help="a finished toy-street model (tiny, or a folder): every arm goes on from it"
    )
    parser.add_argument("--minutes", type=float, help="of training an arm; hurried, and not exact")
    parser.add_argument("--clips", type=int, default=100, help="held-out clips, two questions about each")
    parser.add_argument("--asking", type=number_from_1, default=1, help="processes that ask")
    add_run_options(parser)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
