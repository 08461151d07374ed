"""What a command that asks draws beside places: masks, zones and lines."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from molmo2_ground._cli_output import Bar, named_path, say

if TYPE_CHECKING:
    from molmo2_ground.analytics import Line, Zone
    from molmo2_ground.masks import Segmenter
    from molmo2_ground.replay import Result
    from molmo2_ground.results import Masks
    from molmo2_ground.sources import MediaLike


def add_drawn_options(parser: argparse.ArgumentParser) -> None:
    """--masks, --masks-json, --zones and --hidden."""
    parser.add_argument(
        "--masks",
        metavar="SEGMENTER",
        nargs="?",
        const="",
        help="find which pixels belong to each object, for -o, --html and --masks-json; SEGMENTER finds "
        "them: region, which needs no weights, or sam2.1-hiera-tiny and its siblings, a hub id or a folder "
        "(default: region)",
    )
    parser.add_argument(
        "--masks-json",
        metavar="FILE",
        type=named_path,
        help="write the masks' result file; goes with --masks",
    )
    parser.add_argument(
        "--zones", metavar="FILE", type=Path, help="draw the zones and lines of a zone file in -o FILE"
    )
    parser.add_argument(
        "--hidden", action="store_true", help="mark in -o FILE where what is out of sight was last seen"
    )


def segmenter_of(arguments: argparse.Namespace) -> Segmenter | None:
    """What finds masks when they were asked for: one that is not there is told before the model runs."""
    if arguments.masks is None:
        if arguments.masks_json is not None:
            raise ValueError("--masks-json writes what --masks finds; give --masks too")
        return None
    if arguments.out is None and arguments.html is None and arguments.masks_json is None:
        raise ValueError("--masks is for -o FILE, --html FILE or --masks-json FILE; name one of them")
    from molmo2_ground.masks.choice import segmenter_named
    from molmo2_ground.masks.segmenting import DEFAULT_SEGMENTER

    return segmenter_named(arguments.masks or DEFAULT_SEGMENTER, device=arguments.device)


def masks_of(result: Result, media: MediaLike, segmenter: Segmenter, bar: Bar, *, quiet: bool) -> Masks:
    """The masks of everything that was found; what was lost on the way goes to stderr."""
    from molmo2_ground.masks import segment

    masks = segment(media, result, segmenter=segmenter, on_progress=lambda share: bar.tell("masks", share))
    bar.clear()
    if not quiet:
        for note in masks.notes:
            say(f"masks: {note}")
    return masks


def zones_of(arguments: argparse.Namespace, size_px: tuple[int, int]) -> tuple[Zone | Line, ...]:
    """What --zones names, in pixels of a picture of (width, height); what is odd about it goes to stderr."""
    if arguments.zones is None:
        return ()
    if arguments.out is None:
        raise ValueError("--zones draws in -o FILE; name it")
    from molmo2_ground.analytics import read_zone_file

    file = read_zone_file(arguments.zones)
    if not arguments.quiet:
        for caution in file.cautions(size_px):
            say(f"note: {caution}")
    return (*file.zones_px(size_px), *file.lines_px(size_px))
