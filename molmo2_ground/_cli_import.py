"""`molmo2-ground import`: what people drew in an annotation tool, as a result file."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from molmo2_ground._amount import amount
from molmo2_ground._cli_output import STDOUT, check_written, named_path, say
from molmo2_ground.errors import SourceError

if TYPE_CHECKING:
    from molmo2_ground.export import MarkedMedia
    from molmo2_ground.grounder import Grounder

Loader = Callable[..., "Grounder"]

# The names are those of `export.formats`; a test holds them equal.
FORMATS = {
    "cvat": "CVAT XML 1.1, annotations.xml or the archive around it",
    "label-studio": "the JSON export of Label Studio",
    "coco": "COCO JSON of objects",
    "mot": "MOT Challenge text, a tracker's or gt.txt",
}


def add_parser(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], *, common: argparse.ArgumentParser
) -> None:
    """Add `import` with a command for each format."""
    words = "read what people drew in an annotation tool and write it as a result file"
    parser = commands.add_parser("import", help=words, description=words.capitalize() + ".")
    formats = parser.add_subparsers(metavar="FORMAT", required=True)
    for name, about in FORMATS.items():
        own = formats.add_parser(name, help=about, description=about, parents=[common])
        own.add_argument("file", metavar="FILE", type=Path)
        words = "what is written; - writes it to stdout"
        own.add_argument("-o", "--out", metavar="RESULT.json", required=True, help=words)
        own.add_argument("--masks-out", metavar="MASKS.json", type=named_path, help="write its masks there")
        own.add_argument("--media", metavar="VIDEO", type=Path, help="the video: its size and times count")
        own.add_argument("--fps", metavar="N", type=float, help="frames a second, without the video")
        own.add_argument("--size", metavar="WIDTHxHEIGHT", type=_size, help="of the video, without it")
        own.add_argument("--pick", metavar="NAME", help="which video, when the file is about several")
        own.add_argument("--label", metavar="NAME", help="what the boxes of MOT text are of")
        own.set_defaults(call=import_result, format=name)


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    if not (width.isdigit() and height.isdigit() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"expected pixels such as 640x360; got {text!r}")
    return int(width), int(height)


def import_result(arguments: argparse.Namespace, loader: Loader | None) -> int:
    """`import FORMAT FILE -o RESULT.json`: tracks of a video, points on pictures."""
    from dataclasses import replace

    from molmo2_ground.export import dumps, read_from, settled, to_masks, to_points, to_tracks, write_result
    from molmo2_ground.sources.film_facts import FilmFacts

    if arguments.fps is not None and not arguments.fps > 0:
        raise ValueError(f"--fps is above 0 frames a second; got {arguments.fps:g}")
    file = None if arguments.out == STDOUT else arguments.out
    check_written((file, arguments.masks_out), (arguments.file, arguments.media))
    found = read_from(arguments.format, arguments.file, label=arguments.label)
    media = _picked(found, arguments.pick, file=arguments.file)
    film = None
    if arguments.media is not None and media.kind == "video":
        film = FilmFacts.of(arguments.media)
        media = replace(media, name=arguments.media.name)
    media = settled(media, film=film, fps=arguments.fps, size_px=arguments.size)
    origin = f"{arguments.format} {arguments.file.name}"
    if arguments.masks_out is not None:
        masks = to_masks(media, origin=origin)
        if not masks:
            raise ValueError(
                f"{arguments.file} holds no masks of {media.name}, so there is no {arguments.masks_out}"
            )
        write_result(masks, arguments.masks_out)
    made = to_tracks if media.kind == "video" else to_points
    result = made(media, origin=origin)
    if arguments.out == STDOUT:
        sys.stdout.buffer.write(dumps(result).encode() + b"\n")
    else:
        write_result(result, arguments.out)
        print(arguments.out)
    if not arguments.quiet:
        noun = "tracks" if media.kind == "video" else "points"
        say(f"{noun}: {len(result)}, of {amount(len(media.marks), 'mark')} in {media.name}")
        for line in result.receipt.notes:
            say(f"note: {line}")
    return 0


def _picked(found: Sequence[MarkedMedia], name: str | None, *, file: Path) -> MarkedMedia:
    """The one medium of the file, or the one of this name. Raises `ValueError`, `SourceError` for none."""
    if not found:
        raise SourceError(f"{file} is about no video and no picture; expected one with what is marked in it")
    names = [media.name for media in found]
    if name is not None:
        matching = [media for media in found if name in (media.name, Path(media.name).stem)]
        if not matching:
            raise ValueError(f"nothing in {file} is called {name!r}; it has {', '.join(names)}")
        if len(matching) > 1:
            raise ValueError(
                f"{len(matching)} media of {file} are called {name!r}; it has {', '.join(names)}"
            )
        return matching[0]
    if len(found) != 1:
        raise ValueError(
            f"{file} is about {len(found)} media: {', '.join(names[:8])}{', …' if len(names) > 8 else ''}; "
            "say which (--pick NAME), or make training rows of all of them (molmo2-ground train convert)"
        )
    return found[0]
