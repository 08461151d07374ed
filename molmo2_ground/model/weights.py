"""Weight names: the library's network on one side, the released files on the other."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch

# (pattern of the library's name, the released name); the first that matches the whole name wins.
_RENAMES: tuple[tuple[str, str], ...] = (
    (r"lm_head\.weight", "lm_head.weight"),
    (r"model\.language_model\.norm\.weight", "model.transformer.ln_f.weight"),
    (
        r"model\.language_model\.layers\.(\d+)\.self_attn\.([qk])_norm\.weight",
        r"model.transformer.blocks.\1.self_attn.\2_norm.weight",
    ),
    (
        r"model\.language_model\.layers\.(\d+)\.self_attn\.o_proj\.weight",
        r"model.transformer.blocks.\1.self_attn.attn_out.weight",
    ),
    (
        r"model\.language_model\.layers\.(\d+)\.mlp\.down_proj\.weight",
        r"model.transformer.blocks.\1.mlp.ff_out.weight",
    ),
    (
        r"model\.language_model\.layers\.(\d+)\.input_layernorm\.weight",
        r"model.transformer.blocks.\1.attn_norm.weight",
    ),
    (
        r"model\.language_model\.layers\.(\d+)\.post_attention_layernorm\.weight",
        r"model.transformer.blocks.\1.ff_norm.weight",
    ),
    (
        r"model\.vision_tower\.(patch_embedding\..+|positional_embedding)",
        r"model.vision_backbone.image_vit.\1",
    ),
    (
        r"model\.vision_tower\.layers\.(\d+)\.self_attn\.([qkvo])_proj\.(.+)",
        r"model.vision_backbone.image_vit.transformer.resblocks.\1.attention.w\2.\3",
    ),
    (
        r"model\.vision_tower\.layers\.(\d+)\.mlp\.fc([12])\.(.+)",
        r"model.vision_backbone.image_vit.transformer.resblocks.\1.feed_forward.w\2.\3",
    ),
    (
        r"model\.vision_tower\.layers\.(\d+)\.layer_norm1\.(.+)",
        r"model.vision_backbone.image_vit.transformer.resblocks.\1.attention_norm.\2",
    ),
    (
        r"model\.vision_tower\.layers\.(\d+)\.layer_norm2\.(.+)",
        r"model.vision_backbone.image_vit.transformer.resblocks.\1.ffn_norm.\2",
    ),
    (
        r"model\.multi_modal_projector\.image_pooling_2d\.([qkvo])_proj\.(.+)",
        r"model.vision_backbone.image_pooling_2d.w\1.\2",
    ),
    (
        r"model\.multi_modal_projector\.image_projector\.gate_proj\.(.+)",
        r"model.vision_backbone.image_projector.w1.\1",
    ),
    (
        r"model\.multi_modal_projector\.image_projector\.down_proj\.(.+)",
        r"model.vision_backbone.image_projector.w2.\1",
    ),
    (
        r"model\.multi_modal_projector\.image_projector\.up_proj\.(.+)",
        r"model.vision_backbone.image_projector.w3.\1",
    ),
)
_EMBEDDING = "model.language_model.embed_tokens.weight"
_QKV = re.compile(r"model\.language_model\.layers\.(\d+)\.self_attn\.([qkv])_proj\.(weight|bias)")
_GATED = re.compile(r"model\.language_model\.layers\.(\d+)\.mlp\.(up|gate)_proj\.weight")

HUB_EMBEDDING = "model.transformer.wte.embedding"
HUB_NEW_EMBEDDING = "model.transformer.wte.new_embedding"


def to_hub(state: Mapping[str, torch.Tensor], *, base_vocab: int) -> dict[str, torch.Tensor]:
    """The network's weights under the released names, fused and split as the released files have them.

    base_vocab: rows of the embedding that belong to the base vocabulary; the rest become the extra table.
    Raises KeyError for a weight that the released layout has no place for.
    """
    hub: dict[str, torch.Tensor] = {}
    for name, tensor in state.items():
        qkv, gated = _QKV.fullmatch(name), _GATED.fullmatch(name)
        if name == _EMBEDDING:
            hub[HUB_EMBEDDING], hub[HUB_NEW_EMBEDDING] = tensor[:base_vocab], tensor[base_vocab:]
        elif qkv:
            if qkv[2] == "q":
                parts = [state[name.replace("q_proj", f"{kind}_proj")] for kind in "qkv"]
                hub[f"model.transformer.blocks.{qkv[1]}.self_attn.att_proj.{qkv[3]}"] = torch.cat(parts)
        elif gated:
            if gated[2] == "up":
                # The released tensor holds the linear half first and the gate behind it.
                parts = [tensor, state[name.replace("up_proj", "gate_proj")]]
                hub[f"model.transformer.blocks.{gated[1]}.mlp.ff_proj.weight"] = torch.cat(parts)
        else:
            hub[_renamed(name)] = tensor
    return hub


def _renamed(name: str) -> str:
    for pattern, target in _RENAMES:
        match = re.fullmatch(pattern, name)
        if match:
            return match.expand(target)
    raise KeyError(f"the released layout has no place for the weight {name}")
