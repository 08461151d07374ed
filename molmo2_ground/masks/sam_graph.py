"""One part of SAM as an ONNX graph, with a record that tells a stale export: written, compared, opened."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from molmo2_ground._atomic import atomic_path
from molmo2_ground._optional import require
from molmo2_ground.errors import BackendError, CheckpointError
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

Tensors = tuple[torch.Tensor, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SamPart:
    """Which part of SAM a graph computes.

    title            in messages.
    format           rises when the graph changes so that exports of earlier versions are wrong or useless.
    stem             of its files' names.
    inputs, outputs  names in the graph, in order; the inputs' are those of the module's arguments.
    sizes            of an input's axes that may change from run to run, the letter of each.
    weights          how the names of the weights that it holds begin.
    decoder_settings of the config's mask decoder, which the graph depends on beside its weights' shapes.
    """

    title: str
    format: str
    stem: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    weights: tuple[str, ...]
    sizes: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    decoder_settings: tuple[str, ...] = ()

    @property
    def graph_file(self) -> str:
        """Name of the graph."""
        return f"{self.stem}.onnx"

    @property
    def record_file(self) -> str:
        """Name of the record, without which there is no export."""
        return f"{self.stem}.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphRecord:
    """What an export was made from, as it lies beside the graph.

    source, revision  the checkpoint as it was asked for, and the hub's commit.
    digest            of the part's weights and of the settings that the graph depends on.
    side_px           of the network's picture.
    difference        largest difference from torch on trial inputs, over torch's largest value.
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


def part_digest(segmenter: Sam2, part: SamPart) -> str:
    """32 letters that change when a weight of the part, the pictures' size or the graph's format does."""
    digest = hashlib.blake2b(digest_size=16)
    decoder = segmenter.checkpoint.config.mask_decoder_config
    settings = {
        "format": part.format,
        "opset": OPSET,
        "side_px": segmenter.pictures.side_px,
        **{name: getattr(decoder, name) for name in part.decoder_settings},
    }
    digest.update(json.dumps(settings, sort_keys=True).encode())
    for name, tensor in sorted(segmenter.network.state_dict().items()):
        if name.startswith(part.weights):
            digest.update(f"{name} {list(tensor.shape)}\n".encode())
            values: Any = tensor.float().cpu().contiguous().flatten().view(torch.uint8).numpy()
            digest.update(values)
    return digest.hexdigest()


def export_part(
    segmenter: Sam2, folder: Path, part: SamPart, *, graph: torch.nn.Module, trials: Sequence[Tensors]
) -> GraphRecord:
    """Write graph, weights and record to `folder`, made when it is missing; an export there is replaced.

    segmenter: loaded in float32 on the CPU. graph: computes the part. trials: inputs, on which the written
    graph is run by onnxruntime on the CPU and compared with torch; one that differs is not kept.
    Raises `MissingExtraError`, `BackendError`.
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
    folder.mkdir(parents=True, exist_ok=True)
    with unfinished(folder) as made:
        path = made / part.graph_file
        _write_graph(graph, trials[0], path, part=part, name=segmenter.name)
        record = GraphRecord(
            format=part.format,
            source=segmenter.name,
            revision=segmenter.checkpoint.revision,
            digest=part_digest(segmenter, part),
            opset=OPSET,
            side_px=segmenter.pictures.side_px,
            difference=_compared(graph, trials, path, part=part, name=segmenter.name),
            files={file.name: file.stat().st_size for file in sorted(made.iterdir())},
            made_by=exporter_versions(),
        )
        # Without its record, which comes last, a folder holds no export.
        (folder / part.record_file).unlink(missing_ok=True)
        for file in sorted(made.iterdir()):
            os.replace(file, folder / file.name)
    with atomic_path(folder / part.record_file) as path:
        path.write_text(json.dumps(asdict(record), indent=1) + "\n", encoding="utf-8")
    return record


def _write_graph(graph: torch.nn.Module, inputs: Tensors, path: Path, *, part: SamPart, name: str) -> None:
    letters = {letter for axes in part.sizes.values() for letter in axes.values()}
    size = {letter: torch.export.Dim(letter) for letter in letters}
    axes = {
        given: {axis: size[letter] for axis, letter in part.sizes.get(given, {}).items()}
        for given in part.inputs
    }
    try:
        with quiet_exporter(), torch.no_grad():
            program = torch.onnx.export(
                graph,
                inputs,
                dynamo=True,
                opset_version=OPSET,
                input_names=list(part.inputs),
                output_names=list(part.outputs),
                dynamic_shapes=axes if size else None,
                verbose=False,
            )
            assert program is not None, "the exporter of torch.export returns its program"
            program.save(path, external_data=True)
    except (torch.onnx.OnnxExporterError, torch.export.UserError) as error:  # type: ignore[attr-defined]
        raise BackendError(
            f"{name}: this torch could not export the {part.title}: {one_line(error)[:300]}"
        ) from error


def _compared(
    graph: torch.nn.Module, trials: Sequence[Tensors], path: Path, *, part: SamPart, name: str
) -> float:
    """Run the written graph and torch on the trial inputs; the difference, which must be small."""
    opened = open_session(path, provider="cpu")
    assert opened.provider == CPU
    difference = 0.0
    for inputs in trials:
        given = {key: value.numpy() for key, value in zip(part.inputs, inputs, strict=True)}
        ours = opened.session.run(list(part.outputs), given)
        with torch.inference_mode():
            theirs = graph(*inputs)
        for found, expected in zip(ours, theirs, strict=True):
            # A difference that is no number must not be lost in a maximum.
            one = relative_difference(torch.from_numpy(found), expected)
            if not one <= ALLOWED_DIFFERENCE:
                raise BackendError(
                    f"{name}: the exported {part.title} differs from torch by {one:.1e} of the largest "
                    f"value, expected {ALLOWED_DIFFERENCE:.0e}; install the versions in constraints.txt"
                )
            difference = max(difference, one)
    return difference


def open_part(segmenter: Sam2, folder: Path, part: SamPart, *, provider: str | None) -> OnnxSession:
    """The graph of this part in `folder`, ready to run in the place of the segmenter's own.

    provider: as `open_session` takes it. Raises `MissingExtraError`, `BackendError`, and `CheckpointError`
    when the folder holds no export, a damaged one or one of other weights.
    """
    runtime()  # what is missing is told before weights are read
    again = f"export it again with: molmo2-ground export segmenter {segmenter.name} -o {folder}"
    place = folder / part.record_file
    written = read_json(place)
    try:
        record = GraphRecord(**written)
        for name, size in record.files.items():
            found = (folder / name).stat().st_size if (folder / name).is_file() else None
            if found != size:
                raise CheckpointError(
                    f"{folder / name}: expected {size} bytes, got {found or 'no file'}; {again}"
                )
    except (TypeError, AttributeError) as error:
        raise CheckpointError(f"{place} is no record of an export: {error}; {again}") from error
    digest = part_digest(segmenter, part)
    if record.digest != digest:
        raise CheckpointError(
            f"{place}: a stale export, made from {record.source} with digest {record.digest[:12]}, "
            f"expected {digest[:12]} of {segmenter.name}; {again}"
        )
    return open_session(folder / part.graph_file, provider=provider, threads=torch.get_num_threads())
