"""The options of every command that looks through a folder of rows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from molmo2_ground._parser import number_from_1

if TYPE_CHECKING:
    import argparse


def add_folder(parser: argparse.ArgumentParser) -> None:
    """`folder`, the rows and their media, and --max-frames, which says what will be shown of a video."""
    parser.add_argument("folder", type=Path, help="with rows.jsonl, rows.parquet or rows-*.jsonl")
    parser.add_argument(
        "--max-frames",
        type=number_from_1,
        default=128,
        metavar="N",
        help="most frames that training will show (128)",
    )
