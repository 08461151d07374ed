"""`molmo2-ground eval`: a suite put to a model, and two such runs compared."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from molmo2_ground._amount import amount
from molmo2_ground._cli_output import Bar, check_folder, named_path, say
from molmo2_ground.errors import SourceError

if TYPE_CHECKING:
    from molmo2_ground.eval.candidate import Candidate
    from molmo2_ground.eval.example import Problem, Settings, Suite
    from molmo2_ground.eval.record import Run
    from molmo2_ground.grounder import Grounder
    from molmo2_ground.train.toy_suite import ToySuite

Loader = Callable[..., "Grounder"]

TOY, TOY_TASKS = "toy", "toy-tasks"
ROWS = "row-tracks"
# As in `eval.suites.SUITES`, which takes seconds to import; a test holds them equal.
DATASETS = {
    "burst-count": "BURST: how many objects a video shows",
    "mevis": "MeViS: objects described by their motion",
    "pixmo-count": "PixMo count: how many objects a picture shows",
    "pixmo-points": "PixMo points: objects in a picture",
    "point-bench": "PointBench: the place that an instruction means",
    "reason-vos": "ReasonVOS: objects that take a thought to find",
    "ref-davis": "Ref-DAVIS: one object described in words",
    "ref-yt-vos": "Ref-YouTube-VOS: one object described in words",
    "video-count": "Molmo2-VideoCountEval: how many objects or events a video shows",
    "video-point": "Molmo2-VideoPointEval: objects and events in a video",
    "video-track": "Molmo2-VideoTrackEval: objects over time",
}
# The toy street's suites: what each asks, and about how many clips unless --clips says otherwise.
_TOYS = {
    TOY: ("the toy street, which needs no data", 500),
    TOY_TASKS: ("every task of the toy street, in clips of 8 and 32 frames", 200),
}
_MOST_SAID = 20


def add_parser(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    *,
    runner: argparse.ArgumentParser,
    common: argparse.ArgumentParser,
) -> None:
    """Add `eval` with a command for each suite and one that compares."""
    words = "put a suite of questions to a model and score the answers"
    parser = commands.add_parser("eval", help=words, description=words.capitalize() + ".")
    suites = parser.add_subparsers(metavar="SUITE", required=True)
    for name, (about, clips) in _TOYS.items():
        toy = suites.add_parser(name, help=about, parents=[runner])
        toy.add_argument("--clips", metavar="N", type=int, default=clips, help=f"clips (default: {clips})")
        if name == TOY:
            toy.add_argument(
                "--masks",
                metavar="SEGMENTER",
                nargs="?",
                const="region",
                help="also make masks of what was tracked and score them: region (the default, no weights), "
                "or SAM 2 by name, hub id or folder",
            )
        _add_suite(toy, name)
    for name, about in {**DATASETS, ROWS: "tracks in a folder of training rows"}.items():
        dataset = suites.add_parser(name, help=about, parents=[runner])
        dataset.add_argument("--data", metavar="FOLDER", type=Path, required=True, help="where the data is")
        _add_suite(dataset, name)
    compare = suites.add_parser("compare", help="two runs of one suite side by side", parents=[common])
    compare.add_argument("first", metavar="A", type=Path, help="the folder of a run")
    compare.add_argument("second", metavar="B", type=Path, help="the folder of another")
    compare.add_argument("--report", metavar="FILE", type=named_path, help="write the comparison as a page")
    compare.add_argument(
        "--data", metavar="FOLDER", type=Path, help="the suite's data, for pictures and pooled scores"
    )
    compare.set_defaults(call=compare_runs)


def _add_suite(parser: argparse.ArgumentParser, name: str) -> None:
    parser.add_argument(
        "--report",
        metavar="DIR",
        type=named_path,
        default=Path(f"molmo2-ground-eval-{name}"),
        help="where answers, scores and reports go; the same folder again goes on with what it holds "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--workers", metavar="N", type=int, default=1, help="processes, each with its own model (default: 1)"
    )
    parser.add_argument(
        "--threads", metavar="N", type=int, default=1, help="CPU threads a process (default: 1)"
    )
    parser.add_argument("--limit", metavar="N", type=int, help="only the first N examples")
    parser.add_argument("--skip-bad", action="store_true", help="leave bad rows of the data out and go on")
    parser.set_defaults(call=run_suite, suite=name)


def run_suite(arguments: argparse.Namespace, loader: Loader | None) -> int:
    """`eval SUITE`: 0 when every example was asked, else 1."""
    from molmo2_ground.eval.report import write_reports
    from molmo2_ground.eval.runner import evaluate

    _check_folder(arguments.report)
    bar = Bar(quiet=arguments.quiet)
    bar.tell("checking", 0.0, "every row of the data")
    try:
        suite = _suite(arguments.suite, arguments)
        _check_suite(arguments.report, suite)
        problems = suite.check(on_progress=functools.partial(_tell, bar, "checking"))
    finally:
        bar.clear()
    _say_problems(problems)
    if problems and not arguments.skip_bad:
        say("nothing was asked; mend the data, or leave these rows out with --skip-bad")
        return 1
    if not suite.examples():
        raise SourceError(f"{getattr(arguments, 'data', arguments.suite)} holds no example that can be used")
    try:
        run = evaluate(
            suite,
            _candidate(arguments, loader),
            arguments.report,
            workers=arguments.workers,
            threads=arguments.threads,
            limit=arguments.limit,
            left_out=problems,
            on_progress=functools.partial(_tell, bar, "asking"),
        )
        bar.clear()
        bar.tell("drawing", 0.0)
        pages = write_reports(run, suite)
    except (KeyboardInterrupt, SystemExit):
        bar.clear()
        say(f"what was answered is kept in {arguments.report}; the same command goes on from there")
        raise
    finally:
        bar.clear()
    _print_figures(run)
    if not arguments.quiet:
        for page in pages:
            say(f"wrote {page}")
    failed = sum(row.status == "failed" for row in run.rows)
    if failed:
        say(f"{failed} of {amount(len(run.rows), 'example')} could not be asked; the report says why")
    return 1 if failed else 0


def _check_folder(folder: Path) -> None:
    """Before anything is read, which may take an hour: raises `SourceError` when answers cannot go there."""
    from molmo2_ground.eval.record import holds_run

    check_folder("--report", folder)
    if folder.is_dir() and any(folder.iterdir()) and not holds_run(folder):
        raise SourceError(
            f"--report {folder} holds other things than a run; expected a folder that is new, empty or of an "
            "earlier run"
        )


def _check_suite(folder: Path, suite: Suite) -> None:
    """Raises `SourceError` when the folder holds another suite's run: its scores would be written over."""
    from molmo2_ground.eval.record import CARD, read_run

    if not (folder / CARD).exists():
        return
    there = read_run(folder).card.suite
    if there != suite.name:
        raise SourceError(
            f"--report {folder} holds a run of the suite {there}; choose another folder for {suite.name}"
        )


def _toy(name: str) -> type[ToySuite]:
    """The toy street's suite of this name."""
    if name == TOY_TASKS:
        # Asks some questions as training words them, and loads what training does: seconds.
        from molmo2_ground.train.toy_tasks import ToyTasks

        return ToyTasks
    from molmo2_ground.train.toy_suite import ToySuite

    return ToySuite


def _suite(name: str, arguments: argparse.Namespace) -> Suite:
    if name == TOY and getattr(arguments, "masks", None) is not None:
        from molmo2_ground.train.toy_masks import ToyMasks

        return ToyMasks(arguments.clips, segmenter=arguments.masks, device=arguments.device)
    if name in _TOYS:
        return _toy(name)(arguments.clips)
    if name == ROWS:
        from molmo2_ground.train.row_suite import RowTracks

        return RowTracks(arguments.data)
    from molmo2_ground.eval.suites import open_suite

    return open_suite(name, arguments.data)


def _say_problems(problems: tuple[Problem, ...]) -> None:
    for problem in problems[:_MOST_SAID]:
        say(f"bad row {problem.row}: {' '.join(problem.reason.split())}")
    if len(problems) > _MOST_SAID:
        say(f"… and {amount(len(problems) - _MOST_SAID, 'more bad row')}")


def _candidate(arguments: argparse.Namespace, loader: Loader | None) -> Candidate:
    from molmo2_ground.eval.candidate import Candidate, checkpoint_candidate
    from molmo2_ground.grounder import default_model

    model = arguments.model or default_model()
    if loader is None:
        return checkpoint_candidate(
            model, device=arguments.device, dtype=arguments.dtype, vision=arguments.vision
        )
    load = functools.partial(
        _load, loader, model, device=arguments.device, dtype=arguments.dtype, vision=arguments.vision
    )
    identity = f"{model}; {arguments.device}; {arguments.dtype}; {arguments.vision}"
    return Candidate(name=model, identity=identity, load=load)


def _load(
    loader: Loader, model: str, settings: Settings, *, device: str, dtype: str, vision: str
) -> Grounder:
    return loader(model, device=device, dtype=dtype, vision=vision)


def _tell(bar: Bar, what: str, done: int, total: int, left_s: float | None) -> None:
    note = f"{done} of {total}" + (f", {_duration(left_s)} left" if left_s is not None else "")
    bar.tell(what, done / total, note)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _print_figures(run: Run) -> None:
    from molmo2_ground.eval.report import interval_words
    from molmo2_ground.eval.words import examples, percent, score_words

    for figure in run.figures:
        title = score_words(figure.name).title
        range_ = interval_words(figure)
        print(f"{title:40} {percent(figure.value):>8}   {range_:>18}   {examples(figure.examples)}")


def compare_runs(arguments: argparse.Namespace, loader: Loader | None) -> int:
    """`eval compare A B`."""
    from molmo2_ground.eval.compare import compare, lines, write_comparison
    from molmo2_ground.eval.record import read_run

    first, second = read_run(arguments.first), read_run(arguments.second)
    with_suite = arguments.report is not None or arguments.data is not None
    suite = _suite_of(first, arguments) if with_suite else None
    comparison = compare(first, second, suite=suite)
    for line in lines(comparison):
        print(line)
    if arguments.report is not None:
        write_comparison(comparison, arguments.report, suite=suite)
        if not arguments.quiet:
            say(f"wrote {arguments.report}")
    return 0


def _suite_of(run: Run, arguments: argparse.Namespace) -> Suite | None:
    """The suite that a run was made with, to draw its examples; None when its data is not at hand.

    Raises `SourceError` when --data names something else than the run's data.
    """
    name = run.card.suite
    if name in _TOYS:
        if arguments.data is not None:
            raise ValueError(f"--data is for suites that have data; {name} makes its clips itself")
        arguments.clips = -(-run.card.examples // _toy(name).per_clip)
        return _suite(name, arguments)
    if name not in (*DATASETS, ROWS):
        if not arguments.quiet:
            say(f"the page has no pictures: {name} is no suite of this command")
        return None
    if arguments.data is None:
        if not arguments.quiet:
            say("the page has no pictures; name the suite's data with --data to have them")
        return None
    from molmo2_ground.eval.suites.dataset import DatasetSuite

    # Read once for the check and once for the page: a suite keeps what it has read.
    first = _suite(name, arguments)
    assert isinstance(first, DatasetSuite)
    if not first.is_of({row.key for row in run.rows}):
        raise SourceError(
            f"--data {arguments.data} is not what {run.folder} was asked about: its first usable row is none "
            f"of the {amount(len(run.rows), 'example')} there; expected the data of {name} as it was then"
        )
    return _suite(name, arguments)
