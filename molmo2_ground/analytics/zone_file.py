"""The file in which a user writes zones, lines and rules.

    {"units": "px",
     "zones": [{"name": "crossing", "polygon": [[100, 200], [300, 200], [300, 340], [100, 340]]}],
     "lines": [{"name": "kerb", "start": [0, 180], "end": [640, 180], "in_side": "right"}],
     "rules": {"grace_s": 1.0, "min_step_px": 3},
     "ground": {"pairs": [{"image": [90, 300], "metres": [0, 0]}, …]}}

Every part but one zone or line may be left out. `"units": "norm"` means shares of the picture's width and
height, 0 to 1, for zones, lines and the picture's side of the pairs.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from shapely.geometry import LineString, box

from molmo2_ground.analytics.homography import Homography, Row
from molmo2_ground.analytics.line import Line
from molmo2_ground.analytics.rules import Rules
from molmo2_ground.analytics.zone import Coordinates, Zone
from molmo2_ground.errors import SourceError, reason_of


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Pair(_Part):
    """One place, in the picture (the file's units) and on the ground (metres)."""

    image: Coordinates
    metres: Coordinates


class Ground(_Part):
    """The plane that objects move on: pairs of places, or the matrix from pixels to metres itself."""

    pairs: tuple[Pair, ...] | None = None
    matrix: tuple[Row, Row, Row] | None = None

    @model_validator(mode="after")
    def _is_one_of_two(self) -> Self:
        if (self.pairs is None) == (self.matrix is None):
            raise ValueError("ground is given by pairs or by a matrix, one of the two")
        try:
            self.homography(1.0, 1.0)  # what cannot be solved is told when the file is read
        except ValidationError as error:
            raise ValueError(error.errors()[0]["msg"].removeprefix("Value error, ")) from error
        return self

    def homography(self, x_factor: float, y_factor: float) -> Homography:
        """The plane; the factors take the file's units to pixels. A matrix is in pixels always."""
        if self.matrix is not None:
            return Homography(matrix=self.matrix)
        pairs = self.pairs or ()
        image = [(pair.image[0] * x_factor, pair.image[1] * y_factor) for pair in pairs]
        return Homography.from_pairs(image, [pair.metres for pair in pairs])


class ZoneFile(_Part):
    """What a zone file says, in its own units."""

    units: Literal["px", "norm"] = "px"
    zones: tuple[Zone, ...] = ()
    lines: tuple[Line, ...] = ()
    rules: Rules = Rules()
    ground: Ground | None = None

    @model_validator(mode="after")
    def _is_of_use(self) -> Self:
        if not self.zones and not self.lines:
            raise ValueError("expected at least one zone or line")
        for what, named in (("zones", self.zones), ("lines", self.lines)):
            names = [part.name for part in named]
            if len(set(names)) < len(names):
                twice = next(name for name in names if names.count(name) > 1)
                raise ValueError(f"{what} have different names; got {twice!r} more than once")
        return self

    def _factors(self, size_px: tuple[int, int]) -> tuple[float, float]:
        return (1.0, 1.0) if self.units == "px" else (float(size_px[0]), float(size_px[1]))

    def zones_px(self, size_px: tuple[int, int]) -> tuple[Zone, ...]:
        """The zones in pixels of a picture of (width, height)."""
        return tuple(zone.scaled(*self._factors(size_px)) for zone in self.zones)

    def lines_px(self, size_px: tuple[int, int]) -> tuple[Line, ...]:
        """The lines in pixels of a picture of (width, height)."""
        return tuple(line.scaled(*self._factors(size_px)) for line in self.lines)

    def homography(self, size_px: tuple[int, int]) -> Homography | None:
        """From pixels of a picture of (width, height) to metres; None when the file knows no ground."""
        return None if self.ground is None else self.ground.homography(*self._factors(size_px))

    def cautions(self, size_px: tuple[int, int]) -> tuple[str, ...]:
        """What is allowed and probably not meant: parts outside a picture of (width, height) pixels."""
        picture = box(0, 0, *size_px)
        shapes = [(f"zone {zone.name!r}", zone.shape) for zone in self.zones_px(size_px)]
        shapes += [
            (f"line {line.name!r}", LineString([line.start, line.end])) for line in self.lines_px(size_px)
        ]
        size = f"the picture of {size_px[0]} x {size_px[1]} pixels"
        said = []
        for name, shape in shapes:
            if not picture.intersects(shape):
                said.append(f"{name} lies outside {size}: nothing can happen there")
            elif not picture.covers(shape):
                said.append(f"{name} reaches outside {size}")
        if self.units == "px" and all(_is_share(shape.bounds) for _, shape in shapes):
            said.append('all coordinates lie from 0 to 1; did you mean "units": "norm"?')
        return tuple(said)


def read_zone_file(path: str | os.PathLike[str]) -> ZoneFile:
    """Read a zone file. Raises `SourceError`, with the place in the file, when it is missing or wrong."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"cannot read the zone file {path}: {reason_of(error)}") from error
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{path} is not a zone file: expected JSON; {error}") from error
    if not isinstance(document, dict):
        raise SourceError(f"{path} is not a zone file: expected an object; got {type(document).__name__}")
    try:
        return ZoneFile.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        more = f" ({error.error_count()} mistakes in all)" if error.error_count() > 1 else ""
        place = _place(first["loc"], document)
        raise SourceError(f"{path} is not a zone file: {place}: {_words(first)}{more}") from error


_MISTAKES = {
    "missing": "this field is missing",
    "extra_forbidden": "there is no such field; is it misspelt?",
}


def _words(mistake: Any) -> str:
    said: str = mistake["msg"]
    return _MISTAKES.get(mistake["type"], said.removeprefix("Value error, "))


def _place(location: tuple[int | str, ...], document: dict[str, Any]) -> str:
    """`zones.0.polygon (gate)`: where in the file, and the name that the user gave it."""
    place = ".".join(map(str, location)) or "the file"
    part: Any = document
    for step in location[:2]:
        try:
            part = part[step]
        except (KeyError, IndexError, TypeError):
            return place
    name = part.get("name") if isinstance(part, dict) else None
    return f"{place} ({name})" if isinstance(name, str) else place


def _is_share(bounds: tuple[float, float, float, float]) -> bool:
    return all(0 <= value <= 1 for value in bounds)
