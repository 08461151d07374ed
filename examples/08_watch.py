"""Watch a stream: be told when something enters a zone, with a clip of what came before and after.

make demo && .venv/bin/python examples/08_watch.py
.venv/bin/python examples/08_watch.py street.mp4 "the red car"
.venv/bin/python examples/08_watch.py rtsp://127.0.0.1:8554/street "the red car"
"""

from __future__ import annotations

import sys

import molmo2_ground as mg
from molmo2_ground.analytics import Line, Zone
from molmo2_ground.live.watch import Watch
from molmo2_ground.sources.feeds.feed import Feed
from molmo2_ground.sources.feeds.waiting_room import Policy

WIDTH_PX, HEIGHT_PX = 640, 360  # of the camera's pictures, in which zones are drawn


def main(
    source: str | Feed = "out/demo/street.mp4",
    phrase: str = "the red car",
    clips: str = "out/clips",
    *,
    model: mg.Grounder | None = None,
) -> None:
    """Follow, print what the watches saw, and say where the clip of each event is."""
    left, right = WIDTH_PX * 0.35, WIDTH_PX * 0.65
    middle = Zone(name="middle", polygon=((left, 0), (right, 0), (right, HEIGHT_PX), (left, HEIGHT_PX)))
    gate = Line(name="gate", start=(WIDTH_PX / 2, 0), end=(WIDTH_PX / 2, HEIGHT_PX))
    watches = [
        Watch.enters(middle),
        # A sentence of a small grammar; a wrong one is refused with the forms that are understood.
        Watch.read("something crosses the gate", zones=[middle], lines=[gate], cooldown_s=5),
    ]
    # `block`: a file waits for the model. A camera does not: leave the policy out, and the newest counts.
    policy: Policy = "latest" if "://" in str(source) else "block"
    with mg.stream(source, phrase, model=model, policy=policy, watches=watches, clips=clips) as stream:
        for update in stream:
            for event in update.events:
                at = f"x {event.event.x_px:.0f} px, y {event.event.y_px:.0f} px"
                print(f"{event.event.time_s:.2f} s: object {event.event.object_id}, {event.watch!r}, at {at}")
                print(f"  clip: {clips}/{event.clip}, known by the picture of {update.time_s:.2f} s")


if __name__ == "__main__":
    main(*sys.argv[1:])
