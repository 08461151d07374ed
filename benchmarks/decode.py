"""What writing ahead saves, and whether every answer keeps to the rules.

`python benchmarks/decode.py [--questions 500] [--models 10000] [--model M]`.

First, questions about toy clips are asked in three ways, in turns: with one run of the network for each word;
with words that are forced or guessed taken along; and with several digits tried beside a guess. All keep to
the rules of `model/answer_rules.py`. Then models without sense (random numbers in place of a network) write
answers by these rules, with hostile vocabularies, and every answer is read. Exits with 1 when one word
differs between the ways, or one answer is not clean.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch

from molmo2_ground.answer import parse_answer
from molmo2_ground.backends.native import NativeBackend
from molmo2_ground.grounder import Grounder
from molmo2_ground.model import load_checkpoint
from molmo2_ground.model import prefix as runner
from molmo2_ground.model.answer_rules import AnswerRules
from molmo2_ground.model.decoding import Sampling
from molmo2_ground.model.guide import Guide
from molmo2_ground.model.text_codec import TextCodec
from molmo2_ground.model.token_table import TokenTable
from molmo2_ground.model.writing import Drafter, Writing
from molmo2_ground.results import Count, Receipt
from molmo2_ground.train.toy_suite import ToySuite

CUT = "the answer was cut off here"


class NoGuess:
    """Stands in for `Drafter` and never guesses."""

    def __init__(self, codec: TextCodec, *, expected: object, at_most: int) -> None:
        """Takes what `Drafter` takes."""

    def guess(self, token_ids: object) -> list[int]:
        """Nothing."""
        return []


class WordByWord(Guide):
    """Allows what `Guide` allows, and takes nothing along."""

    def ahead(self, guesses: Sequence[int], *, at_most: int) -> list[int]:
        """Nothing."""
        return []


WAYS = {
    "one by one": (NoGuess, WordByWord, 0),
    "ahead": (Drafter, Guide, 0),
    "with a tree": (Drafter, Guide, 256),
}


def kind_of(receipt: Receipt) -> str:
    """How many things a track question's answer names at once; other questions by their task."""
    if receipt.task != "track":
        return receipt.task
    groups = [g for e in parse_answer(receipt.raw_text).elements for g in e.groups]
    return f"track {max((len(group.points) for group in groups), default=0)}"


def ask_both_ways(model: str, questions: int) -> bool:
    """Ask, count, print; whether the words were the same."""
    loaded = load_checkpoint(model, device="cpu")
    grounder = Grounder(NativeBackend(loaded))
    suite = ToySuite((questions + 1) // 2)
    tokens: Counter[tuple[str, str]] = Counter()
    runs: Counter[tuple[str, str]] = Counter()
    spent_ms = dict.fromkeys(WAYS, 0.0)
    same = True
    with tempfile.TemporaryDirectory() as folder:
        for example in list(suite.examples())[:questions]:
            media = suite.prepare(example, Path(folder))
            written = set()
            for name, (drafter, guide, tree_rows) in WAYS.items():
                vars(runner).update(Drafter=drafter, Guide=guide)  # the only switch there is
                loaded.tree_rows = tree_rows
                with grounder.open(media) as session:
                    result = session.answer(example.query)
                receipt = result.points.receipt if isinstance(result, Count) else result.receipt
                written.add(receipt.raw_text)
                for look in receipt.windows or (receipt,):
                    for kind in (kind_of(look), "all"):
                        tokens[name, kind] += look.tokens_out
                        runs[name, kind] += look.forwards
                    spent_ms[name] += look.timings_ms["decode_text"]
            if len(written) > 1:
                print(f"{example.key}: the ways differ: {sorted(written)}")
                same = False
    print(f"{questions} questions, {'the same' if same else 'DIFFERENT'} words; {time.strftime('%Y-%m-%d')}")
    print(f"{'':14} {'tokens':>8}  runs a token: {', '.join(WAYS)}")
    for kind in sorted({kind for _, kind in tokens}, key=lambda kind: (kind == "all", kind)):
        ratios = "  ".join(f"{runs[name, kind] / tokens[name, kind]:.2f}" for name in WAYS)
        print(f"{kind:14} {tokens['ahead', kind]:8}  {ratios}")
    for name in list(WAYS)[1:]:
        print(f"writing {name} takes {spent_ms[name] / spent_ms['one by one']:.2f} of the time of one by one")
    return same


LETTERS = list('0123456789 .;"<>/=pointsrackcdlbeghuymwTC\n')
MARKUP = (
    '<points coords="',
    '<tracks coords="',
    '">',
    "</points>",
    "</tracks>",
    "</point",
    "coords=",
    "<points",
)
ODD = (
    'coords="0',
    "0.",
    ";0.",
    " 1 ",
    "00",
    "000",
    "1000",
    "5 1 2",
    '00">the',
    '0 100 200"',
    '">x</points>There',
)


def hostile_vocabulary(draw: random.Random) -> list[str]:
    """Every letter of the grammar, and longer words across its borders. Word 0 is no text, word 1 the end."""
    made = ["".join(draw.choices(LETTERS, k=draw.randint(2, 6))) for _ in range(draw.randint(0, 40))]
    words = dict.fromkeys([*LETTERS, *draw.sample(MARKUP, 5), *draw.sample(ODD, 5), *made])
    return ["", "", *draw.sample(list(words), len(words))]


def random_answer(seed: int, *, temperature: float | None = None) -> tuple[str, bool]:
    """What a model without sense writes by the rules, and whether it came to an end.

    temperature: None draws it as everything else.
    """
    draw = random.Random(seed)
    words = hostile_vocabulary(draw)
    generator = torch.Generator().manual_seed(seed)
    keys = [f"{n / 2:.1f}" for n in range(draw.randint(1, 20))]
    if seed % 2:
        keys = [str(n + 1) for n in range(draw.randint(1, 12))]
    rules = AnswerRules(keys, most=draw.choice([None, None, 1, 3]), cut_runaways=draw.random() < 0.5)
    liking = torch.tensor([draw.uniform(0, 3) if '"' in word or "<" in word else 0.0 for word in words])
    drawn = draw.choice([0.0, 1.0])
    writing = Writing(
        max_new_tokens=120,
        stop_ids=[1],
        sampling=Sampling(temperature=drawn if temperature is None else temperature, seed=seed),
        guide=Guide(rules, TokenTable(words, stop_ids=[1])),
    )
    count = 1
    while not writing.ended:
        writing.take(2 * torch.randn(count, len(words), generator=generator) + liking)
        count = 0 if writing.ended else len(writing.next_words(tree_rows=draw.choice([0, 64])).words)
    answer = writing.answer()
    return "".join(words[token] for token in answer.token_ids), answer.stop_reason == "end"


def is_clean(text: str, *, whole: bool) -> bool:
    """Whether all of an answer can be read; one that was stopped may lack its last place, no more."""
    parsed = parse_answer(text)
    if whole:
        return not parsed.rejected and not parsed.truncated
    return all(piece.reason == CUT for piece in parsed.rejected)


def read_hostile(models: int) -> bool:
    """Whether every answer of so many senseless models can be read whole."""
    clean = ended = pointed = places = 0
    for seed in range(models):
        text, whole = random_answer(seed)
        parsed = parse_answer(text)
        fine = is_clean(text, whole=whole)
        if not fine:
            print(f"model {seed} wrote {text!r}: {parsed.rejected}")
        clean += fine
        ended += whole
        pointed += bool(parsed.elements)
        places += sum(len(group.points) for element in parsed.elements for group in element.groups)
    print(f"{models} random models: {clean} clean, {ended} ended, {pointed} pointed, {places} places")
    return clean == models


def main() -> int:
    """Both parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--questions", type=int, default=500)
    parser.add_argument("--models", type=int, default=10_000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    same = ask_both_ways(options.model, options.questions)
    return 0 if read_hostile(options.models) and same else 1


if __name__ == "__main__":
    raise SystemExit(main())
