"""Writes the tiny model in the layout of the released checkpoints, with every flag it was trained with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from molmo2_ground.model.flags import InputFlags, SpecialIds
from molmo2_ground.model.hub_layout import save_hub_layout
from molmo2_ground.train.tiny_shape import IMAGE_PX, PATCH_PX, POOL

if TYPE_CHECKING:
    from pathlib import Path

    from tokenizers import Tokenizer
    from transformers import Molmo2ForConditionalGeneration

MAX_FRAMES = 32  # at a time: sixteen seconds
# Tracking goes window by window: in long ones the model points at another thing while one is hidden.
TRACK_FRAMES = 4
MAX_FPS = 2.0


def tiny_flags(tokenizer: Tokenizer) -> InputFlags:
    """How pictures become the tiny model's input: one tile, 2 x 2 pooling, else as the released models."""
    special = SpecialIds.read({}, token_id=tokenizer.token_to_id, where="the tiny model")
    return InputFlags(
        image_size_px=IMAGE_PX,
        patch_size_px=PATCH_PX,
        image_pooling=(POOL, POOL),
        video_pooling=(POOL, POOL),
        max_crops=1,
        overlap_margins=(0, 0),
        pixel_mean=(0.5, 0.5, 0.5),
        pixel_std=(0.5, 0.5, 0.5),
        max_frames=MAX_FRAMES,
        max_fps=MAX_FPS,
        track_frames=TRACK_FRAMES,
        image_use_col_tokens=True,
        video_use_col_tokens=False,
        use_single_crop_col_tokens=False,
        use_single_crop_start_token=True,
        use_frame_special_tokens=False,
        special=special,
    )


def write_checkpoint(
    model: Molmo2ForConditionalGeneration,
    tokenizer: Tokenizer,
    folder: Path,
    *,
    flags: InputFlags | None = None,
) -> Path:
    """Write fp16 weights and all settings; the tied output table becomes a tensor of its own.

    flags: those the model was trained with, by default the recipe's.
    """
    with torch.no_grad():
        rows = model.lm_head.weight.shape[0]
        model.lm_head.weight.copy_(model.model.language_model.embed_tokens.weight[:rows])
    flags = tiny_flags(tokenizer) if flags is None else flags
    return save_hub_layout(model, folder, tokenizer=tokenizer, flags=flags, dtype=torch.float16)
