"""Small folders in the formats of the public evaluation sets, with pictures and masks of our own.

Each writer fills a folder and takes `change`, which may damage the rows before they are written.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from molmo2_ground.rle import Rle
from tests.media import SIZE_PX, picture, write_video

WIDTH, HEIGHT = SIZE_PX
FRAMES = 12
Change = Callable[[Any], None]


def unchanged(rows: Any) -> None:
    """Leave the rows as they are."""


def box(left: int, top: int, *, size: int = 12) -> npt.NDArray[np.bool_]:
    """bool[HEIGHT, WIDTH]: a square."""
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[top : top + size, left : left + size] = True
    return mask


def rle(mask: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """A mask as datasets store it, compressed."""
    return Rle.encode(mask).to_coco()


def loose_rle(mask: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """A mask as datasets store it, as a list of numbers."""
    return {"size": [HEIGHT, WIDTH], "counts": [int(run) for run in Rle.encode(mask).runs()]}


def write_lines(path: Path, rows: list[Any]) -> None:
    """A table as JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def video_point(folder: Path, change: Change = unchanged) -> None:
    """Molmo2-VideoPointEval: one video of six seconds at 2 fps, two questions."""
    write_video(folder / "abc_2fps.mp4", frame_count=FRAMES, fps=2)
    common = {
        "video_id": "abc",
        "video_source": "youtube",
        "video_duration": 6.0,
        "width": WIDTH,
        "height": HEIGHT,
    }
    rows = [
        common
        | {
            "label": "the two boxes",
            "two_fps_timestamps": [1.0, 4.0],
            "points": [{"x": 8.5, "y": 8.5}, {"x": 60.0, "y": 30.0}],
            "masks": [
                [{"frame_id": i, "rle": rle(box(4, 4))} for i in (1, 2, 3)],
                [{"frame_id": i, "rle": loose_rle(box(54, 24))} for i in (7, 8, 9)],
            ],
        },
        common | {"label": "unicorns", "two_fps_timestamps": [], "points": [], "masks": []},
    ]
    change(rows)
    write_lines(folder / "val.jsonl", rows)


def video_count(folder: Path, change: Change = unchanged) -> None:
    """Molmo2-VideoCountEval: the whole of a video, and a part of it."""
    (folder / "youtube").mkdir()
    write_video(folder / "youtube" / "abc_2fps.mp4", frame_count=FRAMES, fps=2)
    common = {"video_id": "abc", "video_duration": 6.0, "question": "How many?", "category": "object"}
    rows = [
        common | {"label": "boxes", "clip_start": None, "clip_end": None, "count": 3},
        common | {"label": "boxes", "clip_start": 2.0, "clip_end": 4.0, "count": 0},
    ]
    change(rows)
    write_lines(folder / "val.jsonl", rows)


def video_track(folder: Path, change: Change = unchanged) -> None:
    """Molmo2-VideoTrackEval: two objects in two seconds at 6 fps; the second comes after half a second."""
    for dataset in ("DanceTrack", "SportsMOT"):
        (folder / dataset).mkdir()
        write_video(folder / dataset / "clip_0001.mp4", frame_count=FRAMES, fps=6)
    moving = [box(4 + i, 4) for i in range(FRAMES)]
    late = [box(60, 40) if i >= 3 else None for i in range(FRAMES)]
    rows = [
        {
            "id": "dancetrack_0",
            "video": "0001",
            "clip": "clip_0001",
            "video_dataset": "dancetrack",
            "fps": 6,
            "w": WIDTH,
            "h": HEIGHT,
            "exp": "the dancers in front",
            "start_frame": 0,
            "end_frame": FRAMES,
            "mask_id": ["5", "9"],
            "points": [
                {"object_id": "5", "points": [[10.0 + i, 10.0] for i in range(FRAMES)]},
                {"object_id": "9", "points": [[66.0, 46.0] if i >= 3 else None for i in range(FRAMES)]},
            ],
            "masks": [
                {"object_id": "5", "masks": [rle(mask) for mask in moving]},
                {"object_id": "9", "masks": [None if mask is None else rle(mask) for mask in late]},
            ],
        }
    ]
    change(rows)
    write_lines(folder / "test.jsonl", rows)


def _frames(folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True)
    for number, name in enumerate(names):
        Image.fromarray(picture(number)).save(folder / f"{name}.jpg")


def mevis(folder: Path, change: Change = unchanged) -> None:
    """MeViS: a sentence about two objects, and one about one."""
    names = [f"{i:05d}" for i in range(FRAMES)]
    _frames(folder / "JPEGImages" / "v1", names)
    content = {
        "sentences": {
            "videos": {
                "v1": {
                    "frames": names,
                    "expressions": {
                        "0": {"exp": "both boxes that move", "obj_id": [0, 1], "anno_id": [7, 8]},
                        "1": {"exp": "the box that stays", "obj_id": [1], "anno_id": [8]},
                    },
                }
            }
        },
        "masks": {
            "7": [rle(box(4 + i, 4)) for i in range(FRAMES)],
            "8": [None if i < 6 else rle(box(60, 40)) for i in range(FRAMES)],
        },
    }
    change(content)
    (folder / "meta_expressions.json").write_text(json.dumps(content["sentences"]))
    (folder / "mask_dict.json").write_text(json.dumps(content["masks"]))


def _palette_png(path: Path, numbers: npt.NDArray[np.uint8]) -> None:
    image = Image.fromarray(numbers, mode=None)
    image.putpalette([value for i in range(256) for value in (i, 255 - i, 7 * i % 256)])
    image.save(path)


def ref_youtube_vos(folder: Path, change: Change = unchanged) -> None:
    """Ref-YouTube-VOS, Ref-DAVIS: PNGs with a palette, two objects."""
    names = [f"{5 * i:05d}" for i in range(FRAMES)]
    _frames(folder / "valid" / "JPEGImages" / "v1", names)
    masks = folder / "valid" / "Annotations" / "v1"
    masks.mkdir(parents=True)
    for number, name in enumerate(names):
        numbers = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
        numbers[box(4 + number, 4)] = 1
        numbers[box(60, 40)] = 2
        _palette_png(masks / f"{name}.png", numbers)
    sentences = {
        "videos": {
            "v1": {
                "frames": names,
                "expressions": {
                    "0": {"exp": "a box going right", "obj_id": "1"},
                    "1": {"exp": "a box below", "obj_id": "2"},
                },
            }
        }
    }
    change(sentences)
    path = folder / "meta_expressions" / "valid" / "meta_expressions.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(sentences))


def reason_vos(folder: Path, change: Change = unchanged) -> None:
    """ReasonVOS: one object, its masks white on black."""
    names = [f"{i:05d}" for i in range(FRAMES)]
    _frames(folder / "JPEGImages" / "v1", names)
    masks = folder / "Annotations" / "MOSE_v1_3"
    masks.mkdir(parents=True)
    for number, name in enumerate(names):
        Image.fromarray(np.where(box(4 + number, 4), 255, 0).astype(np.uint8)).save(masks / f"{name}.png")
    sentences = {
        "videos": {
            "v1": {
                "source": "MOSE",
                "frames": names,
                "expressions": [
                    {"exp_id": 0, "exp_text": "what would hurt?", "obj_id": 3, "is_sent": True},
                ],
            }
        }
    }
    change(sentences)
    (folder / "meta_expressions.json").write_text(json.dumps(sentences))


def burst(folder: Path, change: Change = unchanged) -> None:
    """BURST: three tracks of two categories; every fourth frame is annotated."""
    names = [f"frame{i:04d}" for i in range(FRAMES)]
    _frames(folder / "frames" / "val" / "HACS" / "s1", names)
    images = [f"{name}.jpg" for name in names]
    annotated = images[::4]
    content = {
        "split": "val",
        "categories": [{"id": 3, "name": "car_(automobile)"}, {"id": 5, "name": "fire_engine"}],
        "sequences": [
            {
                "id": 0,
                "dataset": "HACS",
                "seq_name": "s1",
                "width": WIDTH,
                "height": HEIGHT,
                "fps": 4,
                "all_image_paths": images,
                "annotated_image_paths": annotated,
                "neg_category_ids": [9],
                "not_exhaustive_category_ids": [],
                "track_category_ids": {"1": 3, "2": 3, "3": 5},
                "segmentations": [
                    {
                        "1": {"rle": rle(box(4, 4))["counts"], "is_gt": True},
                        "2": {"rle": rle(box(40, 4))["counts"], "is_gt": True},
                        "3": {"rle": rle(box(4, 40))["counts"], "is_gt": True},
                    }
                    for _ in annotated
                ],
            }
        ],
    }
    change(content)
    (folder / "all_classes.json").write_text(json.dumps(content))


def pixmo_points(folder: Path, change: Change = unchanged) -> None:
    """pixmo-points-eval: two boxes in a picture called by its hash."""
    (folder / "images").mkdir()
    Image.fromarray(picture(1)).save(folder / "images" / "f00d.png")
    rows = [
        {
            "image_url": "https://example.org/a.png",
            "image_sha256": "f00d",
            "label": "Boxes",
            "points": [{"x": 100 * 10 / WIDTH, "y": 100 * 10 / HEIGHT}, {"x": 100 * 66 / WIDTH, "y": 70.0}],
            "masks": [box(4, 4).tolist(), box(60, 40).tolist()],
        }
    ]
    change(rows)
    write_lines(folder / "test.jsonl", rows)


def pixmo_count(folder: Path, change: Change = unchanged) -> None:
    """pixmo-count: a picture with six things."""
    (folder / "images").mkdir()
    Image.fromarray(picture(1)).save(folder / "images" / "f00d.png")
    rows = [
        {"image_url": "https://example.org/a.png", "image": "images/f00d.png", "label": "Dogs", "count": 6}
    ]
    change(rows)
    write_lines(folder / "test.jsonl", rows)


def point_bench(folder: Path, change: Change = unchanged) -> None:
    """PointBench: a row of two categories, and one without a mask."""
    rows = []
    for category in ("spatial", "counting"):
        for part in ("selected_images", "selected_masks"):
            (folder / part / category).mkdir(parents=True)
        Image.fromarray(picture(1)).save(folder / "selected_images" / category / "a b.jpg")
        white = np.where(box(4, 4), 255, 0).astype(np.uint8)
        Image.fromarray(white).save(folder / "selected_masks" / category / "a b_mask.png")
        rows.append(
            {
                "image_filename": "a b.jpg",
                "mask_filename": "a b_mask.png",
                "category": category,
                "user_input": "Point to the box on the left",
            }
        )
    rows.append({"image_filename": "a b.jpg", "category": "spatial", "user_input": "no mask was drawn"})
    change(rows)
    (folder / "data.json").write_text(json.dumps(rows))
