"""Points in a picture, in the picture's own pixels; a video works the same and gives times too.

make demo && .venv/bin/python examples/02_point.py
.venv/bin/python examples/02_point.py shelf.jpg "every mug" pointed.png
"""

from __future__ import annotations

import sys

import molmo2_ground as mg


def main(
    media: str = "out/demo/street.mp4",
    phrase: str = "the blue car",
    out: str = "",
    *,
    model: mg.Grounder | None = None,
) -> None:
    """Point, print the places, and draw them when `out` names a file."""
    points = mg.point(media, phrase, model=model)
    for point in points:
        when = "" if point.time_s is None else f" at {point.time_s:.2f} s"
        print(f"{point.label} {point.object_id}: x {point.x_px:.1f} px, y {point.y_px:.1f} px{when}")
    print(f"{len(points)} found")
    # One row a point: what numpy, OpenCV and the like take.
    print("shape of xy_px:", points.xy_px.shape)
    if out:
        mg.render(media, points, out)


if __name__ == "__main__":
    main(*sys.argv[1:])
