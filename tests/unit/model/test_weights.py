from __future__ import annotations

import pytest
import torch

from molmo2_ground.model.weights import to_hub

ROOT = "model.language_model."
LAYER = f"{ROOT}layers.3."


def full(value: float, *shape: int) -> torch.Tensor:
    return torch.full(shape, value)


def test_queries_keys_and_values_become_one() -> None:
    state = {
        f"{LAYER}self_attn.v_proj.weight": full(3, 2, 5),
        f"{LAYER}self_attn.q_proj.weight": full(1, 4, 5),
        f"{LAYER}self_attn.k_proj.weight": full(2, 2, 5),
    }
    hub = to_hub(state, base_vocab=1)
    assert list(hub) == ["model.transformer.blocks.3.self_attn.att_proj.weight"]
    assert hub["model.transformer.blocks.3.self_attn.att_proj.weight"][:, 0].tolist() == [
        1,
        1,
        1,
        1,
        2,
        2,
        3,
        3,
    ]


def test_the_linear_half_stands_before_the_gate() -> None:
    state = {f"{LAYER}mlp.gate_proj.weight": full(2, 1, 5), f"{LAYER}mlp.up_proj.weight": full(1, 1, 5)}
    hub = to_hub(state, base_vocab=1)
    assert hub["model.transformer.blocks.3.mlp.ff_proj.weight"][:, 0].tolist() == [1, 2]


def test_the_embedding_is_cut_behind_the_base_vocabulary() -> None:
    hub = to_hub({f"{ROOT}embed_tokens.weight": torch.arange(10).reshape(5, 2)}, base_vocab=4)
    assert hub["model.transformer.wte.embedding"].shape == (4, 2)
    assert hub["model.transformer.wte.new_embedding"].tolist() == [[8, 9]]


@pytest.mark.parametrize(
    ("native", "hub"),
    [
        ("lm_head.weight", "lm_head.weight"),
        (f"{ROOT}norm.weight", "model.transformer.ln_f.weight"),
        (f"{LAYER}self_attn.q_norm.weight", "model.transformer.blocks.3.self_attn.q_norm.weight"),
        (f"{LAYER}self_attn.o_proj.weight", "model.transformer.blocks.3.self_attn.attn_out.weight"),
        (f"{LAYER}mlp.down_proj.weight", "model.transformer.blocks.3.mlp.ff_out.weight"),
        (f"{LAYER}input_layernorm.weight", "model.transformer.blocks.3.attn_norm.weight"),
        (f"{LAYER}post_attention_layernorm.weight", "model.transformer.blocks.3.ff_norm.weight"),
        ("model.vision_tower.patch_embedding.bias", "model.vision_backbone.image_vit.patch_embedding.bias"),
        (
            "model.vision_tower.layers.24.self_attn.o_proj.bias",
            "model.vision_backbone.image_vit.transformer.resblocks.24.attention.wo.bias",
        ),
        (
            "model.vision_tower.layers.0.mlp.fc2.weight",
            "model.vision_backbone.image_vit.transformer.resblocks.0.feed_forward.w2.weight",
        ),
        (
            "model.vision_tower.layers.0.layer_norm2.bias",
            "model.vision_backbone.image_vit.transformer.resblocks.0.ffn_norm.bias",
        ),
        (
            "model.multi_modal_projector.image_pooling_2d.k_proj.bias",
            "model.vision_backbone.image_pooling_2d.wk.bias",
        ),
        (
            "model.multi_modal_projector.image_projector.up_proj.weight",
            "model.vision_backbone.image_projector.w3.weight",
        ),
    ],
)
def test_names_are_the_released_ones(native: str, hub: str) -> None:
    assert list(to_hub({native: torch.zeros(1)}, base_vocab=1)) == [hub]


def test_a_weight_without_a_place_is_not_dropped() -> None:
    with pytest.raises(KeyError, match=r"model\.surprise\.weight"):
        to_hub({"model.surprise.weight": torch.zeros(1)}, base_vocab=1)
