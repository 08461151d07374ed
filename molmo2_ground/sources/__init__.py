"""Whatever a user hands us: files, folders, pictures and arrays become a `Clip`, or a stream of `Frame`s.

Times are the file's own presentation times, counted from the first frame that is shown; pictures are upright,
with square pixels, as a player shows them.
"""

from __future__ import annotations

from molmo2_ground.sources.media import MediaLike
from molmo2_ground.sources.reader import SourceInfo, iter_frames, open_clip, probe
from molmo2_ground.sources.windowed import open_windows

__all__ = ["MediaLike", "SourceInfo", "iter_frames", "open_clip", "open_windows", "probe"]
