"""Updates as the live loop makes them, made up over a toy street whose truth is known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache, partial
from itertools import count

import numpy as np

from molmo2_ground.analytics.event import Appeared
from molmo2_ground.clip import RgbArray
from molmo2_ground.clocks import Clocks
from molmo2_ground.live.ledger import LedgerEntry
from molmo2_ground.live.update import LiveTrack, Look, Update, WatchEvent
from molmo2_ground.messages import HealthMessage
from molmo2_ground.query import Query
from molmo2_ground.results import Count, Mask, Point, Points, Receipt
from molmo2_ground.rle import Rle
from molmo2_ground.sources.feeds.capture import Capture
from molmo2_ground.train.toy.scene import Scene
from molmo2_ground.train.toy.street import make_scene

SOURCE = "door"
START_NS = 1_790_000_000_123_456_789
EPOCH = START_NS // 1_000_000
QUESTIONS: Mapping[str, Query] = {
    "people": Query(task="track", phrase="people"),
    "cars": Query(task="count", phrase="cars"),
}


@cache
def scene() -> Scene:
    return make_scene(2, duration_s=20.0, max_actors=5)


@cache
def picture(time_s: float) -> RgbArray:
    return scene().render(time_s)[0]


def ticking(start_ns: int = START_NS + 50_000_000, step_ns: int = 1_000_003) -> Clocks:
    """Clocks that go on by a step at each look."""
    times = count(start_ns, step_ns)
    return Clocks(unix_ns=lambda: next(times), monotonic_ns=lambda: next(times))


def toy_updates(
    number: int, *, fps: float = 10.0, masks: bool = False, source: str = SOURCE, cropped: bool = False
) -> Iterator[Update]:
    """Updates with every kind of thing in them: looks, an event, a birth, an epoch change half way.

    Stamps have odd nanoseconds, and lie 7 ms and a bit before the times of arrival. cropped: pictures of
    an odd size, 639 x 359.
    """
    for index in range(number):
        time_s = index / fps
        stamp_ns = START_NS + round(time_s * 1e9) + index % 7
        recv_ns = stamp_ns + 7_000_123
        states = scene().truth(time_s, scene().render(time_s)[1])
        tracks = tuple(
            LiveTrack(
                object_id=state.object_id,
                question="people",
                label="person",
                x_px=state.x_px,
                y_px=state.y_px,
                x_norm=state.x_px / 640,
                y_norm=state.y_px / 360,
                state="observed" if index % 5 == 0 else "propagated",
                observed_ns=stamp_ns - index % 5 * round(1e9 / fps),
                born_ns=START_NS,
                mask=_mask(state.object_id, time_s, index) if masks else None,
            )
            for state in states
            if state.visible
        )
        yield Update(
            source=source,
            seq=index,
            capture=Capture(
                index=index,
                epoch=EPOCH + (1 if index >= (number + 1) // 2 else 0),
                stamp_ns=stamp_ns,
                stamped_by="camera",
                recv_ns=recv_ns,
                decoded_ns=recv_ns + 1_000_000,
                monotonic_ns=recv_ns,
                width_px=639 if cropped else 640,
                height_px=359 if cropped else 360,
                paint=partial(_painted, time_s, cropped),
            ),
            time_s=time_s,
            sampled=index % 5 == 0,
            tracks=tracks,
            looks=_looks(index, stamp_ns) if index % 5 == 2 else (),
            events=(_event(index, stamp_ns, time_s),) if index == 4 else (),
            ledger=(_birth(index, stamp_ns),) if index == 0 else (),
            dropped={"rate": 1} if index % 3 == 1 else {},
            made_ns=recv_ns + 5_000_000,
            age_ms=12.0,
            valid_until_ns=recv_ns + 1_000_000_000,
        )


def _painted(time_s: float, cropped: bool) -> RgbArray:
    whole = picture(time_s)
    return np.ascontiguousarray(whole[:359, :639]) if cropped else whole


def health(at_ns: int, *, seq: int = 0) -> HealthMessage:
    return HealthMessage(
        source=SOURCE,
        seq=seq,
        epoch=None,
        pub_ns=at_ns,
        state="connected",
        uptime_s=1.5,
        frame_age_ms=None,
        received=5,
        taken=4,
        dropped={"rate": 1},
        looks={"first": 1},
        latency_ms={"decoded": {"p50": 1.0, "p99": 2.5, "max": 3.0}},
    )


def _mask(object_id: int, time_s: float, index: int) -> Mask:
    inside = scene().render(time_s)[1] == object_id
    return Mask(
        object_id=object_id,
        source_index=index,
        time_s=time_s,
        size_px=(640, 360),
        counts=bytes_of(Rle.encode(inside)).decode("ascii"),
    )


def bytes_of(rle: Rle) -> bytes:
    assert isinstance(rle.counts, bytes)
    return rle.counts


def _birth(index: int, stamp_ns: int) -> LedgerEntry:
    return LedgerEntry(
        kind="birth", object_id=1, question="people", stamp_ns=stamp_ns, source_index=index, reason="new"
    )


def _event(index: int, stamp_ns: int, time_s: float) -> WatchEvent:
    event = Appeared(
        time_s=time_s,
        after_s=None,
        before_s=time_s,
        timing="sample",
        source_index=index,
        object_id=1,
        label="person",
        x_px=1.0,
        y_px=2.0,
        states=("observed",),
    )
    return WatchEvent(
        watch="someone comes", question="people", event=event, stamp_ns=stamp_ns, source_index=index
    )


def _looks(index: int, stamp_ns: int) -> tuple[Look, ...]:
    earlier_ns, earlier = stamp_ns - 200_000_000, index - 2
    receipt = Receipt(
        task="count",
        query="cars",
        model_id="scripted",
        backend="scripted",
        recipe="none",
        prompt="Count the cars.",
        raw_text="2",
        stop_reason="end",
        source=SOURCE,
        frame_times_s=(0.0,),
        shown_times_s=(0.0,),
        frame_source_indices=(earlier,),
        size_px=(640, 360),
    )
    points = Points(
        points=(
            Point(
                object_id=1,
                x_px=10.5,
                y_px=20.0,
                x_norm=10.5 / 640,
                y_norm=20 / 360,
                source_index=earlier,
                label="cars",
            ),
        ),
        receipt=receipt,
    )
    asked_ns, answered_ns = stamp_ns - 150_000_000, stamp_ns + 1_000_000
    told = Look(
        question="cars",
        stamp_ns=earlier_ns,
        source_index=earlier,
        reasons=("age",),
        result=Count(value=1, stated=None, points=points),
        asked_ns=asked_ns,
        answered_ns=answered_ns,
        recv_ns=earlier_ns + 7_000_123,
        epoch=EPOCH,
        stamped_by="camera",
    )
    unread = Look(
        question="people",
        stamp_ns=earlier_ns,
        source_index=earlier,
        reasons=("age", "lost"),
        result=None,
        error="no places in the answer",
        asked_ns=asked_ns,
        answered_ns=answered_ns,
        recv_ns=earlier_ns + 7_000_123,
        epoch=EPOCH,
        stamped_by="camera",
    )
    return told, unread
