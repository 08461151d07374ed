"""`RowFolder`: training rows in a folder beside their media, read by number without holding them all.

rows.jsonl                  one JSON object a line, or
rows.parquet                the same fields as columns, or
rows-00000-of-00004.jsonl   several files of one kind, in the order of their names (also .parquet)
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from itertools import accumulate, islice
from pathlib import Path
from typing import Any, Literal, Protocol, Self

import numpy as np
import numpy.typing as npt

from molmo2_ground._atomic import atomic_path
from molmo2_ground._optional import require
from molmo2_ground.errors import SourceError
from molmo2_ground.eval.suites.records import BadRowError
from molmo2_ground.rle import Rle
from molmo2_ground.train.rows import Row, row_of, text_of

# Masks make rows large, and a group is the least that can be read of a Parquet file.
_ROWS_A_GROUP = 32
_PIECE_BYTES = 1 << 20
ROW_FILES = ("rows.jsonl", "rows.parquet", "rows-*.jsonl", "rows-*.parquet")
"""How files of rows are called."""


class RowFolder:
    """The rows of a folder, by number from 0 and in the order of the files.

    Only where each row begins is kept: 24 bytes a row, or the row groups of a Parquet file. It travels to
    other processes, each of which opens the files for itself.
    Raises `SourceError` when the folder holds no rows, rows of both kinds, or a file that cannot be read;
    `MissingExtraError` for Parquet without pyarrow.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).expanduser()
        paths = _row_files(self.folder)
        # The content goes into the fingerprint, not the folder's name: a copy elsewhere is the same data.
        digest = hashlib.sha256()
        self._files: list[_RowFile] = []
        for path in paths:
            digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
            try:
                opened: _RowFile = (
                    _LineFile.scan(path, digest)
                    if path.suffix == ".jsonl"
                    else _ParquetFile.scan(path, digest)
                )
            except OSError as error:
                raise SourceError(f"{path} cannot be read: {error.strerror or error}") from error
            self._files.append(opened)
        self._ends = list(accumulate(len(one) for one in self._files))
        self._fingerprint = digest.hexdigest()

    @property
    def fingerprint(self) -> str:
        """64 letters that differ when a row, a file name or the order differs; media are not looked at."""
        return self._fingerprint

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, number: int) -> Row:
        """Row `number`; raises `BadRowError` with its place when it cannot be used, `IndexError` past it."""
        try:
            return row_of(self.text(number))
        except BadRowError as error:
            raise BadRowError(f"{self.place(number)}: {error}") from error

    def __iter__(self) -> Iterator[Row]:
        return (self[number] for number in range(len(self)))

    def text(self, number: int) -> str | bytes:
        """Row `number` as JSON, not yet looked at."""
        file, within = self._find(number)
        return file.text(within)

    def place(self, number: int) -> str:
        """Where row `number` lies, for messages: `rows.jsonl line 3`, `rows.parquet row 3` (from 1)."""
        file, within = self._find(number)
        return file.place(within)

    def _find(self, number: int) -> tuple[_RowFile, int]:
        if not 0 <= number < len(self):
            raise IndexError(f"{self.folder} has rows 0 to {len(self) - 1}; got {number}")
        which = bisect_right(self._ends, number)
        return self._files[which], number - (self._ends[which - 1] if which else 0)


class _RowFile(Protocol):
    def __len__(self) -> int: ...

    def text(self, number: int) -> str | bytes: ...

    def place(self, number: int) -> str: ...


@dataclass(frozen=True, slots=True, eq=False)
class _LineFile:
    """A file of JSON lines; blank lines are no rows.

    starts, ends  int64[rows]: the bytes of each row.   lines  int64[rows]: the number of its line, from 1.
    """

    path: Path
    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    lines: npt.NDArray[np.int64]

    @classmethod
    def scan(cls, path: Path, digest: Any) -> Self:
        starts, ends, lines, at = [], [], [], 0
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                digest.update(line)
                if line.strip():
                    starts.append(at)
                    ends.append(at + len(line))
                    lines.append(number)
                at += len(line)
        return cls(path, *(np.array(column, dtype=np.int64) for column in (starts, ends, lines)))

    def __len__(self) -> int:
        return len(self.starts)

    def text(self, number: int) -> bytes:
        start, end = int(self.starts[number]), int(self.ends[number])
        # Opened for each row: it costs microseconds, and nothing is shared between processes and threads.
        with self.path.open("rb") as file:
            file.seek(start)
            return file.read(end - start)

    def place(self, number: int) -> str:
        return f"{self.path.name} line {self.lines[number]}"


class _ParquetFile:
    """A Parquet file; the row group read last is kept, so that reading in order reads each group once."""

    def __init__(self, path: Path, ends: list[int]) -> None:
        self.path, self._ends = path, ends
        self._group: tuple[int, Any] | None = None
        self._metadata: Any = None  # reading it again for each group would take longer than the group

    @classmethod
    def scan(cls, path: Path, digest: Any) -> _ParquetFile:
        with path.open("rb") as file:
            while piece := file.read(_PIECE_BYTES):
                digest.update(piece)
        with _opened(path) as file:
            groups = file.metadata.num_row_groups
            return cls(path, list(accumulate(file.metadata.row_group(i).num_rows for i in range(groups))))

    def __getstate__(self) -> tuple[Path, list[int]]:
        return self.path, self._ends

    def __setstate__(self, state: tuple[Path, list[int]]) -> None:
        self.__init__(*state)  # type: ignore[misc]  # what was read stays with the process that read it

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def text(self, number: int) -> str:
        which = bisect_right(self._ends, number)
        if self._group is None or self._group[0] != which:
            self._group = which, self._read(which)
        table = self._group[1]
        (fields,) = table.slice(number - (self._ends[which - 1] if which else 0), 1).to_pylist()
        return json.dumps(_without_nulls(fields), default=_as_json)

    def _read(self, which: int) -> Any:
        arrow = require("pyarrow", extra="train")
        with _opened(self.path, metadata=self._metadata) as file:
            self._metadata = file.metadata
            try:
                return file.read_row_group(which, use_threads=False)
            except (arrow.ArrowException, OSError) as error:
                first = self._ends[which - 1] + 1 if which else 1
                raise SourceError(
                    f"{self.path.name} is damaged: its rows {first} to {self._ends[which]} cannot be read: "
                    f"{error}; copy or write it again"
                ) from error

    def place(self, number: int) -> str:
        return f"{self.path.name} row {number + 1}"


def _opened(path: Path, *, metadata: Any = None) -> Any:
    parquet = require("pyarrow.parquet", extra="train")
    arrow = require("pyarrow", extra="train")
    try:
        return parquet.ParquetFile(path, metadata=metadata)
    except arrow.ArrowException as error:
        raise SourceError(f"{path.name} is no Parquet file that can be read: {error}") from error


def _without_nulls(value: Any) -> Any:
    """Fields that a table has a column for and this row has nothing in are as good as left out."""
    if isinstance(value, dict):
        return {name: _without_nulls(item) for name, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value.decode("ascii", "replace") if isinstance(value, bytes) else value


def _as_json(value: Any) -> float | str:
    """What columns hold and JSON does not: a number as a number, dates and the like as words."""
    return float(value) if isinstance(value, Decimal) else str(value)


def _row_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise SourceError(f"there is no folder {folder}; expected training rows: rows.jsonl beside its media")
    found = sorted(path for pattern in ROW_FILES for path in folder.glob(pattern))
    if not found:
        raise SourceError(f"{folder} holds no rows; expected rows.jsonl, rows.parquet or rows-*.jsonl")
    kinds = {(path.suffix, path.stem == "rows") for path in found}
    if len(kinds) > 1:
        raise SourceError(
            f"{folder} holds rows in several forms ({', '.join(path.name for path in found[:4])}); "
            "which of them are meant? Keep one form, move the others away."
        )
    return found


def write_rows(
    folder: str | Path, rows: Iterable[Row], *, form: Literal["jsonl", "parquet"] = "jsonl"
) -> int:
    """Write rows.jsonl or rows.parquet into a folder, whole or not at all; returns how many rows it has.

    The rows are taken one after another, so they may come from a generator. Raises `ValueError` when two have
    one id.
    """
    place = Path(folder).expanduser()
    place.mkdir(parents=True, exist_ok=True)
    with atomic_path(place / f"rows.{form}") as unfinished:
        return (_write_lines if form == "jsonl" else _write_parquet)(unfinished, _told_apart(rows))


def _told_apart(rows: Iterable[Row]) -> Iterator[Row]:
    seen: set[str] = set()
    for row in rows:
        if row.row_id in seen:
            raise ValueError(f"each row has an id of its own; {row.row_id!r} comes twice")
        seen.add(row.row_id)
        yield row


def _write_lines(path: Path, rows: Iterator[Row]) -> int:
    count = 0
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            file.write(text_of(row) + "\n")
            count += 1
    return count


def _write_parquet(path: Path, rows: Iterator[Row]) -> int:
    arrow, parquet = require("pyarrow", extra="train"), require("pyarrow.parquet", extra="train")
    schema, count = _schema(arrow), 0
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        while batch := [_fields(row) for row in islice(rows, _ROWS_A_GROUP)]:
            writer.write_table(arrow.Table.from_pylist(batch, schema=schema))
            count += len(batch)
    return count


def _fields(row: Row) -> dict[str, Any]:
    """The row as plain values; masks in their compressed spelling, because a column has one type."""
    fields = row.model_dump(mode="json", exclude_defaults=True)
    for annotation in fields["annotations"]:
        for moment in annotation.get("moments", ()):
            for place in moment.get("places", ()):
                if isinstance(place.get("mask", {}).get("counts"), list):
                    place["mask"] = Rle.encode(Rle.from_coco(place["mask"]).decode()).to_coco()
    return fields


def _schema(arrow: Any) -> Any:
    """The columns of rows.parquet: the fields of `Row`, each of which but row_id and kind may be null."""
    text, number, whole = arrow.string(), arrow.float64(), arrow.int64()
    mask = arrow.struct([("size", arrow.list_(whole)), ("counts", text)])
    place = arrow.struct(
        [
            ("object_id", whole),
            ("x_px", number),
            ("y_px", number),
            ("box_px", arrow.list_(number)),
            ("mask", mask),
            ("occluded", arrow.bool_()),
        ]
    )
    moment = arrow.struct([("time_s", number), ("image", whole), ("places", arrow.list_(place))])
    turn = arrow.struct([("question", text), ("answer", text)])
    annotation = arrow.struct(
        [
            ("task", arrow.list_(text)),
            ("label", text),
            ("question", text),
            ("moments", arrow.list_(moment)),
            ("rate_fps", number),
            ("turns", arrow.list_(turn)),
            ("style", text),
            ("weight", number),
        ]
    )
    subtitle = arrow.struct([("start_s", number), ("end_s", number), ("text", text)])
    return arrow.schema(
        [
            ("row_id", text),
            ("kind", text),
            ("media", arrow.list_(text)),
            ("size_px", arrow.list_(arrow.list_(whole))),
            ("clip_s", arrow.list_(number)),
            ("subtitles", arrow.list_(subtitle)),
            ("annotations", arrow.list_(annotation)),
        ]
    )
