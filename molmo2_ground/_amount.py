"""`amount`: a number with its noun, `1 line` or `2 lines`, as messages say it."""

from __future__ import annotations


def amount(count: int, noun: str, *, several: str = "") -> str:
    """The count, from 1,000 on with its comma, and the noun; `several` is a plural that is no s behind it."""
    return f"{count:,} {noun if count == 1 else several or noun + 's'}"
