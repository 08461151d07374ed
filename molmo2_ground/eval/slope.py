"""How fast a series of notes rises, and how sure that is: memory over hours, for one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FEWEST_NOTES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Slope:
    """Rise of y for each unit of x; `half` is half of its 95 % interval."""

    value: float
    half: float


def fit_slope(x: Sequence[float], y: Sequence[float]) -> Slope:
    """A straight line by least squares through notes in order of time.

    What is noted often stays where it is for a while, so neighbours say less than as many independent notes:
    by the correlation r of each with the next, as much as n (1 - r) / (1 + r) of them (Santer et al. 2000,
    J. Geophys. Res. 105, 7337, equation 6).
    Raises `ValueError` for fewer than `FEWEST_NOTES` notes, or as many x as y are not given.
    """
    if len(x) != len(y) or len(x) < FEWEST_NOTES:
        raise ValueError(
            f"a slope takes as many x as y, and {FEWEST_NOTES} of each at least; got {len(x)} and {len(y)}"
        )
    at, noted = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    line, covariance = np.polyfit(at, noted, 1, cov=True)
    wider = np.sqrt((1 + (alike := _alike(noted - np.polyval(line, at)))) / (1 - alike))
    return Slope(value=float(line[0]), half=1.96 * float(np.sqrt(covariance[0, 0]) * wider))


def _alike(off: npt.NDArray[np.float64]) -> float:
    """The correlation of each note with the next, 0 at least."""
    if off[:-1].std() == 0 or off[1:].std() == 0:
        return 0.0
    return float(np.clip(np.corrcoef(off[:-1], off[1:])[0, 1], 0, 0.999))
