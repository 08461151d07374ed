"""Updates of a stream made by hand, for tests of what is said of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from molmo2_ground.live.update import LiveTrack, Look, Update, WatchEvent
from molmo2_ground.results import Mask
from molmo2_ground.rle import Rle
from molmo2_ground.sources.feeds.capture import Capture

START_NS = 1_800_000_000_000_000_000
STEP_NS = 500_000_000
EPOCH = 1_800_000_000_000
SIZE_PX = (640, 360)
VALID_NS = 1_000_000_000


def capture(index: int = 0, *, epoch: int = EPOCH, start_ns: int = START_NS, **fields: Any) -> Capture:
    """A gray picture, the `index`-th of one every half second, 20 ms on its way."""
    width_px, height_px = SIZE_PX
    stamp_ns = start_ns + index * STEP_NS
    recv_ns = stamp_ns + 20_000_000
    values: dict[str, Any] = {
        "stamp_ns": stamp_ns,
        "stamped_by": "camera",
        "recv_ns": recv_ns,
        "decoded_ns": recv_ns + 2_000_000,
        "monotonic_ns": recv_ns,
    }
    return Capture(
        index=index,
        epoch=epoch,
        width_px=width_px,
        height_px=height_px,
        paint=lambda: np.full((height_px, width_px, 3), 128, np.uint8),
        **{**values, **fields},
    )


def live_track(object_id: int = 1, question: str = "people", **fields: Any) -> LiveTrack:
    """One thing at (160, 90)."""
    values: dict[str, Any] = {
        "label": "person",
        "x_px": 160.0,
        "y_px": 90.0,
        "x_norm": 0.25,
        "y_norm": 0.25,
        "state": "observed",
        "observed_ns": START_NS,
        "born_ns": START_NS,
    }
    return LiveTrack(object_id=object_id, question=question, **{**values, **fields})


def mask_of(object_id: int, box_px: tuple[int, int, int, int], source_index: int = 0) -> Mask:
    """A mask that fills a box (left, top, right, bottom)."""
    width_px, height_px = SIZE_PX
    pixels = np.zeros((height_px, width_px), dtype=bool)
    left, top, right, bottom = box_px
    pixels[top:bottom, left:right] = True
    counts = Rle.encode(pixels).to_coco()["counts"]
    return Mask(object_id=object_id, source_index=source_index, size_px=SIZE_PX, counts=counts)


def look(question: str, result: Any, index: int = 0, **fields: Any) -> Look:
    """An answer about the picture `index`, 300 ms later."""
    stamp_ns = START_NS + index * STEP_NS
    values: dict[str, Any] = {
        "stamp_ns": stamp_ns,
        "source_index": index,
        "reasons": ("first",),
        "asked_ns": stamp_ns + 30_000_000,
        "answered_ns": stamp_ns + 300_000_000,
        "recv_ns": stamp_ns + 20_000_000,
        "epoch": EPOCH,
        "stamped_by": "camera",
    }
    return Look(question=question, result=result, **{**values, **fields})


def update(
    index: int = 0,
    *,
    tracks: tuple[LiveTrack, ...] = (),
    looks: tuple[Look, ...] = (),
    events: tuple[WatchEvent, ...] = (),
    dropped: dict[str, int] | None = None,
    of: Capture | None = None,
    valid_ns: int = VALID_NS,
    source: str = "cam",
) -> Update:
    """What is known at the picture `index`, 40 ms after it was taken."""
    picture = of or capture(index)
    return Update(
        source=source,
        seq=index,
        capture=picture,
        time_s=index * STEP_NS / 1e9,
        sampled=True,
        tracks=tracks,
        looks=looks,
        events=events,
        dropped=dropped or {},
        made_ns=picture.stamp_ns + 40_000_000,
        age_ms=40.0,
        valid_until_ns=picture.stamp_ns + valid_ns,
    )
