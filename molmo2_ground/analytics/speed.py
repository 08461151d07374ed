"""How fast an object moves, from its samples: pixels a second, or metres a second on a known plane."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from molmo2_ground.analytics.homography import Homography
from molmo2_ground.analytics.spell import Spell
from molmo2_ground.results import Sample
from molmo2_ground.sightings import SAME_TIME_S

Unit = Literal["px/s", "m/s"]


class Speed(BaseModel):
    """One object at one moment.

    speed  in `unit`: how long the vector (vx, vy) is, x to the right and y down, or as the ground plane has
           them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    object_id: int
    time_s: float
    source_index: int
    speed: float
    vx: float
    vy: float
    unit: Unit


def speeds_of(spell: Spell, *, window_s: float, ground: Homography | None = None) -> tuple[Speed, ...]:
    """The speed at each sample of a spell at which one can be had.

    A straight, even motion is fitted (least squares) to the samples within half of `window_s` seconds before
    and after, and at least to the neighbours before and after. Never across a gap: a lone sample between two
    gaps has no speed. Given a homography, places are taken to the ground first; where the horizon lies
    between them there is no speed.
    """
    found = []
    for stretch in spell.stretches:
        times_s = np.array([sample.time_s for sample in stretch])
        for number, sample in enumerate(stretch):
            first = int(np.searchsorted(times_s, sample.time_s - window_s / 2 - SAME_TIME_S))
            last = int(np.searchsorted(times_s, sample.time_s + window_s / 2 + SAME_TIME_S))
            first, last = max(0, min(first, number - 1)), min(len(stretch), max(last, number + 2))
            velocity = _velocity(stretch[first:last], ground)
            if velocity is None:
                continue
            vx, vy = velocity
            found.append(
                Speed(
                    object_id=spell.object_id,
                    time_s=sample.time_s,
                    source_index=sample.source_index,
                    speed=float(np.hypot(vx, vy)),
                    vx=vx,
                    vy=vy,
                    unit="px/s" if ground is None else "m/s",
                )
            )
    return tuple(found)


def _velocity(samples: Sequence[Sample], ground: Homography | None) -> tuple[float, float] | None:
    times_s = np.array([sample.time_s for sample in samples])
    places: npt.NDArray[np.float64] = np.array([(sample.x_px, sample.y_px) for sample in samples])
    if ground is not None:
        if not ground.same_side(places):
            return None
        places = ground.ground_m(places)
    centred = times_s - times_s.mean()
    spread = float(centred @ centred)
    if spread == 0 or not np.isfinite(places).all():
        return None
    vx, vy = centred @ (places - places.mean(axis=0)) / spread
    return float(vx), float(vy)
