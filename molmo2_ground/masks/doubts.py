"""When a mask is not to be trusted: stated rules, for every segmenter alike."""

from __future__ import annotations

from molmo2_ground.masks.prompts import PointPrompt
from molmo2_ground.masks.segmenter import BoolArray
from molmo2_ground.results import MaskFlag

# Between two frames of a video a thing does not become three times as large or as small, and what is nearly
# hidden in one step is better seen again than followed. Ours; tests/unit/masks/test_doubts.py holds it.
LARGEST_STEP = 3.0
# Below this an area says little: a thing that comes round a corner grows quickly.
SMALLEST_AREA_PX = 64
# What is lost often takes the background for itself.
MOST_OF_PICTURE = 0.8
# A point on an edge may round to the pixel beside it.
NEAR_PX = 1


class Doubts:
    """What speaks against the masks of one walk, frame after frame."""

    def __init__(self) -> None:
        self._area_px: dict[int, int] = {}

    def about(
        self, object_id: int, mask: BoolArray, point: PointPrompt | None, *, area_px: int
    ) -> tuple[MaskFlag, ...]:
        """The flags of a mask bool[height, width]; `point` where the model pointed to the object here."""
        flags: list[MaskFlag] = []
        if point is not None and not _holds(mask, point):
            flags.append("point_outside")
        before = self._area_px.get(object_id)
        # At a sighting the mask is made anew and may differ.
        if point is None and before is not None and area_px and _jumped(before, area_px):
            flags.append("area_jump")
        if area_px > MOST_OF_PICTURE * mask.size:
            flags.append("covers_frame")
        if area_px:
            self._area_px[object_id] = area_px
        else:
            self.forget(object_id)  # hidden: what is seen of it next has nothing to be measured by
        return tuple(flags)

    def forget(self, object_id: int) -> None:
        """The object is no longer followed; its next mask has none before it."""
        self._area_px.pop(object_id, None)


def _jumped(before: int, after: int) -> bool:
    small, large = sorted((max(before, SMALLEST_AREA_PX), max(after, SMALLEST_AREA_PX)))
    return large > LARGEST_STEP * small


def _holds(mask: BoolArray, point: PointPrompt) -> bool:
    height, width = mask.shape
    row, column = int(point.y_px), int(point.x_px)
    rows = slice(max(0, row - NEAR_PX), min(height, row + NEAR_PX + 1))
    columns = slice(max(0, column - NEAR_PX), min(width, column + NEAR_PX + 1))
    return bool(mask[rows, columns].any())
