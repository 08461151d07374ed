"""`ObjectMemory`: what SAM remembers of one object, and no more of it than it looks at again.

The library keeps every frame and every output of a session. A step looks at the conditioning frames (where
a point was given), at the features of the last `num_maskmem` - 1 other frames and at the pointers of the
last `max_object_pointers_in_encoder` - 1; the rest is let go. One session holds one object: in a session of
several the library makes hard the memories of all when one of them gets a point, so that an object would
come out differently in company than alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from molmo2_ground.masks.picture_encoder import PictureFeatures

# What only the step itself and a return to the same frame read; both are large.
_PASSING = ("pred_masks", "high_res_masks")
_FEATURES, _POSITIONS = "maskmem_features", "maskmem_pos_enc"


class ObjectMemory:
    """One object on its way through the frames of a walk, which are numbered one by one."""

    def __init__(self, network: Any, session: Any, *, anchors: int) -> None:
        """Take a fresh session of the library, without a video.

        anchors: how many frames with points stay in memory for good: the first and the newest others.
        With 1 a correction is remembered as long as any frame, which is what the library does.
        """
        self._network, self._session, self._anchors = network, session, anchors
        self._number = session.obj_id_to_idx(0)
        self._positions: torch.Tensor | None = None  # the same for every frame; held once
        config = network.config
        self._features_back = int(config.num_maskmem) - 1
        self._pointers_back = int(config.max_object_pointers_in_encoder) - 1

    @property
    def is_new(self) -> bool:
        """No point was given yet."""
        return not self._outputs["cond_frame_outputs"]

    def first(
        self, index: int, pixels_1CSS: torch.Tensor, features: PictureFeatures, points_11N2: torch.Tensor
    ) -> torch.Tensor | None:
        """The mask that points alone give, in the first frame of the object; as `follow` gives it."""
        self._enter(index, features)
        self._tell(index, points_11N2)
        return self._leave(index, self._run(index, pixels_1CSS))

    def follow(
        self,
        index: int,
        pixels_1CSS: torch.Tensor,
        features: PictureFeatures,
        points_11N2: torch.Tensor | None = None,
    ) -> torch.Tensor | None:
        """The mask that memory gives in this frame, and the points with it, if there are any.

        Logits float[h, w], above 0 on the object, at the network's own size; None when it is not in sight.
        Points are in pixels of the network's picture.
        """
        self._enter(index, features)
        answer = self._run(index, pixels_1CSS, remember=points_11N2 is None)
        if points_11N2 is not None:
            # A frame that was followed into is corrected; one that was not would be looked at without memory.
            self._tell(index, points_11N2)
            answer = self._run(index, pixels_1CSS)
            if self._anchors > 1:
                outputs = self._outputs
                outputs["cond_frame_outputs"][index] = outputs["non_cond_frame_outputs"].pop(index)
        return self._leave(index, answer)

    def tensors(self) -> Iterator[torch.Tensor]:
        """Every tensor that the session holds."""
        session = self._session
        yield from _tensors_in(
            [vars(session), vars(session.cache), [] if self._positions is None else [self._positions]]
        )

    @property
    def _outputs(self) -> dict[str, dict[int, dict[str, Any]]]:
        outputs: dict[str, dict[int, dict[str, Any]]] = self._session.output_dict_per_obj[self._number]
        return outputs

    def _enter(self, index: int, features: PictureFeatures) -> None:
        self._session.cache.cache_vision_features(
            index, {"vision_feats": features.levels, "vision_pos_embeds": features.positions}
        )

    def _tell(self, index: int, points_11N2: torch.Tensor) -> None:
        labels_11N = torch.ones(points_11N2.shape[:3], dtype=torch.int32)
        inputs = {"point_coords": points_11N2, "point_labels": labels_11N}
        self._session.add_point_inputs(self._number, index, inputs)
        self._session.obj_with_new_inputs.append(0)

    def _run(self, index: int, pixels_1CSS: torch.Tensor, *, remember: bool = True) -> Any:
        return self._network(self._session, frame=pixels_1CSS, frame_idx=index, run_mem_encoder=remember)

    def _leave(self, index: int, answer: Any) -> torch.Tensor | None:
        self._prune(index)
        if float(answer.object_score_logits) <= 0:
            return None
        logits: torch.Tensor = answer.pred_masks[0, 0]
        return logits

    def _prune(self, index: int) -> None:
        """Let go of what no step after this one looks at."""
        session, outputs = self._session, self._outputs
        session.processed_frames = None
        session.cache.clear_all()
        session.point_inputs_per_obj[self._number].clear()
        session.frames_tracked_per_obj[self._number].clear()
        anchors, others = outputs["cond_frame_outputs"], outputs["non_cond_frame_outputs"]
        while len(anchors) > self._anchors:
            del anchors[sorted(anchors)[1]]
        for number in [n for n in others if n <= index - max(self._pointers_back, self._features_back)]:
            del others[number]
        for number, output in [*anchors.items(), *others.items()]:
            for name in _PASSING:
                output.pop(name, None)
            if number in others and number <= index - self._features_back:
                output.pop(_FEATURES, None)
                output.pop(_POSITIONS, None)
            if _POSITIONS in output:
                self._positions = output[_POSITIONS] if self._positions is None else self._positions
                output[_POSITIONS] = self._positions


def _tensors_in(held: Any) -> Iterator[torch.Tensor]:
    if isinstance(held, torch.Tensor):
        yield held
    elif isinstance(held, Mapping):
        for value in held.values():
            yield from _tensors_in(value)
    elif isinstance(held, list | tuple | set):
        for value in held:
            yield from _tensors_in(value)
