"""`export_checkpoint`: a trained network as a folder that the SDK and plain transformers load."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from molmo2_ground._amount import amount
from molmo2_ground.errors import TrainingError
from molmo2_ground.model.hub_layout import save_hub_layout

if TYPE_CHECKING:
    from transformers import Molmo2ForConditionalGeneration

    from molmo2_ground.model.checkpoint import Checkpoint
    from molmo2_ground.model.flags import InputFlags
    from molmo2_ground.train.feed import Json

NOTE_FILE = "training.json"
_FILES = "files"  # of the note: what is in the folder, so that nothing else is ever replaced
# Words are not trained, so their files stay as they were, also those that only other programs read.
_WORD_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
)
_SHARD_BYTES = 5 * 10**9


def check_target(folder: Path) -> None:
    """Raise `TrainingError` when a checkpoint may not be written there: only what we wrote is replaced."""
    if folder.is_file():
        raise TrainingError(f"{folder} is a file; expected a new folder for the trained checkpoint")
    if not folder.is_dir():
        return
    names = sorted(path.name for path in folder.iterdir())
    if names and NOTE_FILE not in names:
        raise TrainingError(f"{folder} holds other things; name a new folder for the trained checkpoint")
    ours = _ours(folder) if names else set()
    if names and not ours:
        raise TrainingError(
            f"{folder} holds a checkpoint whose {NOTE_FILE} does not list its files; name a new folder"
        )
    others = sorted(set(names) - ours)
    if others:
        more = f" and {amount(len(others) - 1, 'other')}" if len(others) > 1 else ""
        raise TrainingError(
            f"{folder} holds more than the checkpoint that was trained into it: {others[0]}{more}; move that "
            "away, or name a new folder for the trained checkpoint"
        )


def _ours(folder: Path) -> set[str]:
    """The names in an export, as its note has them; none where there is no such list."""
    try:
        note = json.loads((folder / NOTE_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return set()
    files = note.get(_FILES) if isinstance(note, dict) else None
    return {name for name in files if isinstance(name, str)} if isinstance(files, list) else set()


def export_checkpoint(
    network: Molmo2ForConditionalGeneration,
    folder: Path,
    *,
    source: Checkpoint,
    flags: InputFlags,
    note: Mapping[str, Json],
    dtype: torch.dtype = torch.float32,
    extra: Mapping[str, Path] | None = None,
) -> Path:
    """Write the checkpoint beside `folder` and move it there whole; an earlier export there goes.

    A link to a folder stays one: what it leads to is replaced.

    source  what was trained from: words and their files are taken from it.
    flags   how pictures are read from now on. dtype: of the stored weights.
    note    how it was made, for `training.json`. extra: files to add, by their new names.
    """
    from tokenizers import Tokenizer

    check_target(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    asked_for, folder = folder, folder.resolve()
    unfinished = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.part")
    try:
        save_hub_layout(
            network,
            unfinished,
            tokenizer=Tokenizer.from_file(str(source.folder / "tokenizer.json")),
            flags=flags,
            dtype=dtype,
            max_shard_bytes=_SHARD_BYTES,
        )
        for name in _WORD_FILES:
            if (source.folder / name).is_file():
                shutil.copyfile(source.folder / name, unfinished / name)
        for name, path in (extra or {}).items():
            shutil.copyfile(path, unfinished / name)
        files = sorted([*(path.name for path in unfinished.iterdir()), NOTE_FILE])
        text = json.dumps({**note, _FILES: files}, indent=1)
        (unfinished / NOTE_FILE).write_text(text + "\n", encoding="utf-8")
        _put(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return asked_for


def _put(unfinished: Path, folder: Path) -> None:
    """Give the new folder its name; the old one keeps it until then."""
    old = unfinished.with_suffix(".old")
    if folder.exists():
        os.replace(folder, old)
    os.replace(unfinished, folder)
    shutil.rmtree(old, ignore_errors=True)
