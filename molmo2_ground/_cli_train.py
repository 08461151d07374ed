"""`molmo2-ground train`: one's own data and the recipe's stages, and what goes before them."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molmo2_ground._amount import amount
from molmo2_ground._cli_output import Bar, say
from molmo2_ground._parser import number_from_1, whole_number

if TYPE_CHECKING:
    from molmo2_ground.train.row_data import RowData
    from molmo2_ground.train.stage_run import RunOptions, TrainedStage

STAGES = {
    "stage1": "stage 1 of the recipe: pictures, captions and points",
    "stage2": "stage 2: pictures and videos together",
    "stage3": "stage 3: long videos",
}
# As in `train.parts`, which takes seconds to import; a test holds them equal.
PARTS = ("vit", "connector", "llm")
DOORS = {
    "validate": "check a folder of rows and their media",
    "preview": "draw what the model will see of rows, and must answer",
    "convert-boxes": "make rows of a CSV of boxes",
    "convert": "make rows of a file of CVAT, Label Studio, COCO or MOT",
    "plan": "what the stages cost: hours, memory, disk",
}
_MOST_SAID = 5


def add_parser(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], *, common: argparse.ArgumentParser
) -> None:
    """Add `train` with its commands."""
    words = "train a model on your own data, or through the recipe's stages"
    parser = commands.add_parser("train", help=words, description=words.capitalize() + ".")
    stages = parser.add_subparsers(metavar="STAGE", required=True)
    own = stages.add_parser(
        "finetune",
        help="train on your own folders of rows",
        description="Train a checkpoint on folders of rows and write a new one. A stopped run goes on when "
        "the same command is given again.",
        parents=[common],
    )
    own.add_argument("folders", metavar="FOLDER", nargs="+", type=Path, help="rows beside their media")
    own.add_argument(
        "--rates", metavar="R,R", type=_numbers, default=(), help="how often each folder is drawn, in order"
    )
    own.add_argument("--lr", metavar="RATE", type=float, help="highest learning rate (default: 1e-5)")
    _add_run(own, steps="300", rows="8", tokens="16384, or what the model reads")
    own.set_defaults(call=finetune)
    for name, about in STAGES.items():
        stage = stages.add_parser(
            name,
            help=about,
            description=f"{about.capitalize()}. DATA_ROOT holds a folder of rows for each data set of the "
            "mixture, under its name; sets that are not there are left out.",
            parents=[common],
        )
        stage.add_argument("root", metavar="DATA_ROOT", type=Path)
        stage.add_argument(
            "--values", choices=("paper", "released"), default="paper", help="whose numbers (default: paper)"
        )
        _add_run(stage, steps="the recipe's", rows="128", tokens="the recipe's")
        stage.set_defaults(call=run_stage, stage=name)
    for name, about in DOORS.items():
        # No character begins an option here, so all words go on to the command as they are.
        door = stages.add_parser(name, help=about, add_help=False, prefix_chars="\0")
        door.add_argument("words", nargs="*")
        door.set_defaults(call=through_door, door=name, quiet=False, debug=False)


def _add_run(parser: argparse.ArgumentParser, *, steps: str, rows: str, tokens: str) -> None:
    parser.add_argument("--model", default="tiny", help="tiny, a folder or a hub id (default: tiny)")
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="the new checkpoint")
    parser.add_argument("--work", metavar="DIR", type=Path, help="snapshots and log (default: OUT-work)")
    parser.add_argument("--steps", metavar="N", type=int, help=f"updates (default: {steps})")
    parser.add_argument(
        "--rows-a-step",
        metavar="N",
        type=number_from_1,
        help=f"packed rows in an update (default: {rows})",
    )
    parser.add_argument(
        "--rows-at-once",
        metavar="N",
        type=number_from_1,
        default=1,
        help="of them in memory together (default: 1)",
    )
    parser.add_argument("--tokens", metavar="N", type=int, help=f"of a row at most (default: {tokens})")
    parser.add_argument(
        "--freeze", metavar="PARTS", type=_parts, default=(), help=f"some of {','.join(PARTS)}"
    )
    parser.add_argument("--device", default="auto", help="as torch names it (default: auto)")
    parser.add_argument(
        "--workers", metavar="N", type=int, default=0, help="processes that read media (default: 0, none)"
    )
    parser.add_argument("--seed", metavar="N", type=whole_number, help="of the examples and of dropout")
    parser.add_argument("--skip-bad", action="store_true", help="leave out rows that cannot be used")


def _numbers(text: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = (math.nan,)
    if not all(map(math.isfinite, numbers)):
        raise argparse.ArgumentTypeError(f"expected numbers such as 2,1; got {text!r}")
    return numbers


def _parts(text: str) -> tuple[str, ...]:
    parts = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    unknown = sorted(set(parts) - set(PARTS))
    if unknown or len(parts) == len(PARTS):
        raise argparse.ArgumentTypeError(
            f"expected one or two of {', '.join(PARTS)}, parted by commas; got {text!r}"
        )
    return parts


def finetune(arguments: argparse.Namespace, loader: object) -> int:
    """`train finetune FOLDER...`: 0 when the checkpoint was written, 1 for bad rows, 130 when stopped."""
    from molmo2_ground.model.checkpoint import open_checkpoint
    from molmo2_ground.model.molmo2 import chosen_device
    from molmo2_ground.train.finetune import FineTuning, fine_tune
    from molmo2_ground.train.row_data import open_folders

    chosen_device(arguments.device)  # says what is wrong with it, before rows are read for minutes
    source = open_checkpoint(arguments.model)
    given: dict[str, Any] = {
        "steps": arguments.steps,
        "rows": arguments.rows_a_step,
        "tokens": min(FineTuning().tokens, source.context_tokens)
        if arguments.tokens is None
        else arguments.tokens,
        "rate": arguments.lr,
        "frozen": arguments.freeze,
        "seed": arguments.seed,
    }
    settings = FineTuning(**{name: value for name, value in given.items() if value is not None})
    settings.stage(open_folders(arguments.folders, rates=arguments.rates))  # says what is wrong with numbers
    if not arguments.skip_bad and not _all_good(arguments.folders, source.flags.max_frames, arguments):
        return 1
    done = fine_tune(
        arguments.folders,
        model=arguments.model,
        out=arguments.out,
        work=arguments.work,
        rates=arguments.rates,
        settings=settings,
        options=_options(arguments),
    )
    return _told(done, arguments)


def _all_good(folders: Sequence[Path], max_frames: int, arguments: argparse.Namespace) -> bool:
    from molmo2_ground.train.row_media import RowSampling
    from molmo2_ground.train.row_report import check_folder

    good = True
    for folder in folders:
        bar = Bar(quiet=arguments.quiet)

        def tell(what: str, done: int, total: int, bar: Bar = bar) -> None:
            bar.tell("checking", done / max(1, total), what)

        try:
            report = check_folder(
                folder, sampling=RowSampling(max_frames=min(128, max_frames)), on_progress=tell
            )
        finally:
            bar.clear()
        good = good and report.good
        for problem in report.problems[:_MOST_SAID]:
            say(f"bad row in {folder}: {problem}")
        if report.good and not arguments.quiet:
            say(f"{folder}: {report.summary()}")
        elif not report.good:
            say(
                f"{report.problem_count} problems in {folder}; nothing was trained. `molmo2-ground train "
                f"validate {folder}` shows all; --skip-bad leaves such rows out"
            )
    return good


def run_stage(arguments: argparse.Namespace, loader: object) -> int:
    """`train stage1|stage2|stage3 DATA_ROOT`: 0 when the checkpoint was written, 130 when stopped."""
    from dataclasses import replace

    from molmo2_ground.model.checkpoint import open_checkpoint
    from molmo2_ground.train.row_data import open_root
    from molmo2_ground.train.stage_run import fitted, on_this_device, train_stage
    from molmo2_ground.train.stages import stage1_images, stage2_joint, stage3_long

    makers = {"stage1": stage1_images, "stage2": stage2_joint, "stage3": stage3_long}
    stage = makers[arguments.stage](values=arguments.values)
    if arguments.steps is not None:
        stage = stage.shortened(arguments.steps)
    data = open_root(arguments.root, stage.mixture)
    if not arguments.quiet:
        _say_data(stage.name, data)
    seed = {} if arguments.seed is None else {"seed": arguments.seed, "data_seed": arguments.seed}
    limits = stage.limits if arguments.tokens is None else replace(stage.limits, max_tokens=arguments.tokens)
    rows = stage.rows if arguments.rows_a_step is None else arguments.rows_a_step
    stage = replace(stage, mixture=data.mixture, limits=limits, rows=rows, frozen=arguments.freeze, **seed)
    stage = fitted(stage, open_checkpoint(arguments.model).flags, longer=True)
    done = train_stage(
        on_this_device(stage, arguments.device),
        data,
        model=arguments.model,
        out=arguments.out,
        work=arguments.work,
        options=_options(arguments),
    )
    return _told(done, arguments)


def _say_data(stage: str, data: RowData) -> None:
    here = ", ".join(f"{name} {size:,}" for name, size in data.sizes.items())
    missing = f"; not here, left out: {', '.join(data.missing)}" if data.missing else ""
    say(f"{stage}: rows of {here}{missing}")


def _options(arguments: argparse.Namespace) -> RunOptions:
    from molmo2_ground.train.stage_run import RunOptions

    if arguments.workers < 0:
        raise ValueError(f"--workers is 0 or more; got {arguments.workers}")
    return RunOptions(
        device=arguments.device,
        rows_at_once=arguments.rows_at_once,
        workers=arguments.workers,
        skip_bad=arguments.skip_bad,
        bar=False if arguments.quiet else None,
    )


def _told(done: TrainedStage, arguments: argparse.Namespace) -> int:
    for name, count in done.skipped.items():
        say(f"{name}: {amount(count, 'row')} left out")
    if done.checkpoint is None:
        say(f"stopped after step {done.step}; the same command goes on from {done.work}")
        return 130
    print(done.checkpoint)
    if not arguments.quiet:
        say(f"the curves are in {done.curves}")
    return 0


def through_door(arguments: argparse.Namespace, loader: object) -> int:
    """`train validate`, `preview`, `convert…`, `plan`: the command of that name in `train`."""
    if arguments.door == "validate":
        from molmo2_ground.train.validate import main
    elif arguments.door == "preview":
        from molmo2_ground.train.preview import main
    elif arguments.door == "convert-boxes":
        from molmo2_ground.train.convert_boxes import main
    elif arguments.door == "convert":
        from molmo2_ground.train.convert_marks import main
    else:
        from molmo2_ground.train.plan import main
    command: Callable[..., int] = main
    try:
        return command(arguments.words, prog=f"molmo2-ground train {arguments.door}")
    except SystemExit as stop:  # its own help, or wrong usage
        return stop.code if isinstance(stop.code, int) else 2
