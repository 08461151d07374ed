"""Quality over time: checkpoints of one training, each asked about held-out toy clips, in one picture.

`python -m molmo2_ground.train.quality_plot out/a out/b --at 105,210 --out quality.png` asks the questions of
`ToySuite` and `ToyTasks` about a few clips and draws the card's main figures over time. The scores are kept
beside the picture as JSON: the same command goes on with what they hold, and a checkpoint whose files have
changed, or another number of clips, is asked again. The few clips are the same for all checkpoints, so the
curves can be compared with each other; how far they are from the figures of many clips, they do not say.

Beside checkpoints in the layout of the hub it takes the weights that a run of `train.tiny` leaves in its work
folder, such as `every-002.safetensors`.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

from molmo2_ground._atomic import atomic_path
from molmo2_ground._optional import require
from molmo2_ground._parser import Parser
from molmo2_ground.errors import GroundError, SourceError
from molmo2_ground.eval.candidate import Candidate, checkpoint_candidate
from molmo2_ground.train.toy_score import SuiteName, figures, score

SHOWN: Mapping[SuiteName, Mapping[str, str]] = {
    "toy": {
        "track_f1": "track F1",
        "point_f1": "point F1",
        "count_exact": "count exact",
        "none": "says none",
    },
    "toy-tasks": {
        "track_f1_8": "track F1, 8 frames",
        "track_f1_32": "track F1, 32 frames",
        "first_last_f1": "first and last seen F1",
        "follow_f1": "from a point F1",
        "motion_f1": "by motion F1",
        "position_f1": "by position F1",
    },
}
"""The figures that are drawn, a panel a suite, and what they are called there."""

_SCHEMA = "molmo2-ground/quality/1"
_CLIPS = 4
_WEIGHTS = ".safetensors"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """How good one checkpoint is.

    identity  changes when its files do.   suite, clips  what was asked.
    figures   the card's figures by name, shares from 0 to 1; None where no question had one.
    """

    identity: str
    suite: SuiteName
    clips: int
    figures: Mapping[str, float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One figure over time: its suite, its name there, and (when, value) in order of time."""

    suite: SuiteName
    name: str
    points: tuple[tuple[float, float], ...]


def measure(
    candidates: Sequence[Candidate], *, suites: Sequence[SuiteName], clips: int, kept: Path, workers: int = 1
) -> tuple[Moment, ...]:
    """The moments of all candidates and suites, in order; those that `kept` holds are not asked again.

    kept: a JSON file, written after every moment.
    Raises `SourceError` when it is something else, and what loading a checkpoint raises.
    """
    known = {(one.identity, one.suite, one.clips): one for one in read_moments(kept)}
    wanted = [(candidate, suite) for candidate in candidates for suite in suites]
    for candidate, suite in wanted:
        key = (candidate.identity, suite, clips)
        if key in known:
            continue
        logger.info("%s: %s", candidate.name, suite)
        run = score(candidate, clips=clips, workers=workers, suite=suite)
        known[key] = Moment(identity=candidate.identity, suite=suite, clips=clips, figures=figures(run))
        _write_moments(kept, known.values())
    return tuple(known[candidate.identity, suite, clips] for candidate, suite in wanted)


def read_moments(path: Path) -> tuple[Moment, ...]:
    """What `measure` kept; none when there is no file. Raises `SourceError` for another kind of file."""
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        if fields["schema"] != _SCHEMA:
            raise ValueError(f"expected schema {_SCHEMA}; got {fields['schema']!r}")
        return tuple(Moment(**one) for one in fields["moments"])
    except FileNotFoundError:
        return ()
    except (ValueError, TypeError, KeyError) as error:
        raise SourceError(
            f"{path} holds no kept scores ({error}); delete it, or choose another --out"
        ) from error


def _write_moments(path: Path, moments: Any) -> None:
    with atomic_path(path) as unfinished:
        fields = {"schema": _SCHEMA, "moments": [asdict(one) for one in moments]}
        unfinished.write_text(json.dumps(fields, indent=1) + "\n", encoding="utf-8")


def curves_of(times: Sequence[float], moments: Sequence[Moment]) -> tuple[Curve, ...]:
    """The figures of `SHOWN` over time; one that has no value anywhere is left out.

    times: when each moment was, in the order of the moments.
    """
    curves = []
    for suite, names in SHOWN.items():
        mine = sorted(
            ((t, m.figures) for t, m in zip(times, moments, strict=True) if m.suite == suite),
            key=lambda pair: pair[0],
        )
        for name in names:
            points = tuple((t, value) for t, found in mine if (value := found.get(name)) is not None)
            if points:
                curves.append(Curve(suite=suite, name=name, points=points))
    return tuple(curves)


def draw_quality(curves: Sequence[Curve], target: Path, *, unit: str, title: str) -> Path:
    """Write the curves as a PNG, a panel a suite, shares from 0 to 1 over time in `unit`.

    Raises `ValueError` when there is none to draw, `MissingExtraError` without matplotlib.
    """
    suites = [suite for suite in SHOWN if any(curve.suite == suite for curve in curves)]
    if not suites:
        raise ValueError("there is no figure to draw; ask about more clips")
    require("matplotlib", extra="train")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # Not pyplot: it keeps state of the whole process.
    figure = Figure(figsize=(9, 0.6 + 3.6 * len(suites)), layout="constrained")
    canvas: Any = FigureCanvasAgg(figure)  # without types for what it draws
    figure.suptitle(title)
    panels = figure.subplots(len(suites), 1, sharex=True, squeeze=False)[:, 0]
    for axes, suite in zip(panels, suites, strict=True):
        for curve in curves:
            if curve.suite == suite:
                axes.plot(*zip(*curve.points, strict=True), marker="o", label=SHOWN[suite][curve.name])
        axes.set_title(suite, loc="left")
        axes.set_ylabel("share")
        axes.set_ylim(-0.03, 1.03)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    panels[-1].set_xlabel(unit)
    with atomic_path(target) as unfinished:
        canvas.print_png(str(unfinished))
    return target


def weights_checkpoint(weights: Path, folder: Path) -> Path:
    """Write the weights that a run of `train.tiny` kept as a checkpoint in the layout of the hub.

    Raises `SourceError` when the file holds no weights of the tiny model.
    """
    import torch  # seconds to load
    from safetensors import SafetensorError
    from safetensors.torch import load_model

    from molmo2_ground.train.tiny_checkpoint import write_checkpoint
    from molmo2_ground.train.tiny_model import new_model
    from molmo2_ground.train.tiny_text import Text

    text = Text.build()
    model = new_model(text.tokenizer, seed=0, device=torch.device("cpu"))
    try:
        load_model(model, weights)
    except (SafetensorError, RuntimeError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise SourceError(f"{weights} holds no weights of the tiny model: {reason}") from error
    return write_checkpoint(model, text.tokenizer, folder)


def _open(name: str, scratch: Path) -> Candidate:
    """A checkpoint, or weights alone, for which one is written into `scratch`."""
    if not name.endswith(_WEIGHTS):
        return checkpoint_candidate(name)
    # Kept scores are filed under the folder's name and its files: named after the weights it is found again.
    folder = Path(tempfile.mkdtemp(dir=scratch)) / Path(name).stem
    return checkpoint_candidate(weights_checkpoint(Path(name), folder))


def main(
    arguments: Sequence[str] | None = None, *, open_candidate: Callable[[str, Path], Candidate] = _open
) -> int:
    """The command line; returns 0, or 2 when something is wrong with what it was given.

    open_candidate: makes a model of each checkpoint's name, with a folder for what it writes.
    """
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    suites: tuple[SuiteName, ...] = get_args(SuiteName) if options.suite == "both" else (options.suite,)
    try:
        times = _times(options.at, len(options.checkpoints))
        with tempfile.TemporaryDirectory() as scratch:
            moments = measure(
                [open_candidate(name, Path(scratch)) for name in options.checkpoints],
                suites=suites,
                clips=options.clips,
                kept=options.out.with_suffix(".json"),
                workers=options.workers,
            )
        curves = curves_of([t for t in times for _ in suites], moments)
        title = f"{options.clips} held-out clips a suite, answers written greedily"
        unit = options.unit if options.at else "checkpoint"
        print(draw_quality(curves, options.out, unit=unit, title=title))
    except (GroundError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for curve in curves:
        values = "  ".join(f"{value:.3f}" for _, value in curve.points)
        print(f"{curve.suite:10} {curve.name:14} {values}")
    return 0


def _times(at: str, count: int) -> list[float]:
    """Times of so many checkpoints, one each; their numbers when none were given."""
    if not at:
        return [float(number) for number in range(1, count + 1)]
    try:
        times = [float(one) for one in at.split(",")]
    except ValueError as error:
        raise ValueError(f"--at is numbers with commas between them, such as 105,210; got {at!r}") from error
    if len(times) != count:
        raise ValueError(f"--at gives one time for each checkpoint, {count}; got {len(times)}")
    return times


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m molmo2_ground.train.quality_plot", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "checkpoints",
        nargs="+",
        metavar="CHECKPOINT",
        help="tiny, a folder in hub layout, a hub id, or weights of a run of train.tiny",
    )
    parser.add_argument("--at", default="", metavar="T,T,…", help="when each was, such as seconds or steps")
    parser.add_argument(
        "--unit", default="seconds of training", help="what --at counts (default: %(default)s)"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("quality.png"), help="the picture (default: %(default)s)"
    )
    parser.add_argument(
        "--clips", type=int, default=_CLIPS, help="clips of each suite (default: %(default)s)"
    )
    parser.add_argument(
        "--suite", choices=(*get_args(SuiteName), "both"), default="both", help="what to ask (default: both)"
    )
    parser.add_argument("--workers", type=int, default=1, help="processes, each with its own model")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
