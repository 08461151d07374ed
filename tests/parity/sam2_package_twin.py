"""A network of the library and a predictor of Meta's `sam2` package with the same random weights."""

from __future__ import annotations

import re
from typing import Any

import torch

from molmo2_ground.masks.sam_random import random_sam2_config, random_sam_network

SIDE_PX, WIDTH = 64, 128

# The library's names for the package's, in order; each is tried on what the ones before made of a name.
_NAMES = (
    (r"^vision_encoder\.backbone\.", "image_encoder.trunk."),
    (r"^vision_encoder\.neck\.convs\.(\d+)\.", r"image_encoder.neck.convs.\1.conv."),
    (r"patch_embed\.projection", "patch_embed.proj"),
    (r"\.mlp\.proj_in", ".mlp.layers.0"),
    (r"\.mlp\.proj_out", ".mlp.layers.1"),
    (r"shared_embedding\.positional_embedding", "pe_layer.positional_encoding_gaussian_matrix"),
    (r"mask_embed\.conv1", "mask_downscaling.0"),
    (r"mask_embed\.layer_norm1", "mask_downscaling.1"),
    (r"mask_embed\.conv2", "mask_downscaling.3"),
    (r"mask_embed\.layer_norm2", "mask_downscaling.4"),
    (r"mask_embed\.conv3", "mask_downscaling.6"),
    (r"^prompt_encoder\.", "sam_prompt_encoder."),
    (r"^mask_decoder\.", "sam_mask_decoder."),
    (r"upscale_conv1", "output_upscaling.0"),
    (r"upscale_layer_norm", "output_upscaling.1"),
    (r"upscale_conv2", "output_upscaling.3"),
    (r"(_head|_mlps\.\d+|object_pointer_proj)\.layers\.0", r"\1.layers.1"),
    (r"(_head|_mlps\.\d+|object_pointer_proj)\.proj_in", r"\1.layers.0"),
    (r"(_head|_mlps\.\d+|object_pointer_proj)\.proj_out", r"\1.layers.2"),
    (r"^object_pointer_proj", "obj_ptr_proj"),
    (r"mask_downsampler\.final_conv", "mask_downsampler.encoder.12"),
    (r"^memory_encoder\.feature_projection", "memory_encoder.pix_feat_proj"),
    (r"^memory_encoder\.projection", "memory_encoder.out_proj"),
    (r"memory_fuser", "fuser"),
    (r"depthwise_conv", "dwconv"),
    (r"pointwise_conv", "pwconv"),
    (r"(fuser\.layers\.\d+)\.scale", r"\1.gamma"),
    (r"\.o_proj", ".out_proj"),
    (r"^temporal_positional_encoding_projection_layer", "obj_ptr_tpos_proj"),
    (r"^no_memory_embedding", "no_mem_embed"),
    (r"^no_memory_positional_encoding", "no_mem_pos_enc"),
    (r"^no_object_pointer", "no_obj_ptr"),
    (r"^memory_temporal_positional_encoding", "maskmem_tpos_enc"),
    (r"^occlusion_spatial_embedding_parameter", "no_obj_embed_spatial"),
)  # fmt: skip


def library_network(*, seed: int = 0) -> Any:
    """A small network in the sizes that the package has no settings for."""
    config = random_sam2_config(
        side_px=SIDE_PX,
        mask_decoder_config={"hidden_size": WIDTH},
        memory_fuser_intermediate_dim=4 * WIDTH,
    )
    config.vision_config.backbone_config.mlp_ratio = 4.0
    return random_sam_network(config, seed=seed)


def package_names(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The library's weights under the package's names."""
    found: dict[str, torch.Tensor] = {}
    for name, weight in weights.items():
        if name.startswith("shared_image_embedding."):
            continue  # the prompt encoder's table under its other name
        if name == "prompt_encoder.point_embed.weight":
            found |= {
                f"sam_prompt_encoder.point_embeddings.{i}.weight": row[None] for i, row in enumerate(weight)
            }
            continue
        for pattern, replacement in _NAMES:
            name = re.sub(pattern, replacement, name)
        name = re.sub(
            r"mask_downsampler\.layers\.(\d+)\.conv",
            lambda m: f"mask_downsampler.encoder.{3 * int(m[1])}",
            name,
        )
        name = re.sub(
            r"mask_downsampler\.layers\.(\d+)\.layer_norm",
            lambda m: f"mask_downsampler.encoder.{3 * int(m[1]) + 1}",
            name,
        )
        name = re.sub(r"(?<=\.)layer_norm", "norm", name)
        found[name] = weight
    return found


def package_predictor(network: Any) -> Any:
    """The package's predictor with this network's weights, set up as its own builder does for videos."""
    from sam2.modeling.backbones.hieradet import Hiera
    from sam2.modeling.backbones.image_encoder import FpnNeck, ImageEncoder
    from sam2.modeling.position_encoding import PositionEmbeddingSine
    from sam2.sam2_video_predictor import SAM2VideoPredictor

    trunk = Hiera(
        embed_dim=16,
        stages=(1, 1, 2, 1),
        window_spec=(4, 2, 4, 2),
        global_att_blocks=(3,),
        window_pos_embed_bkg_spatial_size=(4, 4),
    )
    neck = FpnNeck(
        position_encoding=PositionEmbeddingSine(num_pos_feats=WIDTH),
        d_model=WIDTH,
        backbone_channel_list=[128, 64, 32, 16],
        fpn_top_down_levels=[2, 3],
        fpn_interp_model="nearest",
    )
    predictor = SAM2VideoPredictor(
        image_encoder=ImageEncoder(trunk=trunk, neck=neck, scalp=1),
        memory_attention=_memory_attention(),
        memory_encoder=_memory_encoder(),
        image_size=SIDE_PX,
        sigmoid_scale_for_mem_enc=20.0,
        sigmoid_bias_for_mem_enc=-10.0,
        binarize_mask_from_pts_for_mem_enc=True,
        use_mask_input_as_output_without_sam=True,
        directly_add_no_mem_embed=True,
        no_obj_embed_spatial=True,
        use_high_res_features_in_sam=True,
        multimask_output_in_sam=True,
        iou_prediction_use_sigmoid=True,
        use_obj_ptrs_in_encoder=True,
        add_tpos_enc_to_obj_ptrs=True,
        proj_tpos_enc_in_obj_ptrs=True,
        use_signed_tpos_enc_to_obj_ptrs=True,
        only_obj_ptrs_in_the_past_for_eval=True,
        pred_obj_scores=True,
        pred_obj_scores_mlp=True,
        fixed_no_obj_ptr=True,
        multimask_output_for_tracking=True,
        use_multimask_token_for_obj_ptr=True,
        multimask_min_pt_num=0,
        multimask_max_pt_num=1,
        use_mlp_for_obj_ptr_proj=True,
        sam_mask_decoder_extra_args={
            "dynamic_multimask_via_stability": True,
            "dynamic_multimask_stability_delta": 0.05,
            "dynamic_multimask_stability_thresh": 0.98,
        },
    )
    predictor.load_state_dict(package_names(network.state_dict()))
    return predictor.eval()


def _memory_attention() -> Any:
    from sam2.modeling.memory_attention import MemoryAttention, MemoryAttentionLayer
    from sam2.modeling.sam.transformer import RoPEAttention

    cells = [SIDE_PX // 16] * 2
    sizes = {"embedding_dim": WIDTH, "num_heads": 1, "downsample_rate": 1, "feat_sizes": cells}
    layer = MemoryAttentionLayer(
        activation="relu",
        cross_attention=RoPEAttention(**sizes, rope_k_repeat=True, kv_in_dim=64),
        self_attention=RoPEAttention(**sizes),
        d_model=WIDTH,
        dim_feedforward=64,
        dropout=0.1,
        pos_enc_at_attn=False,
        pos_enc_at_cross_attn_keys=True,
        pos_enc_at_cross_attn_queries=False,
    )
    return MemoryAttention(d_model=WIDTH, pos_enc_at_input=True, layer=layer, num_layers=1)


def _memory_encoder() -> Any:
    from sam2.modeling.memory_encoder import CXBlock, Fuser, MaskDownSampler, MemoryEncoder
    from sam2.modeling.position_encoding import PositionEmbeddingSine

    return MemoryEncoder(
        out_dim=64,
        in_dim=WIDTH,
        position_encoding=PositionEmbeddingSine(num_pos_feats=64),
        mask_downsampler=MaskDownSampler(embed_dim=WIDTH, kernel_size=3, stride=2, padding=1),
        fuser=Fuser(layer=CXBlock(dim=WIDTH), num_layers=1),
    )
