"""`python -m molmo2_ground.train.validate FOLDER`: is this folder fit to be trained on?

Prints one line a problem with the row's line and id, and how many more there are; then a summary. The exit
status is 0 when every row can be used, 1 when one cannot, 2 when there are no rows to look at.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from molmo2_ground.errors import GroundError
from molmo2_ground.train.progress_line import ProgressLine
from molmo2_ground.train.row_media import RowSampling
from molmo2_ground.train.row_report import RowReport, check_folder


def whole_number(text: str) -> int:
    """For argparse: a number of 0 or more."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number of 0 or more; got {text!r}")
    return int(text)


def main(
    arguments: Sequence[str] | None = None, *, prog: str = "python -m molmo2_ground.train.validate"
) -> int:
    """Run the command; returns the exit status."""
    options = _parser(prog).parse_args(arguments)
    progress = ProgressLine(sys.stderr)
    try:
        report = check_folder(
            options.folder,
            media=not options.no_media,
            sampling=RowSampling(max_frames=options.max_frames),
            workers=options.workers,
            on_progress=progress.tell,
        )
    except GroundError as error:
        progress.clear()
        print(f"error: {error}", file=sys.stderr)
        return 2
    progress.clear()
    for line in lines(report, most=options.most, media=not options.no_media):
        print(line)
    return 0 if report.good else 1


def lines(report: RowReport, *, most: int, media: bool = True) -> list[str]:
    """The report for people: at most `most` problems and as many cautions, then the summary."""
    said = [f"problem: {problem}" for problem in report.problems[:most]]
    if report.problem_count > most:
        said.append(f"… and {report.problem_count - most:,} more problems (--most shows more)")
    said += [f"caution: {caution}" for caution in report.cautions[:most]]
    if report.caution_count > most:
        said.append(f"… and {report.caution_count - most:,} more cautions")
    said.append(report.summary())
    if not report.rows:
        said.append("there is nothing to train on")
    elif report.good:
        said.append("every row can be used" + ("" if media else "; the media were not opened"))
    else:
        count = "1 problem" if report.problem_count == 1 else f"{report.problem_count:,} problems"
        said.append(f"{count}: mend these rows, or take them out, and check again")
    return said


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Check a folder of training rows and the media beside them (docs/training-data.md).",
    )
    parser.add_argument("folder", type=Path, help="with rows.jsonl, rows.parquet or rows-*.jsonl")
    parser.add_argument(
        "--most", type=whole_number, default=20, metavar="N", help="print so many problems (20)"
    )
    parser.add_argument("--no-media", action="store_true", help="look at the rows alone, not at their files")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="files opened at a time (1)")
    parser.add_argument(
        "--max-frames", type=int, default=128, metavar="N", help="most frames that training will show (128)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
