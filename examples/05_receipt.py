"""How a result came about: the words sent, the words that came back, and reading them by oneself.

make demo && .venv/bin/python examples/05_receipt.py
"""

from __future__ import annotations

import sys

import molmo2_ground as mg
from molmo2_ground.answer import parse_answer


def main(
    video: str = "out/demo/street.mp4", phrase: str = "the red car", *, model: mg.Grounder | None = None
) -> None:
    """Track, print the receipt, and parse the raw answer again."""
    receipt = mg.track(video, phrase, model=model).receipt
    print("model:", receipt.model_id, "by", receipt.recipe)
    print("sent: ", receipt.prompt)
    print("wrote:", receipt.raw_text)
    print("saw:  ", len(receipt.frame_times_s), "frames of", receipt.size_px, "pixels")
    for rejected in receipt.report.rejected:
        print(f"left out {rejected.text!r}: {rejected.reason}")

    # The same text, one level down: thousandths of the picture, before they become pixels.
    for element in parse_answer(receipt.raw_text).elements:
        for group in element.groups:
            for point in group.points:
                print(f"key {group.key}: object {point.object_id} at {point.x}, {point.y} thousandths")


if __name__ == "__main__":
    main(*sys.argv[1:])
