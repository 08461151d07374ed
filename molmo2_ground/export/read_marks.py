"""What readers of all formats share: numbers for objects, and one mark a frame and object."""

from __future__ import annotations

import json
import os
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from molmo2_ground.errors import SourceError
from molmo2_ground.export.marks import Mark

_KINDS = ("point_px", "box_px", "mask")


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A mark as it comes from a file.

    name  what its object is in the file: anything that tells it from others.
    kept  the number that the object had with us, where the file kept it.
    """

    name: Hashable
    kept: int | None
    mark: Mark


def assembled(drawn: Sequence[Drawn]) -> tuple[Mark, ...]:
    """Marks with their objects' numbers, one a frame and object.

    The numbers that a file of ours kept count where every object has one and they fit; else objects are
    numbered from 1 in the order in which they come. Raises `ValueError` as `collected`.
    """
    if drawn and _kept_fit(drawn):
        return collected(replace(one.mark, object_id=one.kept) for one in drawn if one.kept is not None)
    numbers: dict[Hashable, int] = {}
    return collected(
        replace(one.mark, object_id=numbers.setdefault(one.name, len(numbers) + 1)) for one in drawn
    )


def _kept_fit(drawn: Sequence[Drawn]) -> bool:
    """Whether every object has a number that tells it from the others in each frame.

    Somebody else's file may use the same words for numbers of another kind.
    """
    places = [
        (one.kept, one.mark.frame, kind)
        for one in drawn
        for kind in _KINDS
        if getattr(one.mark, kind) is not None
    ]
    return all(one.kept is not None for one in drawn) and len(places) == len(set(places))


def collected(marks: Iterable[Mark]) -> tuple[Mark, ...]:
    """One mark a frame and object, in order: a point and a mask of one object belong together.

    Raises `ValueError` when an object has two points, two boxes or two masks in a frame.
    """
    found: dict[tuple[int, int], Mark] = {}
    for mark in marks:
        place = mark.frame, mark.object_id
        found[place] = mark if place not in found else _joined(found[place], mark)
    return tuple(found[place] for place in sorted(found))


def _joined(first: Mark, second: Mark) -> Mark:
    for name in _KINDS:
        if getattr(first, name) is not None and getattr(second, name) is not None:
            raise ValueError(f"object {first.object_id} is drawn twice in frame {first.frame}")
    return replace(
        first,
        point_px=first.point_px or second.point_px,
        box_px=first.box_px or second.box_px,
        mask=first.mask or second.mask,
        occluded=first.occluded or second.occluded,
    )


def read_json(path: str | os.PathLike[str], *, what: str) -> Any:
    """The document of a JSON file; raises `SourceError` that calls it `what`."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{path} is no {what}: expected JSON; {error}") from error
