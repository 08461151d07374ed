"""One clip of an event on disk: an MP4 with its pictures' true times, and the receipt beside it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from molmo2_ground._atomic import atomic_path
from molmo2_ground.clip import Frame, RgbArray
from molmo2_ground.live.kept_pictures import KeptPicture, from_jpeg
from molmo2_ground.live.update import Look, Update, WatchEvent

SCHEMA = "molmo2-ground/clip/1"


def clip_name(event: WatchEvent, update: Update) -> str:
    """`20261127T150512.123Z_enters-red_7.mp4`: when (UTC), which watch, which thing; names sort by time."""
    at_ns = update.stamp_ns if update.capture.clock == "unix" else update.capture.recv_ns
    second, rest_ns = divmod(at_ns, 1_000_000_000)
    when = datetime.fromtimestamp(second, UTC).strftime("%Y%m%dT%H%M%S")
    watch = re.sub(r"[^a-z0-9]+", "-", event.watch.lower()).strip("-")[:60] or "watch"
    return f"{when}.{rest_ns // 1_000_000:03d}Z_{watch}_{event.event.object_id}.mp4"


def write_clip(path: Path, pictures: Sequence[KeptPicture]) -> None:
    """Write the pictures, the first at time 0, the others as much later as they were taken later.

    Raises `OSError` and `SourceError` when that fails; then there is no file.
    """
    from molmo2_ground.render.video import write_video

    span_s = pictures[-1].time_s - pictures[0].time_s
    fps = (len(pictures) - 1) / span_s if span_s > 0 else None
    write_video(_frames(pictures), path, fps=fps)


def _frames(pictures: Sequence[KeptPicture]) -> Iterator[tuple[Frame, RgbArray]]:
    for picture in pictures:
        rgb, time_s = from_jpeg(picture.jpeg), picture.time_s - pictures[0].time_s
        frame = Frame(
            rgb=rgb,
            width_px=rgb.shape[1],
            height_px=rgb.shape[0],
            source_index=picture.source_index,
            time_s=time_s,
            shown_time_s=time_s,
        )
        yield frame, rgb


def receipt_of(event: WatchEvent, update: Update, look: Look | None) -> dict[str, Any]:
    """What is written beside a clip: the event, and the look that it rests on; pictures come later."""
    return {
        "schema": SCHEMA,
        "source": update.source,
        "watch": event.watch,
        "question": event.question,
        "event": event.event.model_dump(mode="json"),
        "stamp_ns": event.stamp_ns,
        "source_index": event.source_index,
        "clock": update.capture.clock,
        "stamped_by": update.capture.stamped_by,
        "size_px": list(update.size_px),
        "look": _look(look),
    }


def with_pictures(
    receipt: dict[str, Any], *, clip: str, at_s: float, pictures: Sequence[KeptPicture]
) -> dict[str, Any]:
    """The receipt with the clip's name, and the time of each picture in it.

    at_s: the event's time in the stream, seconds; in the clip it is `event_at_s`, below 0 when it was before.
    """
    first_s = pictures[0].time_s if pictures else 0.0
    return receipt | {
        "clip": clip if pictures else None,
        "event_at_s": round(at_s - first_s, 6) if pictures else None,
        "pictures": [
            {"at_s": round(p.time_s - first_s, 6), "stamp_ns": p.stamp_ns, "source_index": p.source_index}
            for p in pictures
        ],
    }


def _look(look: Look | None) -> dict[str, Any] | None:
    if look is None:
        return None
    return {
        "stamp_ns": look.stamp_ns,
        "source_index": look.source_index,
        "reasons": list(look.reasons),
        "asked_ns": look.asked_ns,
        "answered_ns": look.answered_ns,
        "receipt": None if look.result is None else look.result.receipt.model_dump(mode="json"),
    }


def write_receipt(path: Path, document: dict[str, Any]) -> None:
    """Write the receipt whole or not at all. Raises `OSError` when that fails."""
    with atomic_path(path) as unfinished:
        unfinished.write_text(json.dumps(document, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
