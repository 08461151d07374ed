"""SAM checkpoints with random weights in the hub's layout: for tests, and to try a machine offline.

Their masks mean nothing. Everything around the weights is real, so code that runs on them runs on the
released models.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from molmo2_ground.model.checkpoint import without_progress_bars

# The library's memory attention takes memories of 64 channels, whatever the config says, and tells memories
# from pictures by their width, which must differ.
_MEMORY_CHANNELS, _WIDTH = 64, 128
_PATCH_PX = 16


def random_sam2_config(*, side_px: int = 64, **changes: Any) -> Any:
    """A `Sam2VideoConfig` of the released build, over a thousand times smaller in work.

    side_px: of the network's picture, a multiple of 32. changes: fields to replace, such as `num_maskmem=3`.
    """
    from transformers import Sam2VideoConfig

    cells = side_px // _PATCH_PX
    backbone = {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": 16,
        "image_size": [side_px, side_px],
        "blocks_per_stage": [1, 1, 2, 1],
        "embed_dim_per_stage": [16, 32, 64, 128],
        "num_attention_heads_per_stage": [1, 2, 4, 8],
        "window_size_per_stage": [4, 2, 4, 2],
        # Not the first block of a stage: the library pools there by windows.
        "global_attention_blocks": [3],
        "window_positional_embedding_background_size": [4, 4],
        "mlp_ratio": 2.0,
    }
    return Sam2VideoConfig(
        vision_config={
            "model_type": "sam2_vision_model",
            "backbone_config": backbone,
            "backbone_channel_list": [128, 64, 32, 16],
            "backbone_feature_sizes": [[4 * cells] * 2, [2 * cells] * 2, [cells] * 2],
            "fpn_hidden_size": _WIDTH,
        },
        image_size=side_px,
        **{**_heads(side_px), "memory_attention_rope_feat_sizes": [cells, cells], **changes},
    )


def random_sam3_config(*, side_px: int = 56, **changes: Any) -> Any:
    """A `Sam3TrackerVideoConfig` of the released build, as `random_sam2_config`; a multiple of 14."""
    from transformers import Sam3TrackerVideoConfig

    patch_px = 14
    cells = side_px // patch_px
    backbone = {
        "model_type": "sam3_vit_model",
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": side_px,
        "patch_size": patch_px,
        "pretrain_image_size": side_px,
        "window_size": 2,
        "global_attn_indexes": [1],
    }
    heads = _heads(side_px)
    heads["prompt_encoder_config"]["patch_size"] = patch_px
    return Sam3TrackerVideoConfig(
        vision_config={
            "model_type": "sam3_vision_model",
            "backbone_config": backbone,
            "fpn_hidden_size": _WIDTH,
            "backbone_feature_sizes": [[4 * cells] * 2, [2 * cells] * 2, [cells] * 2],
        },
        **{"image_size": side_px, **heads, "memory_attention_rope_feat_sizes": [cells, cells], **changes},
    )


def _heads(side_px: int) -> dict[str, Any]:
    """What follows the picture's encoder, alike in SAM 2 and SAM 3."""
    return {
        "prompt_encoder_config": {"hidden_size": _WIDTH, "image_size": side_px},
        "mask_decoder_config": {
            "hidden_size": _WIDTH,
            "mlp_dim": 64,
            "num_hidden_layers": 1,
            "iou_head_hidden_dim": 32,
            "num_attention_heads": 4,
        },
        "memory_attention_hidden_size": _WIDTH,
        "memory_attention_num_layers": 1,
        "memory_attention_feed_forward_hidden_size": 64,
        "memory_encoder_hidden_size": _WIDTH,
        "memory_encoder_output_channels": _MEMORY_CHANNELS,
        "mask_downsampler_embed_dim": _WIDTH,
        "memory_fuser_embed_dim": _WIDTH,
        "memory_fuser_intermediate_dim": 64,
        "memory_fuser_num_layers": 1,
    }


def random_sam_network(config: Any, *, seed: int = 0) -> Any:
    """A network of this config, the same for the same seed; most objects are in sight in most frames."""
    import transformers

    classes = {"sam2_video": "Sam2VideoModel", "sam3_tracker_video": "Sam3TrackerVideoModel"}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = getattr(transformers, classes[config.model_type])(config)
        with torch.no_grad():
            # The library starts weights so small that every picture and every point looks alike.
            for name, weight in network.named_parameters():
                if weight.ndim > 1:
                    weight.normal_(std=weight[0].numel() ** -0.5)
                else:
                    weight.add_(torch.randn_like(weight) * 0.1)
                assert weight.isfinite().all(), name
            network.mask_decoder.pred_obj_score_head.proj_out.bias.add_(1.0)
            # Memory and points speak as loudly as the picture, so that objects differ.
            for layer in network.memory_attention.layers:
                layer.cross_attn_image.o_proj.weight.mul_(8.0)
            network.mask_decoder.transformer.layers[0].cross_attn_image_to_token.o_proj.weight.mul_(8.0)
            # One table under two names, as in the released weights.
            table = network.shared_image_embedding.positional_embedding
            network.prompt_encoder.shared_embedding.positional_embedding.copy_(table)
    return network.eval().requires_grad_(False)


def write_random_sam2(folder: str | Path, *, seed: int = 0, side_px: int = 64, **changes: Any) -> Path:
    """Write a random SAM 2 for videos, 5 MB, and return its folder; changes as in `random_sam2_config`."""
    config = random_sam2_config(side_px=side_px, **changes)
    return _write(folder, config, seed=seed, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def write_random_sam3_tracker(
    folder: str | Path, *, seed: int = 0, side_px: int = 56, **changes: Any
) -> Path:
    """Write a random SAM 3 tracker and return its folder."""
    config = random_sam3_config(side_px=side_px, **changes)
    return _write(folder, config, seed=seed, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


def _write(
    folder: str | Path, config: Any, *, seed: int, mean: tuple[float, ...], std: tuple[float, ...]
) -> Path:
    target = Path(folder)
    with without_progress_bars():
        random_sam_network(config, seed=seed).save_pretrained(target)
    side_px = config.image_size
    settings = {
        "size": {"height": side_px, "width": side_px},
        "image_mean": list(mean),
        "image_std": list(std),
        "rescale_factor": 1 / 255,
        "resample": 2,
    }
    for name in ("preprocessor_config.json", "video_preprocessor_config.json"):
        (target / name).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    return target
