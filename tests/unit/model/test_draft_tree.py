from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from molmo2_ground.clip import Clip
from molmo2_ground.model import load_checkpoint
from molmo2_ground.model.answer_rules import AnswerRules
from molmo2_ground.model.decoding import Sampling
from molmo2_ground.model.draft_tree import DraftTree, depths, lineage
from molmo2_ground.model.guide import Guide
from molmo2_ground.model.prefix import Prefix, answer_together
from molmo2_ground.model.token_table import TokenTable
from molmo2_ground.model.writing import Writing
from molmo2_ground.train.toy.street import make_scene

WORDS = ["", "", *'0123456789 .;"<>/=pointsrackcdehuy']
TABLE = TokenTable(WORDS, stop_ids=[1])
KEYS = [f"{n / 2:.1f}" for n in range(9)]


def ids(text: str) -> list[int]:
    return [WORDS.index(char) for char in text]


def behind(text: str) -> Guide:
    guide = Guide(AnswerRules(KEYS), TABLE)
    for token in ids(text):
        guide.take(token)
    return guide


def paths(tree: DraftTree) -> list[str]:
    """What each word ends, as text behind the first word."""
    found: list[str] = []
    for word, parent in zip(tree.words, tree.parents, strict=True):
        found.append("" if parent < 0 else found[parent] + WORDS[word])
    return found


def grown(text: str, guess: str, *, at_most: int) -> list[str]:
    tree = DraftTree.chain([ids(text)[-1], *ids(guess)])
    return paths(behind(text).branched(tree, at_most=at_most))


def test_every_digit_is_tried_where_none_is_guessed() -> None:
    start = '<points coords="0.0 1 '
    assert grown(start, "", at_most=64) == ["", *"0123456789"]
    assert grown(start, "", at_most=4) == ["", *"012"]
    assert grown(start, "", at_most=1) == [""]
    assert set(grown(start, "100", at_most=64)) >= {"100", "1000", "100 "}


def test_the_last_digit_of_the_first_coordinate_is_tried_with_what_follows() -> None:
    found = grown('<points coords="0.0 1 ', "123 456", at_most=256)
    assert found[:8] == ["", "1", "12", "123", "123 ", "123 4", "123 45", "123 456"]
    assert {"124 456", "120 456", "129 456"} <= set(found)
    assert not {"122 457", "133"} & set(found)
    assert len(found) == 8 + 3 + 9 * 5  # ` `, `;` and `"` end the second one


def test_nothing_branches_outside_of_places() -> None:
    assert grown("the ", "", at_most=64) == [""]
    assert grown('<points coords="', "0.0 1 ", at_most=7) == ["", "0", "0.", "0.0", "0.0 ", "0.0 1", "0.0 1 "]


def test_children_are_found_and_words_know_who_stands_before_them() -> None:
    tree = DraftTree.chain([5, 6, 7]).with_branch(0, [8, 7])
    assert (tree.words, tree.parents) == ((5, 6, 7, 8, 7), (-1, 0, 1, 0, 3))
    assert [tree.child(0, word) for word in (6, 8, 7)] == [1, 3, None]
    assert tree.child(3, 7) == 4
    assert depths(tree.parents) == [0, 1, 2, 1, 2]
    assert np.flatnonzero(lineage(tree.parents)[4]).tolist() == [0, 3, 4]
    assert np.array_equal(lineage([-1, 0, 1, 2]), np.tri(4, dtype=bool))


class Oracle:
    """Guesses the answer that it knows, some words spoilt."""

    def __init__(self, answer: list[int], seed: int) -> None:
        self.answer, self.draw = answer, random.Random(seed)

    def guess(self, token_ids: Sequence[int]) -> list[int]:
        ahead = self.answer[len(token_ids) : len(token_ids) + self.draw.randint(0, 9)]
        return [token if self.draw.random() < 0.8 else self.draw.choice(ids("0123456789")) for token in ahead]


def model_without_sense(path: tuple[int, ...]) -> torch.Tensor:
    """Logits that depend on everything before, as a network's do."""
    generator = torch.Generator().manual_seed(hash(path) % 2**31)
    return 3 * torch.randn(len(WORDS), generator=generator)


def answer(seed: int, sampling: Sampling, *, tree_rows: int, known: list[int] | None = None) -> Writing:
    writing = Writing(
        max_new_tokens=120,
        stop_ids=[1],
        sampling=sampling,
        guide=behind('<tracks coords="'),
        drafter=None if known is None else Oracle(known, seed),
    )
    writing.take(model_without_sense((seed,))[None])
    while not writing.ended:
        done = tuple(writing._token_ids[:-1])
        tree = writing.next_words(tree_rows=tree_rows)
        before: list[tuple[int, ...]] = []
        for word, parent in zip(tree.words, tree.parents, strict=True):
            before.append((*(done if parent < 0 else before[parent]), word))
        writing.take(torch.stack([model_without_sense((seed, *path)) for path in before]))
    return writing


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    rows=st.sampled_from([0, 12, 30, 200]),
    temperature=st.sampled_from([0.0, 1.0]),
)
def test_a_tree_changes_the_runs_and_not_the_words(seed: int, rows: int, temperature: float) -> None:
    sampling = Sampling(temperature=temperature, seed=seed)
    plain = answer(seed, sampling, tree_rows=0).answer()
    grown = answer(seed, sampling, tree_rows=rows, known=list(plain.token_ids)).answer()
    assert grown.token_ids == plain.token_ids
    assert grown.stop_reason == plain.stop_reason
    assert grown.forwards <= plain.forwards


@pytest.mark.slow
def test_the_tiny_model_writes_the_same_with_a_tree() -> None:
    model = load_checkpoint("tiny", device="cpu")
    scene = make_scene(7, duration_s=3)
    clip = Clip.from_arrays(np.stack([scene.render(n / 2)[0] for n in range(4)]), fps=2.0)
    prefix = Prefix(model, model.build_visual(clip))
    rules = AnswerRules(KEYS[:4])
    answers = []
    for model.tree_rows in (0, 200):
        turns = [
            prefix.turn(text, max_new_tokens=200, rules=rules)
            for text in ("Track every object.", "Point to every object in the video.")
        ]
        answers.append(answer_together(turns, sampling=Sampling()))
    for plain, grown in zip(*answers, strict=True):
        assert grown.token_ids == plain.token_ids
        assert len(plain.token_ids) > 15
        assert grown.forwards < plain.forwards
