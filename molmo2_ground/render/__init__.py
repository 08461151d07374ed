"""Results drawn on pictures: one frame, a whole video, a still image, a sheet of what the model saw."""

from __future__ import annotations

from molmo2_ground.render.draw import Painter, draw
from molmo2_ground.render.output import render
from molmo2_ground.render.overlay import Overlay
from molmo2_ground.render.sheet import Tile, contact_sheet, tiles
from molmo2_ground.render.storyboard import storyboard
from molmo2_ground.render.style import colour_of
from molmo2_ground.render.trajectory import Result, Timeline

__all__ = [
    "Overlay",
    "Painter",
    "Result",
    "Tile",
    "Timeline",
    "colour_of",
    "contact_sheet",
    "draw",
    "render",
    "storyboard",
    "tiles",
]
