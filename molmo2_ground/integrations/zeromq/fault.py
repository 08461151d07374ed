"""`first_fault`: the first thing wrong with a message, in our words and in one line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

# By pydantic's name of a mistake; in braces what it knows of it. Fields are called by their names in JSON.
_WORDS: Mapping[str, str] = {
    "missing": "{where} is missing",
    "extra_forbidden": "there is no field {where}",
    "json_invalid": "it is not JSON",
    "union_tag_not_found": "{discriminator} is missing",
    "union_tag_invalid": "{discriminator} is one of {expected_tags}",
    "literal_error": "{where} is {expected}",
    "string_type": "{where} is not text",
    "string_too_short": "{where} is too short: it has at least {min_length} characters",
    "string_too_long": "{where} is longer than {max_length} characters",
    "string_unicode": "{where} is not in UTF-8",
    "int_type": "{where} is not a whole number",
    "int_parsing": "{where} is not a whole number",
    "int_from_float": "{where} is not a whole number",
    "float_type": "{where} is not a number",
    "float_parsing": "{where} is not a number",
    "finite_number": "{where} is not a finite number",
    "bool_type": "{where} is not true or false",
    "bool_parsing": "{where} is not true or false",
    "greater_than": "{where} is not above {gt}",
    "greater_than_equal": "{where} is below {ge}",
    "less_than": "{where} is not below {lt}",
    "less_than_equal": "{where} is above {le}",
    "model_type": "{where} is not an object",
    "model_attributes_type": "{where} is not an object",
    "dict_type": "{where} is not an object",
    "list_type": "{where} is not a list",
    "tuple_type": "{where} is not a list",
    "too_short": "{where} has fewer than {min_length} entries",
    "too_long": "{where} has more than {max_length} entries",
    "none_required": "{where} is not null",
}


def first_fault(error: ValidationError, *, told_apart: bool = False) -> str:
    """What the first thing wrong is, without what was sent: that may be long, and anybody's.

    told_apart: the message is one of several kinds; its kind, the first step to each field, is left out.
    """
    fault: Any = error.errors(include_url=False, include_input=False)[0]
    known = {name: str(value).replace("'", "") for name, value in fault.get("ctx", {}).items()}
    steps = fault["loc"][1:] if told_apart else fault["loc"]
    known["where"] = ".".join(str(step)[:40] for step in steps[:8]) or "the whole"
    words = _WORDS.get(fault["type"])
    if words is not None:
        return words.format_map(known)[:200]
    said = " ".join(fault["msg"].removeprefix("Value error, ").split())[:200]
    return said if fault["type"] == "value_error" else f"{known['where']}: {said}"
