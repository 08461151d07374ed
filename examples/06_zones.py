"""Zones and lines: who came in, who went out, who crossed, and how long they stayed.

make demo && .venv/bin/python examples/06_zones.py
.venv/bin/python examples/06_zones.py street.mp4 "the red car"
"""

from __future__ import annotations

import sys

import molmo2_ground as mg
from molmo2_ground.analytics import Line, Zone, find_events
from molmo2_ground.masks import carry


def main(
    video: str = "out/demo/street.mp4", phrase: str = "the red car", *, model: mg.Grounder | None = None
) -> None:
    """Track, carry the tracks to every frame, and print what happened in the middle of the picture."""
    tracks = mg.track(video, phrase, model=model)
    every_frame = carry(video, tracks)
    width_px, height_px = tracks.receipt.size_px
    left, right = width_px * 0.35, width_px * 0.65
    middle = Zone(name="middle", polygon=((left, 0), (right, 0), (right, height_px), (left, height_px)))
    # Drawn downwards, so that its left side, which is "in", is to the right in the picture.
    gate = Line(name="gate", start=(width_px / 2, 0), end=(width_px / 2, height_px))

    events = find_events(every_frame, zones=[middle], lines=[gate])
    for event in events:
        if event.kind in ("zone_entered", "zone_left", "line_crossed"):
            place = f"x {event.x_px:.0f} px, y {event.y_px:.0f} px"
            print(
                f"{event.time_s:.2f} s: object {event.object_id} {event.kind} at {place} ({event.states[-1]})"
            )
    print(*events.summary.table(), sep="\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
