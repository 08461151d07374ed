"""Training: message trees, the toy street, and the recipe of the bundled tiny model.

Names load what they need when they are first used: the toy street is drawn without loading torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from molmo2_ground._lazy import on_first_use

if TYPE_CHECKING:
    from molmo2_ground.model.attention import attention_rule
    from molmo2_ground.train.finetune import FineTuning, fine_tune
    from molmo2_ground.train.packer import Packer
    from molmo2_ground.train.tree import Branch, MessageTree, flatten
    from molmo2_ground.train.weights import branch_weight

__all__ = [
    "Branch",
    "FineTuning",
    "MessageTree",
    "Packer",
    "attention_rule",
    "branch_weight",
    "fine_tune",
    "flatten",
]

_HOME_OF = {
    "Branch": "molmo2_ground.train.tree",
    "FineTuning": "molmo2_ground.train.finetune",
    "MessageTree": "molmo2_ground.train.tree",
    "Packer": "molmo2_ground.train.packer",
    "attention_rule": "molmo2_ground.model.attention",
    "branch_weight": "molmo2_ground.train.weights",
    "fine_tune": "molmo2_ground.train.finetune",
    "flatten": "molmo2_ground.train.tree",
}


if not TYPE_CHECKING:  # a type checker reads the imports above, and is to find misspelt names
    __getattr__ = on_first_use(__name__, _HOME_OF)


def __dir__() -> list[str]:
    return sorted(__all__)
