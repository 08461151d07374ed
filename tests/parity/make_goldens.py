"""Write what the library's own Molmo2 processors give, for the tests beside this file to compare with.

The library's processors need torchvision, which this project does not depend on: its wheels are linked
against CUDA and do not import beside a CPU torch. So the comparison is made once, here, and its results are
committed. To make them again (after a change of the cases below, or for a newer library):

    pip install --no-deps --target /somewhere torchvision==0.28.0
    PYTHONPATH=/somewhere python tests/parity/make_goldens.py

`goldens.json` holds token ids as runs [id, count], digests of pooling indices (int64) and of pixels (turned
back into bytes, which is exact), grids, and the versions they were made with.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch

from molmo2_ground.model.random_checkpoint import Kind, write_random_checkpoint

GOLDENS = Path(__file__).parent / "goldens.json"
QUESTION = "Point to the 3 red mugs."

# name -> (checkpoint kind, changed input settings, image sizes (height, width), max_crops)
IMAGE_CASES: dict[str, tuple[Kind, dict[str, Any], list[tuple[int, int]], int | None]] = {
    "large-square": ("qwen-4b", {}, [(378, 378)], None),
    "large-small": ("qwen-4b", {}, [(100, 80)], None),
    "large-below-margins": ("qwen-4b", {}, [(50, 60)], None),
    "large-margin-exact": ("qwen-4b", {}, [(112, 300)], None),
    "large-354x536": ("qwen-4b", {}, [(354, 536)], None),
    "large-vga": ("qwen-4b", {}, [(480, 640)], None),
    "large-720p": ("qwen-4b", {}, [(720, 1280)], None),
    "large-tall": ("qwen-4b", {}, [(2000, 300)], None),
    "large-24-crops": ("qwen-4b", {}, [(1500, 2000)], 24),
    "large-two": ("qwen-4b", {}, [(480, 640), (100, 80)], None),
    "large-three": ("qwen-4b", {}, [(90, 200), (378, 378), (354, 536)], None),
    "small-one": ("qwen", {}, [(100, 150)], None),
    "small-odd": ("qwen", {}, [(131, 77)], None),
    "small-cols-everywhere": (
        "qwen",
        {"use_single_crop_col_tokens": True, "use_single_crop_start_token": False},
        [(100, 150)],
        None,
    ),
    "small-no-cols": ("qwen", {"image_use_col_tokens": False}, [(100, 150), (60, 60)], None),
    "small-other-pooling": ("qwen", {"image_pooling": (3, 2), "overlap_margins": (1, 2)}, [(200, 90)], None),
    "small-112px": ("qwen", {"image_size_px": 112, "max_crops": 4}, [(300, 300)], None),
}
# name -> (kind, settings, frames, frame size, frame indices, frames a second)
VIDEO_CASES: dict[str, tuple[Kind, dict[str, Any], tuple[int, int], list[int], float]] = {
    "large-video": ("qwen-4b", {}, (120, 200), [0, 15, 30, 45, 60, 75, 89], 30.0),
    "large-video-one-frame": ("qwen-4b", {}, (378, 378), [0], 30.0),
    "small-video": ("qwen", {}, (50, 90), [0, 5, 10, 14], 10.0),
    "small-video-late": ("qwen", {}, (50, 90), [2990, 3001], 29.97),
    "small-video-frame-words": (
        "qwen",
        {"use_frame_special_tokens": True, "video_use_col_tokens": True},
        (50, 90),
        [0, 5],
        10.0,
    ),
    "small-video-other-pooling": ("qwen", {"video_pooling": (2, 4)}, (50, 90), [0, 5], 10.0),
}
# (frames in the file, frames a second): where the library's own choice of frames is looked at.
SAMPLING_CASES = [(90, 30.0), (59, 30.0), (300, 30.0)]


def picture(height: int, width: int, *, seed: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A picture with edges and slopes, the same everywhere: whole numbers only. uint8[height, width, 3]."""
    rows, cols = np.mgrid[0:height, 0:width].astype(np.int64)
    channels = [
        (rows * 7 + cols * 3 + seed * 11) % 256,
        (rows * cols // 5 + seed * 29) % 256,
        ((rows // 9 + cols // 13 + seed) % 2) * 255,
    ]
    return np.stack(channels, axis=-1).astype(np.uint8)


def runs(token_ids: list[int]) -> list[list[int]]:
    """Token ids as [id, how many in a row]."""
    return [[token, len(list(same))] for token, same in groupby(token_ids)]


def digest(array: np.ndarray[Any, Any]) -> str:
    """A short name of an array's shape and bytes."""
    return hashlib.blake2b(repr(array.shape).encode() + array.tobytes(), digest_size=12).hexdigest()


def checkpoint(kind: Kind, settings: dict[str, Any], root: Path) -> Path:
    """The random checkpoint that a case reads its tokenizer and settings from."""
    return write_random_checkpoint(root / digest(np.frombuffer(repr((kind, settings)).encode(), np.uint8)),
                                   kind=kind, **settings)  # fmt: skip


def _declare_vision_operators() -> None:
    # torchvision's compiled operators do not load here; declaring their names lets its Python part import.
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    globals()["_kept_library"] = library


def _as_bytes(pixels: torch.Tensor) -> np.ndarray[Any, np.dtype[np.uint8]]:
    restored = pixels.double() * 127.5 + 127.5
    whole = restored.round()
    assert float((restored - whole).abs().max()) < 1e-4, "the library's pixels are no whole numbers"
    return whole.to(torch.uint8).numpy()


def _golden(output: Any, kind: str) -> dict[str, Any]:
    names = {
        "images": ("pixel_values", "image_token_pooling", "image_grids"),
        "video": ("pixel_values_videos", "video_token_pooling", "video_grids"),
    }[kind]
    pixels, pooling, grids = (output[name] for name in names)
    return {
        "input_ids": runs(output["input_ids"][0].tolist()),
        "visual": runs(output["mm_token_type_ids"][0].tolist()),
        "patches": digest(_as_bytes(pixels)),
        "pooling": digest(pooling.to(torch.int64).numpy()),
        "grids": grids.tolist(),
    }


def _conversation(images: int, videos: int) -> list[dict[str, Any]]:
    parts = [{"type": "image"}] * images + [{"type": "video"}] * videos
    return [{"role": "user", "content": [*parts, {"type": "text", "text": QUESTION}]}]


def main() -> None:
    """Run the library's processors over all cases and write the file."""
    torch.set_num_threads(1)  # with more, the library's resize rounds a few values the other way
    _declare_vision_operators()
    import transformers
    from transformers import AutoProcessor
    from transformers.video_utils import VideoMetadata

    cases: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for case, (kind, settings, sizes, crops) in IMAGE_CASES.items():
            processor = AutoProcessor.from_pretrained(checkpoint(kind, settings, root))
            text = processor.apply_chat_template(_conversation(len(sizes), 0), add_generation_prompt=True)
            images = [picture(height, width, seed=seed) for seed, (height, width) in enumerate(sizes)]
            options = {} if crops is None else {"max_crops": crops}
            output = processor(images=images, text=text, return_tensors="pt", **options)
            cases[case] = _golden(output, "images")
        for case, (kind, settings, size, indices, fps) in VIDEO_CASES.items():
            processor = AutoProcessor.from_pretrained(checkpoint(kind, settings, root))
            text = processor.apply_chat_template(_conversation(0, 1), add_generation_prompt=True)
            frames = np.stack([picture(*size, seed=index) for index in indices])
            about = VideoMetadata(
                total_num_frames=indices[-1] + 1,
                fps=fps,
                duration=(indices[-1] + 1) / fps,
                frames_indices=indices,
            )
            output = processor(
                videos=[frames],
                text=text,
                return_tensors="pt",
                do_sample_frames=False,
                video_metadata=[about],
            )
            cases[case] = _golden(output, "video")
        video_processor = AutoProcessor.from_pretrained(checkpoint("qwen-4b", {}, root)).video_processor
        sampling = {
            f"{total}@{fps:g}": video_processor.sample_frames(
                VideoMetadata(total_num_frames=total, fps=fps, duration=total / fps)
            ).tolist()
            for total, fps in SAMPLING_CASES
        }
    content = {
        "transformers": transformers.__version__,
        "torch": torch.__version__.split("+")[0],
        "question": QUESTION,
        "library_frame_choice": sampling,
        "cases": cases,
    }
    GOLDENS.write_text(json.dumps(content, indent=None, separators=(",", ":")) + "\n", encoding="utf-8")
    print(f"{GOLDENS.name}: {len(cases)} cases, {GOLDENS.stat().st_size} bytes")


if __name__ == "__main__":
    main()
