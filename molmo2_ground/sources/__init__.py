"""Whatever a user hands us: files, folders, pictures and arrays become a `Clip`, or a stream of `Frame`s.

Times are the file's own presentation times, counted from the first frame that is shown; pictures are upright,
with square pixels, as a player shows them.
Names load what they need when they are first used: the rules of sampling need no decoder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from molmo2_ground._lazy import on_first_use

if TYPE_CHECKING:
    from molmo2_ground.sources.media import MediaLike
    from molmo2_ground.sources.reader import SourceInfo, iter_frames, open_clip, probe
    from molmo2_ground.sources.windowed import open_windows

__all__ = ["MediaLike", "SourceInfo", "iter_frames", "open_clip", "open_windows", "probe"]

_HOME_OF = {
    "MediaLike": "molmo2_ground.sources.media",
    "SourceInfo": "molmo2_ground.sources.reader",
    "iter_frames": "molmo2_ground.sources.reader",
    "open_clip": "molmo2_ground.sources.reader",
    "open_windows": "molmo2_ground.sources.windowed",
    "probe": "molmo2_ground.sources.reader",
}


if not TYPE_CHECKING:  # a type checker reads the imports above, and is to find misspelt names
    __getattr__ = on_first_use(__name__, _HOME_OF)
