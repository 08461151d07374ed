"""A count with the places that were counted, and whether the model's own number agrees with them.

make demo && .venv/bin/python examples/03_count.py
.venv/bin/python examples/03_count.py street.mp4 buses
"""

from __future__ import annotations

import sys

import molmo2_ground as mg


def main(
    media: str = "out/demo/street.mp4", phrase: str = "cars", *, model: mg.Grounder | None = None
) -> None:
    """Count; tell a clean "none" from an answer that could not be read."""
    try:
        count = mg.count(media, phrase, model=model)
    except mg.AnswerError as error:
        print(f"the model answered, and no number could be read from it: {error.answer.text!r}")
        return
    print(f"{phrase}: {int(count)}")
    for point in count.points:
        print(f"  x {point.x_px:.0f} px, y {point.y_px:.0f} px in frame {point.source_index}")
    if not count.agrees:
        print(f"  the model wrote {count.stated} and pointed at {count.value}")


if __name__ == "__main__":
    main(*sys.argv[1:])
