"""Our rules for answers against a general grammar library (llguidance), over a vocabulary of 152,000 words.

`pip install llguidance; python benchmarks/grammar.py [--frames 120] [--things 4] [--rounds 5]`. Both
follow the same track, digit by digit. llguidance gets what its grammar can hold: form and rising times; ids
that come once and count on, and circles, are in ours alone. Times are the best of the
rounds, in microseconds a word; a mask says of every word of the vocabulary whether it may come next.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Sequence
from typing import Any

from molmo2_ground.model.answer_rules import START, AnswerRules
from molmo2_ground.model.token_table import TokenTable

WORDS = 151_936
STOP = 1


def vocabulary() -> list[str]:
    """Digits and marks by themselves, as Qwen has them, words, and pieces of markup."""
    draw = random.Random(0)
    letters = [chr(n) for n in range(32, 127)]
    words = dict.fromkeys([*letters, "\n", '">', '="', "</", ' "', ";\n", " coords", "points", "tracks"])
    while len(words) < WORDS - 2:
        words[draw.choice(["", " "]) + "".join(draw.choices(letters[33:], k=draw.randint(2, 9)))] = None
    return ["", "", *words]


def track(keys: Sequence[str], things: int) -> str:
    """The places of so many things, in every frame."""
    groups = []
    for number, key in enumerate(keys):
        places = (
            f"{n + 1} {(100 * n + 3 * number) % 1000:03d} {(150 + n) % 1000:03d}" for n in range(things)
        )
        groups.append(" ".join((key, *places)))
    return ";".join(groups)


def best_us(rounds: int, words: int, work: Callable[[], None]) -> float:
    """Microseconds a word of the best round."""
    spent = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        spent.append(time.perf_counter() - began)
    return 1e6 * min(spent) / words


def ours(options: argparse.Namespace, words: list[str], keys: list[str], text: str) -> None:
    """Print what our rules take."""
    began = time.perf_counter()
    table = TokenTable(words, stop_ids=[STOP])
    print(f"ours:       vocabulary {time.perf_counter() - began:.2f} s")
    number = {word: n for n, word in enumerate(words)}
    ids = [number[char] for char in text]

    def follow(*, masks: bool) -> None:
        rules = AnswerRules(keys)
        state = START
        for char in '<tracks coords="':
            after = rules.step(state, char)
            assert after is not None
            state = after
        for token in ids:
            if masks:
                table.fitting(rules, state)
            after = table.step(rules, state, token)
            assert after is not None
            state = after

    checks = best_us(options.rounds, len(ids), lambda: follow(masks=False))
    masks = best_us(options.rounds, len(ids), lambda: follow(masks=True))
    print(f"ours:       {checks:.1f} to check the likeliest word (mostly enough), {masks:.1f} with a mask")


class Words:
    """A vocabulary in llguidance's terms."""

    def __init__(self, words: list[str]) -> None:
        """Take the text of each word; those without any are special."""
        self.eos_token_id = STOP
        self.bos_token_id = None
        self.tokens = [word.encode() or b"\xff<pad>" for word in words]
        self.special_token_ids = [0, STOP]

    def __call__(self, text: bytes) -> list[int]:
        """The words of a text, letter by letter."""
        return [self.tokens.index(bytes([letter])) for letter in text]


def theirs(options: argparse.Namespace, words: list[str], keys: list[str], text: str) -> None:
    """Print what the library takes."""
    import llguidance
    from llguidance import LLMatcher, LLTokenizer
    from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask

    began = time.perf_counter()
    tokenizer = LLTokenizer(llguidance.TokenizerWrapper(Words(words)))
    print(f"llguidance: vocabulary {time.perf_counter() - began:.2f} s ({llguidance.__version__})")
    rows = [f'g{n}: "{key}" place+' for n, key in enumerate(keys)]
    rows += [f'r{n}: ";" g{n} r{n + 1}? | r{n + 1}' for n in range(1, len(keys) - 1)]
    rows += [f'r{len(keys) - 1}: ";" g{len(keys) - 1}']
    starts = " | ".join(f"g{n} r{n + 1}?" if n + 1 < len(keys) else f"g{n}" for n in range(len(keys)))
    grammar = "\n".join([f"start: {starts}", *rows, "place: / [1-9][0-9]* ([0-9]{3}|1000) ([0-9]{3}|1000)/"])
    number = {word: n for n, word in enumerate(words)}
    ids = [number[char] for char in text]
    made: list[Any] = []
    start_us = best_us(options.rounds, 1, lambda: made.append(LLMatcher(tokenizer, grammar)))
    if error := made[0].get_error():
        raise SystemExit(f"llguidance does not take the grammar: {error}")
    bits = allocate_token_bitmask(1, len(words))

    def follow() -> None:
        matcher = LLMatcher(tokenizer, grammar)
        for token in ids:
            fill_next_token_bitmask(matcher, bits, 0)
            assert matcher.consume_token(token), matcher.get_error()

    masks = best_us(options.rounds, len(ids), follow)
    print(f"llguidance: {masks:.1f} with a mask, of it {start_us / len(ids):.1f} to read a clip's grammar")


def main() -> int:
    """Follow one track both ways."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--frames", type=int, default=120)
    parser.add_argument("--things", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    keys = [f"{n / 2:.1f}" for n in range(options.frames)]
    text, words = track(keys, options.things), vocabulary()
    print(f"{len(text)} words of a track, {len(words):,} in the vocabulary; microseconds a word")
    ours(options, words, keys, text)
    theirs(options, words, keys, text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
