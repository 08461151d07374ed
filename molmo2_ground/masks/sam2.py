"""`load_sam2`: SAM 2 and 2.1 as a segmenter, run by the transformers library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from molmo2_ground.masks.mask_decoder import MaskDecoder, with_decoder
from molmo2_ground.masks.mask_policy import MaskChoice, Policy
from molmo2_ground.masks.object_memory import ObjectMemory
from molmo2_ground.masks.picture_encoder import PictureEncoder, TorchEncoder
from molmo2_ground.masks.sam_checkpoint import SamCheckpoint, SamFamily, load_sam_network, open_sam
from molmo2_ground.masks.sam_walk import ANCHORS, SamSegmenter
from molmo2_ground.model.molmo2 import chosen_device, chosen_dtype

SAM2 = SamFamily(
    title="SAM 2",
    short=tuple(
        f"{version}-hiera-{size}"
        for version in ("sam2.1", "sam2")
        for size in ("tiny", "small", "base-plus", "large")
    ),
    model_types=("sam2_video",),
    network="Sam2VideoModel",
    config="Sam2VideoConfig",
    session="Sam2VideoInferenceSession",
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)


class Sam2(SamSegmenter):
    """A segmenter that runs SAM 2, or a network of the same build, through the library's sessions."""

    def __init__(
        self,
        checkpoint: SamCheckpoint,
        network: Any,
        *,
        policy: Policy = "best",
        anchors: int = ANCHORS,
        encoder: PictureEncoder | None = None,
        decoder: MaskDecoder | None = None,
        memory: type[ObjectMemory] = ObjectMemory,
    ) -> None:
        """Take a loaded network; policy and anchors as of `load_sam2`.

        encoder: what makes the pictures' features; decoder: what makes masks of them; without it the network
        itself does. memory: what holds an object.
        """
        import transformers

        if anchors < 1:
            raise ValueError(f"anchors must be 1 or more, for the first point is one; got {anchors}")
        self.checkpoint, self.network = checkpoint, network
        self._anchors, self._memory = anchors, memory
        runs = network if decoder is None else with_decoder(network, decoder)
        choice = MaskChoice(policy)
        choice.attach(runs.mask_decoder)
        session_class = getattr(transformers, checkpoint.family.session)
        device, dtype = network.device, network.dtype

        def new_memory() -> ObjectMemory:
            session = session_class(
                inference_device=device,
                inference_state_device=device,
                video_storage_device=device,
                dtype=dtype,
            )
            return memory(runs, session, anchors=anchors)

        super().__init__(
            checkpoint.name,
            pictures=checkpoint.pictures,
            encoder=TorchEncoder(network) if encoder is None else encoder,
            choice=choice,
            new_memory=new_memory,
            device=device,
            dtype=dtype,
        )

    def with_parts(self, *, encoder: PictureEncoder, decoder: MaskDecoder | None) -> Sam2:
        """The same segmenter on the same weights, with these in place of its own; None for the network's."""
        return Sam2(
            self.checkpoint,
            self.network,
            policy=self.choice.policy,
            anchors=self._anchors,
            encoder=encoder,
            decoder=decoder,
            memory=self._memory,
        )


def load_sam2(
    name: str | Path,
    *,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    policy: Policy = "best",
    anchors: int = ANCHORS,
    onnx: str | Path | None = None,
) -> Sam2:
    """SAM 2 or 2.1 with its weights, by name.

    name: `sam2.1-hiera-tiny`, `-small`, `-base-plus`, `-large`, the same of `sam2`, another hub id, or a
    folder in the hub's layout. device: `auto` takes an accelerator when there is one. dtype: `auto` is
    bfloat16 on an accelerator and float32 on a CPU.
    policy: what the first point of an object means, of three masks that SAM gives for it: `best`, the one
    that SAM predicts to fit best, as SAM itself does; `part` the smallest, `whole` the largest of those that
    are plausible (`mask_policy.preferred`). Corrections follow the object that is in memory.
    anchors: how many frames with points stay in memory for good, the first and the newest others; with 1 a
    correction fades as other frames do, as in the library's own sessions.
    onnx: a folder that `molmo2-ground export segmenter` wrote; onnxruntime runs the parts that are in it.
    Raises `CheckpointError` that says what is wrong with the checkpoint or the export, `ValueError` for other
    arguments; with onnx also `MissingExtraError` and `BackendError`.
    """
    segmenter = load_sam(name, family=SAM2, device=device, dtype=dtype, policy=policy, anchors=anchors)
    if onnx is None:
        return segmenter
    from molmo2_ground.masks.sam_onnx import with_onnx

    return with_onnx(segmenter, Path(onnx))


def load_sam(
    name: str | Path,
    *,
    family: SamFamily,
    device: str | torch.device,
    dtype: str | torch.dtype,
    policy: Policy,
    anchors: int,
) -> Sam2:
    """A network of SAM 2's build; arguments and errors as of `load_sam2`."""
    MaskChoice(policy)  # wrong arguments are told before weights are read
    where = chosen_device(device)
    numbers = chosen_dtype(dtype, where)
    checkpoint = open_sam(name, family=family)
    network = load_sam_network(checkpoint, device=where, dtype=numbers)
    return Sam2(checkpoint, network, policy=policy, anchors=anchors)
