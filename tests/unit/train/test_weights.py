"""How much tokens count. Numbers are those of the recipe's invariants."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from molmo2_ground.train import Branch, MessageTree, branch_weight, flatten
from molmo2_ground.train.tree import IGNORE, Turn
from molmo2_ground.train.weights import BranchKind, WeightRule
from tests.trees import WRITER


@pytest.mark.parametrize(
    ("n", "kind", "rule", "k", "expected"),
    [
        pytest.param(1, "answer", "paper", 1, 4.0, id="one-token"),
        pytest.param(16, "answer", "paper", 1, 1.0, id="four-over-the-root"),
        pytest.param(16, "answer", "paper", 9, 1.0, id="paper-knows-no-branches"),
        pytest.param(900, "video_caption", "paper", 1, 0.1, id="video-caption"),
        pytest.param(900, "pointing", "paper", 3, 0.2, id="pointing"),
        pytest.param(4, "tracking", "paper", 1, 0.2, id="tracking"),
        pytest.param(3, "answer", "released", 3, 2 / 3, id="released-three-tokens"),
        pytest.param(1, "answer", "released", 3, 1.1547005, id="released-one-token"),
        pytest.param(4, "answer", "released", 3, 0.5773503, id="released-four-tokens"),
        pytest.param(4, "tracking", "released", 3, 0.2, id="released-keeps-the-fixed-ones"),
        pytest.param(900, "answer", "even", 3, 1.0, id="even"),
        pytest.param(900, "pointing", "even", 3, 1.0, id="even-for-every-kind"),
    ],
)
def test_a_weight_is_what_its_rule_says(
    n: int, kind: BranchKind, rule: WeightRule, k: int, expected: float
) -> None:
    assert branch_weight(n, kind=kind, rule=rule, n_branches=k) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("kind", "rule", "total"),
    [
        pytest.param("answer", "paper", lambda n, k: 4 * n**0.5, id="paper"),
        pytest.param("answer", "released", lambda n, k: 2 * n**0.5 / k**0.5, id="released"),
        pytest.param("pointing", "paper", lambda n, k: 0.2 * n, id="pointing"),
        pytest.param("tracking", "released", lambda n, k: 0.2 * n, id="tracking"),
        pytest.param("video_caption", "paper", lambda n, k: 0.1 * n, id="video-caption"),
        pytest.param("answer", "even", lambda n, k: n, id="even"),
    ],
)
def test_invariant_09_the_weights_of_a_branch_add_up_with_every_end_counted(
    kind: BranchKind, rule: WeightRule, total: Any
) -> None:
    one = Branch(user_text="What is it?", answer="Two birds on a wire.", kind=kind)
    talk = replace(one, later_turns=(Turn(user_text="Where?", answer="In front of the moon."),))
    tree = MessageTree(
        prefix_ids=np.arange(3), prefix_visual=np.zeros(3, dtype=np.bool_), branches=(one, talk, one)
    )
    flat = flatten(tree, replace(WRITER, rule=rule))
    for number in (1, 2, 3):
        here = (flat.branch_ids == number) & (flat.targets != IGNORE)
        n = int(here.sum())
        assert flat.weights[here].sum() == pytest.approx(total(n, 3), rel=1e-6)


def test_a_branch_of_its_own_weight_counts_by_that_factor() -> None:
    once = WRITER.write(Branch(user_text="Who?", answer="Nobody."))
    twice = WRITER.write(Branch(user_text="Who?", answer="Nobody.", weight=2.0))
    assert twice.weights.tolist() == (2 * once.weights).tolist()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param({"n_tokens": 0}, "1 or more", id="no-tokens"),
        pytest.param({"n_tokens": 1, "n_branches": 0}, "1 or more", id="no-branches"),
        pytest.param({"n_tokens": 1, "kind": "caption"}, "kind must be", id="unknown-kind"),
        pytest.param({"n_tokens": 1, "rule": "sqrt"}, "rule must be", id="unknown-rule"),
    ],
)
def test_what_makes_no_weight_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        branch_weight(**arguments)
