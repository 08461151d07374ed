"""Training: message trees, the toy street, and the recipe of the bundled tiny model.

Names load what they need when they are first used: the toy street is drawn without loading torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

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

    def __getattr__(name: str) -> object:
        if name not in _HOME_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value: object = getattr(importlib.import_module(_HOME_OF[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
