"""Rows of a dataset as they lie on disk: tables in parquet, JSON lines or JSON; fields of a stated kind."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from molmo2_ground._optional import require
from molmo2_ground.errors import SourceError

_TABLE_SUFFIXES = (".parquet", ".jsonl", ".json")
# Masks make rows large, those of true and false above all: a handful at once keep memory flat.
_ROWS_AT_ONCE = 4
_LARGEST = 1e12
# Places that were rounded on the way may lie up to a pixel beyond the edge.
_EDGE_PX = 1.0


class BadRowError(ValueError):
    """A row that cannot be used; the message is the reason."""


@dataclass(frozen=True, slots=True)
class Record:
    """One row, or a part of one: fields by name, each read as the kind that is expected."""

    fields: Mapping[str, Any]

    def has(self, name: str) -> bool:
        """True when the field is there and not null."""
        return self.fields.get(name) is not None

    def one_of(self, *names: str) -> str:
        """The first of these names that the row has; raises `BadRowError` when it has none."""
        for name in names:
            if self.has(name):
                return name
        raise BadRowError(f"the field {' or '.join(names)} is missing")

    def text(self, name: str) -> str:
        """A text that is not blank."""
        value = self._value(name)
        if not isinstance(value, str) or not value.strip():
            raise BadRowError(f"the field {name} is {_shortly(value)}; expected a text")
        return value.strip()

    def name(self, name: str) -> str:
        """A name that a dataset writes as text or as a whole number."""
        value = self._value(name)
        if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
            raise BadRowError(f"the field {name} is {_shortly(value)}; expected a name or a number")
        return str(value).strip()

    def number(self, name: str) -> float:
        """A number; nothing a dataset counts or measures is as large as a million million."""
        value = self._value(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _LARGEST:
            raise BadRowError(f"the field {name} is {_shortly(value)}; expected a number")
        return float(value)

    def whole(self, name: str) -> int:
        """A whole number, 0 or more."""
        value = self.number(name)
        if value != int(value) or value < 0:
            raise BadRowError(f"the field {name} is {value:g}; expected a whole number, 0 or more")
        return int(value)

    def positive(self, name: str) -> float:
        """A number above 0."""
        value = self.number(name)
        if value <= 0:
            raise BadRowError(f"the field {name} is {value:g}; expected a number above 0")
        return value

    def size_px(self) -> tuple[int, int]:
        """(width, height), pixels, of the fields width or w and height or h."""
        width, height = (self.whole(self.one_of(name, name[0])) for name in ("width", "height"))
        if not (width and height):
            raise BadRowError(f"the picture has {width} x {height} pixels; expected at least one")
        return width, height

    def items(self, name: str) -> list[Any]:
        """A list; null counts as an empty one."""
        if name in self.fields and self.fields[name] is None:
            return []
        value = self._value(name)
        if not isinstance(value, Sequence) or isinstance(value, str | bytes):
            raise BadRowError(f"the field {name} is {_shortly(value)}; expected a list")
        return list(value)

    def numbers(self, name: str) -> list[float]:
        """A list of numbers."""
        return [item.number(at) for at, item in self._each(name)]

    def wholes(self, name: str) -> list[int]:
        """A list of whole numbers, 0 or more."""
        return [item.whole(at) for at, item in self._each(name)]

    def texts(self, name: str) -> list[str]:
        """A list of texts."""
        return [item.text(at) for at, item in self._each(name)]

    def records(self, name: str) -> list[Record]:
        """A list of rows of their own."""
        return [as_record(item, f"{name}[{i}]") for i, item in enumerate(self.items(name))]

    def record(self, name: str) -> Record:
        """A row of its own."""
        return as_record(self._value(name), name)

    def _each(self, name: str) -> Iterator[tuple[str, Record]]:
        """Each item of a list as a field of its own, with the field's name."""
        for index, value in enumerate(self.items(name)):
            yield f"{name}[{index}]", Record({f"{name}[{index}]": value})

    def _value(self, name: str) -> Any:
        if not self.has(name):
            raise BadRowError(f"the field {name} is missing")
        return self.fields[name]


def as_record(value: Any, what: str) -> Record:
    """A mapping as a `Record`; raises `BadRowError` for anything else."""
    if not isinstance(value, Mapping):
        raise BadRowError(f"{what} is {_shortly(value)}; expected fields by name")
    return Record(value)


TableRow = tuple[str, Callable[[], Record]]


def pair(value: Any, what: str) -> tuple[float, float]:
    """Two finite numbers; raises `BadRowError` for anything else."""
    if isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 2:
        x, y = value
        if all(isinstance(v, int | float) and not isinstance(v, bool) and abs(v) < 1e9 for v in (x, y)):
            return float(x), float(y)
    raise BadRowError(f"{what} is {_shortly(value)}; expected two numbers [x, y]")


def in_picture(xy_px: tuple[float, float], size_px: tuple[int, int], what: str) -> tuple[float, float]:
    """The place when it lies in a picture of (width, height) pixels; else raises `BadRowError`."""
    if all(-_EDGE_PX <= value <= most + _EDGE_PX for value, most in zip(xy_px, size_px, strict=True)):
        return xy_px
    (x, y), (width, height) = xy_px, size_px
    raise BadRowError(f"{what} is at ({x:g}, {y:g}), outside the picture of {width} x {height} pixels")


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The rows of a split, each with its place for messages and a function that reads it or raises.

    rows   read from the disk as they are asked for.   total  how many they are.
    """

    rows: Iterator[TableRow]
    total: int


def open_table(folder: Path, *, split: str) -> Table:
    """The table of a split.

    Looked for in `folder` and `folder/data`: `<split>*.parquet` (as the hub stores them; needs pyarrow),
    `<split>.jsonl` (a row a line) or `<split>.json` (a list of rows). Raises `SourceError` when there is
    none, when a file cannot be read at all, `MissingExtraError` without pyarrow.
    """
    files = table_files(folder, split=split)
    tables = [_OPENERS[path.suffix](path) for path in files]
    return Table(
        rows=itertools.chain.from_iterable(table.rows for table in tables),
        total=sum(table.total for table in tables),
    )


def table_files(folder: Path, *, split: str) -> list[Path]:
    """The files of a split's table, of the first kind and place that there is one of."""
    for place in (folder, folder / "data"):
        for suffix in _TABLE_SUFFIXES:
            pattern = f"{split}*.parquet" if suffix == ".parquet" else f"{split}{suffix}"
            found = sorted(place.glob(pattern))
            if found:
                return found
    raise SourceError(
        f"{folder} holds no table of the split {split!r}; expected {split}*.parquet, {split}.jsonl or "
        f"{split}.json there or in its folder data"
    )


def read_json(path: Path) -> Any:
    """What a JSON file holds; raises `SourceError` when it is missing or no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise SourceError(f"{path} is no JSON: {error}") from error


def _json_table(path: Path) -> Table:
    rows = read_json(path)
    if not isinstance(rows, list):
        raise SourceError(f"{path.name} holds {type(rows).__name__}; expected a list of rows")
    named = ((f"{path.name} row {number}", _reader(row)) for number, row in enumerate(rows))
    return Table(rows=named, total=len(rows))


def _lines_table(path: Path) -> Table:
    with path.open("rb") as lines:
        total = sum(1 for line in lines if line.strip())
    return Table(rows=_json_lines(path), total=total)


def _json_lines(path: Path) -> Iterator[TableRow]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield f"{path.name} line {number}", _line_reader(line)


def _line_reader(line: bytes) -> Callable[[], Record]:
    def read() -> Record:
        try:
            return as_record(json.loads(line), "the line")
        except ValueError as error:
            raise BadRowError(f"the line is no JSON: {error}") from error

    return read


def _parquet_table(path: Path) -> Table:
    parquet = require("pyarrow.parquet", extra="eval")
    with _parquet_errors(path):
        return Table(rows=_parquet_rows(path), total=int(parquet.read_metadata(path).num_rows))


def _parquet_rows(path: Path) -> Iterator[TableRow]:
    parquet = require("pyarrow.parquet", extra="eval")
    with _parquet_errors(path):
        file = parquet.ParquetFile(path)
        number = 0
        for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE):
            for row in batch.to_pylist():
                yield f"{path.name} row {number}", _reader(row)
                number += 1


@contextmanager
def _parquet_errors(path: Path) -> Iterator[None]:
    arrow = require("pyarrow", extra="eval")
    try:
        yield
    except (OSError, arrow.ArrowException) as error:
        raise SourceError(f"{path.name} is no parquet file that can be read: {error}") from error


_OPENERS: Mapping[str, Callable[[Path], Table]] = {
    ".parquet": _parquet_table,
    ".jsonl": _lines_table,
    ".json": _json_table,
}


def _reader(row: Any) -> Callable[[], Record]:
    return lambda: as_record(row, "the row")


def _shortly(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
