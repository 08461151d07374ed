"""Ask about pictures and videos in words; get typed places in space and time back.

    import molmo2_ground as mg

    tracks = mg.track("street.mp4", "the red car")
    mg.render("street.mp4", tracks, "out.mp4")

Names load what they need when they are first used: this import alone takes milliseconds.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING

from molmo2_ground._lazy import on_first_use

if TYPE_CHECKING:
    from molmo2_ground.batches import Failed
    from molmo2_ground.clip import Clip, Frame
    from molmo2_ground.errors import (
        AnswerError,
        BackendError,
        CheckpointError,
        GroundError,
        Interrupted,
        MissingExtraError,
        PromptTooLongError,
        SourceError,
    )
    from molmo2_ground.grounder import Grounder, ask, batch, count, load, point, stream, track
    from molmo2_ground.masks import segment
    from molmo2_ground.query import Decoding, Query
    from molmo2_ground.render import render
    from molmo2_ground.results import (
        Answer,
        Count,
        Masks,
        ParseReport,
        Point,
        Points,
        Receipt,
        Sample,
        Track,
        Tracks,
    )
    from molmo2_ground.session import Session
    from molmo2_ground.sources import open_clip

__version__ = "0.1.0"

__all__ = [
    "Answer",
    "AnswerError",
    "BackendError",
    "CheckpointError",
    "Clip",
    "Count",
    "Decoding",
    "Failed",
    "Frame",
    "GroundError",
    "Grounder",
    "Interrupted",
    "Masks",
    "MissingExtraError",
    "ParseReport",
    "Point",
    "Points",
    "PromptTooLongError",
    "Query",
    "Receipt",
    "Sample",
    "Session",
    "SourceError",
    "Track",
    "Tracks",
    "__version__",
    "ask",
    "batch",
    "count",
    "load",
    "open_clip",
    "point",
    "render",
    "segment",
    "stream",
    "track",
]

_HOMES = {
    "batches": ("Failed",),
    "clip": ("Clip", "Frame"),
    "errors": (
        "AnswerError",
        "BackendError",
        "CheckpointError",
        "GroundError",
        "Interrupted",
        "MissingExtraError",
        "PromptTooLongError",
        "SourceError",
    ),
    "grounder": ("Grounder", "ask", "batch", "count", "load", "point", "stream", "track"),
    "masks": ("segment",),
    "query": ("Decoding", "Query"),
    "render": ("render",),
    "results": (
        "Answer",
        "Count",
        "Masks",
        "ParseReport",
        "Point",
        "Points",
        "Receipt",
        "Sample",
        "Track",
        "Tracks",
    ),
    "session": ("Session",),
    "sources": ("open_clip",),
}
_HOME_OF = {name: f"{__name__}.{home}" for home, names in _HOMES.items() for name in names}


if not TYPE_CHECKING:  # a type checker reads the imports above, and is to find misspelt names
    __getattr__ = on_first_use(__name__, _HOME_OF)


def __dir__() -> list[str]:
    return sorted(__all__)


class _Package(ModuleType):
    def __setattr__(self, name: str, value: object) -> None:
        # Importing the folder render/ would put that module over the function `render` of the public names.
        if name in _HOME_OF and isinstance(value, ModuleType):
            return
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
