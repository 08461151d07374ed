from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from molmo2_ground.answer import Group, ParsedPoint, format_answer, points_answer, tracks_answer
from molmo2_ground.clip import Clip, Frame
from molmo2_ground.eval.suites.records import BadRowError
from molmo2_ground.model.checkpoint import open_checkpoint
from molmo2_ground.render.style import colour_of
from molmo2_ground.thousandths import to_thousandths
from molmo2_ground.train.preview import main, previews_of
from molmo2_ground.train.preview_page import write_preview, write_preview_picture
from molmo2_ground.train.row_folder import RowFolder
from molmo2_ground.train.row_picture import draw_places, places_in
from molmo2_ground.train.row_preview import BuiltRow, RowPreview, find_row, rows_to_show
from molmo2_ground.train.rows import TRACK_TASKS, Annotation, Place, Row
from molmo2_ground.train.rows import Turn as RowTurn
from molmo2_ground.train.tree import Branch, BranchWriter, MessageTree, Turn
from tests.made_up_rows import box, mask, moments, point, row_folder, track_row
from tests.media import SIZE_PX, Shelf

WORDS = Annotation(
    task=("qa",), turns=(RowTurn(question="What?", answer="A dog."), RowTurn(question="And?", answer="No."))
)


@pytest.fixture(scope="module")
def writer() -> BranchWriter:
    return BranchWriter(codec=open_checkpoint("tiny").codec)


def middles(row: Row, clip: Clip, rng: np.random.Generator) -> BuiltRow:
    """A small builder: asks everything once, in order, and answers with the middles of boxes."""
    branches = [_branch(row, clip, annotation) for annotation in row.annotations]
    return BuiltRow(
        tree=MessageTree(
            prefix_ids=np.zeros(1, dtype=np.int64),
            prefix_visual=np.zeros(1, dtype=np.bool_),
            branches=tuple(branches),
        ),
        annotations=tuple((number,) for number in range(len(branches))),
        left_out=(f"drawn {rng.integers(1000)}",),
    )


def _branch(row: Row, clip: Clip, annotation: Annotation) -> Branch:
    if annotation.turns:
        first, *later = (Turn(user_text=turn.question, answer=turn.answer) for turn in annotation.turns)
        return Branch(user_text=first.user_text, answer=first.answer, later_turns=tuple(later))
    groups = []
    for number, frame in enumerate(clip.frames):
        places = places_in(row, frame, number, annotations=[annotation]) or ()
        points = tuple(_middle(place, frame) for place in places if not place.occluded)
        if points:
            key = number + 1 if frame.shown_time_s is None else round(frame.shown_time_s, 1)
            groups.append(Group(key=key, points=points))
    make = tracks_answer if set(annotation.task) & TRACK_TASKS else points_answer
    return Branch(
        user_text=f"Where is {annotation.label}?", answer=format_answer(make(annotation.label, groups))
    )


def _middle(place: Place, frame: Frame) -> ParsedPoint:
    assert place.box_px is not None
    left, top, right, bottom = place.box_px
    return ParsedPoint(
        object_id=place.object_id,
        x=to_thousandths((left + right) / 2, frame.width_px),
        y=to_thousandths((top + bottom) / 2, frame.height_px),
    )


def preview_of(folder: Path, writer: BranchWriter) -> RowPreview:
    (preview,) = previews_of(RowFolder(folder), [0], middles, writer=writer)
    return preview


# ---------------------------------------------------------------- what is drawn on a frame


def test_a_box_is_drawn_where_it_is() -> None:
    plain = np.full((200, 300, 3), 128, dtype=np.uint8)
    drawn = draw_places(plain, [box(2, 20, 10, side=40)], size_px=(150, 100))
    assert (plain == 128).all()
    rows, columns = np.nonzero((drawn == colour_of(2)).all(axis=2))
    assert abs(rows.min() - 20) <= 3
    assert abs(rows.max() - 100) <= 3
    assert abs(columns.min() - 40) <= 3
    assert abs(columns.max() - 120) <= 3
    assert (drawn[40:80, 60:100] == 128).all()  # what lies in the box stays to be seen


@pytest.mark.parametrize(
    ("place", "inside"),
    [
        pytest.param(point(1, 48, 32), (32, 48), id="point"),
        pytest.param(mask(1, rows=slice(20, 40), columns=slice(30, 60)), (20, 45), id="edge-of-a-mask"),
        pytest.param(box(1, 76, 44), (63, 80), id="box-at-the-edge-of-the-picture"),
    ],
)
def test_places_are_drawn(place: Place, inside: tuple[int, int]) -> None:
    plain = np.full((SIZE_PX[1], SIZE_PX[0], 3), 128, dtype=np.uint8)
    drawn = draw_places(plain, [place], size_px=SIZE_PX)
    assert tuple(drawn[inside]) != (128, 128, 128)


def test_a_hidden_thing_is_drawn_thin() -> None:
    plain = np.full((64, 96, 3), 128, dtype=np.uint8)
    shown, hidden = (
        (draw_places(plain, [box(1, hidden=is_hidden)], size_px=SIZE_PX) != 128).sum()
        for is_hidden in (False, True)
    )
    assert 0 < hidden < shown


def test_places_of_a_moment_are_those_of_its_frame() -> None:
    row = track_row(clip_s=(1.0, 3.0), annotations=(Annotation(
        task=("track",), label="dog", moments=(*moments((1.5,), box(1)), *moments((2.0,)))),))  # fmt: skip
    rgb = np.zeros((64, 96, 3), dtype=np.uint8)

    def found(shown_s: float) -> int | None:
        frame = Frame(
            rgb=rgb, width_px=96, height_px=64, source_index=0, time_s=shown_s, shown_time_s=shown_s
        )
        places = places_in(row, frame, 0)
        return None if places is None else len(places)

    assert (found(0.5), found(0.505), found(1.0), found(0.0)) == (1, 1, 0, None)


# ---------------------------------------------------------------- what is said of a row


def test_a_row_is_shown_as_it_is_trained_on(media: Shelf, tmp_path: Path, writer: BranchWriter) -> None:
    row = track_row(annotations=(*track_row().annotations, WORDS))
    preview = preview_of(row_folder(media, tmp_path, row), writer)
    assert preview.problem == ""
    assert preview.frames == 3
    assert [picture.caption for picture in preview.pictures] == [
        "0:00.00 · 1 to be seen",
        "0:00.50 · 1 to be seen",
        "0:01.00 · 1 to be seen",
    ]
    track, points, words = preview.branches
    assert track.turns[0].question == "Where is the dog?"
    assert track.turns[0].answer == (
        '<tracks coords="0.0 1 208 312;0.5 1 208 312;1.0 1 208 312">the dog</tracks>'
    )
    assert [picture.caption for picture in track.pictures] == [
        f"0:0{at:.2f} · 1 in the answer" for at in (0, 0.5, 1)
    ]
    assert len(points.pictures) == 1
    assert [turn.answer for turn in words.turns] == ["A dog.", "No."]
    assert [turn.question for turn in words.turns] == ["What?", "And?"]
    assert words.pictures == ()
    assert not any(branch.cautions for branch in preview.branches)


def test_what_is_learnt_is_counted(media: Shelf, tmp_path: Path, writer: BranchWriter) -> None:
    row = track_row(annotations=(WORDS,))
    (words,) = preview_of(row_folder(media, tmp_path, row), writer).branches
    codec = writer.codec
    assert words.tokens == sum(len(codec.encode(text)) + 1 for text in ("A dog.", "No."))
    assert words.weight == pytest.approx(4 * np.sqrt(words.tokens))


def test_branches_that_are_tokens_already_are_read_back(
    media: Shelf, tmp_path: Path, writer: BranchWriter
) -> None:
    def built(row: Row, clip: Clip, rng: np.random.Generator) -> BuiltRow:
        made = middles(row, clip, rng)
        flat = tuple(writer.write(one) for one in made.tree.branches if isinstance(one, Branch))
        tree = MessageTree(
            prefix_ids=made.tree.prefix_ids, prefix_visual=made.tree.prefix_visual, branches=flat
        )
        return BuiltRow(tree=tree)

    folder = row_folder(media, tmp_path, track_row(annotations=(WORDS,)))
    (preview,) = previews_of(RowFolder(folder), [0], built, writer=writer)
    (words,) = preview.branches
    assert [turn.answer for turn in words.turns] == ["A dog.", "No."]
    assert all(asked in turn.question for asked, turn in zip(("What?", "And?"), words.turns, strict=True))
    assert "A dog." not in words.turns[1].question


@pytest.mark.parametrize(
    ("answer", "caution"),
    [
        pytest.param('<points coords="0.0 1 2000 100">dog</points>', "1 2000 100: ", id="outside"),
        pytest.param('<points coords="9.0 1 200 100">dog</points>', "9.0", id="a-time-that-is-not-shown"),
    ],
)
def test_an_answer_that_gives_no_place_is_a_caution(
    media: Shelf, tmp_path: Path, writer: BranchWriter, answer: str, caution: str
) -> None:
    def built(row: Row, clip: Clip, rng: np.random.Generator) -> BuiltRow:
        tree = middles(row, clip, rng).tree
        branch = Branch(user_text="Where?", answer=answer)
        return BuiltRow(
            tree=MessageTree(prefix_ids=tree.prefix_ids, prefix_visual=tree.prefix_visual, branches=(branch,))
        )

    (preview,) = previews_of(RowFolder(row_folder(media, tmp_path, track_row())), [0], built, writer=writer)
    (branch,) = preview.branches
    assert any(caution in line for line in branch.cautions), branch.cautions


def with_box(place: Place) -> Row:
    where = Annotation(task=("point",), label="dog", moments=moments((0.0, 0.5, 1.0), place))
    return track_row(annotations=(where,))


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        pytest.param(track_row(media=("gone.mp4",)), "gone.mp4", id="no-file"),
        pytest.param(track_row(size_px=((9, 9),), annotations=(WORDS,)), "the row says 9 x 9", id="size"),
        pytest.param(track_row(media=("../clip.mp4",)), "a path below the folder of the rows", id="outside"),
        pytest.param(track_row(media=("/elsewhere/clip.mp4",)), "a path below the folder", id="absolute"),
        pytest.param(track_row(media=(), size_px=()), "media names 0 files", id="no-media"),
        pytest.param(with_box(box(1, 10, 10, side=-5)), "inside out or empty", id="inside-out"),
        pytest.param(with_box(box(1, -10)), "leaves the picture of 96 x 64 pixels", id="negative"),
        pytest.param(
            with_box(box(1, -10)).model_copy(update={"size_px": ()}), "leaves the picture", id="no-size"
        ),
    ],
)
def test_a_row_that_cannot_be_shown_says_why(
    media: Shelf, tmp_path: Path, writer: BranchWriter, row: Row, problem: str
) -> None:
    preview = preview_of(row_folder(media, tmp_path, row), writer)
    assert problem in preview.problem
    assert preview.branches == ()


def test_a_row_says_its_place_once(media: Shelf, tmp_path: Path, writer: BranchWriter) -> None:
    folder = row_folder(media, tmp_path, track_row())
    (folder / "rows.jsonl").write_text('{"row_id": "odd", "lable": 1}\n')
    preview = preview_of(folder, writer)
    assert preview.place == "rows.jsonl line 1"
    assert "line 1" not in preview.problem
    assert "lable is unknown" in preview.problem
    assert find_row(RowFolder(folder), "odd") == 0


def test_the_second_row_of_an_id_is_a_bad_one(media: Shelf, tmp_path: Path, writer: BranchWriter) -> None:
    folder = row_folder(media, tmp_path, track_row("a"), track_row("b"))
    (folder / "rows.jsonl").write_text((folder / "rows.jsonl").read_text().replace('"b"', '"a"'))
    first, second = previews_of(RowFolder(folder), [0, 1], middles, writer=writer)
    assert first.problem == ""
    assert second.problem == "the row_id is also that of rows.jsonl line 1"


def test_chance_comes_from_the_seed_and_the_row(media: Shelf, tmp_path: Path, writer: BranchWriter) -> None:
    folder = row_folder(media, tmp_path / "x", track_row("a"), track_row("b"))

    def drawn(seed: int) -> list[tuple[str, ...]]:
        made = previews_of(RowFolder(folder), [0, 1], middles, writer=writer, seed=seed)
        return [preview.left_out for preview in made]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
    assert drawn(1)[0] != drawn(1)[1]


def test_rows_are_chosen_over_the_whole_folder(media: Shelf, tmp_path: Path) -> None:
    folder = RowFolder(row_folder(media, tmp_path, *(track_row(f"r{i}") for i in range(9))))
    assert rows_to_show(folder, 3) == [0, 4, 8]
    assert rows_to_show(folder, 20) == list(range(9))
    assert find_row(folder, "r5") == 5
    with pytest.raises(BadRowError, match="the id 'r77'"):
        find_row(folder, "r77")


# ---------------------------------------------------------------- the page and the picture


def test_the_page_holds_the_words_and_the_pictures(
    media: Shelf, tmp_path: Path, writer: BranchWriter
) -> None:
    bad = track_row("<b>bad</b>", media=("gone.mp4",))
    folder = row_folder(media, tmp_path, track_row(), bad)
    previews = previews_of(RowFolder(folder), [0, 1], middles, writer=writer)
    page = write_preview(tmp_path / "page.html", previews, title="rows", note="seed 0").read_text()
    assert "&lt;tracks coords=&quot;0.0 1 208 312;0.5" in page
    assert page.count("data:image/jpeg;base64,") == 3 + 3 + 1
    assert "cannot be trained on: " in page
    assert "<b>bad</b>" not in page
    assert "&lt;b&gt;bad&lt;/b&gt;" in page
    assert "http" not in page.replace("http-equiv", "")


def test_the_picture_grows_with_what_it_shows(media: Shelf, tmp_path: Path, writer: BranchWriter) -> None:
    preview = preview_of(row_folder(media, tmp_path, track_row()), writer)
    with Image.open(write_preview_picture(tmp_path / "row.png", preview)) as image:
        size = image.size
    assert size[0] > 4 * SIZE_PX[0]
    assert size[1] > 3 * SIZE_PX[1]
    bad = RowPreview(place="line 1", row=None, problem="it is no JSON")
    with Image.open(write_preview_picture(tmp_path / "bad.png", bad)) as image:
        assert 0 < image.size[1] < size[1]


@pytest.mark.slow
def test_the_command_asks_the_trainers_builder(
    media: Shelf, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def row_tree(
        row: Row, clip: Clip, *, codec: object, flags: object, rng: np.random.Generator
    ) -> SimpleNamespace:
        made = middles(row, clip, rng)
        asked = tuple((SimpleNamespace(annotation=number),) for (number,) in made.annotations)
        lost = SimpleNamespace(annotation=1, reason="it was too long", places=2)
        return SimpleNamespace(tree=made.tree, asked=asked, left_out=(lost,))

    home = ModuleType("molmo2_ground.train.row_tree")
    home.row_tree = row_tree  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, home.__name__, home)
    folder = row_folder(media, tmp_path, track_row("a"), track_row("b"))
    page, png = tmp_path / "page.html", tmp_path / "row.png"
    assert main([str(folder), "--out", str(page), "--row", "b", "--png", str(png)]) == 0
    assert capsys.readouterr().out.splitlines() == [str(page), str(png)]
    assert "annotations[1], 2 places: it was too long" in page.read_text()
    assert ">b</h2>" in page.read_text()
    assert ">a</h2>" not in page.read_text()
    assert main([str(folder), "--out", str(page), "--row", "c"]) == 2
    assert "the id 'c'" in capsys.readouterr().err


def test_the_command_tells_of_rows_that_are_bad(
    media: Shelf, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = ModuleType("molmo2_ground.train.row_tree")
    home.row_tree = None  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, home.__name__, home)
    folder = row_folder(media, tmp_path, track_row(media=("gone.mp4",)))
    assert main([str(folder), "--out", str(tmp_path / "page.html")]) == 1
    assert "problem: rows.jsonl line 1 (walk): there is no file" in capsys.readouterr().out
