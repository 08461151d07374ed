"""Previews of training rows as one HTML file, or one row as a picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from molmo2_ground._amount import amount
from molmo2_ground.clip import RgbArray
from molmo2_ground.eval.page import film, write_page
from molmo2_ground.eval.pictures import Picture
from molmo2_ground.render.picture import write_picture
from molmo2_ground.render.style import LIGHT, Rgb
from molmo2_ground.render.text import plate, stamp, text_width_px
from molmo2_ground.train.row_preview import BranchPreview, RowPicture, RowPreview
from molmo2_ground.viewer.markup import escaped

_PAPER: Rgb = (28, 30, 36)
_QUIET: Rgb = (150, 156, 168)
_ASKED: Rgb = (140, 194, 255)
_WARNING: Rgb = (255, 210, 138)
_TEXT_PX = 17
_GAP_PX = 8
_COLUMNS = 4


def write_preview(out: str | Path, previews: Sequence[RowPreview], *, title: str, note: str = "") -> Path:
    """Write a page of rows that needs nothing but itself; note: a line on top, such as the seed."""
    return write_page(Path(out).expanduser(), title=title, sections=_sections(previews, title, note))


def _sections(previews: Sequence[RowPreview], title: str, note: str) -> Iterator[str]:
    lead = (
        "Each row as the model meets it: frames that it is shown, what the row says is there as outlines; "
        "then each conversation, with the answer's own dots where the answer puts them. "
        "The answers are read from the tokens that are learnt."
    )
    yield (
        f'<header><p class="kind">Training rows</p><h1>{escaped(title)}</h1>'
        f'<p class="lead">{escaped(lead)}</p><p class="about">{escaped(note)}</p></header>'
    )
    yield from (_row(preview) for preview in previews)


def _row(preview: RowPreview) -> str:
    name = preview.row.row_id if preview.row is not None else "no id"
    parts = [
        f'<section class="story"><h2>{escaped(name)}</h2><p class="about">{escaped(_about(preview))}</p>'
    ]
    if preview.problem:
        parts.append(_list([f"cannot be trained on: {preview.problem}"]))
    parts.append(_film(preview.pictures))
    parts += [_branch(number, branch) for number, branch in enumerate(preview.branches, start=1)]
    if preview.left_out:
        parts.append(f"<h3>Not learnt from this time</h3>{_list(preview.left_out)}")
    return "".join(parts) + "</section>"


def _about(preview: RowPreview) -> str:
    row = preview.row
    facts = [preview.place]
    if row is not None:
        facts.append(row.kind)
        if row.clip_s is not None:
            facts.append(f"{row.clip_s[0]:g} to {row.clip_s[1]:g} s of {row.media[0]}, shown from 0 s on")
        elif row.media:
            facts.append(", ".join(row.media))
    if preview.frames:
        shown = len(preview.pictures)
        part = f", {shown} of them below" if shown < preview.frames else ""
        facts.append(f"{amount(preview.frames, 'frame')} shown to the model{part}")
    return " · ".join(facts)


def _branch(number: int, branch: BranchPreview) -> str:
    turns = "".join(
        f"<tr><th>asked</th><td>{escaped(turn.question)}</td></tr>"
        f"<tr><th>answer</th><td><code>{escaped(turn.answer)}</code></td></tr>"
        for turn in branch.turns
    )
    return (
        f'<h3>Conversation {number} <span class="small">{escaped(_weight(branch))}</span></h3>'
        f'<div class="scroll"><table><tbody>{turns}</tbody></table></div>'
        f"{_list(branch.cautions)}{_film(branch.pictures)}"
    )


def _weight(branch: BranchPreview) -> str:
    return f"{branch.tokens} tokens learnt, weight {branch.weight:.3g} together"


def _list(lines: Sequence[str]) -> str:
    items = "".join(f"<li>{escaped(line)}</li>" for line in lines)
    return f'<ul class="cautions">{items}</ul>' if items else ""


def _film(pictures: Sequence[RowPicture]) -> str:
    return film(Picture(rgb=picture.rgb, caption=picture.caption) for picture in pictures)


def write_preview_picture(out: str | Path, preview: RowPreview) -> Path:
    """Write one row as a picture (.png, .jpg or .webp): its frames, then each conversation beneath."""
    blocks = list(_blocks(preview))
    width_px = max(block.shape[1] for block in blocks)
    sheet = np.empty((sum(len(block) for block in blocks) + _GAP_PX, width_px, 3), dtype=np.uint8)
    sheet[:] = _PAPER
    top_px = 0
    for block in blocks:
        sheet[top_px : top_px + len(block), : block.shape[1]] = block
        top_px += len(block)
    return write_picture(sheet, Path(out).expanduser())


def _blocks(preview: RowPreview) -> Iterator[RgbArray]:
    widest = max((len(picture.rgb[0]) for picture in _all_pictures(preview)), default=320)
    room_px = _COLUMNS * (widest + _GAP_PX) + _GAP_PX
    name = preview.row.row_id if preview.row is not None else "no id"
    yield _text(f"{name} · {_about(preview)}", room_px, LIGHT)
    if preview.problem:
        yield _text(f"cannot be trained on: {preview.problem}", room_px, _WARNING)
    yield from _grid(preview.pictures, room_px, widest)
    for branch in preview.branches:
        for turn in branch.turns:
            yield _text(turn.question, room_px, _ASKED)
            yield _text(turn.answer, room_px, LIGHT)
        yield _text(_weight(branch), room_px, _QUIET)
        for caution in branch.cautions:
            yield _text(caution, room_px, _WARNING)
        yield from _grid(branch.pictures, room_px, widest)
    for line in preview.left_out:
        yield _text(f"not learnt from this time: {line}", room_px, _WARNING)


def _all_pictures(preview: RowPreview) -> Iterator[RowPicture]:
    yield from preview.pictures
    for branch in preview.branches:
        yield from branch.pictures


def _grid(pictures: Sequence[RowPicture], room_px: int, cell_px: int) -> Iterator[RgbArray]:
    """Rows of pictures on dark paper, each with its caption beneath."""
    line_px = plate("Ag", text_px=_TEXT_PX, pad_px=2, ink=LIGHT, ground=_PAPER).height_px
    for start in range(0, len(pictures), _COLUMNS):
        line = pictures[start : start + _COLUMNS]
        height_px = max(len(picture.rgb) for picture in line)
        block = np.empty((_GAP_PX + height_px + line_px, room_px, 3), dtype=np.uint8)
        block[:] = _PAPER
        for column, picture in enumerate(line):
            left_px = _GAP_PX + column * (cell_px + _GAP_PX)
            high_px, wide_px = picture.rgb.shape[:2]
            block[_GAP_PX : _GAP_PX + high_px, left_px : left_px + wide_px] = picture.rgb
            _stamp(block, picture.caption, left_px=left_px, top_px=_GAP_PX + height_px, ink=_QUIET)
        yield block


def _text(text: str, room_px: int, ink: Rgb) -> RgbArray:
    """A paragraph, broken into as many lines as it needs."""
    line_px = plate("Ag", text_px=_TEXT_PX, pad_px=2, ink=LIGHT, ground=_PAPER).height_px
    lines = _wrapped(text, room_px - 2 * _GAP_PX)
    block = np.empty((_GAP_PX + line_px * len(lines), room_px, 3), dtype=np.uint8)
    block[:] = _PAPER
    for number, line in enumerate(lines):
        _stamp(block, line, left_px=_GAP_PX, top_px=_GAP_PX + number * line_px, ink=ink)
    return block


def _stamp(block: RgbArray, text: str, *, left_px: int, top_px: int, ink: Rgb) -> None:
    words = plate(text, text_px=_TEXT_PX, pad_px=2, ink=ink, ground=_PAPER)
    stamp(block, words, left_px=left_px, top_px=top_px)


def _wrapped(text: str, width_px: int) -> list[str]:
    lines: list[str] = []
    for paragraph in text.split("\n"):
        line = ""
        for word in paragraph.split(" "):
            longer = f"{line} {word}" if line else word
            if line and text_width_px(longer, text_px=_TEXT_PX) > width_px:
                lines.append(line)
                line = word
            else:
                line = longer
        lines.append(line)
    return lines
