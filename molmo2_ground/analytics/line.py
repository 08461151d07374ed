"""`Line`: a named gate that objects cross one way or the other."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, model_validator

from molmo2_ground.analytics.zone import Coordinates, Name

Side = Literal["left", "right"]
Direction = Literal["in", "out"]


class Line(BaseModel):
    """A straight line between two places; as long as it is, and no longer.

    start, end  (x, y), pixels of the source picture (or shares of its width and height in a zone file that
                says so). The start belongs to the line and the end does not, so that what passes over the
                joint of two lines crosses one of them.
    in_side     which side is "in", as seen on the screen when walking from start to end. For a line drawn
                from left to right, left is above it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: Name
    start: Coordinates
    end: Coordinates
    in_side: Side = "left"

    @model_validator(mode="after")
    def _has_a_length(self) -> Self:
        if self.start == self.end:
            raise ValueError(f"a line has two different ends; got {self.start} twice")
        return self

    @property
    def length(self) -> float:
        """In the line's own units."""
        return float(((self.end[0] - self.start[0]) ** 2 + (self.end[1] - self.start[1]) ** 2) ** 0.5)

    def distance(self, x: float, y: float) -> float:
        """How far a place lies from the endless line through both ends: above 0 left of it, else right.

        Left and right as seen on the screen, where y points down.
        """
        dx, dy = self.end[0] - self.start[0], self.end[1] - self.start[1]
        return (dy * (x - self.start[0]) - dx * (y - self.start[1])) / self.length

    def along(self, x: float, y: float) -> float:
        """How far along a place lies: 0 beside the start, 1 beside the end."""
        dx, dy = self.end[0] - self.start[0], self.end[1] - self.start[1]
        return (dx * (x - self.start[0]) + dy * (y - self.start[1])) / self.length**2

    def direction_to(self, side: Side) -> Direction:
        """What a crossing is called that ends on this side."""
        return "in" if side == self.in_side else "out"

    def scaled(self, x_factor: float, y_factor: float) -> Self:
        """The line in other units."""
        return self.model_copy(
            update={
                "start": (self.start[0] * x_factor, self.start[1] * y_factor),
                "end": (self.end[0] * x_factor, self.end[1] * y_factor),
            }
        )
