"""To train on from a finished toy-street model instead of from nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer

from molmo2_ground.model.checkpoint import load_network, open_checkpoint
from molmo2_ground.train.tiny_model import new_model
from molmo2_ground.train.tiny_text import Text
from molmo2_ground.train.tiny_trainer import save_weights

if TYPE_CHECKING:
    from pathlib import Path

    from molmo2_ground.model.checkpoint import Checkpoint


def begun_with(path_or_id: str) -> Checkpoint:
    """A finished toy-street model. Raises `CheckpointError`, and ValueError for a model of another make."""
    checkpoint = open_checkpoint(path_or_id)
    words = Tokenizer.from_file(str(checkpoint.folder / "tokenizer.json")).get_vocab()
    if words != Text.build().tokenizer.get_vocab():
        raise ValueError(
            "expected a model that `python -m molmo2_ground.train.tiny` made, as the bundled `tiny` is; "
            f"{path_or_id} knows other words"
        )
    return checkpoint


def leave_weights(checkpoint: Checkpoint, path: Path) -> None:
    """Write a finished model's weights as a stage leaves them, so that the stage counts as trained.

    Raises ValueError when the file is there and holds other weights: a run would go on from those.
    """
    network = load_network(checkpoint, device=torch.device("cpu"), dtype=torch.float32)
    model = new_model(Text.build().tokenizer, seed=0).float()  # all of it is replaced
    model.load_state_dict(network.state_dict())
    if path.exists():
        found = load_file(path)
        same = all(
            torch.equal(found[name], weight) for name, weight in model.state_dict().items() if name in found
        )
        if not same:
            raise ValueError(f"{path} holds the weights of another model; name another work folder")
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    save_weights(model, path)
