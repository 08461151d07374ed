"""`OnnxVision`: the vision tower and the connector run by onnxruntime, from the checkpoint's export."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path

import torch

from molmo2_ground.errors import BackendError, CheckpointError
from molmo2_ground.model.checkpoint import Checkpoint
from molmo2_ground.model.onnx_export import (
    GRAPH_FILE,
    PATCHES,
    POOLING,
    RECORD_FILE,
    ExportRecord,
    export_vision,
    read_record,
    vision_digest,
)
from molmo2_ground.model.onnx_session import CPU, conflict, open_session, runtime
from molmo2_ground.model.vision_choice import VisionChoice

_log = logging.getLogger(__name__)


class OnnxVision:
    """A `VisionTower` that onnxruntime runs. An image of more than `crops_at_once` crops is run whole."""

    name = "onnx"

    def __init__(
        self,
        graph: Path,
        *,
        device: torch.device,
        dtype: torch.dtype,
        crops_at_once: int = 8,
        provider: str | None = None,
        threads: int | None = None,
    ) -> None:
        """Open an exported graph.

        device, dtype: of the features that it gives, the language model's.
        provider: as `open_session` takes it. threads: of the CPU, by default as many as torch has now.
        Raises `MissingExtraError`, `BackendError`.
        """
        self._opened = open_session(
            graph, provider=provider, threads=torch.get_num_threads() if threads is None else threads
        )
        self._device = device
        self._dtype = dtype
        self.crops_at_once = crops_at_once

    @property
    def provider(self) -> str:
        """What really runs the graph, in onnxruntime's words."""
        return self._opened.provider

    def __str__(self) -> str:
        return str(self._opened)

    def tokens(self, patches_CNP: torch.Tensor, pooling_TK: torch.Tensor) -> torch.Tensor:
        """Features of patch tokens, [T, D]; tokens without any patch are left out, as torch's connector does.

        Raises `BackendError` when onnxruntime fails, for want of memory in most cases.
        """
        pooling_TK = pooling_TK.cpu()
        inputs = {PATCHES: patches_CNP.cpu().numpy(), POOLING: pooling_TK.numpy()}
        try:
            (features,) = self._opened.session.run(None, inputs)
        except Exception as error:  # its errors have no common class that it makes public
            raise BackendError(
                f"{self} could not run the vision tower over {len(patches_CNP)} crops: "
                f"{' '.join(str(error).split())}; load the model with vision='torch', or show fewer crops"
            ) from error
        some_patch_T = (pooling_TK >= 0).any(-1)
        tokens_TD = torch.from_numpy(features)
        if not some_patch_T.all():
            tokens_TD = tokens_TD[some_patch_T]
        return tokens_TD.to(device=self._device, dtype=self._dtype)


def open_onnx_vision(
    checkpoint: Checkpoint,
    *,
    choice: VisionChoice,
    device: torch.device,
    dtype: torch.dtype,
    crops_at_once: int,
) -> OnnxVision:
    """The vision of a checkpoint run by onnxruntime; the export is made when there is none yet.

    Raises `MissingExtraError`, `BackendError`, and `CheckpointError` when the folder holds another
    checkpoint's export or a damaged one.
    """
    runtime()  # what is missing is told before weights are read
    clash = conflict()
    if clash is not None:
        raise BackendError(clash)
    digest = vision_digest(checkpoint)
    folder = choice.folder or cache_folder(checkpoint.model_id, digest)
    record = read_record(folder)
    if record is None:
        _log.info(
            "exporting the vision tower of %s to %s, once; a large one takes minutes",
            checkpoint.model_id,
            folder,
        )
        record = export_vision(checkpoint, folder, digest=digest)
    check_fresh(record, checkpoint, digest=digest, folder=folder)
    vision = OnnxVision(
        folder / GRAPH_FILE,
        device=device,
        dtype=dtype,
        crops_at_once=crops_at_once,
        provider=choice.provider,
    )
    listed = runtime().get_available_providers()
    if vision.provider == CPU and choice.provider is None and "CUDAExecutionProvider" in listed:
        _log.warning("onnxruntime lists CUDA and cannot use it here; the vision tower runs on the CPU")
    _log.info("vision: %s", vision)
    return vision


def check_fresh(record: ExportRecord, checkpoint: Checkpoint, *, digest: str, folder: Path) -> None:
    """Raise `CheckpointError` when an export is of other weights, of other settings or in another format."""
    if record.digest == digest:
        return
    raise CheckpointError(
        f"{folder / RECORD_FILE}: a stale export, made from {record.source} with digest "
        f"{record.digest[:12]}, expected {digest[:12]} of {checkpoint.model_id}; export it again with: "
        f"molmo2-ground export vision {checkpoint.model_id} -o {folder}"
    )


def cache_folder(model_id: str, digest: str) -> Path:
    """Where an export is kept when no folder was named: in XDG_CACHE_HOME, else in ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(model_id).name) or "model"
    return Path(base) / "molmo2-ground" / "vision" / f"{name}-{digest[:16]}"
