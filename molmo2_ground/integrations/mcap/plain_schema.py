"""JSON Schemas in the few words that Foxglove reads.

Foxglove's reader (`parseJsonSchema` in its mcap-support) knows objects with `properties`, arrays with
`items`, plain types and `oneOf` of constant numbers. It refuses a channel with `$ref`, `anyOf`, `null` or
an object without properties, and pydantic writes all of these. So references are written out, and what may be
null is described as what it is otherwise and left out of the message when it is null: messages stay valid by
the schema that lies beside them.
"""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel

Schema = dict[str, Any]


def plain_schema(model: type[BaseModel], *, title: str) -> Schema:
    """The schema of a model's messages as `plain_json` writes them."""
    full = model.model_json_schema(mode="serialization", by_alias=True)
    return _plain(full, full.get("$defs", {})) | {"title": title}


def plain_json(message: BaseModel) -> bytes:
    """The message as JSON, without the fields that are null."""
    return message.model_dump_json(exclude_none=True, by_alias=True).encode()


def schema_bytes(schema: Schema) -> bytes:
    """The schema as it lies in a file."""
    return json.dumps(schema, ensure_ascii=False).encode()


def _plain(schema: Schema, shared: Schema) -> Schema:
    if "$ref" in schema:
        return _plain(shared[schema["$ref"].rsplit("/", 1)[-1]], shared)
    if "anyOf" in schema:
        kinds = [kind for kind in schema["anyOf"] if kind.get("type") != "null"]
        assert len(kinds) == 1, f"expected one kind beside null; got {schema['anyOf']}"
        return _plain(kinds[0], shared)
    if "enum" in schema or "const" in schema:
        return {"type": "string", "enum": schema.get("enum", [schema.get("const")])}
    kind = schema.get("type", "object")
    if kind == "array":
        items = schema.get("items") or schema["prefixItems"][0]
        return {"type": "array", "items": _plain(items, shared)}
    if kind == "object":
        return _plain_object(schema, shared)
    return {"type": kind}


def _plain_object(schema: Schema, shared: Schema) -> Schema:
    properties = schema.get("properties", {})
    may_miss = {name for name, value in properties.items() if _may_be_null(value)}
    made: Schema = {
        "type": "object",
        "properties": {name: _plain(value, shared) for name, value in properties.items()},
    }
    if required := [name for name in schema.get("required", ()) if name not in may_miss]:
        made["required"] = required
    more = schema.get("additionalProperties")
    if isinstance(more, dict):
        made["additionalProperties"] = _plain(more, shared) if more else True
    return made


def _may_be_null(schema: Schema) -> bool:
    return any(kind.get("type") == "null" for kind in schema.get("anyOf", ()))
