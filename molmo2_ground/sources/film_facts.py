"""`FilmFacts`: the size of a video and when each of its frames is shown, without its pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from molmo2_ground.errors import SourceError
from molmo2_ground.sources.media import FilmFile, recognise

Times = npt.NDArray[np.float64]

SAME_TIME_S = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FilmFacts:
    """What a file tells: its size as a player shows it, its length, and when each frame is shown.

    times_s: float64[frames], seconds after the first one.
    """

    size_px: tuple[int, int]
    duration_s: float
    times_s: Times

    @classmethod
    def of(cls, path: Path) -> FilmFacts:
        """Read a video once through, without making pictures; raises `SourceError` when it cannot be."""
        found = recognise(path)
        if not isinstance(found, FilmFile):
            raise SourceError(f"{path.name} holds still pictures; expected a video")
        with found.opened() as film:
            times = np.array([shot.time_s for shot in film.shots()], dtype=np.float64)
            return cls(size_px=(film.width_px, film.height_px), duration_s=film.duration_s, times_s=times)

    @property
    def fps(self) -> float:
        """Frames a second, on average."""
        return len(self.times_s) / self.duration_s if self.duration_s > 0 else 0.0

    @property
    def half_frame_s(self) -> float:
        """Half of how long a frame usually lasts."""
        return self.duration_s / max(1, len(self.times_s)) / 2

    def on_screen(self, time_s: float) -> float:
        """The presentation time of the frame that is on screen at a time."""
        at = int(np.searchsorted(self.times_s, time_s + SAME_TIME_S, side="right")) - 1
        return float(self.times_s[max(0, at)])
