"""`PredictionFile`: every answer that was given, kept as it comes, so that a killed run goes on.

One JSON object a line: `key` names the example, `asked` is a digest of everything that the answer depends
on (the question, the model's identity, the suite's settings, the code that asks), and then either the
`receipt`, from which the result is derived again whenever it is scored, or, where nothing could be read,
the model's `text` and the `reason`. A line is appended by one write; what a killed process left of its
last line is cut off when the file is opened again.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import json
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pydantic import ValidationError

import molmo2_ground
from molmo2_ground.answer import parse_answer
from molmo2_ground.errors import SourceError
from molmo2_ground.eval.example import Example, Result, Settings
from molmo2_ground.placement import frame_refs, place_tracks
from molmo2_ground.replay import derive
from molmo2_ground.results import Answer, Receipt

_log = logging.getLogger(__name__)

# What stands between a question and the model's text. Reading the text is no part of it: a kept receipt is
# read again by the code of the day.
_ASKING = (
    "query.py",
    "runaway.py",
    "clip.py",
    "thousandths.py",
    "grounder.py",
    "asking.py",
    "session.py",
    "windows.py",
    "sources",
    "model",
    "backends",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """One kept answer; `receipt` is None when nothing could be read from `text`, and `reason` says why."""

    key: str
    asked: str
    receipt: Receipt | None = None
    text: str = ""
    reason: str = ""

    def result(self) -> Result | None:
        """The answer, read again from its receipt; None when nothing can be read. Raises `AnswerError`."""
        return None if self.receipt is None else located(derive(self.receipt))

    def line(self) -> bytes:
        """The line that `prediction_of` reads, its end included."""
        fields: dict[str, Any] = {"key": self.key, "asked": self.asked}
        if self.receipt is not None:
            fields["receipt"] = self.receipt.model_dump(mode="json")
        else:
            fields |= {"text": self.text, "reason": self.reason}
        # ASCII: a model may write half of a surrogate pair, which UTF-8 cannot hold.
        return json.dumps(fields, separators=(",", ":")).encode("ascii") + b"\n"


def located(result: Result | Answer) -> Result:
    """The same, with free text read as tracks: what a suite asks in words of its own is answered by places.

    Points alone are taken as tracks too, and a text that says that there is nothing as none. Raises
    `AnswerError` when a text does neither.
    """
    if not isinstance(result, Answer):
        return result
    return place_tracks(parse_answer(result.text), frame_refs(result.receipt), result.receipt)


def prediction_of(line: bytes) -> Prediction:
    """Read one line. Raises `ValueError` when it is not one."""
    fields = json.loads(line)
    if not isinstance(fields, dict) or not {"key", "asked"} <= fields.keys():
        raise ValueError("expected an object with key and asked")
    receipt = Receipt.model_validate_json(json.dumps(fields["receipt"])) if "receipt" in fields else None
    return Prediction(
        key=fields["key"],
        asked=fields["asked"],
        receipt=receipt,
        text=fields.get("text", ""),
        reason=fields.get("reason", ""),
    )


def read_predictions(path: Path) -> dict[str, Prediction]:
    """The kept answers by `asked`, the last of each; empty when there is no file.

    A line that cannot be read is logged and left out, and its question is asked again; a last line without
    an end is still being written, or was cut off.
    """
    kept: dict[str, Prediction] = {}
    for number, line in _lines(path):
        try:
            prediction = prediction_of(line)
        except (ValueError, KeyError, TypeError, ValidationError) as error:
            reason = " ".join(str(error).split())[:120]
            _log.warning("%s, line %d cannot be read and is asked again: %s", path, number, reason)
            continue
        kept[prediction.asked] = prediction
    return kept


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.endswith(b"\n"):
                    yield number, line
    except FileNotFoundError:
        return


class PredictionFile:
    """The file, open for adding; a context manager. One process at a time holds it.

    Raises `SourceError` when another run is writing to it, `OSError` when it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._file)
            raise SourceError(
                f"another evaluation is writing to {path.parent}; wait for it, or choose another folder"
            ) from error
        self._cut_torn_line()

    def _cut_torn_line(self) -> None:
        size = os.fstat(self._file).st_size
        end = size
        while end > 0:
            start = max(0, end - 65536)
            at = os.pread(self._file, end - start, start).rfind(b"\n")
            if at >= 0:
                end = start + at + 1
                break
            end = start
        if end < size:
            os.ftruncate(self._file, end)

    def add(self, prediction: Prediction) -> None:
        """Append one answer; it is there for the next run as soon as this returns."""
        line = prediction.line()
        written = os.write(self._file, line)
        while written < len(line):  # a nearly full disk takes a part; the rest follows, or raises
            written += os.write(self._file, line[written:])

    def close(self) -> None:
        """Let go of the file; closing again does nothing."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@functools.cache
def code_digest() -> str:
    """Twelve letters that change when the code between a question and the model's text does."""
    root = Path(molmo2_ground.__file__).parent
    digest = hashlib.sha256(molmo2_ground.__version__.encode())
    for name in _ASKING:
        part = root / name
        for path in sorted(part.rglob("*.py")) if part.is_dir() else [part]:
            digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def asked_digest(example: Example, *, suite: str, settings: Settings, identity: str, threads: int) -> str:
    """Sixteen letters for everything that the model's text depends on, but the pixels themselves."""
    query = example.query
    facts = [
        suite,
        example.key,
        Path(example.media).name,
        [query.task, query.phrase, query.fps, query.max_objects, query.at, query.show_fps],
        [settings.max_frames, settings.max_new_tokens, settings.temperature, settings.max_crops],
        identity,
        threads,
        code_digest(),
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
