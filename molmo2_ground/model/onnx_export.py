"""The vision tower and the connector as one ONNX graph, with a record that tells a stale export.

The graph takes bytes and gives features: `patches` uint8[C, N, P] and `pooling` int64[T, K] to `features`
float32[T, D], any C, T and K. It holds plain operations only, and is made from a checkpoint's files alone, so
the language model need not fit in memory.

Shapes: C crops or frames, N patches of each, P bytes of a patch, F features of a patch; T patch tokens, K
patches of each, D width of the language model.
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import os
import secrets
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from molmo2_ground._atomic import atomic_path
from molmo2_ground._optional import require
from molmo2_ground.errors import BackendError, CheckpointError
from molmo2_ground.model.checkpoint import Checkpoint
from molmo2_ground.model.flags import InputFlags
from molmo2_ground.model.onnx_session import CPU, conflict, open_session, runtime
from molmo2_ground.model.vision import normalised, patch_features
from molmo2_ground.model.weight_files import read_json
from molmo2_ground.model.weights import HUB_EMBEDDING, to_hub

# The first opset with Gelu as one operation; onnxruntime reads it from 1.17 on.
OPSET = 20
# Rises when the graph changes in a way that makes exports of earlier versions wrong or useless.
FORMAT = "molmo2-ground/vision-onnx/1"
GRAPH_FILE = "vision.onnx"
RECORD_FILE = "vision.json"
PATCHES, POOLING, FEATURES = "patches", "pooling", "features"
# Sums in another order differ by a millionth; an operation that means something else differs by far more.
ALLOWED_DIFFERENCE = 1e-4

_VISION = ("model.vision_tower.", "model.multi_modal_projector.")
# The parts of config.json that decide what the graph computes, by the names of both layouts of it.
_SETTINGS = ("vit_config", "vision_config", "adapter_config")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRecord:
    """What an export was made from, as it lies beside the graph in `vision.json`.

    source, revision  the checkpoint as it was asked for, and the hub's commit.
    digest            of the vision weights as stored and of the settings that the graph depends on.
    patches, pooling, features: shapes, with letters for sizes that may change from run to run.
    difference        largest difference from torch on a trial input, over torch's largest value.
    files             bytes of each file of the graph.
    """

    format: str
    source: str
    revision: str | None
    digest: str
    opset: int
    dtype: str
    patches: tuple[str | int, ...]
    pooling: tuple[str | int, ...]
    features: tuple[str | int, ...]
    difference: float
    files: dict[str, int]
    made_by: dict[str, str]


def read_record(folder: Path) -> ExportRecord | None:
    """The record of the export in `folder`; None when there is none.

    Raises `CheckpointError` when the record cannot be read or a file of the graph is missing or cut short.
    """
    path = folder / RECORD_FILE
    if not path.is_file():
        return None
    written = read_json(path)
    try:
        shapes = {name: tuple(written[name]) for name in (PATCHES, POOLING, FEATURES)}
        record = ExportRecord(**{**written, **shapes})
        for name, size in record.files.items():
            found = (folder / name).stat().st_size if (folder / name).is_file() else None
            if found != size:
                raise CheckpointError(
                    f"{folder / name}: expected {size} bytes, got {found or 'no file'}; delete {path} and "
                    "export again"
                )
    except (TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(
            f"{path} is no record of an export: {error}; delete it and export again"
        ) from error
    return record


class VisionGraph(torch.nn.Module):
    """What the graph computes. Tokens without any patch are not dropped: sizes may not depend on values."""

    def __init__(self, network: Any, *, flags: InputFlags) -> None:
        """Take a network whose vision weights are there; its language model may be without any."""
        super().__init__()
        self._tower = [network]  # in a list: its other parts are none of this module's
        self._flags = flags

    def forward(self, patches: torch.Tensor, pooling: torch.Tensor) -> torch.Tensor:
        """uint8[C, N, P], int64[T, K] -> float32[T, D]; -1 in `pooling` is padding."""
        network = self._tower[0]
        connector = network.model.multi_modal_projector
        pixels_CNP = normalised(patches, flags=self._flags, dtype=torch.float32)
        features_CNF = patch_features(network, pixels_CNP)
        flat = features_CNF.reshape(-1, features_CNF.shape[-1])
        valid_TK = pooling >= 0
        weight_TK = valid_TK.to(flat.dtype)
        picked_TKF = flat[pooling.clip(min=0)] * weight_TK[..., None]
        count_T = weight_TK.sum(-1).clip(min=1)
        mean_T1F = picked_TKF.sum(-2, keepdim=True) / count_T[:, None, None]
        # The least number in place of minus infinity, so that a token of padding alone is not NaN.
        mask = torch.where(valid_TK, 0.0, torch.finfo(flat.dtype).min)[:, None, None, :]
        pooled_T1F, _ = connector.image_pooling_2d(mean_T1F, picked_TKF, attention_mask=mask)
        tokens: torch.Tensor = connector.image_projector(pooled_T1F.squeeze(1))
        return tokens


def vision_graph(checkpoint: Checkpoint) -> VisionGraph:
    """The graph's module in float32, with the checkpoint's vision weights; the language model has none."""
    network = _bare_network(checkpoint)
    weights = {name: tensor.float() for name, tensor in _stored_weights(checkpoint, network)}
    network.load_state_dict(weights, strict=False, assign=True)
    return VisionGraph(network.eval().requires_grad_(False), flags=checkpoint.flags)


def _bare_network(checkpoint: Checkpoint) -> Any:
    from transformers import Molmo2ForConditionalGeneration

    config = copy.deepcopy(checkpoint.config)
    with torch.device("meta"):
        return Molmo2ForConditionalGeneration._from_config(config, attn_implementation="sdpa")


def _stored_weights(checkpoint: Checkpoint, network: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Name in the network and tensor as stored, of every vision weight, in order of names."""
    from safetensors import safe_open

    released = HUB_EMBEDDING in checkpoint.entries
    text: Any = checkpoint.config.text_config
    wanted = {name: tensor for name, tensor in network.state_dict().items() if name.startswith(_VISION)}
    for name, empty in sorted(wanted.items()):
        stored = next(iter(to_hub({name: empty}, base_vocab=text.vocab_size))) if released else name
        file = checkpoint.folder / checkpoint.entries[stored].file
        with safe_open(file, framework="pt") as opened:
            yield name, opened.get_tensor(stored)


def vision_digest(checkpoint: Checkpoint) -> str:
    """32 letters that change when a vision weight, a picture setting or the graph's format does."""
    digest = hashlib.blake2b(digest_size=16)
    raw = read_json(checkpoint.folder / "config.json")
    flags = checkpoint.flags
    settings = {
        "format": FORMAT,
        "opset": OPSET,
        "config": {name: raw[name] for name in _SETTINGS if name in raw},
        "pixels": [flags.pixel_mean, flags.pixel_std],
    }
    digest.update(json.dumps(settings, sort_keys=True).encode())
    for name, tensor in _stored_weights(checkpoint, _bare_network(checkpoint)):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        values: Any = tensor.contiguous().flatten().view(torch.uint8).numpy()
        digest.update(values)
    return digest.hexdigest()


def export_vision(checkpoint: Checkpoint, folder: Path, *, digest: str | None = None) -> ExportRecord:
    """Write graph, weights and record to `folder`, made when it is missing; an export there is replaced.

    The graph is run once by onnxruntime on the CPU and compared with torch; one that differs is not kept.
    digest: what `vision_digest` gives, when it is known already.
    Raises `MissingExtraError`, `CheckpointError`, `BackendError`.
    """
    runtime()
    for module in ("onnx", "onnxscript"):
        require(module, extra="onnx")
    clash = conflict()
    if clash is not None:
        raise BackendError(clash)
    graph = vision_graph(checkpoint)
    text: Any = checkpoint.config.text_config
    folder.mkdir(parents=True, exist_ok=True)
    with unfinished(folder) as part:
        _write_graph(graph, checkpoint, part / GRAPH_FILE)
        record = ExportRecord(
            format=FORMAT,
            source=checkpoint.model_id,
            revision=checkpoint.revision,
            digest=vision_digest(checkpoint) if digest is None else digest,
            opset=OPSET,
            dtype="float32",
            patches=("C", *_crop_shape(checkpoint.flags)),
            pooling=("T", "K"),
            features=("T", text.hidden_size),
            difference=_compared(graph, checkpoint, part / GRAPH_FILE),
            files={path.name: path.stat().st_size for path in sorted(part.iterdir())},
            made_by=exporter_versions(),
        )
        _put(part, folder, record)
    return record


def _crop_shape(flags: InputFlags) -> tuple[int, int]:
    """Patches of a crop, bytes of a patch."""
    return flags.patches_per_side**2, flags.patch_size_px**2 * 3


def _write_graph(graph: VisionGraph, checkpoint: Checkpoint, path: Path) -> None:
    size = torch.export.Dim
    patches = torch.zeros((2, *_crop_shape(checkpoint.flags)), dtype=torch.uint8)
    pooling = torch.zeros((5, 3), dtype=torch.int64)
    try:
        with quiet_exporter():
            program = torch.onnx.export(
                graph,
                (patches, pooling),
                dynamo=True,
                opset_version=OPSET,
                input_names=[PATCHES, POOLING],
                output_names=[FEATURES],
                dynamic_shapes={PATCHES: {0: size("C")}, POOLING: {0: size("T"), 1: size("K")}},
                verbose=False,
            )
            assert program is not None, "the exporter of torch.export returns its program"
            # Weights in a file of their own: one graph file may hold 2 GB at most.
            program.save(path, external_data=True)
    except (torch.onnx.OnnxExporterError, torch.export.UserError) as error:  # type: ignore[attr-defined]
        raise BackendError(
            f"{checkpoint.model_id}: this torch could not export the vision tower: "
            f"{' '.join(str(error).split())[:300]}"
        ) from error


@contextmanager
def quiet_exporter() -> Iterator[None]:
    """Nothing of the exporter's own talk.

    It warns of names of torch that it calls itself and of the absence of torchvision, which we do without.
    """
    logs = [logging.getLogger(name) for name in ("torch.onnx", "onnx_ir")]
    before = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for log, level in zip(logs, before, strict=True):
            log.setLevel(level)


def _compared(graph: VisionGraph, checkpoint: Checkpoint, path: Path) -> float:
    """Run the written graph and torch on one trial input; the difference, which must be small."""
    patches, pooling = trial_input(checkpoint.flags)
    opened = open_session(path, provider="cpu")
    assert opened.provider == CPU
    (ours,) = opened.session.run(None, {PATCHES: patches.numpy(), POOLING: pooling.numpy()})
    with torch.inference_mode():
        difference = relative_difference(torch.from_numpy(ours), graph(patches, pooling))
    if not difference <= ALLOWED_DIFFERENCE:
        raise BackendError(
            f"{checkpoint.model_id}: the exported graph differs from torch by {difference:.1e} of "
            f"the largest value, expected {ALLOWED_DIFFERENCE:.0e}; install the versions in constraints.txt"
        )
    return difference


def trial_input(flags: InputFlags, *, crops: int = 3, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise, uint8[C, N, P], and tokens over all its patches with padding in every fourth, int64[T, K]."""
    random = torch.Generator().manual_seed(seed)
    patches = torch.randint(0, 256, (crops, *_crop_shape(flags)), dtype=torch.uint8, generator=random)
    per_token = flags.image_pooling[0] * flags.image_pooling[1]
    total = crops * flags.patches_per_side**2
    pooling = torch.randperm(total, generator=random)[: total - total % per_token].reshape(-1, per_token)
    pooling[::4, 1:] = -1
    return patches, pooling


def relative_difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest difference of two arrays of one shape, over the largest value expected."""
    return float((found.double() - expected.double()).abs().max() / expected.double().abs().max())


def exporter_versions() -> dict[str, str]:
    """Of this package and of the libraries that make an export."""
    import importlib.metadata

    import molmo2_ground

    libraries = {name: importlib.metadata.version(name) for name in ("torch", "onnx", "onnxscript")}
    return {"molmo2-ground": molmo2_ground.__version__, **libraries}


@contextmanager
def unfinished(folder: Path) -> Iterator[Path]:
    """A folder inside `folder` for files that are not whole yet; it goes in any case."""
    part = folder / f".{secrets.token_hex(4)}.part"
    part.mkdir()
    try:
        yield part
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _put(part: Path, folder: Path, record: ExportRecord) -> None:
    """Move the files in place; without its record, which comes last, a folder holds no export."""
    (folder / RECORD_FILE).unlink(missing_ok=True)
    for path in sorted(part.iterdir()):
        os.replace(path, folder / path.name)
    with atomic_path(folder / RECORD_FILE) as path:
        path.write_text(json.dumps(asdict(record), indent=1) + "\n", encoding="utf-8")
