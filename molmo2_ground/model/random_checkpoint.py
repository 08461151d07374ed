"""Checkpoints with random weights in the released layout: for tests, and to try a machine without a download.

They answer nonsense. What they are good for: everything around the weights is real (file layout, tokenizer
shape, input settings, block structure), so code that runs on them runs on the released models.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

from molmo2_ground.model.flags import EXTRA_WORDS, InputFlags, SpecialIds
from molmo2_ground.model.hub_layout import save_hub_layout

Kind = Literal["qwen", "olmo", "qwen-4b"]

_TURN_WORDS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_BASE_VOCAB = 300
_EXTRA_VOCAB = 16
# One word a digit, as the Qwen tokenizer has it: coordinates are then always read digit by digit.
_SPLIT = r"[\r\n]+|\p{N}| ?\p{L}+| ?[^\s\p{L}\p{N}]+|[^\S\r\n]+"


def byte_tokenizer(*, base_vocab: int = _BASE_VOCAB) -> Tokenizer:
    """A tokenizer of bytes and a few merges, digits apart, with the conversation's and the pictures' words.

    base_vocab: ids below it are the base vocabulary (padded with unused words); the picture words follow it.
    """
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("e", "r"), ("Ġ", "t"), ("Ġt", "he"), ("h", "e"), ("u", "s"), ("us", "er")]
    merges.sort(key=lambda pair: len("".join(pair)))
    words = [*letters, *("".join(pair) for pair in merges), *_TURN_WORDS]
    if len(words) > base_vocab:
        raise ValueError(f"base_vocab must be {len(words)} or more; got {base_vocab}")
    words += [f"<|unused_{number}|>" for number in range(base_vocab - len(words))]
    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [AddedToken(word, special=True, normalized=False) for word in (*_TURN_WORDS, *EXTRA_WORDS)]
    )
    return tokenizer


def random_flags(kind: Kind, *, tokenizer: Tokenizer, **changes: Any) -> InputFlags:
    """Input settings of the released shape, at this kind's picture size; `changes` replace single fields."""
    large = kind == "qwen-4b"
    special = SpecialIds.read({}, token_id=tokenizer.token_to_id, where="random checkpoint")
    settings: dict[str, Any] = {
        "image_size_px": 378 if large else 84,
        "patch_size_px": 14,
        "image_pooling": (2, 2),
        "video_pooling": (3, 3),
        "max_crops": 8,
        "overlap_margins": (4, 4) if large else (1, 1),
        "pixel_mean": (0.5, 0.5, 0.5),
        "pixel_std": (0.5, 0.5, 0.5),
        "max_frames": 384 if large else 32,
        "max_fps": 2.0,
        "image_use_col_tokens": True,
        "use_single_crop_col_tokens": False,
        "use_single_crop_start_token": True,
        "video_use_col_tokens": False,
        "use_frame_special_tokens": False,
        "special": special,
    }
    return InputFlags(**{**settings, **changes})


def random_config(kind: Kind, *, flags: InputFlags, base_vocab: int = _BASE_VOCAB) -> dict[str, Any]:
    """The network's sizes under the released config.json keys (without the picture words' ids).

    `qwen` and `olmo` differ as the released models do: normalisation per head or over the projection, before
    or after a block, grouped or full keys, plain or partly scaled rotary positions. `qwen-4b` keeps the 4B's
    proportions and depth of the vision tower, about 32 times narrower.
    """
    if kind not in get_args(Kind):
        raise ValueError(f"kind must be one of {get_args(Kind)}; got {kind!r}")
    large = kind == "qwen-4b"
    width = 36 if large else 32
    hidden = 80 if large else 48
    tower = {"hidden_size": width, "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": width // 2}
    return {
        "vit_config": {
            **tower,
            "intermediate_size": 134 if large else 56,
            "num_hidden_layers": 27 if large else 6,
            "image_default_input_size": [flags.image_size_px] * 2,
            "image_patch_size": flags.patch_size_px,
            "image_num_pos": flags.patches_per_side**2,
            "hidden_act": "gelu_pytorch_tanh",
            "layer_norm_eps": 1e-6,
        },
        "adapter_config": {
            **tower,
            "vit_layers": [-3, -9] if large else [-2, -4],
            "intermediate_size": 304 if large else 64,
            "text_hidden_size": hidden,
            "hidden_act": "silu",
        },
        "text_config": _text_config(kind, hidden_size=hidden, base_vocab=base_vocab),
    }


def _text_config(kind: Kind, *, hidden_size: int, base_vocab: int) -> dict[str, Any]:
    large, olmo = kind == "qwen-4b", kind == "olmo"
    return {
        "hidden_size": hidden_size,
        "num_attention_heads": 8 if large else 4,
        "num_key_value_heads": 4 if olmo else 2,
        "head_dim": 16,
        "vocab_size": base_vocab,
        "additional_vocab_size": _EXTRA_VOCAB,
        "qkv_bias": False,
        "num_hidden_layers": 36 if large else 3,
        "intermediate_size": 304 if large else 96,
        "hidden_act": "silu",
        "max_position_embeddings": 36864 if large else 4096,
        "rope_theta": 5e6 if large else 5e5 if olmo else 1e6,
        "rope_scaling": _YARN if olmo else None,
        "rope_scaling_layers": [1] if olmo else None,
        "qk_norm_type": "olmo" if olmo else "qwen3",
        "layer_norm_eps": 1e-6,
        "norm_after": olmo,
    }


_YARN = {
    "rope_type": "yarn",
    "factor": 8.0,
    "original_max_position_embeddings": 512,
    "attention_factor": 1.2079441541679836,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
}


def write_random_checkpoint(
    folder: str | Path,
    *,
    kind: Kind = "qwen",
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    max_shard_bytes: int | None = None,
    sizes: Mapping[str, Mapping[str, Any]] | None = None,
    **flag_changes: Any,
) -> Path:
    """Write a random checkpoint of one kind and return its folder.

    sizes: keys of `random_config` to replace, by section, such as {"text_config": {"num_hidden_layers": 8}}.
    flag_changes: fields of `InputFlags` to replace, such as `use_frame_special_tokens=True`.
    """
    from transformers import Molmo2Config, Molmo2ForConditionalGeneration

    tokenizer = byte_tokenizer()
    flags = random_flags(kind, tokenizer=tokenizer, **flag_changes)
    sections = random_config(kind, flags=flags)
    for name, changes in (sizes or {}).items():
        sections[name] |= changes
    config = Molmo2Config(**sections, image_patch_id=flags.special.image_patch)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Molmo2ForConditionalGeneration(config)
        with torch.no_grad():
            # The library starts weights so small that all logits look alike; tests need them to differ.
            for name, weight in model.named_parameters():
                if weight.ndim > 1:
                    weight.normal_(std=weight.shape[-1] ** -0.5)
                else:
                    weight.add_(torch.randn_like(weight) * 0.1)
                assert weight.isfinite().all(), name
    return save_hub_layout(
        model, folder, tokenizer=tokenizer, flags=flags, dtype=dtype, max_shard_bytes=max_shard_bytes
    )
