"""`RowPreview`: a training row as the model will meet it, what it is shown and what it is to say.

The tree is the one that is trained on, made by the trainer's own builder; the words are read back from its
tokens; the dots are where the answer itself puts them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import cv2
import numpy as np

from molmo2_ground.answer import parse_answer
from molmo2_ground.clip import Clip, Frame, RgbArray
from molmo2_ground.errors import GroundError
from molmo2_ground.eval.suites.records import BadRowError
from molmo2_ground.render import Painter
from molmo2_ground.render import Result as Drawable
from molmo2_ground.render.text import clock
from molmo2_ground.replay import derive
from molmo2_ground.results import Points, Receipt, Tracks
from molmo2_ground.train.row_checks import hold_to_rules, same_id
from molmo2_ground.train.row_folder import RowFolder
from molmo2_ground.train.row_media import RowSampling, open_row_clip
from molmo2_ground.train.row_picture import draw_places, places_in
from molmo2_ground.train.rows import Row, id_in, row_of
from molmo2_ground.train.tree import IGNORE, Branch, BranchWriter, MessageTree, write_branches

if TYPE_CHECKING:
    from molmo2_ground.train.tree import FlatBranch

_READ_WIDTH_PX = 640
_BRANCH_FRAMES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltRow:
    """A row as a message tree.

    annotations  for each branch, the numbers of the annotations it asks about; () when nobody says.
    left_out     what of the row is not learnt from, and why, one line each.
    """

    tree: MessageTree
    annotations: tuple[tuple[int, ...], ...] = ()
    left_out: tuple[str, ...] = ()


class TreeBuilder(Protocol):
    """Makes the tree of a row from what is shown of it; all chance comes from `rng`."""

    def __call__(self, row: Row, clip: Clip, rng: np.random.Generator) -> BuiltRow:
        """The row as it is trained on."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RowPicture:
    """A frame with something drawn on it, uint8[h, w, 3], and a line about it."""

    rgb: RgbArray
    caption: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WordTurn:
    """A question, and what must be said: the text of the tokens that are learnt."""

    question: str
    answer: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BranchPreview:
    """One conversation.

    tokens    how many tokens are learnt, and weight how much they count together.
    pictures  frames that its answers name, with the dots where the answers put them.
    cautions  what is wrong with the answers: places that cannot be read back, words that are lost.
    """

    turns: tuple[WordTurn, ...]
    tokens: int
    weight: float
    pictures: tuple[RowPicture, ...]
    cautions: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RowPreview:
    """One row.

    place     where it lies in its folder. row: None when it could not be read.
    problem   why it cannot be trained on, "" when it can.
    frames    how many the model sees; pictures: some of them, with what the row says is there.
    """

    place: str
    row: Row | None
    problem: str = ""
    source: str = ""
    frames: int = 0
    pictures: tuple[RowPicture, ...] = ()
    branches: tuple[BranchPreview, ...] = ()
    left_out: tuple[str, ...] = ()


def preview_row(
    rows: RowFolder,
    number: int,
    builder: TreeBuilder,
    *,
    writer: BranchWriter,
    rng: np.random.Generator,
    sampling: RowSampling | None = None,
    same_as: str = "",
    width_px: int = 320,
    most_frames: int = 12,
) -> RowPreview:
    """Row `number` of a folder as it will be trained on; what is wrong with it is told, not raised.

    writer: turns the tree's branches into tokens, as the trainer does. width_px: of the pictures.
    same_as: where an earlier row with the same id lies, which makes this one bad.
    most_frames: at most so many of the frames are drawn.
    """
    place = rows.place(number)
    row: Row | None = None
    try:
        row = row_of(rows.text(number))  # what `rows[number]` raises names the place, and so does a preview
        if same_as:
            raise BadRowError(same_id(same_as))
        hold_to_rules(row)
        clip = open_row_clip(row, rows.folder, sampling=sampling, resize=_reader_size)
        if clip.frames and not row.size_px:
            hold_to_rules(row, sizes_px=[(frame.width_px, frame.height_px) for frame in clip.frames])
        built = builder(row, clip, rng)
        branches = _branches(row, clip, built, writer, width_px=width_px)
    except (ValueError, GroundError) as error:
        return RowPreview(place=place, row=row, problem=str(error))
    return RowPreview(
        place=place,
        row=row,
        source=clip.source,
        frames=len(clip),
        pictures=_shown(row, clip, width_px=width_px, most=most_frames),
        branches=branches,
        left_out=built.left_out,
    )


def _reader_size(rgb: RgbArray) -> RgbArray:
    return _shrunk(rgb, _READ_WIDTH_PX)


def _shrunk(rgb: RgbArray, width_px: int) -> RgbArray:
    scale = min(1.0, width_px / rgb.shape[1], 1.25 * width_px / rgb.shape[0])
    size = (max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale)))
    if size == (rgb.shape[1], rgb.shape[0]):
        return rgb
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _shown(row: Row, clip: Clip, *, width_px: int, most: int) -> tuple[RowPicture, ...]:
    """Frames that the model sees, evenly spread when there are more than `most`."""
    numbers = _spread(range(len(clip)), most)
    return tuple(_truth_picture(row, clip.frames[i], i, width_px=width_px) for i in numbers)


def _truth_picture(row: Row, frame: Frame, number: int, *, width_px: int) -> RowPicture:
    places = places_in(row, frame, number)
    rgb = draw_places(_shrunk(frame.rgb, width_px), places or (), size_px=(frame.width_px, frame.height_px))
    if places is None:
        words = "not annotated"
    else:
        visible = sum(not place.occluded for place in places)
        words = f"{visible} to be seen" if visible else "nothing to be seen"
    return RowPicture(rgb=rgb, caption=f"{_when(frame, number)} · {words}")


def _when(frame: Frame, number: int) -> str:
    return f"image {number + 1}" if frame.shown_time_s is None else clock(frame.shown_time_s)


def _branches(
    row: Row, clip: Clip, built: BuiltRow, writer: BranchWriter, *, width_px: int
) -> tuple[BranchPreview, ...]:
    if not built.tree.branches:
        return ()
    written = write_branches(built.tree, writer)
    made = []
    for number, (branch, flat) in enumerate(zip(built.tree.branches, written, strict=True)):
        turns, cautions = _words(branch, flat, writer)
        asked = built.annotations[number] if number < len(built.annotations) else ()
        pictures: list[RowPicture] = []
        for turn in turns:
            found, wrong = _read_back(turn.answer, clip)
            cautions += wrong
            if found is not None:
                pictures += _answer_pictures(row, clip, found, asked, width_px=width_px)
        made.append(
            BranchPreview(
                turns=tuple(turns),
                tokens=int((flat.targets != IGNORE).sum()),
                weight=float(flat.weights.sum(dtype=np.float64)),
                pictures=tuple(pictures),
                cautions=tuple(cautions),
            )
        )
    return tuple(made)


def _words(
    branch: Branch | FlatBranch, flat: FlatBranch, writer: BranchWriter
) -> tuple[list[WordTurn], list[str]]:
    """Questions and answers, the answers from the tokens that are learnt; and where they lost something."""
    learnt = flat.targets != IGNORE
    # A run of learnt tokens is an answer; a question lies in front of each.
    edges = np.flatnonzero(np.diff(np.concatenate([[False], learnt, [False]]).astype(np.int8)))
    answers = [writer.codec.decode(flat.targets[a:b].tolist()) for a, b in edges.reshape(-1, 2)]
    if not isinstance(branch, Branch):
        starts = [0, *edges.reshape(-1, 2)[:-1, 1].tolist()]
        questions = [
            writer.codec.decode(flat.ids[start : a + 1].tolist()).strip()
            for start, (a, _) in zip(starts, edges.reshape(-1, 2), strict=True)
        ]
        return [WordTurn(question=q, answer=a) for q, a in zip(questions, answers, strict=True)], []
    cautions = [
        f"the tokens of the answer say {said!r}; the answer is {turn.answer!r}"
        for turn, said in zip(branch.turns, answers, strict=True)
        if said != turn.answer
    ]
    turns = [
        WordTurn(question=turn.user_text, answer=said)
        for turn, said in zip(branch.turns, answers, strict=True)
    ]
    return turns, cautions


def _read_back(answer: str, clip: Clip) -> tuple[Points | Tracks | None, list[str]]:
    """The places that a user would get of this answer, and what of it could not be placed."""
    parsed = parse_answer(answer)
    if not parsed.elements or not clip.frames:
        return None, [f"{piece.text}: {piece.reason}" for piece in parsed.rejected]
    task = "track" if any(element.tag == "tracks" for element in parsed.elements) else "point"
    try:
        found = derive(_receipt(answer, clip, task))
    except (GroundError, ValueError) as error:
        return None, [f"the answer cannot be read back: {error}"]
    assert isinstance(found, Points | Tracks)
    return found, [f"{piece.text}: {piece.reason}" for piece in found.receipt.report.rejected]


def _receipt(answer: str, clip: Clip, task: str) -> Receipt:
    """A receipt as if a model had written the answer about this clip."""
    sizes = tuple((frame.width_px, frame.height_px) for frame in clip.frames)
    return Receipt(
        task=task,
        query="",
        model_id="training data",
        backend="none",
        recipe="preview/1",
        prompt="",
        raw_text=answer,
        stop_reason="end",
        source=clip.source,
        frame_times_s=tuple(frame.time_s for frame in clip.frames if frame.time_s is not None),
        shown_times_s=tuple(frame.shown_time_s for frame in clip.frames if frame.shown_time_s is not None),
        frame_source_indices=tuple(frame.source_index for frame in clip.frames),
        size_px=sizes[0],
        sizes_px=sizes if len(set(sizes)) > 1 else (),
    )


def _answer_pictures(
    row: Row, clip: Clip, found: Points | Tracks, asked: Sequence[int], *, width_px: int
) -> list[RowPicture]:
    """Frames that an answer names a place in, with its dots over what the annotations say is there."""
    annotations = [row.annotations[number] for number in asked] or None
    plain: Drawable = found.model_copy(
        update={"tracks": tuple(track.model_copy(update={"label": ""}) for track in found.tracks)}
        if isinstance(found, Tracks)
        else {"points": tuple(point.model_copy(update={"label": ""}) for point in found.points)}
    )
    spots: list[tuple[int, float | None]] = (
        [(sample.source_index, sample.time_s) for track in found for sample in track.samples]
        if isinstance(found, Tracks)
        else [(point.source_index, point.time_s) for point in found]
    )
    painter = Painter(plain, trail_s=1.0)
    named = [
        number for number, frame in enumerate(clip.frames) if (frame.source_index, frame.time_s) in spots
    ]
    pictures = []
    for number in _spread(named, _BRANCH_FRAMES):
        frame = clip.frames[number]
        places = places_in(row, frame, number, annotations=annotations) or ()
        rgb = draw_places(_shrunk(frame.rgb, width_px), places, size_px=(frame.width_px, frame.height_px))
        rgb = painter.paint(rgb, time_s=frame.time_s, source_index=frame.source_index, caption=False)
        count = spots.count((frame.source_index, frame.time_s))
        pictures.append(RowPicture(rgb=rgb, caption=f"{_when(frame, number)} · {count} in the answer"))
    return pictures


def _spread(items: Sequence[int], count: int) -> list[int]:
    """`count` of the items in their order, evenly spread, the first and the last among them."""
    if len(items) <= count or count < 2:
        return list(items[: max(0, count)])
    return [items[round(i * (len(items) - 1) / (count - 1))] for i in range(count)]


def rows_to_show(rows: RowFolder, count: int) -> list[int]:
    """Numbers of `count` rows, evenly spread over the folder."""
    return _spread(range(len(rows)), count)


def repeated_ids(folder: RowFolder) -> dict[int, str]:
    """Rows by number whose id an earlier row has, and where that one lies."""
    first: dict[str, int] = {}
    repeated = {}
    for number in range(len(folder)):
        row_id = id_in(folder.text(number))
        if row_id and first.setdefault(row_id, number) != number:
            repeated[number] = folder.place(first[row_id])
    return repeated


def find_row(folder: RowFolder, row_id: str) -> int:
    """The number of the first row with this id, good or not; raises `BadRowError` when there is none."""
    for number in range(len(folder)):
        if id_in(folder.text(number)) == row_id:
            return number
    raise BadRowError(f"no row of {folder.folder} has the id {row_id!r}")
