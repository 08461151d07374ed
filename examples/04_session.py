"""Several questions on one video: a session reads and encodes the frames once.

make demo && .venv/bin/python examples/04_session.py
"""

from __future__ import annotations

import sys

import molmo2_ground as mg


def main(video: str = "out/demo/street.mp4", *, model: mg.Grounder | None = None) -> None:
    """Ask two questions together, and two more afterwards."""
    grounder = mg.load("tiny") if model is None else model
    with grounder.open(video) as session:
        cars, buses = session.run([mg.Query.count("cars"), mg.Query.count("buses")])
        bus = session.point("the yellow bus")
        car = session.track("the red car")
    for name, result in (("cars", cars), ("buses", buses)):
        if isinstance(result, mg.Count):
            print(f"{name}: {int(result)}")
    print(f"the yellow bus: {len(bus)} points")
    print(f"the red car: {len(car)} tracks, {sum(len(track.samples) for track in car)} samples")


if __name__ == "__main__":
    main(*sys.argv[1:])
