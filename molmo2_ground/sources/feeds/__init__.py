"""Live sources: cameras and streams, one picture after another, for as long as they last.

    feed = open_feed("rtsp://user:password@camera/stream")
    with Ingest(feed, policy="latest", rate_hz=2.0) as ingest:
        while not ingest.ended:
            capture = ingest.take(1.0)

Names load what they need when they are first used: FFmpeg for a stream, ZeroMQ for its messages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from molmo2_ground._lazy import on_first_use

if TYPE_CHECKING:
    from molmo2_ground.sources.feeds.backoff import Backoff
    from molmo2_ground.sources.feeds.capture import Capture
    from molmo2_ground.sources.feeds.feed import Timeouts
    from molmo2_ground.sources.feeds.ingest import Ingest
    from molmo2_ground.sources.feeds.live_source import LiveSource, open_feed
    from molmo2_ground.sources.feeds.sent_picture import camera_parts
    from molmo2_ground.sources.feeds.waiting_room import Policy, Totals

__all__ = [
    "Backoff",
    "Capture",
    "Ingest",
    "LiveSource",
    "Policy",
    "Timeouts",
    "Totals",
    "camera_parts",
    "open_feed",
]

_HERE = "molmo2_ground.sources.feeds"
_HOME_OF = {
    "Backoff": f"{_HERE}.backoff",
    "Capture": f"{_HERE}.capture",
    "Ingest": f"{_HERE}.ingest",
    "LiveSource": f"{_HERE}.live_source",
    "Policy": f"{_HERE}.waiting_room",
    "Timeouts": f"{_HERE}.feed",
    "Totals": f"{_HERE}.waiting_room",
    "camera_parts": f"{_HERE}.sent_picture",
    "open_feed": f"{_HERE}.live_source",
}


if not TYPE_CHECKING:  # a type checker reads the imports above, and is to find misspelt names
    __getattr__ = on_first_use(__name__, _HOME_OF)
