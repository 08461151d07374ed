"""`molmo2-ground export`: results in the formats of other tools, and parts of a model for other programs."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from molmo2_ground._amount import amount
from molmo2_ground._cli_output import STDOUT, named_path, say

if TYPE_CHECKING:
    from molmo2_ground.export import Result
    from molmo2_ground.grounder import Grounder
    from molmo2_ground.results import Masks
    from molmo2_ground.sources.film_facts import FilmFacts

Loader = Callable[..., "Grounder"]

# The names are those of `export.formats`, which need not be loaded to say them; a test holds them equal.
FORMATS = {
    "jsonl": "JSON lines, one object in one frame a line; nothing is lost",
    "csv": "a table, one object in one frame a line",
    "coco": "COCO JSON, frames as pictures; masks, boxes and key points",
    "mot": "MOT Challenge text, boxes in ten columns",
    "mots": "MOTS Challenge text, masks that do not overlap",
    "davis": "a folder of palette PNGs as DAVIS has them, one a frame",
    "youtube-vis": "YouTube-VIS JSON, a list of masks an object",
    "cvat": "CVAT XML 1.1; tracks of points, boxes and masks",
    "label-studio": "Label Studio tasks; tracks of boxes, or key points on pictures",
    "trackeval": "a folder that TrackEval reads, of what a model said",
    "trackeval-truth": "a folder that TrackEval reads, of the truth",
}
_MOST_SAID = 10


def add_parser(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], *, common: argparse.ArgumentParser
) -> None:
    """Add `export` with a command for each format of results, and for each part of a model."""
    words = "write a result in the format of another tool, or a part of a model for other programs"
    parser = commands.add_parser("export", help=words, description=words.capitalize() + ".")
    parts = parser.add_subparsers(metavar="FORMAT", required=True)
    for name, about in FORMATS.items():
        _add_format(parts.add_parser(name, help=about, description=about, parents=[common]), name)
    about = "the vision tower and the connector as one ONNX graph, for --vision onnx:DIR and other programs"
    vision = parts.add_parser("vision", help=about, description=about, parents=[common])
    vision.add_argument("model", metavar="MODEL", help="tiny, a folder or a hub id")
    vision.add_argument(
        "-o", "--out", metavar="DIR", type=named_path, required=True, help="where the files go"
    )
    vision.set_defaults(call=export_vision)
    about = (
        "the picture encoder and the mask decoder of SAM 2 as ONNX graphs, for load_sam2 and other programs"
    )
    masks = parts.add_parser("segmenter", help=about, description=about, parents=[common])
    masks.add_argument("name", metavar="NAME", help="sam2.1-hiera-tiny and its like, a hub id or a folder")
    masks.add_argument(
        "-o", "--out", metavar="DIR", type=named_path, required=True, help="where the files go"
    )
    masks.set_defaults(call=export_segmenter)


def _add_format(parser: argparse.ArgumentParser, name: str) -> None:
    parser.add_argument(
        "result", metavar="RESULT.json", type=Path, help="what --json wrote: points, tracks, a count or masks"
    )
    parser.add_argument(
        "-o", "--out", metavar="PATH", required=True, help="what is written; - writes a file to stdout"
    )
    parser.add_argument("--masks", metavar="MASKS.json", type=Path, help="the masks made from the result")
    parser.add_argument(
        "--radius-px", metavar="N", type=float, help="where boxes are needed: half the side of one at a point"
    )
    parser.add_argument(
        "--media",
        "--video",
        metavar="FILE",
        type=Path,
        nargs="+",
        default=[],
        help="the video, for how many frames it has, or the pictures or their folder, for their names",
    )
    parser.set_defaults(call=export_result, format=name)


def export_result(arguments: argparse.Namespace, loader: Loader | None) -> int:
    """`export FORMAT RESULT.json -o PATH`: what has no place in the format is said on stderr."""
    from molmo2_ground.export import read_any, read_masks, write_as

    result = read_any(arguments.result)
    frame_count, image_names = _about_media(arguments.media, result)
    masks = None if arguments.masks is None else read_masks(arguments.masks)
    _check_out(arguments)
    with _place(arguments.out) as path:
        written = write_as(
            arguments.format,
            result,
            path,
            masks=masks,
            radius_px=arguments.radius_px,
            frame_count=frame_count,
            image_names=image_names,
        )
    if arguments.out != STDOUT:
        print(written.path)
    if not arguments.quiet:
        say(f"marks: {written.marks}")
        if (other := _other_name(arguments.media, result)) is not None:
            say(f"note: {other}")
        for line in written.left_out[:_MOST_SAID]:
            say(f"note: {line}")
        if len(written.left_out) > _MOST_SAID:
            say(f"note: and {len(written.left_out) - _MOST_SAID} more like these")
    return 0


def _check_out(arguments: argparse.Namespace) -> None:
    """Raises `ValueError` when what is written would replace what is read, or cannot go to stdout."""
    from molmo2_ground.export import FORMATS as WRITERS

    if arguments.out == STDOUT and WRITERS[arguments.format].folder:
        raise ValueError(f"{arguments.format} is a folder of files and cannot go to stdout; give -o a name")
    out = Path(arguments.out)
    if arguments.out == STDOUT or not out.is_file():
        return
    read = {"result": arguments.result, "masks": arguments.masks}
    for what, file in (*read.items(), *(("media", file) for file in arguments.media)):
        if file is not None and out.samefile(file):
            raise ValueError(f"{out} is the {what} itself; choose another name")


@contextmanager
def _place(out: str) -> Iterator[Path]:
    """Where to write: the path itself, or for stdout a file that goes there once it is whole."""
    if out != STDOUT:
        yield Path(out)
        return
    with tempfile.TemporaryDirectory(prefix="molmo2-ground-") as folder:
        file = Path(folder) / "out"
        yield file
        sys.stdout.flush()
        with file.open("rb") as whole:
            shutil.copyfileobj(whole, sys.stdout.buffer)


def _about_media(paths: list[Path], result: Result | Masks) -> tuple[int | None, tuple[str, ...]]:
    """How many frames a video has, or what pictures are called.

    Raises `SourceError` for a video that cannot be read, `ValueError` for other media than the result's: of
    another size, too short, or with its frames at other times.
    """
    if not paths:
        return None, ()
    receipt = result.receipt
    if not receipt.frame_times_s:
        return None, _image_names(paths, count=len(receipt.frame_source_indices))
    from molmo2_ground.sources.film_facts import FilmFacts

    if len(paths) > 1:
        raise ValueError(f"the result is of one video; got {amount(len(paths), 'file')}")
    facts = FilmFacts.of(paths[0])
    _check_video(result, facts, name=str(paths[0]))
    return len(facts.times_s), ()


def _other_name(paths: list[Path], result: Result | Masks) -> str | None:
    """What to say where the video has another name than the one that was asked about: it may be a longer one.

    A result does not know how long its video is, so that a video of the same size and rate passes for it.
    """
    source = result.receipt.source
    if not (result.receipt.frame_times_s and paths and Path(source).suffix) or paths[0].name == source:
        return None
    return f"the result is of {source}, and its frames were counted in {paths[0].name}"


def _check_video(result: Result | Masks, facts: FilmFacts, *, name: str) -> None:
    """Raises `ValueError` when the result's frames are none of this video's, by size, number or time."""
    from molmo2_ground.export import marks_of
    from molmo2_ground.frame_times import FrameTimes

    times = FrameTimes.of(result.receipt, also=marks_of(result).times_s)
    times.check_size(facts.size_px, name=name)
    times.check_count(len(facts.times_s), name=name)
    for frame in times.times_s:
        times.check(frame, float(facts.times_s[frame]), name=name, frame_s=2 * facts.half_frame_s)


def _image_names(paths: list[Path], *, count: int) -> tuple[str, ...]:
    from molmo2_ground.sources.images import picture_files

    files = picture_files(paths[0]) if len(paths) == 1 and paths[0].is_dir() else paths
    if len(files) < count:
        raise ValueError(f"the result is of {amount(count, 'picture')}; got {amount(len(files), 'file')}")
    names = tuple(file.name for file in files)
    return names if len(set(names)) == len(names) else tuple(str(file) for file in files)


def export_vision(arguments: argparse.Namespace, loader: Loader | None) -> int:
    """`export vision MODEL -o DIR`; reads the checkpoint's vision weights alone, and needs no device."""
    from molmo2_ground.model.checkpoint import open_checkpoint
    from molmo2_ground.model.onnx_export import GRAPH_FILE
    from molmo2_ground.model.onnx_export import export_vision as export

    checkpoint = open_checkpoint(arguments.model)
    record = export(checkpoint, arguments.out)
    print(arguments.out / GRAPH_FILE)
    if not arguments.quiet:
        shapes = f"patches uint8{list(record.patches)}, pooling int64{list(record.pooling)}"
        say(
            f"{shapes} to features {record.dtype}{list(record.features)}, opset {record.opset}".replace(
                "'", ""
            )
        )
        say(f"run by onnxruntime it differs from torch by {record.difference:.1e} of the largest value")
    return 0


def export_segmenter(arguments: argparse.Namespace, loader: Loader | None) -> int:
    """`export segmenter NAME -o DIR`; on the CPU in float32, whatever there is."""
    from molmo2_ground.masks.sam2 import load_sam2
    from molmo2_ground.masks.sam_onnx import DECODER, ENCODER, export_decoder, export_encoder

    segmenter = load_sam2(arguments.name, device="cpu", dtype="float32")
    for part, export in ((ENCODER, export_encoder), (DECODER, export_decoder)):
        record = export(segmenter, arguments.out)
        print(arguments.out / part.graph_file)
        if not arguments.quiet:
            shapes = f"{', '.join(part.inputs)} to {', '.join(part.outputs)}"
            say(f"{part.title}: {shapes}, opset {record.opset}, pictures of {record.side_px} pixels")
            say(f"run by onnxruntime it differs from torch by {record.difference:.1e} of the largest value")
    return 0
