"""`draw_curves`: the log of a run as one picture: loss, learning rates, and quality where it was measured.

`python -m molmo2_ground.train.curves runs/mine` draws that of a run that goes on elsewhere.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from molmo2_ground._atomic import atomic_path
from molmo2_ground._optional import require
from molmo2_ground._parser import Parser
from molmo2_ground.train.logbook import LOG_FILE, read_lines

CURVES_FILE = "curves.png"
_SMOOTHING = 0.02  # share of all steps over which the thick line of the loss averages


def draw_curves(work: Path) -> Path | None:
    """Write `curves.png` into the work folder; None when the log has no step yet.

    Raises `MissingExtraError` without matplotlib.
    """
    lines = read_lines(work / LOG_FILE)
    steps = [line for line in lines if "loss" in line]
    if not steps:
        return None
    scores = [line for line in lines if "scores" in line]
    require("matplotlib", extra="train")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = 3 if scores else 2
    # Not pyplot: it keeps state of the whole process.
    figure = Figure(figsize=(9, 2.8 * rows), layout="constrained")
    canvas: Any = FigureCanvasAgg(figure)  # without types for what it draws
    axes = figure.subplots(rows, 1, sharex=True, squeeze=False)[:, 0]
    _draw_loss(axes[0], steps)
    _draw_rates(axes[1], steps)
    if scores:
        _draw_scores(axes[2], scores)
    axes[-1].set_xlabel("step")
    for one in axes:
        one.grid(alpha=0.3)
        one.spines[["top", "right"]].set_visible(False)
    target = work / CURVES_FILE
    with atomic_path(target) as unfinished:
        canvas.print_png(str(unfinished))
    return target


def smoothed(values: list[float], *, over: int) -> list[float]:
    """The mean of each value and up to `over - 1` before it."""
    means, total = [], 0.0
    for place, value in enumerate(values):
        total += value - (values[place - over] if place >= over else 0.0)
        means.append(total / min(over, place + 1))
    return means


def _draw_loss(axes: Any, steps: list[dict[str, Any]]) -> None:
    x, losses = [line["step"] for line in steps], [line["loss"] for line in steps]
    over = max(1, math.ceil(_SMOOTHING * len(losses)))
    axes.plot(x, losses, color="#9db8d9", linewidth=0.7, label="each step")
    axes.plot(x, smoothed(losses, over=over), color="#1f4e8c", label=f"mean of {over}")
    axes.set_ylabel("loss")
    if min(losses) > 0 and max(losses) > 10 * min(losses):
        axes.set_yscale("log")
    axes.legend(frameon=False)


def _draw_rates(axes: Any, steps: list[dict[str, Any]]) -> None:
    for name in steps[0]["rate"]:
        axes.plot([line["step"] for line in steps], [line["rate"][name] for line in steps], label=name)
    axes.set_ylabel("learning rate")
    axes.legend(frameon=False)


def _draw_scores(axes: Any, scores: list[dict[str, Any]]) -> None:
    series: dict[str, list[tuple[int, float]]] = {}
    for line in scores:
        for name, value in line["scores"].items():
            series.setdefault(f"{line['evaluation']}: {name}", []).append((line["step"], value))
    for name, points in sorted(series.items()):
        axes.plot(*zip(*points, strict=True), marker="o", label=name)
    axes.set_ylabel("quality")
    axes.legend(frameon=False, fontsize="small")


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = Parser(prog="python -m molmo2_ground.train.curves", description=__doc__)
    parser.add_argument("work", type=Path, help="work folder of a run")
    work = parser.parse_args(arguments).work
    drawn = draw_curves(work)
    print(drawn or f"{work / LOG_FILE} has no step yet")
    return 0 if drawn else 1


if __name__ == "__main__":
    raise SystemExit(main())
