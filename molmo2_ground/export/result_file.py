"""The result file: one JSON object, its schema named on the first line, written whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from molmo2_ground._atomic import atomic_path
from molmo2_ground.errors import SourceError
from molmo2_ground.results import Answer, Count, Points, Tracks

Result = Points | Tracks | Count | Answer
Kind = Literal["points", "tracks", "count", "answer"]

SCHEMA_VERSION = 1
_TYPES: dict[Kind, type[Result]] = {"points": Points, "tracks": Tracks, "count": Count, "answer": Answer}


def kind_of(result: Result) -> Kind:
    """The name of the result's schema: `points`, `tracks`, `count` or `answer`."""
    return next(kind for kind, result_type in _TYPES.items() if isinstance(result, result_type))


def dumps(result: Result) -> str:
    """The text of the result file: `schema` first, then the fields of the result, no line end after it."""
    fields = result.model_dump(mode="json")
    document = {"schema": f"molmo2-ground/{kind_of(result)}/{SCHEMA_VERSION}", **fields}
    members = [
        f"{json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}" for name, value in document.items()
    ]
    # One member a line: `head -1` shows what the file is, and a difference of two files shows where.
    return "{" + ",\n ".join(members) + "}"


def loads(text: str, *, name: str = "the result") -> Result:
    """The result that `dumps` wrote; `name` is what messages call it. Raises `SourceError`."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{name} is not a result file: expected JSON; {error}") from error
    schema = document.pop("schema", None) if isinstance(document, dict) else None
    known = {f"molmo2-ground/{kind}/{SCHEMA_VERSION}": result_type for kind, result_type in _TYPES.items()}
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


def write_result(result: Result, path: str | os.PathLike[str]) -> None:
    """Write the result file; on any failure nothing is left and what stood there stays. Raises `OSError`."""
    with atomic_path(path) as unfinished:
        unfinished.write_text(dumps(result) + "\n", encoding="utf-8")


def read_result(path: str | os.PathLike[str]) -> Result:
    """Read a result file. Raises `SourceError` when it is missing or is not one."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"cannot read the result file {path}: {error}") from error
    return loads(text, name=str(path))


def json_schema(kind: Kind) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of one kind of result file, its `schema` member included."""
    schema = _TYPES[kind].model_json_schema(mode="serialization")
    name = f"molmo2-ground/{kind}/{SCHEMA_VERSION}"
    schema["properties"] = {"schema": {"const": name}, **schema["properties"]}
    schema["required"] = ["schema", *schema.get("required", [])]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": f"urn:{name}", **schema}
