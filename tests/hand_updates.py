"""Updates of a live stream made by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from molmo2_ground.clip import RgbArray
from molmo2_ground.live.update import LiveTrack, Look, Update
from molmo2_ground.replay import Result
from molmo2_ground.results import State
from molmo2_ground.sources.feeds.capture import Capture
from tests.found import tracks

SIZE_PX = (100, 100)
EPOCH = 1_700_000_000_000
START_NS = EPOCH * 1_000_000


def capture(time_s: float, *, epoch: int = EPOCH, picture: RgbArray | None = None, **fields: Any) -> Capture:
    """A picture of 100 x 100 pixels, taken so many seconds after the start, 30 a second."""
    pixels = np.full((100, 100, 3), 90, dtype=np.uint8) if picture is None else picture
    stamp_ns = START_NS + round(time_s * 1e9)
    defaults: dict[str, Any] = {
        "index": round(time_s * 30),
        "epoch": epoch,
        "stamp_ns": stamp_ns,
        "recv_ns": stamp_ns + 1_000_000,
        "decoded_ns": stamp_ns + 3_000_000,
        "monotonic_ns": round(time_s * 1e9),
        "width_px": pixels.shape[1],
        "height_px": pixels.shape[0],
        "paint": lambda: pixels,
    }
    return Capture(**defaults | fields)


def look(time_s: float, *, question: str = "people", result: Result | None = None, **fields: Any) -> Look:
    """An answer about the picture of this time; of nothing found when no result is handed in."""
    stamp_ns = START_NS + round(time_s * 1e9)
    defaults: dict[str, Any] = {
        "question": question,
        "stamp_ns": stamp_ns,
        "source_index": round(time_s * 30),
        "reasons": ("age",),
        "result": tracks(looked_s=[time_s]) if result is None and "error" not in fields else result,
        "asked_ns": stamp_ns,
        "answered_ns": stamp_ns + 200_000_000,
        "recv_ns": stamp_ns + 1_000_000,
        "epoch": EPOCH,
    }
    return Look(**defaults | fields)


def thing(
    object_id: int,
    place: tuple[float, float],
    *,
    time_s: float = 0.0,
    question: str = "people",
    label: str = "person",
    state: State = "propagated",
) -> LiveTrack:
    """A thing at (x, y) pixels of 100 x 100."""
    x_px, y_px = place
    return LiveTrack(
        object_id=object_id,
        question=question,
        label=label,
        x_px=x_px,
        y_px=y_px,
        x_norm=x_px / SIZE_PX[0],
        y_norm=y_px / SIZE_PX[1],
        state=state,
        observed_ns=START_NS + round(time_s * 1e9),
        born_ns=START_NS,
    )


def update(
    time_s: float,
    places: Mapping[int, tuple[float, float]] | Sequence[LiveTrack] = (),
    *,
    looks: Sequence[Look] | bool = False,
    epoch: int = EPOCH,
    **fields: Any,
) -> Update:
    """What is known at this time: where persons are, by id, or things; looks True: just now, of `people`."""
    things = (
        tuple(thing(i, place, time_s=time_s) for i, place in places.items())
        if isinstance(places, Mapping)
        else tuple(places)
    )
    picture = fields.pop("capture", None) or capture(time_s, epoch=epoch)
    made_ns = picture.recv_ns + 10_000_000
    defaults: dict[str, Any] = {
        "source": "cam",
        "seq": round(time_s * 30),
        "capture": picture,
        "time_s": time_s,
        "sampled": True,
        "tracks": things,
        "looks": (look(time_s),) if looks is True else tuple(looks or ()),
        "made_ns": made_ns,
        "age_ms": (made_ns - picture.stamp_ns) / 1e6,
        "valid_until_ns": picture.stamp_ns + 1_000_000_000,
    }
    stages = {"decoded": (picture.decoded_ns - picture.recv_ns) / 1e6, "made": 10.0}
    if picture.stamped_by == "camera":
        stages["received"] = (picture.recv_ns - picture.stamp_ns) / 1e6
    return Update(**defaults | fields | {"timings_ms": stages | fields.get("timings_ms", {})})
