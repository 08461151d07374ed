"""`molmo2-ground export`: parts of a model in formats that other programs run."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from molmo2_ground._cli_output import say

if TYPE_CHECKING:
    from molmo2_ground.grounder import Grounder

Loader = Callable[..., "Grounder"]


def add_parser(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], *, common: argparse.ArgumentParser
) -> None:
    """Add `export` with a command for each part."""
    words = "write a part of a model in a format that other programs run"
    parser = commands.add_parser("export", help=words, description=words.capitalize() + ".")
    parts = parser.add_subparsers(metavar="PART", required=True)
    about = "the vision tower and the connector as one ONNX graph, for --vision onnx:DIR and other programs"
    vision = parts.add_parser("vision", help=about, description=about, parents=[common])
    vision.add_argument("model", metavar="MODEL", help="tiny, a folder or a hub id")
    vision.add_argument("-o", "--out", metavar="DIR", type=Path, required=True, help="where the files go")
    vision.set_defaults(call=export_vision)
    about = "the picture encoder of SAM 2 as one ONNX graph, for masks.sam_onnx and other programs"
    masks = parts.add_parser("segmenter", help=about, description=about, parents=[common])
    masks.add_argument("name", metavar="NAME", help="sam2.1-hiera-tiny and its like, a hub id or a folder")
    masks.add_argument("-o", "--out", metavar="DIR", type=Path, required=True, help="where the files go")
    masks.set_defaults(call=export_segmenter)


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
    from molmo2_ground.masks.sam_onnx import GRAPH_FILE, export_encoder

    segmenter = load_sam2(arguments.name, device="cpu", dtype="float32")
    record = export_encoder(segmenter, arguments.out)
    print(arguments.out / GRAPH_FILE)
    if not arguments.quiet:
        say(f"pixels float32[1, 3, {record.side_px}, {record.side_px}] to features, opset {record.opset}")
        say(f"run by onnxruntime it differs from torch by {record.difference:.1e} of the largest value")
    return 0
