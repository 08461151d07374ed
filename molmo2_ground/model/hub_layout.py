"""Write a network as a folder in the layout of the released checkpoints.

The library's own `save_pretrained` keeps the released weight names but cuts the embedding in two equal halves
and writes a config.json without the ids of picture words, so the folder is written here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file

from molmo2_ground.model.flags import InputFlags
from molmo2_ground.model.text_codec import TextCodec
from molmo2_ground.model.weights import to_hub

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import Molmo2Config, Molmo2ForConditionalGeneration

# Words of a conversation as the released template joins them: pictures first, then the turns.
_CHAT_TEMPLATE = (
    "{%- set pictures = namespace(images=0, videos=0) -%}"
    "{%- for message in messages if message.content is not string -%}"
    "{%- for part in message.content -%}"
    "{%- if part.type == 'image' -%}{%- set pictures.images = pictures.images + 1 -%}"
    "{%- elif part.type == 'video' -%}{%- set pictures.videos = pictures.videos + 1 -%}{%- endif -%}"
    "{%- endfor -%}{%- endfor -%}"
    "{%- for number in range(pictures.images) -%}"
    "{%- if pictures.images > 1 -%}{{ 'Image ' ~ (number + 1) }}{%- endif -%}{{ '<|image|>' }}"
    "{%- endfor -%}"
    "{{ '<|video|>' * pictures.videos }}"
    "{%- for message in messages -%}"
    "{{ '<|im_start|>' ~ message.role ~ '\\n' }}"
    "{%- if message.content is string -%}{{ message.content }}"
    "{%- else -%}"
    "{{ message.content | selectattr('type', 'equalto', 'text') | map(attribute='text') | join(' ') }}"
    "{%- endif -%}{{ '<|im_end|>\\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}"
)


def save_hub_layout(
    model: Molmo2ForConditionalGeneration,
    folder: str | Path,
    *,
    tokenizer: Tokenizer,
    flags: InputFlags,
    dtype: torch.dtype = torch.float32,
    bos_word: str = "<|im_end|>",
    eos_word: str = "<|im_end|>",
    pad_word: str = "<|endoftext|>",
    max_shard_bytes: int | None = None,
) -> Path:
    """Write config, tokenizer, input settings and weights, so that `load_checkpoint(folder)` reads them back.

    dtype: of the stored weights. max_shard_bytes: start another weight file when one would grow beyond this;
    None keeps one file. Returns the folder. Existing files of the same names are replaced.
    """
    target = Path(folder)
    text: Any = model.config.text_config
    target.mkdir(parents=True, exist_ok=True)
    context = int(text.max_position_embeddings)
    _write_tokenizer(
        target, tokenizer, bos_word=bos_word, eos_word=eos_word, pad_word=pad_word, context=context
    )
    for name, content in flags.to_files().items():
        _write_json(target / name, content)
    _write_json(target / "config.json", hub_config(model.config, flags=flags, dtype=dtype))
    state = {name: tensor.to("cpu", dtype) for name, tensor in model.state_dict().items()}
    weights = to_hub(state, base_vocab=text.vocab_size)
    # Separate storages: tied or sliced tensors share memory, which safetensors refuses to write.
    _write_weights(
        target, {name: tensor.clone().contiguous() for name, tensor in weights.items()}, max_shard_bytes
    )
    return target


def _write_tokenizer(
    folder: Path, tokenizer: Tokenizer, *, bos_word: str, eos_word: str, pad_word: str, context: int
) -> None:
    codec = TextCodec(tokenizer, bos_word=bos_word, eos_word=eos_word, where=str(folder))
    pad_id = codec.token_id(pad_word)
    if pad_id is None:
        raise ValueError(f"pad_word {pad_word!r} is not a word of the tokenizer")
    _write_json(
        folder / "generation_config.json",
        {"bos_token_id": codec.bos_id, "eos_token_id": codec.eos_id, "pad_token_id": pad_id},
    )
    _write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": bos_word,
            "eos_token": eos_word,
            "pad_token": pad_word,
            "clean_up_tokenization_spaces": False,
            "model_max_length": context,
        },
    )
    (folder / "chat_template.jinja").write_text(_CHAT_TEMPLATE, encoding="utf-8")
    tokenizer.save(str(folder / "tokenizer.json"))


def hub_config(config: Molmo2Config, *, flags: InputFlags, dtype: torch.dtype) -> dict[str, Any]:
    """config.json under the released keys."""
    # The library types its sub-configs as optional dicts; after construction they are objects.
    vision: Any = config.vision_config
    adapter: Any = config.adapter_config
    layers = vision.num_hidden_layers
    special = flags.special
    return {
        "architectures": ["Molmo2ForConditionalGeneration"],
        "model_type": "molmo2",
        "dtype": str(dtype).removeprefix("torch."),
        "tie_word_embeddings": False,
        "use_frame_special_tokens": flags.use_frame_special_tokens,
        "image_start_token_id": special.image_start,
        "image_end_token_id": special.image_end,
        "image_patch_id": special.image_patch,
        "image_col_id": special.image_col,
        "low_res_image_start_token_id": special.low_res_image_start,
        "image_low_res_id": special.image_low,
        "image_high_res_id": special.image_patch,
        "frame_start_token_id": special.frame_start,
        "frame_end_token_id": special.frame_end,
        "vit_config": {
            "model_type": "molmo2",
            "image_default_input_size": list(vision.image_size),
            "image_patch_size": vision.patch_size,
            "image_num_pos": vision.num_position_embeddings,
            **_picked(vision, _TOWER_KEYS),
            "num_hidden_layers": layers,
            "layer_norm_eps": vision.layer_norm_eps,
        },
        "adapter_config": {
            "model_type": "molmo2",
            "vit_layers": [layer % layers for layer in adapter.vision_feature_layer],
            "pooling_attention_mask": True,
            **_picked(adapter, _TOWER_KEYS),
            "text_hidden_size": adapter.text_hidden_size,
        },
        "text_config": _text_config(config.text_config),
    }


_TOWER_KEYS = (
    "hidden_size",
    "intermediate_size",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "hidden_act",
)


def _text_config(text: Any) -> dict[str, Any]:
    rope = dict(text.rope_parameters)
    theta = rope.pop("rope_theta")
    scaled = rope.get("rope_type", "default") != "default"
    return {
        "model_type": "molmo2_text",
        **_picked(text, _TOWER_KEYS),
        "num_hidden_layers": text.num_hidden_layers,
        "vocab_size": text.vocab_size,
        "additional_vocab_size": text.additional_vocab_size,
        "qkv_bias": text.attention_bias,
        "max_position_embeddings": text.max_position_embeddings,
        "rope_theta": theta,
        "rope_scaling": rope if scaled else None,
        "rope_scaling_layers": list(text.rope_scaling_layers) if scaled else None,
        "use_qk_norm": True,
        "qk_norm_type": text.qk_norm_type,
        "layer_norm_eps": text.rms_norm_eps,
        "norm_after": text.norm_after,
        "tie_word_embeddings": False,
    }


def _picked(config: Any, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(config, name) for name in names}


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _save(weights: dict[str, torch.Tensor], path: Path) -> None:
    path.touch()  # with the rights of a new file; the library's own temporary file is for its owner alone
    mode = path.stat().st_mode
    save_file(weights, path, metadata={"format": "pt"})
    path.chmod(mode)


def _write_weights(folder: Path, weights: dict[str, torch.Tensor], max_shard_bytes: int | None) -> None:
    for stale in [*folder.glob("model*.safetensors"), folder / "model.safetensors.index.json"]:
        stale.unlink(missing_ok=True)
    shards = _shards(weights, max_shard_bytes)
    if len(shards) == 1:
        _save(shards[0], folder / "model.safetensors")
        return
    weight_map = {}
    for number, shard in enumerate(shards, start=1):
        name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        _save(shard, folder / name)
        weight_map.update(dict.fromkeys(shard, name))
    total = sum(tensor.nbytes for tensor in weights.values())
    _write_json(
        folder / "model.safetensors.index.json",
        {"metadata": {"total_size": total}, "weight_map": weight_map},
    )


def _shards(weights: dict[str, torch.Tensor], max_shard_bytes: int | None) -> list[dict[str, torch.Tensor]]:
    shards: list[dict[str, torch.Tensor]] = [{}]
    used = 0
    for name, tensor in weights.items():
        if max_shard_bytes is not None and shards[-1] and used + tensor.nbytes > max_shard_bytes:
            shards.append({})
            used = 0
        shards[-1][name] = tensor
        used += tensor.nbytes
    return shards
