"""`Rules`: what counts as being there, being inside, and crossing."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

By = Literal["point", "mask"]
NotNegative = Annotated[float, Field(ge=0)]


class Rules(BaseModel):
    """How samples become events; every result carries the rules that it was made by.

    grace_s      a gap of at most so many seconds between two sightings is passed over: the object was there
                 all the time. 1 second is one look missed at two looks a second.
    by           what decides whether an object is in a zone: its `point`, or the share of its `mask` (where a
                 frame has no mask that can be trusted, the point).
    min_share    by mask: the least share of the mask's pixels that lie in the zone, above 0 to 1.
    min_step_px  an object has to be seen so far from a line on one side and then on the other to have
                 crossed it, so that a point that trembles on the line crosses nothing.
    window_s     speed is fitted to the samples of so many seconds around a moment.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    grace_s: NotNegative = 1.0
    by: By = "point"
    min_share: Annotated[float, Field(gt=0, le=1)] = 0.5
    min_step_px: NotNegative = 3.0
    window_s: NotNegative = 1.0
