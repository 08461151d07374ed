"""`Logbook`: what a run writes about itself: a line of JSON a step, TensorBoard, a progress bar.

The file holds each step once, also after a run was killed and went on: `rewind` cuts what lies beyond the
snapshot it goes on from.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from molmo2_ground._atomic import atomic_path
from molmo2_ground._optional import require

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from molmo2_ground.train.feed import Json

logger = logging.getLogger(__name__)

LOG_FILE = "log.jsonl"
_BAR_WIDTH = 24


class Logbook:
    """The records of one run, in its work folder.

    steps        of the whole run.
    tensorboard  also write event files; needs the extra `train`.
    bar          None: a progress bar when stderr is a terminal, lines of the log otherwise.
    clock        seconds that only ever rise.
    """

    def __init__(
        self,
        folder: Path,
        *,
        steps: int,
        tensorboard: bool = False,
        bar: bool | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = folder / LOG_FILE
        self.steps, self._clock = steps, clock
        self._bar = sys.stderr.isatty() if bar is None else bar
        self._board_module = require("torch.utils.tensorboard", extra="train") if tensorboard else None
        self._board_folder = folder / "tensorboard"
        self._board: Any = None
        self._first = 0
        self._started = clock()

    def rewind(self, step: int) -> None:
        """Keep the lines of the first `step` steps, and be ready for the next.

        A line that was torn by a kill goes too.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        kept = [line for line in read_lines(self.path) if line["step"] <= step]
        with atomic_path(self.path) as unfinished:
            unfinished.write_text("".join(map(_written, kept)), encoding="utf-8")
        if self._board_module is not None:
            self._board = self._board_module.SummaryWriter(str(self._board_folder), purge_step=step + 1)
        self._first, self._started = step, self._clock()

    def add(self, lines: Iterable[Mapping[str, Json]]) -> None:
        """Append lines, each with its `step`, and force them to the disk."""
        lines = list(lines)
        with self.path.open("a", encoding="utf-8") as file:
            file.write("".join(map(_written, lines)))
            file.flush()
            os.fsync(file.fileno())
        if self._board is not None:
            for line in lines:
                for name, value in _numbers(line):
                    self._board.add_scalar(name, value, line["step"])
            self._board.flush()

    def tell(self, line: Mapping[str, Json]) -> None:
        """Show where the run is, by the line of its last step."""
        step = int(str(line["step"]))
        a_step = (self._clock() - self._started) / max(1, step - self._first)
        shown = "  ".join(f"{name} {value:.4g}" for name, value in _numbers(line) if "/" not in name)
        left = _duration((self.steps - step) * a_step)
        if not self._bar:
            logger.info("%d/%d  %s  %.0f ms a step, %s left", step, self.steps, shown, a_step * 1e3, left)
            return
        full = _BAR_WIDTH * step // self.steps
        bar = "█" * full + "░" * (_BAR_WIDTH - full)
        end = "\n" if step == self.steps else ""
        sys.stderr.write(f"\r\x1b[K{bar} {step}/{self.steps}  {shown}  {left} left{end}")
        sys.stderr.flush()

    def close(self) -> None:
        """Close the event file."""
        if self._board is not None:
            self._board.close()
            self._board = None


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a log, in order; an empty list when there is no file.

    The last line is left out when a kill tore it.
    """
    if not path.is_file():
        return []
    pieces = path.read_text(encoding="utf-8", errors="replace").split("\n")
    return [json.loads(piece) for piece in pieces[:-1]]


def _written(line: Mapping[str, Json]) -> str:
    return json.dumps(line, allow_nan=False) + "\n"


def _numbers(line: Mapping[str, Json]) -> list[tuple[str, float]]:
    """Every number of a line but its step, groups and evaluations spelt `group/name`."""
    found = []
    for name, value in line.items():
        if isinstance(value, dict):
            group = line["evaluation"] if name == "scores" else name
            found += [(f"{group}/{key}", float(inner)) for key, inner in value.items()]
        elif isinstance(value, int | float) and name != "step":
            found.append((name, float(value)))
    return found


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
