"""`open_stream`: from what a user hands in to a `Stream`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal, TypeAlias, TypedDict, Unpack

from molmo2_ground._wanted import NUMBER, WHOLE, WORDS, YES_OR_NO, Wanted, check_kinds
from molmo2_ground.analytics.rules import Rules
from molmo2_ground.backends.base import Backend
from molmo2_ground.clocks import Clocks
from molmo2_ground.live.carrier import Carrier
from molmo2_ground.live.clip_ring import ClipRing
from molmo2_ground.live.questions import Asked, Questions, named
from molmo2_ground.live.sampled_window import LIVE_WINDOW_S
from molmo2_ground.live.stream import Stream
from molmo2_ground.live.token_budget import TokenBudget
from molmo2_ground.live.tracker import GRACE_S, LOOK_EVERY_S, MAX_AGE_S, VALID_S, LiveRules
from molmo2_ground.live.watch import Watch
from molmo2_ground.masks.segmenter import Segmenter
from molmo2_ground.messages.header import StampClock
from molmo2_ground.query import DEFAULT_TRACK_FPS, Decoding
from molmo2_ground.sources.feeds.backoff import Backoff
from molmo2_ground.sources.feeds.feed import OPTIONS, Feed, Timeouts, WaitsIfBlocked
from molmo2_ground.sources.feeds.ingest import Ingest
from molmo2_ground.sources.feeds.live_source import LiveSource, open_feed
from molmo2_ground.sources.feeds.waiting_room import Policy

Carry: TypeAlias = "Literal['flow', 'none'] | str | Segmenter"


class StreamOptions(TypedDict, total=False):
    """What a stream can be told; all of it may be left out.

    fps          pictures a second that the model may be shown, on a steady grid; 2.
    policy       what happens to pictures that come faster than they are used. `latest`, when nothing is said:
                 the newest waits, a look runs beside, and places are carried on meanwhile. `every`: up to
                 `capacity` (64) wait, each sampled picture is looked at in order. `block`: so, and the source
                 waits.
    carry        what carries places from picture to picture: `flow`, a segmenter by name (`region`, …) or as
                 an object, or `none`: places are told only where the model saw them.
    carry_fps    at most so many pictures a second are used; all when left out.
    max_age_s    older pictures are left out (`late`); 5. valid_s: a place may be acted on for so long; 1.
    grace_s      a thing may be out of sight for so long and keep its id; 10.
    look_every_s places may be so old before the model is asked for that alone, seconds; 2.
    window_s     how far back the model looks, seconds, at most 60; 12.
    tokens_per_minute  read and written by the model at most; as many as it takes when left out.
    name         of the stream in updates, topics and logs; the source's when left out.
    watches      what to be told of (`molmo2_ground.live.watch.Watch`), by zones, lines, counts, appearance.
    watch_rules  what counts as being in a zone and as crossing a line (`molmo2_ground.analytics.Rules`).
    clips        a folder in which the pictures around each event are written, or a `ClipRing` of your own.
    speed, loop  of a file: how many times faster than it was filmed (1; None for as fast as it is taken), and
                 whether it is played over and over. clock: of pictures that come with seconds, by which one.
    feed_options FFmpeg's options for a stream or a device, by its own names.
    timeouts, backoff  how long a source may keep us waiting, and how it is tried again.
    decoding     how answers are written. device: for segmenters that run on torch.
    """

    fps: float
    policy: Policy
    carry: Carry
    carry_fps: float | None
    max_age_s: float
    valid_s: float
    grace_s: float
    look_every_s: float
    window_s: float
    tokens_per_minute: float | None
    name: str | None
    capacity: int
    watches: Iterable[Watch]
    watch_rules: Rules | None
    clips: str | os.PathLike[str] | ClipRing | None
    speed: float | None
    loop: bool
    clock: StampClock
    feed_options: Mapping[str, str] | None
    timeouts: Timeouts | None
    backoff: Backoff | None
    decoding: Decoding | None
    device: str
    clocks: Clocks | None


def open_stream(
    source: LiveSource, question: Asked, *, backend: Backend, **options: Unpack[StreamOptions]
) -> Stream:
    """A stream that is ready to be iterated; the source is opened with the first update or by `with`.

    Raises `ValueError` for wrong arguments, `SourceError` for what is no source, and what loading a
    segmenter raises.
    """
    if unknown := sorted(set(options) - set(StreamOptions.__annotations__)):
        known = ", ".join(StreamOptions.__annotations__)
        raise TypeError(f"a stream has no option {', '.join(unknown)}; there are: {known}")
    _check_kinds(options)
    watches = _watches(options.get("watches", ()))
    feed = open_feed(
        source,
        name=options.get("name"),
        speed=options.get("speed", 1.0),
        loop=options.get("loop", False),
        clock=options.get("clock", "unix"),
        options=options.get("feed_options"),
        clocks=options.get("clocks"),
    )
    paced = _is_paced(feed, options)
    rules = _checked_rules(options, paced=paced)
    carrier = carrier_named(options.get("carry", "flow"), device=options.get("device", "auto"))
    questions = Questions(named(question), fps=rules.fps).asked
    if not questions:
        raise ValueError("a stream is asked at least one question; got none")
    return Stream(
        _ingest(feed, options, rate_hz=rules.fps if carrier is None else options.get("carry_fps")),
        backend,
        name=options.get("name") or feed.name,
        questions=questions,
        rules=rules,
        carrier=carrier,
        watches=watches,
        watch_rules=options.get("watch_rules"),
        clips=_clips(options.get("clips"), waits=not paced),
        decoding=options.get("decoding"),
        clocks=options.get("clocks"),
    )


_WANTED: Mapping[str, Wanted] = {
    **dict.fromkeys(("fps", "max_age_s", "valid_s", "grace_s", "look_every_s", "window_s"), NUMBER),
    **dict.fromkeys(("carry_fps", "tokens_per_minute", "speed"), NUMBER.or_nothing()),
    **dict.fromkeys(("clock", "device"), WORDS),
    "name": WORDS.or_nothing(),
    "capacity": WHOLE,
    "loop": YES_OR_NO,
    "clips": Wanted("a folder or a ClipRing", (str, os.PathLike, ClipRing), or_none=True),
    "watch_rules": Wanted("a Rules", (Rules,), or_none=True),
    "feed_options": OPTIONS,
    "timeouts": Wanted("a Timeouts", (Timeouts,), or_none=True),
    "backoff": Wanted("a Backoff", (Backoff,), or_none=True),
    "decoding": Wanted("a Decoding", (Decoding,), or_none=True),
    "clocks": Wanted("a Clocks", (Clocks,), or_none=True),
}


def _check_kinds(options: StreamOptions) -> None:
    check_kinds(_WANTED, options)
    carry = options.get("carry", "flow")
    if not isinstance(carry, str) and not hasattr(carry, "start"):
        raise ValueError(f"carry is 'flow', 'none', a segmenter's name or a segmenter; got {carry!r}")


def _watches(watches: Iterable[Watch]) -> tuple[Watch, ...]:
    if isinstance(watches, str) or not isinstance(watches, Iterable):
        raise ValueError(f"watches are a list of Watch objects; got {watches!r}")
    found = tuple(watches)
    for watch in found:
        if not isinstance(watch, Watch):
            raise ValueError(f"watches are Watch objects, such as Watch.read(sentence) gives; got {watch!r}")
    return found


def check_options(feed: Feed, options: StreamOptions) -> None:
    """Raise the `ValueError` that `open_stream` would raise for numbers that cannot be; opens nothing."""
    rules = _checked_rules(options, paced=feed.paced)
    TokenBudget(a_minute=rules.tokens_per_minute)
    _ingest(feed, options, rate_hz=rules.fps)


def _checked_rules(options: StreamOptions, *, paced: bool) -> LiveRules:
    fps, carry_fps = options.get("fps", DEFAULT_TRACK_FPS), options.get("carry_fps")
    rules = LiveRules(
        fps=fps,
        max_age_s=options.get("max_age_s", MAX_AGE_S),
        valid_s=options.get("valid_s", VALID_S),
        grace_s=options.get("grace_s", GRACE_S),
        look_every_s=options.get("look_every_s", LOOK_EVERY_S),
        window_s=options.get("window_s", LIVE_WINDOW_S),
        tokens_per_minute=options.get("tokens_per_minute"),
        wait=options.get("policy", "latest") != "latest",
        paced=paced,
    )
    if carry_fps is not None and not fps <= carry_fps < float("inf"):
        raise ValueError(f"carry_fps is at least fps, {fps:g}; got {carry_fps:g}")
    return rules


def _is_paced(feed: Feed, options: StreamOptions) -> bool:
    """Whether pictures come whether or not they are taken, so that one may be too old."""
    blocks = options.get("policy") == "block" and isinstance(feed, WaitsIfBlocked) and feed.waits_if_blocked
    return feed.paced and not blocks


def _ingest(feed: Feed, options: StreamOptions, *, rate_hz: float | None) -> Ingest:
    return Ingest(
        feed,
        policy=options.get("policy", "latest"),
        capacity=options.get("capacity", 64),
        rate_hz=rate_hz,
        timeouts=options.get("timeouts"),
        backoff=options.get("backoff"),
        clocks=options.get("clocks"),
    )


def _clips(clips: str | os.PathLike[str] | ClipRing | None, *, waits: bool) -> ClipRing | None:
    if clips is None or isinstance(clips, ClipRing):
        return clips
    folder = Path(clips)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise ValueError(f"clips is a folder; {folder} is a file, choose another name") from None
    return ClipRing(folder, waits=waits)


def carrier_named(carry: Carry, *, device: str = "auto") -> Carrier | None:
    """What a word means: `flow`, `none`, or a segmenter by name or as an object. None for `none`.

    Raises `CheckpointError` and `MissingExtraError` as segmenters do.
    """
    if carry == "none":
        return None
    if carry == "flow":
        from molmo2_ground.live.flow_carrier import FlowCarrier

        return FlowCarrier()
    from molmo2_ground.live.mask_carrier import MaskCarrier
    from molmo2_ground.masks.choice import segmenter_named

    return MaskCarrier(segmenter_named(carry, device=device) if isinstance(carry, str) else carry)
