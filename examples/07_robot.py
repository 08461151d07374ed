"""A robot turns towards what the stream points to and drives there, and stops when it cannot be sure.

molmo2-ground stream rtsp://… "the person" --publish tcp://127.0.0.1:5556
.venv/bin/python examples/07_robot.py tcp://127.0.0.1:5556 "the person"
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from molmo2_ground.integrations.zeromq import Subscriber
from molmo2_ground.messages import TracksMessage

ADDRESS = "tcp://127.0.0.1:5556"
FIELD_OF_VIEW_RAD = 1.2  # of the camera, from the left edge of its picture to the right


class Command(NamedTuple):
    """Metres a second ahead, radians a second to the left, and why."""

    ahead: float
    left: float
    why: str


def command(tracks: TracksMessage | None, *, alive: bool) -> Command:
    """Towards the thing that has been there for longest; nowhere when nothing may be acted on."""
    if not alive:
        return Command(0.0, 0.0, "stop: no heartbeat of the publisher")
    if tracks is None:
        return Command(0.0, 0.0, "stop: no place that may still be acted on")
    if not tracks.detections:
        return Command(0.0, 0.0, "stop: nothing is there")
    thing = min(tracks.detections, key=lambda found: (found.born_ns, int(found.id)))
    bearing_rad = FIELD_OF_VIEW_RAD * (0.5 - thing.point.x / tracks.header.size_px[0])  # to the left
    ahead = 0.0 if thing.state == "predicted" else max(0.0, 0.4 * (1 - abs(bearing_rad) / 0.5))
    return Command(ahead, 1.5 * bearing_rad, f"thing {thing.id} ({thing.state})")


def show(wheels: Command) -> bool:
    """In place of a motor: print."""
    print(f"{wheels.ahead:.2f} m/s ahead, {wheels.left:+.2f} rad/s to the left | {wheels.why}", flush=True)
    return True


def main(endpoint: str = ADDRESS, question: str = "", *, drive: Callable[[Command], bool] = show) -> None:
    """Give the wheels a command every 50 ms, for as long as `drive` says that there is more to do."""
    live = Subscriber(endpoint, kinds=("tracks",), silence_s=2.0, max_age_s=1.0)
    with live, suppress(KeyboardInterrupt):
        while drive(command(live.latest("tracks", question=question or None), alive=live.alive)):
            time.sleep(0.05)  # the wheels want a command twenty times a second
    drive(Command(0.0, 0.0, "stop: the program ends"))


if __name__ == "__main__":
    main(*sys.argv[1:])
