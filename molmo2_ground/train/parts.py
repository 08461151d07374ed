"""`split_parts`: which numbers of a Molmo2 belong to the ViT, the connector and the language model.

Each part has learning rates and a bound on its gradient of its own. The library holds the base words and the
128 extra words of pictures in one table, while the recipe freezes the first and trains the second with the
connector. So what is trained is described in pieces: a parameter, or some rows of one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch

if TYPE_CHECKING:
    from collections.abc import Collection

    from torch import Tensor
    from torch.nn import Parameter
    from transformers import Molmo2ForConditionalGeneration

PartName = Literal["vit", "connector", "llm"]
PART_NAMES: tuple[PartName, ...] = get_args(PartName)

_EMBEDDING = "model.language_model.embed_tokens.weight"
_HEAD = "lm_head.weight"
_PREFIXES: tuple[tuple[str, PartName], ...] = (
    ("model.vision_tower.", "vit"),
    ("model.multi_modal_projector.", "connector"),
    ("model.language_model.", "llm"),
    (_HEAD, "llm"),
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Piece:
    """A parameter that is trained, or rows [start, stop) of it when `rows` is given."""

    name: str
    parameter: Parameter
    rows: tuple[int, int] | None = None

    @property
    def value(self) -> Tensor:
        """The numbers themselves; writing into it writes into the parameter."""
        whole = self.parameter.detach()
        return whole if self.rows is None else whole[self.rows[0] : self.rows[1]]

    @property
    def gradient(self) -> Tensor | None:
        """Their gradient, None when the last backward pass did not reach the parameter."""
        whole = self.parameter.grad
        return whole if whole is None or self.rows is None else whole[self.rows[0] : self.rows[1]]


def split_parts(
    model: Molmo2ForConditionalGeneration,
    *,
    frozen: Collection[PartName] = (),
    train_embedding: bool = False,
    tied: bool | None = None,
) -> dict[PartName, tuple[Piece, ...]]:
    """What each part trains; all else gets no gradient any more.

    frozen           parts that stay as they are; they are missing in the result.
    train_embedding  also train the base words' rows, with the language model. The recipe leaves them.
    tied             the output table is the base words' table. None: it is when their values are equal.
                     Such a table is trained only with `train_embedding`, and as the input table: the loss
                     has to read that one, and `tie_head` copies it before the model is written.

    The 128 extra rows are pieces of the connector. Frozen rows of a table are in no piece, so no optimizer
    writes to them: they stay the same to the bit, though their gradient is computed.
    """
    unknown = sorted(set(frozen) - set(PART_NAMES))
    if unknown:
        raise ValueError(f"parts are {', '.join(PART_NAMES)}; got {', '.join(unknown)}")
    tied = is_tied(model) if tied is None else tied
    base = _base_rows(model)
    found: dict[PartName, list[Piece]] = {part: [] for part in PART_NAMES if part not in frozen}
    for name, parameter in model.named_parameters():
        pieces: list[tuple[PartName, Piece]] = []
        if name == _EMBEDDING:
            if train_embedding:
                pieces.append(("llm", Piece(name=f"{name}[base]", parameter=parameter, rows=(0, base))))
            extra = (base, len(parameter))
            pieces.append(("connector", Piece(name=f"{name}[extra]", parameter=parameter, rows=extra)))
        elif not (name == _HEAD and tied):
            pieces.append((_part_of(name), Piece(name=name, parameter=parameter)))
        kept = [(part, piece) for part, piece in pieces if part in found]
        parameter.requires_grad_(bool(kept))
        for part, piece in kept:
            found[part].append(piece)
    return {part: tuple(pieces) for part, pieces in found.items()}


def is_tied(model: Molmo2ForConditionalGeneration) -> bool:
    """Whether the output table has the values of the base words' table.

    The released files always hold two tables, also of the 4B model, whose tables were one while it trained.
    """
    base = _base_rows(model)
    return torch.equal(model.lm_head.weight, model.model.language_model.embed_tokens.weight[:base])


@torch.no_grad()
def tie_head(model: Molmo2ForConditionalGeneration) -> None:
    """Copy the base words' rows into the output table."""
    model.lm_head.weight.copy_(model.model.language_model.embed_tokens.weight[: _base_rows(model)])


def _base_rows(model: Molmo2ForConditionalGeneration) -> int:
    # The library types its sub-configs as optional dicts; after construction they are objects.
    text: Any = model.config.text_config
    return int(text.vocab_size)


def _part_of(name: str) -> PartName:
    for prefix, part in _PREFIXES:
        if name.startswith(prefix):
            return part
    raise ValueError(f"{name} belongs to no part; expected a parameter of Molmo2ForConditionalGeneration")
