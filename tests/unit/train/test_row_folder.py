from __future__ import annotations

import json
import pickle
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from molmo2_ground.errors import SourceError
from molmo2_ground.eval.suites.records import BadRowError
from molmo2_ground.rle import Rle
from molmo2_ground.train.row_folder import RowFolder, write_rows
from molmo2_ground.train.rows import Annotation, Moment, Place, Row, Subtitle, Turn, text_of
from tests.made_up_rows import box, mask, moments, point, track_row

Form = Literal["jsonl", "parquet"]
FORMS = pytest.mark.parametrize("form", ["jsonl", "parquet"])


def every_field() -> list[Row]:
    """Rows that between them use every field."""
    runs = Place(object_id=4, mask=Rle(size_hw=(64, 96), counts=(5, 64 * 96 - 5)))
    words = Annotation(
        task=("qa", "text"),
        turns=(Turn(question="Why?", answer="Because."),),
        style="vqa2",
        weight=0.5,
        question="?",
    )
    track = Annotation(
        task=("track", "first_last"),
        label="the dog",
        moments=moments((2.0, 2.5), box(1), point(2), mask(3), runs, box(5, hidden=True)),
        rate_fps=2.0,
    )
    empty = Annotation(task=("count",), label="cats", moments=(Moment(image=1),))
    return [
        track_row("a", clip_s=(2.0, 3.0), annotations=(track, words)),
        Row(row_id="b", kind="images", media=("1.png", "2.png"), annotations=(empty,)),
        Row(row_id="c", kind="none", annotations=(words,)),
        track_row("d", subtitles=(Subtitle(start_s=0, end_s=1, text="Grüße"),)),
    ]


def same(a: Row, b: Row) -> bool:
    """Equal but for the spelling of masks, which Parquet has one of."""

    def plain(row: Row) -> str:
        fields = json.loads(text_of(row))
        for annotation in fields["annotations"]:
            for moment in annotation.get("moments", []):
                for place in moment.get("places", []):
                    if "mask" in place:
                        place["mask"] = Rle.from_coco(place["mask"]).runs().tolist()
        return json.dumps(fields)

    return plain(a) == plain(b)


@FORMS
def test_rows_come_back_by_number(tmp_path: Path, form: Form) -> None:
    rows = every_field()
    assert write_rows(tmp_path, rows, form=form) == 4
    folder = RowFolder(tmp_path)
    assert len(folder) == 4
    assert [folder[number].row_id for number in (3, 0, 2, 1)] == ["d", "a", "c", "b"]
    assert all(same(made, row) for made, row in zip(folder, rows, strict=True))
    with pytest.raises(IndexError):
        folder[4]


@FORMS
def test_a_folder_travels_to_another_process(tmp_path: Path, form: Form) -> None:
    write_rows(tmp_path, every_field(), form=form)
    folder = RowFolder(tmp_path)
    assert folder[2].row_id == "c"
    sent = pickle.loads(pickle.dumps(folder))
    assert sent.fingerprint == folder.fingerprint
    assert [row.row_id for row in sent] == ["a", "b", "c", "d"]


@FORMS
def test_many_rows_over_several_files(tmp_path: Path, form: Form) -> None:
    for shard in range(3):
        write_rows(tmp_path, [track_row(f"{shard}-{i}") for i in range(40 * shard)], form=form)
        (tmp_path / f"rows.{form}").rename(tmp_path / f"rows-{shard:05d}-of-00003.{form}")
    folder = RowFolder(tmp_path)
    assert len(folder) == 120
    assert folder[39].row_id == "1-39"
    assert folder[40].row_id == "2-0"
    assert folder[119].row_id == "2-79"
    unit = "line" if form == "jsonl" else "row"
    assert folder.place(40) == f"rows-00002-of-00003.{form} {unit} 1"


def test_blank_lines_are_no_rows_and_count_as_lines(tmp_path: Path) -> None:
    text = text_of(track_row("a")) + "\n\n  \n" + text_of(track_row("b"))
    (tmp_path / "rows.jsonl").write_text(text)
    folder = RowFolder(tmp_path)
    assert [row.row_id for row in folder] == ["a", "b"]
    assert folder.place(1) == "rows.jsonl line 4"


def test_a_bad_row_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("{oops\n" + text_of(track_row("b")) + "\n")
    folder = RowFolder(tmp_path)
    with pytest.raises(BadRowError, match=r"rows\.jsonl line 1: this is no JSON"):
        folder[0]
    assert folder[1].row_id == "b"


@FORMS
def test_the_fingerprint_notices_a_change_and_no_move(tmp_path: Path, form: Form) -> None:
    def fingerprint(name: str, rows: list[Row]) -> str:
        write_rows(tmp_path / name, rows, form=form)
        return RowFolder(tmp_path / name).fingerprint

    rows = every_field()
    first = fingerprint("a", rows)
    assert fingerprint("b", rows) == first
    assert fingerprint("c", rows[::-1]) != first
    assert fingerprint("d", [*rows[:3], track_row("other")]) != first


def test_where_lines_end_does_not_hide_in_the_fingerprint(tmp_path: Path) -> None:
    line = text_of(track_row("a")) + "\n"
    prints = set()
    for name, parts in (("one", [line + line, line]), ("two", [line, line + line])):
        (tmp_path / name).mkdir()
        for number, part in enumerate(parts):
            (tmp_path / name / f"rows-{number}.jsonl").write_text(part)
        prints.add(RowFolder(tmp_path / name).fingerprint)
    assert len(prints) == 2


@pytest.mark.parametrize(
    ("files", "words"),
    [
        pytest.param({}, "holds no rows", id="empty"),
        pytest.param({"rows.jsonl": "", "rows.parquet": ""}, "several forms", id="two-kinds"),
        pytest.param({"rows.jsonl": "", "rows-1.jsonl": ""}, "several forms", id="whole-and-shards"),
        pytest.param({"rows.parquet": "words"}, "no Parquet file", id="no-parquet"),
    ],
)
def test_a_folder_that_cannot_be_read(tmp_path: Path, files: dict[str, str], words: str) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(SourceError, match=words):
        RowFolder(tmp_path)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="there is no folder"):
        RowFolder(tmp_path / "nowhere")


def test_an_empty_table_has_no_rows(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("")
    assert len(RowFolder(tmp_path)) == 0


@FORMS
def test_two_rows_of_one_id_are_not_written(tmp_path: Path, form: Form) -> None:
    with pytest.raises(ValueError, match="'a' comes twice"):
        write_rows(tmp_path, [track_row("a"), track_row("a")], form=form)
    assert not list(tmp_path.iterdir())


def test_parquet_as_others_write_it(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [json.loads(text_of(row)) for row in every_field()[1:3]]
    for row in rows:  # a column of nothing but nulls has no type of its own
        row.pop("size_px", None)
    parquet.write_table(arrow.Table.from_pylist(rows), tmp_path / "rows.parquet")
    assert [row.row_id for row in RowFolder(tmp_path)] == ["b", "c"]


@pytest.mark.parametrize(
    "made",
    [
        pytest.param(datetime(2026, 5, 1, tzinfo=UTC), id="timestamp"),
        pytest.param(timedelta(seconds=3), id="duration"),
        pytest.param(Decimal("1.50"), id="decimal"),
        pytest.param(b"\xff\x00", id="bytes"),
    ],
)
def test_a_column_of_any_type_is_refused_by_its_name(tmp_path: Path, made: object) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [{"row_id": "a", "kind": "none", "made": made}]
    parquet.write_table(arrow.Table.from_pylist(rows), tmp_path / "rows.parquet")
    with pytest.raises(BadRowError, match=r"^rows.parquet row 1: .*made is unknown"):
        RowFolder(tmp_path)[0]


def test_a_number_in_decimals_is_a_number(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    row = {
        "row_id": "a",
        "kind": "video",
        "media": ["a.mp4"],
        "clip_s": [Decimal("1.5"), Decimal("2.5")],
        "annotations": [{"task": ["caption"], "turns": [{"question": "What is it?", "answer": "A dog."}]}],
    }
    parquet.write_table(arrow.Table.from_pylist([row]), tmp_path / "rows.parquet")
    assert RowFolder(tmp_path)[0].clip_s == (1.5, 2.5)


def test_a_damaged_page_is_told_with_its_file_and_rows(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    write_rows(tmp_path, (track_row(f"row {number}") for number in range(40)), form="parquet")
    path = tmp_path / "rows.parquet"
    column = parquet.ParquetFile(path).metadata.row_group(1).column(0)
    content = bytearray(path.read_bytes())
    start = column.dictionary_page_offset or column.data_page_offset
    content[start : start + column.total_compressed_size] = bytes(column.total_compressed_size)
    path.write_bytes(content)
    folder = RowFolder(tmp_path)
    assert folder[31].row_id == "row 31"
    with pytest.raises(SourceError, match=r"rows.parquet is damaged: its rows 33 to 40 cannot be read: "):
        folder[32]


@pytest.mark.slow
@given(
    texts=st.lists(st.text(min_size=1), min_size=1, max_size=5),
    x_px=st.floats(allow_nan=False, allow_infinity=False),
)
def test_any_words_and_numbers_survive(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], x_px: float
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    rows = [
        Row(
            row_id=f"{number} {text}",
            kind="image",
            media=(text,),
            annotations=(
                Annotation(task=("point",), label=text, moments=(Moment(places=(point(1, x_px),)),)),
            ),
        )
        for number, text in enumerate(texts)
    ]
    write_rows(folder, rows)
    assert list(RowFolder(folder)) == rows
