"""Checkpoints of SAM 2 and its kin in the hub's layout: found, checked and loaded."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from molmo2_ground.errors import CheckpointError
from molmo2_ground.masks.sam_pictures import SamPictures
from molmo2_ground.model.checkpoint import download, one_line, without_progress_bars
from molmo2_ground.model.weight_files import read_json, weight_entries

_log = logging.getLogger(__name__)

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
# The same table under two names: one of them may be all that a file holds.
_TWINS = (
    "shared_image_embedding.positional_embedding",
    "prompt_encoder.shared_embedding.positional_embedding",
)
# What a folder may hold by mistake, and what to do about it.
_OTHERS = {
    "molmo2": "that is a Molmo2, which answers questions; it is what model= takes",
    "sam": "that is the first SAM, which has no memory and cannot follow anything through a video",
    "sam2": "that is a SAM 2 for single pictures; the one for videos holds the memory's weights as well",
    "sam2_video": "that is a SAM 2: load_sam2 reads it",
    "sam3_video": "that is a SAM 3: load_sam3_tracker reads it",
    "sam3_tracker_video": "that is a SAM 3: load_sam3_tracker reads it",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SamFamily:
    """What tells the checkpoints of one SAM from another's.

    title       in messages. short: names for hub ids, without their owner `facebook`.
    model_types the kinds of config.json that are read; network, config, session: the library's classes.
    mean, std   of red, green and blue as published, for checkpoints that do not say.
    """

    title: str
    short: tuple[str, ...]
    model_types: tuple[str, ...]
    network: str
    config: str
    session: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SamCheckpoint:
    """A checkpoint whose every file but the weights' values has been read.

    name: what results call it, the hub id where it came from the hub. revision: the hub's commit, None for
    a folder.
    """

    family: SamFamily
    folder: Path
    name: str
    revision: str | None
    config: Any
    pictures: SamPictures


def open_sam(name: str | Path, *, family: SamFamily) -> SamCheckpoint:
    """Find a checkpoint by short name, hub id or folder, and read everything but its weights' values.

    Raises `CheckpointError` that says what is wrong in one line.
    """
    folder, called, revision = _located(str(name), family)
    raw = read_json(folder / "config.json")
    kind = raw.get("model_type")
    if kind not in family.model_types:
        hint = f"; {_OTHERS[kind]}" if kind in _OTHERS else ""
        raise CheckpointError(
            f"{folder / 'config.json'}: model_type is {kind!r}, expected {family.model_types[0]!r} of "
            f"{family.title}{hint}"
        )
    config = _config(folder, family, raw)
    weight_entries(folder)
    pictures = SamPictures.of_folder(folder, side_px=int(config.image_size), mean=family.mean, std=family.std)
    return SamCheckpoint(
        family=family, folder=folder, name=called, revision=revision, config=config, pictures=pictures
    )


def _located(name: str, family: SamFamily) -> tuple[Path, str, str | None]:
    if name in family.short:
        return download(f"facebook/{name}", None)
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder, name, None
    if folder.exists():
        raise CheckpointError(f"{name} is a file; a checkpoint is a folder in the hub's layout")
    if not _HUB_ID.fullmatch(name):
        raise CheckpointError(
            f"no segmenter {name!r}: expected 'region', {', '.join(map(repr, family.short))}, a hub id like "
            f"'facebook/{family.short[0]}', or a folder"
        )
    return download(name, None)


def _config(folder: Path, family: SamFamily, raw: dict[str, Any]) -> Any:
    import transformers

    try:
        # A SAM 3 holds its tracker beside a detector; only the former is read.
        if isinstance(raw.get("tracker_config"), dict):
            return getattr(transformers, family.config)(**raw["tracker_config"])
        return getattr(transformers, family.config).from_pretrained(folder)
    # The library checks a config in many places and with many kinds of error.
    except Exception as error:
        raise CheckpointError(f"{folder / 'config.json'}: {one_line(error)}") from error


def load_sam_network(checkpoint: SamCheckpoint, *, device: torch.device, dtype: torch.dtype) -> Any:
    """The library's network with the checkpoint's weights, ready to run. Raises `CheckpointError`."""
    import transformers

    family = checkpoint.family
    try:
        with without_progress_bars(), _without_report():
            network, report = getattr(transformers, family.network).from_pretrained(
                checkpoint.folder,
                config=checkpoint.config,
                dtype=dtype,
                attn_implementation="sdpa",
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are in the report, which we read ourselves
            )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise CheckpointError(
            f"{checkpoint.folder}: the weights cannot be read: {one_line(error)}"
        ) from error
    odd = sorted(report["mismatched_keys"])
    if odd:
        name, stored, expected = odd[0]
        raise CheckpointError(
            f"{checkpoint.folder}: {name} has shape {list(stored)}, expected {list(expected)} from "
            "config.json"
        )
    lost = sorted(report["missing_keys"])
    if len(lost) == 1 and lost[0] in _TWINS:
        (there,) = set(_TWINS) - set(lost)
        network.get_buffer(lost[0]).copy_(network.get_buffer(there))
        lost = []
    if lost:
        raise CheckpointError(
            f"{checkpoint.folder}: no weights for {lost[0]} ({len(lost)} in all), which a {family.title} "
            "for videos has"
        )
    _log.info("%s: %s in %s on %s", checkpoint.name, family.title, dtype, device)
    return network.to(device).eval().requires_grad_(False)


@contextmanager
def _without_report() -> Iterator[None]:
    """The library says in many lines which weights are missing; we say it in one."""
    from transformers.utils import logging as library_logging

    before = library_logging.get_verbosity()
    library_logging.set_verbosity_error()
    try:
        yield
    finally:
        library_logging.set_verbosity(before)
