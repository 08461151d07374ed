"""The result file: one JSON object, its schema named on the first line, written whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from molmo2_ground._atomic import atomic_path
from molmo2_ground.errors import SourceError, reason_of
from molmo2_ground.results import Answer, Count, Masks, Points, Tracks

Result = Points | Tracks | Count | Answer
Kind = Literal["points", "tracks", "count", "answer", "masks"]

SCHEMA_VERSION = 1
_TYPES: dict[Kind, type[Result | Masks]] = {
    "points": Points,
    "tracks": Tracks,
    "count": Count,
    "answer": Answer,
    "masks": Masks,
}


def kind_of(result: Result | Masks) -> Kind:
    """The name of the result's schema: `points`, `tracks`, `count`, `answer` or `masks`."""
    return next(kind for kind, result_type in _TYPES.items() if isinstance(result, result_type))


def dumps(result: Result | Masks) -> str:
    """The text of the result file: `schema` first, then the fields of the result, no line end after it."""
    fields = result.model_dump(mode="json")
    document = {"schema": _schema_name(kind_of(result)), **fields}
    members = [
        f"{json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}" for name, value in document.items()
    ]
    # One member a line: `head -1` shows what the file is, and a difference of two files shows where.
    return "{" + ",\n ".join(members) + "}"


def loads(text: str, *, name: str = "the result") -> Result:
    """The result that `dumps` wrote; `name` is what messages call it. Raises `SourceError`.

    Masks are read by `loads_masks`: they say which pixels, and not what was answered.
    """
    found = _load(text, name=name)
    if isinstance(found, Masks):
        raise SourceError(
            f"{name} holds masks; expected points, tracks, a count or an answer. Give the result file that "
            "the masks were made from; masks are read by molmo2_ground.export.read_masks, and exported by "
            "`molmo2-ground export FORMAT MASKS.json`"
        )
    return found


def loads_masks(text: str, *, name: str = "the masks") -> Masks:
    """The masks that `dumps` wrote; `name` is what messages call them. Raises `SourceError`.

    Every mask is looked into: its runs cover its picture exactly.
    """
    found = _load(text, name=name)
    if not isinstance(found, Masks):
        raise SourceError(f"{name} holds {kind_of(found)}; expected masks (schema {_schema_name('masks')})")
    _check_runs(found, name=name)
    return found


def _load(text: str, *, name: str) -> Result | Masks:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{name} is not a result file: expected JSON; {error}") from error
    schema = document.pop("schema", None) if isinstance(document, dict) else None
    known = {_schema_name(kind): result_type for kind, result_type in _TYPES.items()}
    if not isinstance(schema, str) or schema not in known:
        raise SourceError(
            f"{name} is not a result file that this version reads: expected schema {' or '.join(known)}; "
            f"got {schema!r}"
        )
    try:
        return known[schema].model_validate_json(json.dumps(document))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise SourceError(
            f"{name} does not follow its schema {schema}: {first['msg']} at {place or 'the top'} "
            f"({error.error_count()} in all)"
        ) from error


def _check_runs(masks: Masks, *, name: str) -> None:
    for number, mask in enumerate(masks):
        try:
            mask.rle.runs()
        except ValueError as error:
            raise SourceError(
                f"{name}: mask {number} (object {mask.object_id}, frame {mask.source_index}) cannot be read: "
                f"{error}"
            ) from error
        if mask.object_id not in masks.labels:
            raise SourceError(f"{name}: mask {number} is of object {mask.object_id}, which has no label")


def _schema_name(kind: Kind) -> str:
    return f"molmo2-ground/{kind}/{SCHEMA_VERSION}"


def write_result(result: Result | Masks, path: str | os.PathLike[str]) -> None:
    """Write the result file; on any failure nothing is left and what stood there stays. Raises `OSError`."""
    with atomic_path(path) as unfinished:
        unfinished.write_text(dumps(result) + "\n", encoding="utf-8")


def read_result(path: str | os.PathLike[str]) -> Result:
    """Read a result file. Raises `SourceError` when it is missing, is not one, or holds masks."""
    return loads(_text_of(path), name=str(path))


def read_masks(path: str | os.PathLike[str]) -> Masks:
    """Read a file of masks. Raises `SourceError` when it is missing or is not one."""
    return loads_masks(_text_of(path), name=str(path))


def read_any(path: str | os.PathLike[str]) -> Result | Masks:
    """Read a result file of any kind, masks included. Raises `SourceError`."""
    found = _load(_text_of(path), name=str(path))
    if isinstance(found, Masks):
        _check_runs(found, name=str(path))
    return found


def _text_of(path: str | os.PathLike[str]) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"cannot read the result file {path}: {reason_of(error)}") from error


def json_schema(kind: Kind) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of one kind of result file, its `schema` member included."""
    if kind not in _TYPES:
        raise ValueError(f"expected one of {', '.join(_TYPES)}; got {kind!r}")
    schema = _TYPES[kind].model_json_schema(mode="serialization")
    name = _schema_name(kind)
    schema["properties"] = {"schema": {"const": name}, **schema["properties"]}
    schema["required"] = ["schema", *schema.get("required", [])]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": f"urn:{name}", **schema}
