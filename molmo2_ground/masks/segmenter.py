"""`Segmenter`: what turns points into masks, one frame after another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from molmo2_ground.clip import Frame
from molmo2_ground.masks.prompts import PointPrompt

BoolArray = npt.NDArray[np.bool_]


class Segmenter(Protocol):
    """Makes a walk through the frames of one picture size.

    name            what results call it, with its weights: `region`, `facebook/sam2.1-hiera-tiny`.
    from_both_ends  True when its masks get worse with every frame away from a point, so that the frames
                    between two sightings are better shared between them: the first half is carried forward
                    from the earlier, the second backward from the later. It costs twice the steps.
    """

    name: str
    from_both_ends: bool

    def start(self, *, width_px: int, height_px: int) -> Walk:
        """A walk through frames of this size (as a player shows them, pixels), none seen yet."""
        ...


class Walk(Protocol):
    """Frames, one after another, in one direction of time; memory does not grow with their number.

    A frame is prepared once and may be stepped through by several walks of the same size.
    """

    def prepare(self, frame: Frame) -> Any:
        """What a step needs of a frame, as small as that can be; held while the frame may be needed again."""
        ...

    def step(self, prepared: Any, points: Sequence[PointPrompt] = ()) -> Mapping[int, BoolArray]:
        """Take in the next frame; masks bool[height, width] by object, of all that are followed.

        points: where the model saw objects in this frame. An object that is new is followed from here on;
        for one that is followed already the point is a correction. An object may have an empty mask: it is
        followed and not found in this frame.
        """
        ...

    def forget(self, object_id: int) -> None:
        """Follow this object no longer; does nothing for one that is not followed."""
        ...

    def close(self) -> None:
        """Let go of what the walk holds; closing again does nothing."""
        ...
