"""Questions driven to their results, one at a time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from molmo2_ground import windows
from molmo2_ground.asking import ask_one
from molmo2_ground.backends.base import Backend
from molmo2_ground.clip import Clip
from molmo2_ground.query import Decoding, Query
from molmo2_ground.results import Tracks


def track_windows(
    backend: Backend, clips: Iterable[Clip], query: Query, *, decoding: Decoding, **options: Any
) -> Tracks:
    """What tracking through these windows gives; options as `windows.track_windows` has them."""
    asking = windows.track_windows(backend, clips, query, decoding=decoding, **options)
    return ask_one(backend, asking, decoding=decoding)
