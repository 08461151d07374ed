"""The tiny Molmo2: the shape of the bundled checkpoint, how it starts, and one training step's forward.

Shape legend: B trees, F frames, N patches a frame, V pixels a patch, T visual tokens, P prefix tokens,
K slots, S tokens a slot, C channels, M tokens that carry loss.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.nn.functional as F
from transformers import Molmo2Config, Molmo2ForConditionalGeneration

from molmo2_ground.model.crops import patches_of
from molmo2_ground.train import tree_attention
from molmo2_ground.train.tiny_vocab import COORDINATES, EXTRA_ROWS, coordinate_text
from molmo2_ground.train.tree import IGNORE, MARK_PLACE, MARK_START

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from tokenizers import Tokenizer
    from torch import Tensor

    from molmo2_ground.train.tree import SlotBatch

IMAGE_PX = 168
PATCH_PX = 14
GRID = IMAGE_PX // PATCH_PX  # 12 x 12 patches
POOL = 2  # 2 x 2 patches make one token: 36 a frame
EMBEDDING_STD = 0.5
# Width of the soft target around a coordinate, thousandths (facts measured on synthetic clips: about 0.6 %).
COORDINATE_BLUR = 6.0


def tiny_config(vocab_size: int) -> Molmo2Config:
    """The bundled checkpoint's shape, 5 million parameters."""
    extra = {name: vocab_size + i for i, name in enumerate(("start", "end", "patch", "col", "low"))}
    return Molmo2Config(
        vision_config={
            "hidden_size": 160,
            "intermediate_size": 640,
            "num_hidden_layers": 4,
            "num_attention_heads": 5,
            "num_key_value_heads": 5,
            "head_dim": 32,
            "image_size": [IMAGE_PX, IMAGE_PX],
            "patch_size": PATCH_PX,
        },
        adapter_config={
            "vision_feature_layer": [3, 2],
            "hidden_size": 160,
            "num_attention_heads": 5,
            "num_key_value_heads": 5,
            "head_dim": 32,
            "intermediate_size": 512,
            "text_hidden_size": 256,
        },
        text_config={
            "hidden_size": 256,
            "num_attention_heads": 8,
            "num_key_value_heads": 8,
            "head_dim": 32,
            "vocab_size": vocab_size,
            "additional_vocab_size": EXTRA_ROWS,
            "num_hidden_layers": 4,
            "intermediate_size": 640,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
            "max_position_embeddings": 4096,
        },
        image_start_token_id=extra["start"],
        image_end_token_id=extra["end"],
        image_patch_id=extra["patch"],
        low_res_image_start_token_id=extra["low"],
        frame_start_token_id=vocab_size + 7,
        frame_end_token_id=vocab_size + 8,
    )


def new_model(tokenizer: Tokenizer, *, seed: int) -> Molmo2ForConditionalGeneration:
    """A fresh model in bf16: tied word embeddings of a useful size, coordinates laid out along a line.

    Sine-cosine rows let neighbouring coordinates start out as neighbours; the final norm is scaled so that
    the first logits are of order one.
    """
    torch.manual_seed(seed)
    config = tiny_config(tokenizer.get_vocab_size() - 10)
    config._attn_implementation = tree_attention.register()
    model = Molmo2ForConditionalGeneration(config)
    with torch.no_grad():
        table_VC = model.model.language_model.embed_tokens.weight
        table_VC.normal_(0.0, EMBEDDING_STD)
        width = table_VC.shape[1]
        rates = 2 * math.pi * torch.logspace(-1, 1.5, width // 2)
        for value in COORDINATES:
            phase = rates * value / 1000
            row = torch.cat([phase.sin(), phase.cos()]) * math.sqrt(2) * EMBEDDING_STD
            table_VC[tokenizer.token_to_id(coordinate_text(value))] = row
        model.model.language_model.norm.weight.fill_(1 / (EMBEDDING_STD * math.sqrt(width)))
        for name, parameter in model.model.named_parameters():
            if parameter.ndim == 2 and "embed" not in name:
                parameter.normal_(0.0, 1 / math.sqrt(parameter.shape[1]))
            if name.endswith(("o_proj.weight", "fc2.weight", "down_proj.weight")) and "projector" not in name:
                parameter.mul_(0.35)  # residual branches start small: 1 / sqrt(2 x layers)
        model.model.vision_tower.positional_embedding.normal_(0.0, 0.5)
    # The library's `to` is wrapped in a way that type checkers misread.
    network: Molmo2ForConditionalGeneration = cast("Any", model).to(torch.bfloat16)
    return network


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """What one step of training takes.

    frames_FNV    uint8: every frame of every tree, in the order in which the prefixes show them.
    visual_slots  int64[F * T]: where each visual feature goes, an index into the flattened prefix [B * P].
    """

    frames_FNV: npt.NDArray[np.uint8]
    visual_slots: npt.NDArray[np.int64]
    trees: SlotBatch


def patches(frames_FHWC: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Cut square pictures into patches: uint8[F, N, V]."""
    return patches_of(frames_FHWC, patch_size_px=PATCH_PX)


def patch_features(model: Molmo2ForConditionalGeneration, frames_FNV: Tensor) -> Tensor:
    """uint8 patches -> the ViT's two layers side by side, [F, N, 2C]."""
    tower = model.model.vision_tower
    hidden = (
        tower.patch_embedding((frames_FNV.to(torch.bfloat16) - 127.5) / 127.5) + tower.positional_embedding
    )
    kept = []
    for layer in tower.layers:
        hidden = layer(hidden, None)
        kept.append(hidden)
    # The library types its sub-configs as optional dicts; after construction they are objects.
    adapter: Any = model.config.adapter_config
    return torch.cat([kept[i] for i in adapter.vision_feature_layer], -1)


def visual_tokens(model: Molmo2ForConditionalGeneration, features_FNC: Tensor) -> Tensor:
    """Pool and project: [F, N, 2C] -> [F * T, text width]. The grid divides evenly, so nothing is masked."""
    count, _, width = features_FNC.shape
    side = GRID // POOL
    cells = features_FNC.reshape(count, side, POOL, side, POOL, width).transpose(2, 3)
    cells = cells.reshape(count * side * side, POOL * POOL, width)
    adapter = model.model.multi_modal_projector
    pooled, _ = adapter.image_pooling_2d(cells.mean(1, keepdim=True), cells, attention_mask=None)
    projected: Tensor = adapter.image_projector(pooled.squeeze(1))
    return projected


def text_hidden(model: Molmo2ForConditionalGeneration, batch: Batch, visual_TC: Tensor) -> Tensor:
    """Run the language model over prefixes and slots; returns the slots' hidden states [B, K, S, C]."""
    trees = batch.trees
    language = model.model.language_model
    n_trees, n_prefix = trees.prefix_ids.shape
    slots_BT = torch.from_numpy(trees.ids.reshape(n_trees, -1))
    prefix = language.embed_tokens(torch.from_numpy(trees.prefix_ids)).reshape(n_trees * n_prefix, -1)
    prefix = prefix.index_add(0, torch.from_numpy(batch.visual_slots), visual_TC).reshape(
        n_trees, n_prefix, -1
    )
    embeds = torch.cat([prefix, language.embed_tokens(slots_BT)], 1)
    positions = torch.cat(
        [
            torch.arange(n_prefix).expand(n_trees, -1),
            torch.from_numpy(trees.positions.reshape(n_trees, -1)),
        ],
        1,
    )
    masks = tree_attention.tree_masks(trees, dtype=embeds.dtype)
    hidden: Tensor = language(
        inputs_embeds=embeds,
        # A ready mask of four dimensions passes through the library untouched; ours reads `tree` instead.
        attention_mask=masks.prefix_B1PP,
        position_ids=positions,
        use_cache=False,
        tree=masks,
    ).last_hidden_state
    return hidden[:, n_prefix:].reshape(*trees.ids.shape, -1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Targets:
    """Soft targets: row t of `table_VV` is what should follow when the training text has token t.

    value_V: the coordinate that a token writes, thousandths; far out of range for any other token.
    """

    table_VV: Tensor
    value_V: Tensor


def soft_targets(tokenizer: Tokenizer, *, vocab_size: int) -> Targets:
    """One-hot rows, and for coordinates a Gaussian over their neighbours: a near miss is not a far one."""
    table = torch.eye(vocab_size)
    ids = torch.tensor([tokenizer.token_to_id(coordinate_text(v)) for v in COORDINATES])
    values = torch.tensor(COORDINATES, dtype=torch.float32)
    blur = torch.exp(-0.5 * ((values[:, None] - values[None, :]) / COORDINATE_BLUR) ** 2)
    table[ids[:, None], ids[None, :]] = blur / blur.sum(1, keepdim=True)
    value = torch.full((vocab_size,), 1e6)
    value[ids] = values
    return Targets(table_VV=table, value_V=value)


def step_loss(
    model: Molmo2ForConditionalGeneration, batch: Batch, targets: Targets, *, train_vision: bool
) -> tuple[Tensor, dict[str, float]]:
    """Forward of one step: weighted cross-entropy in fp32 over the tokens that carry loss.

    Reports what averages over tokens hide: `place`, how often an answer's first coordinate is within 5 % of
    the width, and `start`, how often its first token (a place, none, a word) is right.
    """
    frames = torch.from_numpy(batch.frames_FNV)
    with torch.set_grad_enabled(train_vision):
        features = patch_features(model, frames)
    hidden = text_hidden(model, batch, visual_tokens(model, features))
    flat_targets = torch.from_numpy(batch.trees.targets.reshape(-1))
    index_M = torch.nonzero(flat_targets != IGNORE).squeeze(1)
    targets_M = flat_targets[index_M]
    weights_M = torch.from_numpy(batch.trees.weights.reshape(-1))[index_M]
    rows = hidden.reshape(-1, hidden.shape[-1])[index_M]
    vocab_size = targets.table_VV.shape[0]
    # Tied during training: the output table is the input table's base rows.
    logits = F.linear(rows, model.model.language_model.embed_tokens.weight[:vocab_size]).float()
    wanted = (targets.table_VV[targets_M] * logits).sum(-1)
    losses = torch.logsumexp(logits, -1) - wanted
    loss = (losses * weights_M).sum() / weights_M.sum()
    marks_M = torch.from_numpy(batch.trees.marks.reshape(-1))[index_M]
    guesses_M = logits.detach().argmax(-1)
    place, start = marks_M == MARK_PLACE, marks_M == MARK_START
    distance = (targets.value_V[guesses_M[place]] - targets.value_V[targets_M[place]]).abs()
    hits = {
        "place": float((distance <= 50).float().mean()),
        "start": float((guesses_M[start] == targets_M[start]).float().mean()),
        "fill": batch.trees.fill,
    }
    return loss, hits
