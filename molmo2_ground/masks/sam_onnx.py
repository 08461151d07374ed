"""SAM's picture encoder as one ONNX graph, run by onnxruntime as the encoder of the same segmenter.

The encoder is most of the work of a frame; memory and mask decoder stay in torch. The graph takes `pixels`
float32[1, 3, S, S], as `SamPictures.pixels` makes them, and gives `fine`, `middle`, `coarse`: features
[h * w, 1, channels], and `places`: codes of the coarse features' places, the same for every picture.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from molmo2_ground._atomic import atomic_path
from molmo2_ground._optional import require
from molmo2_ground.errors import BackendError, CheckpointError
from molmo2_ground.masks.picture_encoder import PictureFeatures
from molmo2_ground.masks.sam2 import Sam2
from molmo2_ground.model.checkpoint import one_line
from molmo2_ground.model.onnx_export import (
    ALLOWED_DIFFERENCE,
    OPSET,
    exporter_versions,
    quiet_exporter,
    relative_difference,
    unfinished,
)
from molmo2_ground.model.onnx_session import CPU, OnnxSession, conflict, open_session, runtime
from molmo2_ground.model.weight_files import read_json

# Rises when the graph changes in a way that makes exports of earlier versions wrong or useless.
FORMAT = "molmo2-ground/segmenter-onnx/1"
GRAPH_FILE = "encoder.onnx"
RECORD_FILE = "encoder.json"
PIXELS = "pixels"
OUTPUTS = ("fine", "middle", "coarse", "places")

_ENCODER = ("vision_encoder.", "mask_decoder.conv_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderRecord:
    """What an export was made from, as it lies beside the graph in `encoder.json`.

    source, revision  the checkpoint as it was asked for, and the hub's commit.
    digest            of the encoder's weights and of the settings that the graph depends on.
    side_px           of the pictures that it reads.
    difference        largest difference from torch on a trial picture, over torch's largest value.
    files             bytes of each file of the graph.
    """

    format: str
    source: str
    revision: str | None
    digest: str
    opset: int
    side_px: int
    difference: float
    files: dict[str, int]
    made_by: dict[str, str]


class _EncoderGraph(torch.nn.Module):
    """What the graph computes."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self._network = [network]  # in a list: its other parts are none of this module's

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        made = self._network[0].get_image_features(pixels, return_dict=True)
        return (*made.fpn_hidden_states, made.fpn_position_encoding[-1])


class OnnxEncoder:
    """A `PictureEncoder` that onnxruntime runs."""

    def __init__(self, opened: OnnxSession, *, device: torch.device, dtype: torch.dtype) -> None:
        """Take an open graph. device, dtype: of the features that it gives, the network's."""
        self._opened, self._device, self._dtype = opened, device, dtype

    @property
    def provider(self) -> str:
        """What really runs the graph, in onnxruntime's words."""
        return self._opened.provider

    def encode(self, pixels_1CSS: torch.Tensor) -> PictureFeatures:
        """As `PictureEncoder`; `BackendError` when onnxruntime fails, for want of memory in most cases."""
        try:
            made = self._opened.session.run(list(OUTPUTS), {PIXELS: pixels_1CSS.float().cpu().numpy()})
        except Exception as error:  # its errors have no common class that it makes public
            raise BackendError(
                f"{self._opened} could not run the picture encoder: {one_line(error)}; load the segmenter "
                "without onnx"
            ) from error
        *levels, places = (torch.from_numpy(part).to(device=self._device, dtype=self._dtype) for part in made)
        # Only the coarse level's places are looked at, which come last.
        return PictureFeatures(levels=levels, positions=[places])


def encoder_digest(segmenter: Sam2) -> str:
    """32 letters that change when a weight of the encoder, the pictures' size or the graph's format does."""
    digest = hashlib.blake2b(digest_size=16)
    settings = {"format": FORMAT, "opset": OPSET, "side_px": segmenter.pictures.side_px}
    digest.update(json.dumps(settings, sort_keys=True).encode())
    for name, tensor in sorted(segmenter.network.state_dict().items()):
        if name.startswith(_ENCODER):
            digest.update(f"{name} {list(tensor.shape)}\n".encode())
            values: Any = tensor.float().cpu().contiguous().flatten().view(torch.uint8).numpy()
            digest.update(values)
    return digest.hexdigest()


def export_encoder(segmenter: Sam2, folder: Path) -> EncoderRecord:
    """Write graph, weights and record to `folder`, made when it is missing; an export there is replaced.

    segmenter: loaded in float32 on the CPU. The graph is run once by onnxruntime on the CPU and compared with
    torch; one that differs is not kept. Raises `MissingExtraError`, `BackendError`.
    """
    runtime()
    for module in ("onnx", "onnxscript"):
        require(module, extra="onnx")
    clash = conflict()
    if clash is not None:
        raise BackendError(clash)
    if segmenter.dtype != torch.float32 or segmenter.device.type != "cpu":
        raise ValueError(
            f"an export is made in float32 on the CPU; this segmenter is in {segmenter.dtype} on "
            f"{segmenter.device}: load it with device='cpu'"
        )
    graph = _EncoderGraph(segmenter.network).eval()
    side = segmenter.pictures.side_px
    pixels = torch.randn((1, 3, side, side), generator=torch.Generator().manual_seed(0))
    folder.mkdir(parents=True, exist_ok=True)
    with unfinished(folder) as part:
        _write_graph(graph, pixels, part / GRAPH_FILE, name=segmenter.name)
        record = EncoderRecord(
            format=FORMAT,
            source=segmenter.name,
            revision=segmenter.checkpoint.revision,
            digest=encoder_digest(segmenter),
            opset=OPSET,
            side_px=side,
            difference=_compared(graph, pixels, part / GRAPH_FILE, name=segmenter.name),
            files={path.name: path.stat().st_size for path in sorted(part.iterdir())},
            made_by=exporter_versions(),
        )
        # Without its record, which comes last, a folder holds no export.
        (folder / RECORD_FILE).unlink(missing_ok=True)
        for path in sorted(part.iterdir()):
            os.replace(path, folder / path.name)
    with atomic_path(folder / RECORD_FILE) as path:
        path.write_text(json.dumps(asdict(record), indent=1) + "\n", encoding="utf-8")
    return record


def _write_graph(graph: _EncoderGraph, pixels: torch.Tensor, path: Path, *, name: str) -> None:
    try:
        with quiet_exporter(), torch.no_grad():
            program = torch.onnx.export(
                graph,
                (pixels,),
                dynamo=True,
                opset_version=OPSET,
                input_names=[PIXELS],
                output_names=list(OUTPUTS),
                verbose=False,
            )
            assert program is not None, "the exporter of torch.export returns its program"
            program.save(path, external_data=True)
    except (torch.onnx.OnnxExporterError, torch.export.UserError) as error:  # type: ignore[attr-defined]
        raise BackendError(
            f"{name}: this torch could not export the picture encoder: {one_line(error)[:300]}"
        ) from error


def _compared(graph: _EncoderGraph, pixels: torch.Tensor, path: Path, *, name: str) -> float:
    """Run the written graph and torch on one trial picture; the difference, which must be small."""
    opened = open_session(path, provider="cpu")
    assert opened.provider == CPU
    ours = opened.session.run(list(OUTPUTS), {PIXELS: pixels.numpy()})
    with torch.inference_mode():
        theirs = graph(pixels)
    difference = max(
        relative_difference(torch.from_numpy(found), expected)
        for found, expected in zip(ours, theirs, strict=True)
    )
    if not difference <= ALLOWED_DIFFERENCE:
        raise BackendError(
            f"{name}: the exported graph differs from torch by {difference:.1e} of the largest value, "
            f"expected {ALLOWED_DIFFERENCE:.0e}; install the versions in constraints.txt"
        )
    return difference


def open_encoder(segmenter: Sam2, folder: Path, *, provider: str | None = None) -> OnnxEncoder:
    """The export in `folder`, to be set as this segmenter's `encoder`.

    provider: as `open_session` takes it. Raises `MissingExtraError`, `BackendError`, and `CheckpointError`
    when the folder holds no export, a damaged one or one of other weights.
    """
    runtime()  # what is missing is told before weights are read
    again = f"export it again with: molmo2-ground export segmenter {segmenter.name} -o {folder}"
    written = read_json(folder / RECORD_FILE)
    try:
        record = EncoderRecord(**written)
        for name, size in record.files.items():
            found = (folder / name).stat().st_size if (folder / name).is_file() else None
            if found != size:
                raise CheckpointError(
                    f"{folder / name}: expected {size} bytes, got {found or 'no file'}; {again}"
                )
    except (TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{folder / RECORD_FILE} is no record of an export: {error}; {again}"
        ) from error
    digest = encoder_digest(segmenter)
    if record.digest != digest:
        raise CheckpointError(
            f"{folder / RECORD_FILE}: a stale export, made from {record.source} with digest "
            f"{record.digest[:12]}, expected {digest[:12]} of {segmenter.name}; {again}"
        )
    opened = open_session(folder / GRAPH_FILE, provider=provider, threads=torch.get_num_threads())
    return OnnxEncoder(opened, device=segmenter.device, dtype=segmenter.dtype)
