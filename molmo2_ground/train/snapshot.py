"""`SnapshotStore`: all that a run needs to go on, in folders that appear whole or not at all.

A snapshot is a folder `step-00000500` of safetensors files and one `state.json`. It is written under a hidden
name, forced to the disk, and renamed; so a kill or a full disk leaves the last one as it was. No pickle: to
read one runs no code of it.
"""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from molmo2_ground.errors import TrainingError
from molmo2_ground.train.named_tensors import copy_tensors, model_tensors

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from molmo2_ground.train.feed import Json

logger = logging.getLogger(__name__)

TensorWriter = Callable[[dict[str, "Tensor"], "Path"], None]
"""Writes named tensors to a new file."""

STATE_FILE = "state.json"
_SCHEMA_VERSION = 1
_WHOLE = re.compile(r"step-(\d{8,})")
_UNFINISHED = re.compile(r"\.step-\d{8,}\.[0-9a-f]{8}\.(part|old)")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Snapshot:
    """A whole snapshot; `state` is what was given to `save`."""

    folder: Path
    step: int
    state: Mapping[str, Any]

    def tensors(self, name: str) -> dict[str, Tensor]:
        """The tensors of one file, on the CPU."""
        return load_file(self.folder / f"{name}.safetensors")


def open_snapshot(folder: Path) -> Snapshot:
    """A snapshot by its folder. `TrainingError`: it is not there or not whole."""
    state = _read_state(folder)
    if isinstance(state, str):
        raise TrainingError(f"the snapshot {folder} cannot be read: {state}; take another one")
    return Snapshot(folder=folder, step=int(state["step"]), state=state["state"])


def load_weights(folder: Path, model: nn.Module) -> None:
    """Give a model the weights of a snapshot and nothing else of it: how a stage begins after another.

    `TrainingError`, and nothing changed: the snapshot is damaged, or of another model.
    """
    copy_tensors(open_snapshot(folder).tensors("model"), into=model_tensors(model), what="model")


class SnapshotStore:
    """The snapshots of one run.

    keep   so many of the newest whole ones stay.
    write  how a file of tensors is written.
    """

    def __init__(self, folder: Path, *, keep: int = 2, write: TensorWriter = save_file) -> None:
        if keep < 1:
            raise ValueError(f"keep must be 1 or more, got {keep}")
        self.folder, self.keep, self._write = folder, keep, write

    def latest(self) -> Snapshot | None:
        """The newest whole snapshot, None when there is none; removes what interrupted writing left behind.

        A damaged one is passed over with a warning. `TrainingError`: there are some, and all are damaged.
        """
        self._remove_unfinished()
        faults = []
        for folder in reversed(self._folders()):
            state = _read_state(folder)
            if isinstance(state, str):
                logger.warning("the snapshot %s is damaged and passed over: %s", folder, state)
                faults.append(state)
                continue
            return Snapshot(folder=folder, step=int(state["step"]), state=state["state"])
        if faults:
            raise TrainingError(
                f"no snapshot in {self.folder} is whole ({faults[0]}); remove them to start anew, or bring "
                "back a copy"
            )
        return None

    def save(
        self, step: int, *, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Json]
    ) -> Snapshot:
        """Write a snapshot, then remove those that are older than the newest whole ones.

        tensors  the content of each file, by the file's name without its ending.
        Raises `TrainingError` when it cannot be written (a full disk); then nothing is left of it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        target = self.folder / f"step-{step:08d}"
        unfinished = self.folder / f".{target.name}.{secrets.token_hex(4)}.part"
        try:
            self._fill(unfinished, step, tensors, state)
            if target.exists():  # a damaged one that was passed over
                os.replace(target, unfinished.with_suffix(".old"))
            os.replace(unfinished, target)
            _sync(self.folder)
        # Not BaseException: what a kill leaves is removed at the next start.
        except (OSError, SafetensorError) as error:
            shutil.rmtree(unfinished, ignore_errors=True)
            good = self._folders()
            raise TrainingError(
                f"the snapshot of step {step} could not be written to {self.folder}: "
                f"{' '.join(str(error).split())}; free some space and run again: it goes on from "
                f"{good[-1].name if good else 'the start'}"
            ) from error
        self._remove_unfinished()
        folders = self._folders()
        # A damaged one that was passed over may be of a later step: it is none of those to keep.
        whole = [folder for folder in folders if not isinstance(_read_state(folder), str)]
        for old in folders[: folders.index(whole[-self.keep :][0])]:
            shutil.rmtree(old)
        return Snapshot(folder=target, step=step, state=state)

    def _fill(
        self,
        folder: Path,
        step: int,
        tensors: Mapping[str, Mapping[str, Tensor]],
        state: Mapping[str, Json],
    ) -> None:
        folder.mkdir()
        sizes = {}
        for name, content in tensors.items():
            path = folder / f"{name}.safetensors"
            self._write({key: tensor.contiguous() for key, tensor in content.items()}, path)
            _sync(path)
            sizes[path.name] = path.stat().st_size
        saved = {"schema_version": _SCHEMA_VERSION, "step": step, "sizes": sizes, "state": state}
        path = folder / STATE_FILE
        path.write_text(json.dumps(saved, allow_nan=False) + "\n", encoding="utf-8")
        _sync(path)
        _sync(folder)

    def _folders(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        found = [path for path in self.folder.iterdir() if _WHOLE.fullmatch(path.name) and path.is_dir()]
        return sorted(found, key=lambda path: int(path.name.removeprefix("step-")))

    def _remove_unfinished(self) -> None:
        if self.folder.is_dir():
            for path in self.folder.iterdir():
                if _UNFINISHED.fullmatch(path.name):
                    shutil.rmtree(path)


def _read_state(folder: Path) -> dict[str, Any] | str:
    """The content of state.json, or what is wrong with the snapshot, in words."""
    try:
        saved = json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))
        version = saved["schema_version"]
        if version != _SCHEMA_VERSION:
            return f"{STATE_FILE} has version {version}, expected {_SCHEMA_VERSION}"
        for name, size in saved["sizes"].items():
            found = (folder / name).stat().st_size
            if found != size:
                return f"{name} has {found} bytes, expected {size}"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{STATE_FILE} or a file that it names cannot be read ({error})"
    return dict(saved)


def _sync(path: Path) -> None:
    """Force a file's content, or a folder's list of names, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
