"""A toy street in front of a real RTSP camera, a stream in one process and a subscriber in another."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from molmo2_ground.train.toy.scene import Scene
from tests.servers import RtspCamera

FPS = 10.0


class Street:
    """Pictures of a toy scene, and where things of a kind are in each of them."""

    def __init__(self, scene: Scene, *, kind: str, colour: str | None = None) -> None:
        count = round(scene.duration_s * FPS)
        self.pictures = np.empty((count, 360, 640, 3), np.uint8)
        self._places: list[npt.NDArray[np.float64]] = []
        for number in range(count):
            self.pictures[number], ids = scene.render(number / FPS)
            states = scene.truth(number / FPS, ids)
            # A sliver behind a tree counts here: what is followed by its pixels may be seen so far.
            shown = [
                (state.x_px, state.y_px)
                for state, actor in zip(states, scene.actors, strict=True)
                if state.visible and actor.kind == kind and colour in (None, actor.colour)
            ]
            self._places.append(np.array(shown, dtype=np.float64).reshape(-1, 2))

    def off(self, number: int, x_px: float, y_px: float) -> float:
        """How far a point is from the nearest thing of the kind in a picture, as a share of the width."""
        places = self._places[number]
        if not len(places):
            return float("inf")
        return float(np.hypot(places[:, 0] - x_px, places[:, 1] - y_px).min()) / 640

    def shown(self, number: int) -> int:
        """How many things of the kind a picture shows."""
        return len(self._places[number])


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """One message about tracks, as the second process printed it."""

    stamp_s: float
    seq: int
    epoch: int
    detections: tuple[dict[str, Any], ...]
    header: dict[str, Any]

    @classmethod
    def of(cls, line: str) -> Heard | None:
        """From a line of `echo --json`; None for another message."""
        document = json.loads(line)
        message = document.get("message", document)
        if "detections" not in message:
            return None
        header = message["header"]
        return cls(
            stamp_s=header["stamp_ns"] / 1e9,
            seq=header["seq"],
            epoch=header["epoch"],
            detections=tuple(message["detections"]),
            header=header,
        )


class Child:
    """A command of ours in a process of its own, ended by the id it was started with."""

    def __init__(self, arguments: Sequence[str], folder: Path, name: str) -> None:
        self._errors = folder / f"{name}.err"
        self.lines: list[str] = []
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        with self._errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "molmo2_ground", *arguments],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=environment,
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)

    @property
    def said(self) -> str:
        """What it wrote to stderr so far."""
        return self._errors.read_text(encoding="utf-8")

    def wait_for(self, pattern: str, *, within_s: float) -> str:
        """The first group of the pattern in what it says; fails when it ends or does not say it in time."""
        from tests.waiting import eventually

        found = eventually(
            lambda: re.search(pattern, self.said),
            within_s=within_s,
            unless=lambda: self.process.poll() is not None,
        )
        assert found is not None, f"never said {pattern!r}: {self.said[-2000:]}"
        return found.group(1)

    def end(self, *, within_s: float = 30.0) -> int:
        """Ctrl-C, and wait for it; its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            code = self.process.wait(within_s)
        finally:
            self.process.kill()
            self._reader.join(within_s)
            assert self.process.stdout is not None
            self.process.stdout.close()
        return code


def heard(lines: Iterable[str]) -> Iterator[Heard]:
    """The messages about tracks among the lines of `echo --json`."""
    for line in lines:
        found = Heard.of(line)
        if found is not None:
            yield found


def offs(street: Street, camera: RtspCamera, messages: Iterable[Heard]) -> npt.NDArray[np.float64]:
    """float64[n]: how far each place is from the truth at its message's stamp, shares of the width."""
    return np.array(
        [
            street.off(camera.number_at(message.stamp_s), d["point"]["x"], d["point"]["y"])
            for message in messages
            for d in message.detections
        ]
    )
