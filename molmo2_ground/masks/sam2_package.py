"""`load_sam2_package`: SAM 2 run by Meta's own package `sam2`, for people with its checkpoints (`.pt`).

The network is stepped through its `track_step`, frame by frame, under the same rules as the library's path:
one memory an object, and no more of it than is looked at again. Two things differ. A correction is decoded
with the mask that was followed into the frame, as the package's own predictor does it; the library decodes
it with the point alone. And the package's filling of small holes, which needs CUDA, is left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from molmo2_ground._optional import require
from molmo2_ground.errors import CheckpointError
from molmo2_ground.masks.mask_policy import MaskChoice, Policy
from molmo2_ground.masks.picture_encoder import PictureFeatures
from molmo2_ground.masks.sam2 import SAM2
from molmo2_ground.masks.sam_pictures import SamPictures
from molmo2_ground.masks.sam_walk import ANCHORS, SamSegmenter
from molmo2_ground.model.checkpoint import one_line
from molmo2_ground.model.molmo2 import chosen_device

# Logits of a mask that is given with a point are kept within these, as the package's predictor does.
_FURTHEST_LOGIT = 32.0


class Sam2Package(SamSegmenter):
    """A segmenter that runs a predictor of the package, in float32."""

    def __init__(self, predictor: Any, *, name: str, policy: Policy = "best", anchors: int = ANCHORS) -> None:
        """Take a loaded `SAM2VideoPredictor`; policy and anchors as of `load_sam2`."""
        if anchors < 1:
            raise ValueError(f"anchors must be 1 or more, for the first point is one; got {anchors}")
        choice = MaskChoice(policy)
        choice.attach(predictor.sam_mask_decoder)
        super().__init__(
            name,
            pictures=SamPictures(side_px=int(predictor.image_size), mean=SAM2.mean, std=SAM2.std),
            encoder=PackageEncoder(predictor),
            choice=choice,
            new_memory=lambda: PackageMemory(predictor, anchors=anchors),
            device=predictor.device,
            dtype=torch.float32,
        )


class PackageEncoder:
    """The predictor's encoder."""

    def __init__(self, predictor: Any) -> None:
        self._predictor = predictor

    def encode(self, pixels_1CSS: torch.Tensor) -> PictureFeatures:
        """As `PictureEncoder`."""
        with torch.inference_mode():
            made = self._predictor.forward_image(pixels_1CSS)
            _, levels, positions, _ = self._predictor._prepare_backbone_features(made)
        return PictureFeatures(levels=levels, positions=positions)


class PackageMemory:
    """What the predictor remembers of one object; as `SamMemory`."""

    def __init__(self, predictor: Any, *, anchors: int) -> None:
        self._predictor, self._anchors = predictor, anchors
        self._outputs: dict[str, dict[int, dict[str, Any]]] = {
            "cond_frame_outputs": {},
            "non_cond_frame_outputs": {},
        }
        self._positions: list[torch.Tensor] | None = None  # the same for every frame; held once
        self._features_back = int(predictor.num_maskmem) - 1
        self._pointers_back = int(predictor.max_obj_ptrs_in_encoder) - 1

    def first(
        self, index: int, pixels_1CSS: torch.Tensor, features: PictureFeatures, points_11N2: torch.Tensor
    ) -> torch.Tensor | None:
        """As `SamMemory`."""
        made = self._run(index, features, points_11N2, first=True)
        return self._kept("cond_frame_outputs", index, made)

    def follow(
        self,
        index: int,
        pixels_1CSS: torch.Tensor,
        features: PictureFeatures,
        points_11N2: torch.Tensor | None = None,
    ) -> torch.Tensor | None:
        """As `SamMemory`."""
        made = self._run(index, features, None, remember=points_11N2 is None)
        if points_11N2 is None:
            return self._kept("non_cond_frame_outputs", index, made)
        before = made["pred_masks"].clamp(-_FURTHEST_LOGIT, _FURTHEST_LOGIT)
        made = self._run(index, features, points_11N2, before=before)
        kind = "cond_frame_outputs" if self._anchors > 1 else "non_cond_frame_outputs"
        return self._kept(kind, index, made)

    def tensors(self) -> Iterator[torch.Tensor]:
        """Every tensor that is held."""
        for frames in self._outputs.values():
            for output in frames.values():
                for value in output.values():
                    yield from value if isinstance(value, list) else [value]

    def _run(
        self,
        index: int,
        features: PictureFeatures,
        points_11N2: torch.Tensor | None,
        *,
        first: bool = False,
        remember: bool = True,
        before: torch.Tensor | None = None,
    ) -> dict[str, Any]:
        given = None
        if points_11N2 is not None:
            points_1N2 = points_11N2[0].to(self._predictor.device)
            labels_1N = torch.ones(points_1N2.shape[:2], dtype=torch.int32, device=points_1N2.device)
            given = {"point_coords": points_1N2, "point_labels": labels_1N}
        with torch.inference_mode():
            made: dict[str, Any] = self._predictor.track_step(
                frame_idx=index,
                is_init_cond_frame=first,
                current_vision_feats=features.levels,
                current_vision_pos_embeds=features.positions,
                feat_sizes=[(_side(level), _side(level)) for level in features.levels],
                point_inputs=given,
                mask_inputs=None,
                output_dict=self._outputs,
                # A length that is not known: what it bounds is bounded by the pointers that are looked at.
                num_frames=index + self._pointers_back + 1,
                run_mem_encoder=remember,
                prev_sam_mask_logits=before,
            )
        return made

    def _kept(self, kind: str, index: int, made: dict[str, Any]) -> torch.Tensor | None:
        """Remember what later steps look at, and give the mask."""
        if self._positions is None:
            self._positions = made["maskmem_pos_enc"]
        self._outputs[kind][index] = {
            # The package's predictor holds memories in this type on every device.
            "maskmem_features": made["maskmem_features"].to(torch.bfloat16),
            "maskmem_pos_enc": self._positions,
            "obj_ptr": made["obj_ptr"],
        }
        self._forget(index)
        if float(made["object_score_logits"]) <= 0:
            return None
        logits: torch.Tensor = made["pred_masks"][0, 0]
        return logits

    def _forget(self, index: int) -> None:
        """Let go of what no step after this one looks at."""
        anchors, others = self._outputs["cond_frame_outputs"], self._outputs["non_cond_frame_outputs"]
        while len(anchors) > self._anchors:
            del anchors[sorted(anchors)[1]]
        for number in [n for n in others if n <= index - max(self._pointers_back, self._features_back)]:
            del others[number]
        for number, output in others.items():
            if number <= index - self._features_back:
                output.pop("maskmem_features", None)
                output.pop("maskmem_pos_enc", None)


def _side(level: torch.Tensor) -> int:
    """Cells of a side, of features [h * w, 1, channels] of a square picture."""
    return math.isqrt(level.shape[0])


def load_sam2_package(
    weights: str | Path,
    *,
    config: str | None = None,
    device: str | torch.device = "auto",
    policy: Policy = "best",
    anchors: int = ANCHORS,
) -> Sam2Package:
    """A checkpoint of Meta's package, such as `sam2.1_hiera_tiny.pt`.

    config: the package's name for the network's settings, such as `configs/sam2.1/sam2.1_hiera_t.yaml`; known
    by itself for the released files. The other arguments as of `load_sam2`.
    Raises `MissingExtraError` without the package, `CheckpointError` when the file cannot be used.
    """
    MaskChoice(policy)  # wrong arguments are told before weights are read
    build = require("sam2.build_sam", extra="sam2")
    path = Path(weights).expanduser()
    if not path.is_file():
        raise CheckpointError(f"{weights}: no such file; expected weights of Meta's sam2 package, a .pt file")
    known = {file: settings for settings, file in build.HF_MODEL_ID_TO_FILENAMES.values()}
    settings = config or known.get(path.name)
    if settings is None:
        raise CheckpointError(
            f"{path.name}: the network's settings are known for {', '.join(known)}; name them with config="
        )
    where = chosen_device(device)
    try:
        predictor = build.build_sam2_video_predictor(settings, str(path), device=str(where))
    # The package raises bare errors for weights of another network, and its configs' library its own.
    except Exception as error:
        raise CheckpointError(
            f"{path} cannot be read with {settings}: {one_line(error) or 'its weights do not fit'}"
        ) from error
    return Sam2Package(predictor, name=str(weights), policy=policy, anchors=anchors)
