"""Checks JSON by a JSON Schema: the keywords that our files use, and no others."""

from __future__ import annotations

from typing import Any

_KNOWN = {
    "$comment", "additionalProperties", "const", "contentEncoding", "description", "enum", "items", "maximum",
    "minimum", "oneOf", "properties", "required", "title", "type",
}  # fmt: skip
_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
}


def faults(value: Any, schema: dict[str, Any], *, at: str = "$") -> list[str]:
    """What in the value breaks the schema; empty for a valid one."""
    assert schema.keys() <= _KNOWN, f"{at}: this checker does not know {schema.keys() - _KNOWN}"
    found: list[str] = []
    if "oneOf" in schema and sum(not faults(value, one, at=at) for one in schema["oneOf"]) != 1:
        found.append(f"{at}: {value!r} is not exactly one of the alternatives")
    if "const" in schema and value != schema["const"]:
        found.append(f"{at}: {value!r} is not {schema['const']!r}")
    if "enum" in schema and value not in schema["enum"]:
        found.append(f"{at}: {value!r} is none of {schema['enum']}")
    kind = schema.get("type")
    if kind is not None and (
        not isinstance(value, _TYPES[kind]) or (isinstance(value, bool) and kind != "boolean")
    ):
        return [*found, f"{at}: {value!r} is no {kind}"]
    if "minimum" in schema and value < schema["minimum"]:
        found.append(f"{at}: {value} is below {schema['minimum']}")
    if "maximum" in schema and value > schema["maximum"]:
        found.append(f"{at}: {value} is above {schema['maximum']}")
    if isinstance(value, list) and "items" in schema:
        for number, item in enumerate(value):
            found += faults(item, schema["items"], at=f"{at}[{number}]")
    if isinstance(value, dict):
        found += [f"{at}: {name} is missing" for name in schema.get("required", ()) if name not in value]
        for name, item in value.items():
            inner = schema.get("properties", {}).get(name, schema.get("additionalProperties", True))
            if inner is False:
                found.append(f"{at}: {name} is not allowed")
            elif isinstance(inner, dict):
                found += faults(item, inner, at=f"{at}.{name}")
    return found


def foxglove_refuses(schema: dict[str, Any], *, at: str = "$") -> list[str]:
    """What in a schema Foxglove's reader cannot take; empty when it shows such messages.

    By its rules: an object has `properties`; a field has a plain type, or alternatives that are constant
    numbers; an array's items have a plain type and are no arrays.
    """
    if schema.get("type") != "object" or not isinstance(schema.get("properties"), dict):
        return [f"{at} is no object with properties"]
    found: list[str] = []
    for name, field in schema["properties"].items():
        place = f"{at}.{name}"
        if "oneOf" in field:
            if not all(isinstance(one.get("const"), int) for one in field["oneOf"]):
                found.append(f"{place}: alternatives that are no numbers")
        elif field.get("type") == "object":
            found += foxglove_refuses(field, at=place)
        elif field.get("type") == "array":
            items = field.get("items", {})
            if items.get("type") == "object":
                found += foxglove_refuses(items, at=f"{place}[]")
            elif items.get("type") not in ("string", "number", "integer", "boolean"):
                found.append(f"{place}: items of type {items.get('type')}")
        elif field.get("type") not in ("string", "number", "integer", "boolean"):
            found.append(f"{place}: type {field.get('type')}")
    return found
