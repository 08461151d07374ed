"""`molmo2-ground events`: what happened to tracked objects in zones and at lines."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from molmo2_ground._atomic import atomic_path
from molmo2_ground._cli_output import check_written, say
from molmo2_ground.errors import SourceError

if TYPE_CHECKING:
    from molmo2_ground.analytics import Event, Events
    from molmo2_ground.grounder import Grounder
    from molmo2_ground.results import Tracks

Loader = Callable[..., "Grounder"]


def add_parser(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], *, common: argparse.ArgumentParser
) -> None:
    """Add `events`."""
    words = "who entered and left which zone, who crossed which line, from a result file of `track`"
    parser = commands.add_parser("events", help=words, description=words.capitalize() + ".", parents=[common])
    parser.add_argument("result", metavar="RESULT.json", type=Path, help="written by track --json")
    parser.add_argument("zones", metavar="ZONES.json", type=Path, help="zones, lines and rules")
    parser.add_argument("--json", metavar="FILE", help="write events, visits and counts; - writes to stdout")
    parser.add_argument("--csv", metavar="FILE", help="write one row an event; - writes to stdout")
    parser.add_argument(
        "--at",
        choices=("looks", "frames"),
        default="looks",
        help="count objects in zones whenever the model looked, or in every frame that has a sample "
        "(default: looks)",
    )
    parser.set_defaults(call=events)


def events(arguments: argparse.Namespace, loader: Loader | None) -> int:
    """`events RESULT.json ZONES.json`; needs no model and no video."""
    from molmo2_ground.analytics import find_events, read_zone_file

    _check_outputs(arguments)
    tracks = _tracks(arguments.result)
    file = read_zone_file(arguments.zones)
    size_px = tracks.receipt.size_px
    if file.rules.by == "mask":
        raise SourceError(
            f'{arguments.zones} asks for "by": "mask", and a result file of tracks holds no masks: expected '
            '"point" here; from Python, molmo2_ground.analytics.find_events takes masks'
        )
    if not arguments.quiet:
        for caution in file.cautions(size_px):
            say(f"note: {caution}")
    found = find_events(
        tracks,
        zones=file.zones_px(size_px),
        lines=file.lines_px(size_px),
        rules=file.rules,
        ground=file.homography(size_px),
        at=arguments.at,
    )
    if arguments.json == "-":
        sys.stdout.buffer.write(found.json_text().encode() + b"\n")
    elif arguments.csv == "-":
        sys.stdout.buffer.write(found.csv_text().encode())
    else:
        for line in lines(found):
            print(line)
    sys.stdout.flush()
    _write(arguments.json, found.json_text() + "\n", quiet=arguments.quiet)
    _write(arguments.csv, found.csv_text(), quiet=arguments.quiet)
    return 0


def lines(events: Events) -> Iterator[str]:
    """The events for people, one line each, and the summary after an empty line."""
    for event in events:
        yield event_line(event)
    table = list(events.summary.table())
    if len(events) and table:
        yield ""
    yield from table


def event_line(event: Event) -> str:
    """`1.25 s  #1 the red car entered crossing at (320, 180), between 1.00 and 1.50 s`."""
    from molmo2_ground.analytics.events import what_happened

    who = f"{event.time_s:.2f} s  #{event.object_id} {event.label}"
    hidden = ", while it was hidden" if event.hidden else ""
    return f"{who} {what_happened(event)} at ({event.x_px:.0f}, {event.y_px:.0f}){_when(event)}{hidden}"


def _when(event: Event) -> str:
    """The time within which it happened, where that is more than the estimate."""
    if event.after_s is None:
        return ", perhaps earlier"
    if event.before_s is None:
        return f", after {event.after_s:.2f} s"
    return f", between {event.after_s:.2f} and {event.before_s:.2f} s"


def _tracks(path: Path) -> Tracks:
    from molmo2_ground.export import read_result
    from molmo2_ground.export.result_file import kind_of
    from molmo2_ground.results import Answer, Tracks

    result = read_result(path)
    if isinstance(result, Answer) and result.tracks is not None:
        return result.tracks
    if not isinstance(result, Tracks):
        raise SourceError(
            f"{path} holds {kind_of(result)}; expected tracks, as molmo2-ground track … --json FILE "
            f"writes them"
        )
    return result


def _check_outputs(arguments: argparse.Namespace) -> None:
    """Find out before the work that a file cannot be written. Raises `ValueError`."""
    if arguments.json == arguments.csv == "-":
        raise ValueError("--json - and --csv - both write to stdout; choose one")
    files = [None if name == "-" else name for name in (arguments.json, arguments.csv)]
    check_written(files, (arguments.result, arguments.zones))


def _write(name: str | None, text: str, *, quiet: bool) -> None:
    if name in (None, "-"):
        return
    with atomic_path(Path(name)) as unfinished:
        unfinished.write_text(text, encoding="utf-8", newline="")
    if not quiet:
        say(f"wrote {name}")
