"""`python -m molmo2_ground.train.validate FOLDER`: is this folder fit to be trained on?

Prints one line a problem with the row's line and id; of those that are alike a few, and how many more there
are; then a summary. The exit status is 0 when every row can be used, 1 when one cannot, 2 when there are no
rows to look at.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from molmo2_ground._amount import amount
from molmo2_ground._parser import Parser, number_from_1, whole_number
from molmo2_ground.errors import GroundError
from molmo2_ground.train.problem_list import ProblemList
from molmo2_ground.train.progress_line import ProgressLine
from molmo2_ground.train.row_media import RowSampling
from molmo2_ground.train.row_options import add_folder
from molmo2_ground.train.row_report import RowReport, check_folder


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
    if not report.rows:
        print(f"error: {options.folder} holds files of rows, and no row in them", file=sys.stderr)
        return 2
    for line in lines(report, most=options.most, alike=options.alike, media=not options.no_media):
        print(line)
    return 0 if report.good else 1


def lines(report: RowReport, *, most: int, alike: int, media: bool = True) -> list[str]:
    """The report for people: at most `most` problems and as many cautions, then the summary.

    alike: name so many of those that differ in numbers alone, and count the others.
    """
    problems = ProblemList.of(
        report.problems, most=most, alike=alike, count=report.problem_count, front="problem: "
    )
    cautions = ProblemList.of(
        report.cautions, most=most, alike=alike, count=report.caution_count, front="caution: "
    )
    said = [*problems.lines]
    if problems.untold:
        said.append(f"… and {amount(problems.untold, 'more problem')} (--most and --alike show more)")
    said += cautions.lines
    if cautions.untold:
        said.append(f"… and {amount(cautions.untold, 'more caution')}")
    said.append(report.summary())
    if report.good:
        said.append("every row can be used" + ("" if media else "; the media were not opened"))
    else:
        said.append(
            f"{amount(report.problem_count, 'problem')}: mend these rows, or take them out, and check again"
        )
    return said


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = Parser(
        prog=prog,
        description="Check a folder of training rows and the media beside them (docs/training-data.md).",
    )
    add_folder(parser)
    parser.add_argument(
        "--most", type=whole_number, default=20, metavar="N", help="print so many problems (20)"
    )
    parser.add_argument(
        "--alike",
        type=number_from_1,
        default=3,
        metavar="N",
        help="of those that differ in numbers alone, print so many (3)",
    )
    parser.add_argument("--no-media", action="store_true", help="look at the rows alone, not at their files")
    parser.add_argument(
        "--workers", type=number_from_1, default=1, metavar="N", help="files opened at a time (1)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
