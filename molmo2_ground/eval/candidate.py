"""`Candidate`, the model that is examined, and a name for it that changes when its weights do."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from molmo2_ground.grounder import Grounder

if TYPE_CHECKING:
    from molmo2_ground.answer import RawAnswer
    from molmo2_ground.backends.base import Backend, BackendSession
    from molmo2_ground.clip import Clip, RgbArray
    from molmo2_ground.eval.example import Settings
    from molmo2_ground.model.limits import ModelLimits
    from molmo2_ground.query import Decoding, Prompt

_CHECKPOINT_SUFFIXES = (".json", ".jinja", ".safetensors")
# Larger files are told apart by their beginning, size and date: reading 16 GB twice would take minutes.
_READ_WHOLE_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """The model that is examined.

    name      as it was asked for.
    identity  changes when its weights or the way it is run change; kept answers are filed under it.
    load      makes it ready to be asked with a suite's settings; picklable when several processes take part.
    """

    name: str
    identity: str
    load: Callable[[Settings], Grounder]


def checkpoint_candidate(
    model: str | os.PathLike[str], *, device: str = "auto", dtype: str = "auto", vision: str = "torch"
) -> Candidate:
    """A checkpoint by the name that `load` takes; a hub id is downloaded when it is not there yet.

    device, dtype, vision: as `load` takes them.
    Raises `CheckpointError` when there is no such checkpoint, `ValueError` for another word for the vision.
    """
    from molmo2_ground.model.checkpoint import locate  # torch takes seconds to load
    from molmo2_ground.model.vision_choice import VisionChoice

    name = os.fspath(model)
    choice = VisionChoice.parse(vision)
    folder, _, revision = locate(name)
    weights = f"revision {revision}" if revision is not None else f"files {files_digest(folder)}"
    # Where the export lies changes nothing. Answers kept before there was a choice were torch's.
    seen_by = "" if choice.runtime == "torch" else f"; onnx {choice.provider or 'best'}"
    title = name if revision is not None else Path(name).name
    return Candidate(
        name=name,
        identity=f"{title}; {weights}; {device}; {dtype}{seen_by}",
        load=functools.partial(_load, name, device, dtype, vision),
    )


def files_digest(folder: Path) -> str:
    """Twelve letters that change when a checkpoint's files do."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix not in _CHECKPOINT_SUFFIXES or not path.is_file():
            continue
        stat = path.stat()
        digest.update(f"{path.name} {stat.st_size}\n".encode())
        with path.open("rb") as file:
            digest.update(file.read(_READ_WHOLE_BYTES))
        if stat.st_size > _READ_WHOLE_BYTES:
            digest.update(f"{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:12]


def _load(name: str, device: str, dtype: str, vision: str, settings: Settings) -> Grounder:
    from molmo2_ground.backends.native import NativeBackend
    from molmo2_ground.model import load_checkpoint

    checkpoint = load_checkpoint(name, device=device, dtype=dtype, vision=vision)
    return Grounder(capped(NativeBackend(checkpoint, pointing_crops=settings.max_crops), settings))


def capped(backend: Backend, settings: Settings) -> Backend:
    """The same backend, looking at no more frames than the suite allows."""
    if settings.max_frames is None or settings.max_frames >= backend.limits.max_frames:
        return backend
    return _Capped(backend, settings.max_frames)


class _Capped:
    """A backend that says it reads fewer frames than it could."""

    def __init__(self, backend: Backend, max_frames: int) -> None:
        self._backend = backend
        self._limits = dataclasses.replace(backend.limits, max_frames=max_frames)

    @property
    def model_id(self) -> str:
        return self._backend.model_id

    @property
    def limits(self) -> ModelLimits:
        return self._limits

    def resize_frame(self, rgb_hwc: RgbArray) -> RgbArray:
        return self._backend.resize_frame(rgb_hwc)

    def open(self, clip: Clip) -> BackendSession:
        return self._backend.open(clip)

    def at_once(self, clip: Clip) -> int:
        return self._backend.at_once(clip)

    def answer_together(
        self, asked: Sequence[tuple[BackendSession, Prompt]], *, decoding: Decoding
    ) -> list[RawAnswer]:
        return self._backend.answer_together(asked, decoding=decoding)
