"""The tiny Molmo2: the shape of the bundled checkpoint, how it starts, and one training step's forward.

Shape legend: B trees, F frames, N patches a frame, V pixels a patch, T visual tokens, P prefix tokens,
K slots, S tokens a slot, C channels, M tokens that carry loss, D digits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.nn.functional as F
from transformers import Molmo2Config, Molmo2ForConditionalGeneration
from transformers.models.molmo2.modeling_molmo2 import Molmo2RMSNorm

from molmo2_ground.model.crops import patches_of
from molmo2_ground.train import tree_attention
from molmo2_ground.train.on_device import fast_dtype
from molmo2_ground.train.tiny_shape import GRID, IMAGE_PX, PATCH_PX, POOL
from molmo2_ground.train.tiny_vocab import EXTRA_ROWS
from molmo2_ground.train.tree import IGNORE, MARK_PLACE, MARK_START

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from tokenizers import Tokenizer
    from torch import Tensor

    from molmo2_ground.train.tree import SlotBatch

EMBEDDING_STD = 0.5
# Width of the soft target around a coordinate, thousandths: 2 px of 640.
COORDINATE_BLUR = 3.0


def tiny_config(vocab_size: int) -> Molmo2Config:
    """The bundled checkpoint's shape, 5.5 million parameters."""
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
            "num_hidden_layers": 5,
            "intermediate_size": 576,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
            "max_position_embeddings": 8192,
        },
        image_start_token_id=extra["start"],
        image_end_token_id=extra["end"],
        image_patch_id=extra["patch"],
        low_res_image_start_token_id=extra["low"],
        frame_start_token_id=vocab_size + 7,
        frame_end_token_id=vocab_size + 8,
    )


def new_model(
    tokenizer: Tokenizer, *, seed: int, device: torch.device | str = "cpu"
) -> Molmo2ForConditionalGeneration:
    """A fresh model in `fast_dtype`: tied word embeddings of a useful size, first logits of order one."""
    torch.manual_seed(seed)
    config = tiny_config(tokenizer.get_vocab_size() - 10)
    config._attn_implementation = tree_attention.register()
    model = Molmo2ForConditionalGeneration(config)
    with torch.no_grad():
        table_VC = model.model.language_model.embed_tokens.weight
        table_VC.normal_(0.0, EMBEDDING_STD)
        width = table_VC.shape[1]
        model.model.language_model.norm.weight.fill_(1 / (EMBEDDING_STD * math.sqrt(width)))
        for name, parameter in model.model.named_parameters():
            if parameter.ndim == 2 and "embed" not in name:
                parameter.normal_(0.0, 1 / math.sqrt(parameter.shape[1]))
            if name.endswith(("o_proj.weight", "fc2.weight", "down_proj.weight")) and "projector" not in name:
                parameter.mul_(0.35)  # residual branches start small: 1 / sqrt(2 x layers)
        model.model.vision_tower.positional_embedding.normal_(0.0, 0.5)
    _fuse_norms(model)
    # The library's `to` is wrapped in a way that type checkers misread.
    network: Molmo2ForConditionalGeneration = cast("Any", model).to(device, fast_dtype(device))
    return network


def _fuse_norms(model: Molmo2ForConditionalGeneration) -> None:
    """Put torch's own RMSNorm, one kernel, in the place of the library's, which takes seven."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, Molmo2RMSNorm):
                norm = torch.nn.RMSNorm(len(child.weight), eps=child.variance_epsilon)
                norm.weight = child.weight
                setattr(parent, name, norm)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """What one step of training takes.

    frames_FNV    uint8: every frame of every tree, in the order in which the prefixes show them.
    visual_slots  int64[F * T]: where each visual feature goes, an index into the flattened prefix [B * P].
    Arrays when it is made, tensors (`on_device`) when the model takes it.
    """

    frames_FNV: Any
    visual_slots: Any
    trees: SlotBatch


def patches(frames_FHWC: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Cut square pictures into patches: uint8[F, N, V]."""
    return patches_of(frames_FHWC, patch_size_px=PATCH_PX)


def patch_features(model: Molmo2ForConditionalGeneration, frames_FNV: Tensor) -> Tensor:
    """uint8 patches -> the ViT's two layers side by side, [F, N, 2C]."""
    tower = model.model.vision_tower
    dtype = tower.positional_embedding.dtype
    hidden = tower.patch_embedding((frames_FNV.to(dtype) - 127.5) / 127.5) + tower.positional_embedding
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
    slots_BT = torch.as_tensor(trees.ids).reshape(n_trees, -1)
    prefix = language.embed_tokens(torch.as_tensor(trees.prefix_ids)).reshape(n_trees * n_prefix, -1)
    prefix = prefix.index_add(0, torch.as_tensor(batch.visual_slots), visual_TC).reshape(
        n_trees, n_prefix, -1
    )
    embeds = torch.cat([prefix, language.embed_tokens(slots_BT)], 1)
    positions = torch.cat(
        [
            torch.arange(n_prefix, device=embeds.device).expand(n_trees, -1),
            torch.as_tensor(trees.positions).reshape(n_trees, -1),
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
class Digits:
    """What the loss knows about digits: their tokens, and how a near miss differs from a far one.

    ids_D    int64[10], the digits' tokens.
    value_V  int64[V], the digit that a token writes, -1 for all others.
    soft_NPD float32[1000, 3, 10]: for a coordinate in thousandths, what its first, second and third digit
             should be, given the right ones before: shares of a Gaussian around the coordinate.
    """

    ids_D: Tensor
    value_V: Tensor
    soft_NPD: Tensor

    @classmethod
    def build(
        cls,
        tokenizer: Tokenizer,
        *,
        vocab_size: int,
        device: torch.device | str = "cpu",
        blur: float = COORDINATE_BLUR,
    ) -> Digits:
        """For this tokenizer; `blur` is the Gaussian's standard deviation in thousandths."""
        ids = torch.tensor([tokenizer.token_to_id(str(digit)) for digit in range(10)])
        value = torch.full((vocab_size,), -1)
        value[ids] = torch.arange(10)
        numbers = torch.arange(1000, dtype=torch.float32)
        mass_NXYZ = torch.exp(-0.5 * ((numbers[:, None] - numbers[None, :]) / blur) ** 2).reshape(
            1000, 10, 10, 10
        )
        each = torch.arange(1000)
        first, second = each // 100, each // 10 % 10
        shares = torch.stack(
            [mass_NXYZ.sum((2, 3)), mass_NXYZ[each, first].sum(2), mass_NXYZ[each, first, second]], 1
        )
        return cls(
            ids_D=ids.to(device),
            value_V=value.to(device),
            soft_NPD=(shares / shares.sum(-1, keepdim=True)).to(device),
        )

    def places(self, targets_L: Tensor) -> tuple[Tensor, Tensor]:
        """Which digit of a coordinate each token of a row is (-1: none), and of which, int64[L] each.

        Three digits in a row are a coordinate; 1000 has four, and only itself as target.
        """
        digit = torch.where(targets_L >= 0, self.value_V[targets_L.clamp_min(0)], -1)
        padded = F.pad(digit, (1, 3), value=-1)
        before, one, two, three, after = (padded[i : i + len(digit)] for i in range(5))
        starts = (before < 0) & (one >= 0) & (two >= 0) & (three >= 0) & (after < 0)
        value = torch.where(starts, 100 * one + 10 * two + three, -1)
        place, whole = torch.full_like(digit, -1), torch.full_like(digit, -1)
        for number in range(3):
            here = F.pad(starts, (number, 0))[: len(digit)]
            place = torch.where(here, number, place)
            whole = torch.where(here, F.pad(value, (number, 0), value=-1)[: len(digit)], whole)
        return place, whole


def step_loss(
    model: Molmo2ForConditionalGeneration, batch: Batch, digits: Digits, *, train_vision: bool
) -> tuple[Tensor, dict[str, Tensor]]:
    """Forward of one step: weighted cross-entropy in fp32 over the tokens that carry loss.

    Reports what averages over tokens hide: `place`, how often the first digit of an answer's first coordinate
    is right, `tens`, the same of its second digit, and `start`, how often its first token (a place, none, a
    word) is right.
    """
    with torch.set_grad_enabled(train_vision):
        features = patch_features(model, torch.as_tensor(batch.frames_FNV))
    hidden = text_hidden(model, batch, visual_tokens(model, features))
    flat_targets = torch.as_tensor(batch.trees.targets).reshape(-1)
    index_M = torch.nonzero(flat_targets != IGNORE).squeeze(1)
    targets_M = flat_targets[index_M]
    weights_M = torch.as_tensor(batch.trees.weights).reshape(-1)[index_M]
    rows = hidden.reshape(-1, hidden.shape[-1])[index_M]
    # Tied during training: the output table is the input table's base rows.
    table = model.model.language_model.embed_tokens.weight[: len(digits.value_V)]
    logits = F.linear(rows, table).float()
    place, whole = (part[index_M] for part in digits.places(flat_targets))
    wanted = logits.gather(1, targets_M[:, None]).squeeze(1)
    soft = (digits.soft_NPD[whole, place] * logits[:, digits.ids_D]).sum(-1)
    losses = torch.logsumexp(logits, -1) - torch.where(place >= 0, soft, wanted)
    loss = (losses * weights_M).sum() / weights_M.sum()
    marks_M = torch.as_tensor(batch.trees.marks).reshape(-1)[index_M]
    right = (logits.detach().argmax(-1) == targets_M).float()
    first = (marks_M == MARK_PLACE).float()
    begin = (marks_M == MARK_START).float()
    tens = F.pad(first, (1, 0))[:-1]
    hits = {
        name: (right * mark).sum() / mark.sum()
        for name, mark in (("place", first), ("tens", tens), ("start", begin))
    }
    used = (torch.as_tensor(batch.trees.branch_ids) > 0).float().mean()
    return loss, {**hits, "fill": used}
