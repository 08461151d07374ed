"""`Written`: what an export wrote and what the format had no place for; and how it writes numbers."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from molmo2_ground._atomic import atomic_path

_DECIMALS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """The file or folder, how many marks it holds, and what was left out or changed, one line each."""

    path: Path
    marks: int
    left_out: tuple[str, ...] = ()


def write_text(path: str | os.PathLike[str], text: str) -> Path:
    """Write a text file in UTF-8, whole or not at all, with line ends as they are. Raises `OSError`."""
    with atomic_path(path) as unfinished:
        unfinished.write_bytes(text.encode("utf-8"))
    return Path(path)


def write_json(path: str | os.PathLike[str], document: Any) -> Path:
    """Write one JSON document. Raises `OSError`."""
    return write_text(path, json.dumps(document, ensure_ascii=False, allow_nan=False) + "\n")


def number(value: float) -> str:
    """A number for a line of text: to a millionth, without zeros that say nothing."""
    rounded = round(float(value), _DECIMALS)
    return str(int(rounded)) if rounded == int(rounded) else f"{rounded:.{_DECIMALS}f}".rstrip("0")


def lines_of(rows: Iterable[str]) -> str:
    """Lines as one text, each with its line end."""
    return "".join(row + "\n" for row in rows)


def counted(problems: Iterable[tuple[str, int, int]]) -> tuple[str, ...]:
    """One line an object and reason: (reason, object, frame) of each mark that was left out."""
    frames: dict[tuple[str, int], list[int]] = {}
    for reason, object_id, frame in problems:
        frames.setdefault((reason, object_id), []).append(frame)
    return tuple(
        f"object {object_id}: {reason} in {_frames(found)}" for (reason, object_id), found in frames.items()
    )


def _frames(found: list[int]) -> str:
    if len(found) == 1:
        return f"frame {found[0]}"
    return f"{len(found)} frames, {min(found)} to {max(found)}"
