"""The weight files of a checkpoint: found and checked before anything large is read."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from molmo2_ground.errors import CheckpointError

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"

# A header is a few hundred kilobytes for thousands of tensors; a file that claims more is no weight file.
_MAX_HEADER_BYTES = 100_000_000
_BITS = {
    "F64": 64, "I64": 64, "U64": 64, "F32": 32, "I32": 32, "U32": 32,
    "F16": 16, "BF16": 16, "I16": 16, "U16": 16,
    "F8_E4M3": 8, "F8_E5M2": 8, "I8": 8, "U8": 8, "BOOL": 8,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightEntry:
    """One tensor in a file. dtype: its name in the safetensors format, such as `BF16`."""

    file: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def bytes(self) -> int:
        """What it takes in the file."""
        return math.prod(self.shape) * _BITS[self.dtype] // 8


def weight_entries(folder: Path) -> dict[str, WeightEntry]:
    """Every tensor of the checkpoint by name.

    Raises `CheckpointError` naming the file that is missing, cut short, damaged or at odds with the index.
    """
    index = folder / INDEX_FILE
    if not index.is_file():
        if not (folder / SINGLE_FILE).is_file():
            raise CheckpointError(
                f"{folder}: no weights; expected {SINGLE_FILE}, or {INDEX_FILE} with its parts"
            )
        return read_header(folder / SINGLE_FILE)
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, Mapping) or not all(isinstance(v, str) for v in weight_map.values()):
        raise CheckpointError(f"{index}: no weight_map from tensor names to files")
    entries: dict[str, WeightEntry] = {}
    for name in sorted(set(weight_map.values())):
        if not (folder / name).is_file():
            raise CheckpointError(
                f"{folder / name} is missing; {INDEX_FILE} names it. Fetch the checkpoint again"
            )
        entries.update(read_header(folder / name))
    for tensor, file in weight_map.items():
        if tensor not in entries:
            raise CheckpointError(f"{folder / file} does not hold {tensor}, which {INDEX_FILE} says it does")
    return entries


def read_header(path: Path) -> dict[str, WeightEntry]:
    """Names and shapes in one safetensors file, whose length must be what its header says."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = int.from_bytes(start, "little")
        if len(start) < 8 or length > min(size - 8, _MAX_HEADER_BYTES):
            raise CheckpointError(
                f"{path}: not a safetensors file, or cut short ({size} bytes). Fetch it again"
            )
        header = file.read(length)
    entries, data_bytes = {}, 0
    try:
        for name, entry in json.loads(header).items():
            if name == "__metadata__":
                continue
            shape = tuple(int(n) for n in entry["shape"])
            begin, end = entry["data_offsets"]
            if (end - begin) * 8 != math.prod(shape) * _BITS[entry["dtype"]]:
                raise CheckpointError(f"{path}: {name} has another size than its shape {list(shape)} says")
            data_bytes = max(data_bytes, end)
            entries[name] = WeightEntry(file=path.name, shape=shape, dtype=entry["dtype"])
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise CheckpointError(f"{path}: its header cannot be read ({error}). Fetch it again") from error
    expected = 8 + length + data_bytes
    if size != expected:
        raise CheckpointError(
            f"{path}: cut short or damaged: expected {expected} bytes, got {size}. Fetch it again"
        )
    return entries


def read_json(path: Path) -> dict[str, Any]:
    """One JSON object; `CheckpointError` when the file is missing or something else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing; a checkpoint in the released layout has it") from None
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: expected a JSON object, got {type(content).__name__}")
    return content
