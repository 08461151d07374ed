"""`python -m molmo2_ground.train.preview FOLDER --out preview.html`: look at rows before training on them.

A page of rows with the frames that the model will see and the words that it must say, drawn by the trainer's
own rules; with --png one row as a picture.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from molmo2_ground._amount import amount
from molmo2_ground._parser import Parser, number_from_1, whole_number
from molmo2_ground.errors import GroundError
from molmo2_ground.model.checkpoint import open_checkpoint
from molmo2_ground.train.mixture import ExampleKey, example_rng
from molmo2_ground.train.preview_page import write_preview, write_preview_picture
from molmo2_ground.train.progress_line import ProgressLine
from molmo2_ground.train.row_folder import RowFolder
from molmo2_ground.train.row_media import RowSampling
from molmo2_ground.train.row_options import add_folder
from molmo2_ground.train.row_preview import (
    BuiltRow,
    RowPreview,
    TreeBuilder,
    find_row,
    preview_row,
    repeated_ids,
    rows_to_show,
)
from molmo2_ground.train.tree import BranchWriter

if TYPE_CHECKING:
    import numpy as np

    from molmo2_ground.clip import Clip
    from molmo2_ground.model.checkpoint import Checkpoint
    from molmo2_ground.train.rows import Row


def main(
    arguments: Sequence[str] | None = None, *, prog: str = "python -m molmo2_ground.train.preview"
) -> int:
    """Run the command; returns 0, 1 when a row cannot be trained on, 2 when there is nothing to show."""
    options = _parser(prog).parse_args(arguments)
    progress = ProgressLine(sys.stderr)
    try:
        rows = RowFolder(options.folder)
        checkpoint = open_checkpoint(options.model)
        numbers = [find_row(rows, options.row)] if options.row else rows_to_show(rows, options.rows)
        if not numbers:
            print(f"error: {options.folder} holds no rows to show", file=sys.stderr)
            return 2
        previews = previews_of(
            rows,
            numbers,
            trained_trees(checkpoint),
            writer=BranchWriter(codec=checkpoint.codec),
            seed=options.seed,
            sampling=RowSampling(max_frames=options.max_frames),
            most_frames=options.frames,
            progress=progress,
        )
        progress.clear()
        note = f"{len(previews)} of {amount(len(rows), 'row')}, seed {options.seed}, words of {options.model}"
        print(write_preview(options.out, previews, title=options.folder.name, note=note))
        if options.png:
            print(write_preview_picture(options.png, previews[0]))
    except (GroundError, ValueError) as error:
        progress.clear()
        print(f"error: {error}", file=sys.stderr)
        return 2
    bad = [preview for preview in previews if preview.problem]
    for preview in bad:
        name = "" if preview.row is None else f" ({preview.row.row_id})"
        print(f"problem: {preview.place}{name}: {preview.problem}")
    return 1 if bad else 0


def previews_of(
    rows: RowFolder,
    numbers: Sequence[int],
    builder: TreeBuilder,
    *,
    writer: BranchWriter,
    seed: int = 0,
    sampling: RowSampling | None = None,
    most_frames: int = 12,
    progress: ProgressLine | None = None,
) -> list[RowPreview]:
    """Rows of a folder by number, each with the chance that `seed` gives it."""
    made, repeated = [], repeated_ids(rows)
    for done, number in enumerate(numbers, start=1):
        key = ExampleKey(dataset=rows.folder.name, epoch=0, index=number)
        made.append(
            preview_row(
                rows,
                number,
                builder,
                writer=writer,
                rng=example_rng(seed, key),
                sampling=sampling,
                same_as=repeated.get(number, ""),
                most_frames=most_frames,
            )
        )
        if progress is not None:
            progress.tell("rows", done, len(numbers))
    return made


def trained_trees(checkpoint: Checkpoint) -> TreeBuilder:
    """The builder that the trainer uses, with a checkpoint's words."""
    row_tree = importlib.import_module("molmo2_ground.train.row_tree").row_tree

    def build(row: Row, clip: Clip, rng: np.random.Generator) -> BuiltRow:
        made = row_tree(row, clip, codec=checkpoint.codec, flags=checkpoint.flags, rng=rng)
        return BuiltRow(
            tree=made.tree,
            annotations=tuple(tuple(one.annotation for one in branch) for branch in made.asked),
            left_out=tuple(_left_out(lost) for lost in made.left_out),
        )

    return build


def _left_out(lost: object) -> str:
    annotation, places = getattr(lost, "annotation", None), getattr(lost, "places", 0)
    where = "the row" if annotation is None else f"annotations[{annotation}]"
    some = f", {places} places" if places else ""
    return f"{where}{some}: {getattr(lost, 'reason', lost)}"


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = Parser(
        prog=prog,
        description="Draw what the model will see of training rows, and what it must answer.",
    )
    add_folder(parser)
    parser.add_argument(
        "--rows", type=number_from_1, default=12, metavar="N", help="so many rows of the folder (12)"
    )
    parser.add_argument("--row", metavar="ID", help="this row alone")
    parser.add_argument("--out", type=Path, default=Path("preview.html"), help="the page (preview.html)")
    parser.add_argument("--png", type=Path, help="the first of the rows as a picture, too")
    parser.add_argument("--model", default="tiny", help="whose words: tiny, a folder, or a hub id (tiny)")
    parser.add_argument("--seed", type=whole_number, default=0, help="which of the ways to ask are drawn (0)")
    parser.add_argument(
        "--frames", type=number_from_1, default=12, metavar="N", help="draw so many frames a row (12)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
