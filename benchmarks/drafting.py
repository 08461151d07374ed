"""What guessing words ahead saves: the same questions with and without, in turns, in one run.

`python benchmarks/drafting.py [--clips N] [--model M]`. Both ways must write the same answers; if one word
differs, it says so and exits with 1.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from pathlib import Path

import torch

from molmo2_ground.backends.native import NativeBackend
from molmo2_ground.grounder import Grounder
from molmo2_ground.model import load_checkpoint
from molmo2_ground.model import prefix as runner
from molmo2_ground.model.text_codec import TextCodec
from molmo2_ground.model.writing import Drafter
from molmo2_ground.results import Count
from molmo2_ground.train.toy_suite import ToySuite


class NoGuess:
    """Stands in for `Drafter` and never guesses."""

    def __init__(self, codec: TextCodec, *, expected: object) -> None:
        """Takes what `Drafter` takes."""

    def guess(self, token_ids: object) -> list[int]:
        """Nothing."""
        return []


def main() -> int:
    """Ask, count and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--clips", type=int, default=6, help="two questions each")
    options = parser.parse_args()
    torch.set_num_threads(1)
    grounder = Grounder(NativeBackend(load_checkpoint(options.model, device="cpu")))
    suite = ToySuite(options.clips)
    ways = {"one by one": NoGuess, "guessed ahead": Drafter}
    tokens: Counter[str] = Counter()
    runs: Counter[str] = Counter()
    spent_ms: dict[str, float] = dict.fromkeys(ways, 0.0)
    with tempfile.TemporaryDirectory() as folder:
        for example in suite.examples():
            media = suite.prepare(example, Path(folder))
            written = set()
            for name, drafter in ways.items():
                vars(runner)["Drafter"] = drafter  # the only switch there is
                with grounder.open(media) as session:
                    result = session.answer(example.query)
                receipt = result.points.receipt if isinstance(result, Count) else result.receipt
                written.add(receipt.raw_text)
                tokens[name] += receipt.tokens_out
                runs[name] += receipt.forwards
                spent_ms[name] += receipt.timings_ms["decode_text"]
            if len(written) > 1:
                print(f"{example.key}: the two ways differ: {sorted(written)}")
                return 1
    print(f"{2 * options.clips} questions, the same words both ways; {time.strftime('%Y-%m-%d')}")
    for name in ways:
        print(f"{name:14} {tokens[name]:6} tokens  {runs[name] / tokens[name]:.2f} runs a token")
    print(f"writing takes {spent_ms['guessed ahead'] / spent_ms['one by one']:.2f} of the time")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
