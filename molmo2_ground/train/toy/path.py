"""`Path`: a line on the ground, addressed by the distance travelled along it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

# Longer than anything travels in the longest clip, so that a distance before the start or past the end
# of a path still is a place (outside the picture).
_EXTENSION_PX = 6000.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Path:
    """A polyline in pixels; before its first and after its last point it goes on straight.

    points_px     float64[N, 2], the line itself.
    nodes_px      float64[N + 2, 2], the same with the straight extensions.
    reach_px      float64[N + 2], distance along the line, 0 at the first of `points_px`.
    headings_rad  float64[N + 2], direction of travel, clockwise from +x on the screen, unwrapped.
    """

    points_px: Floats
    nodes_px: Floats
    reach_px: Floats
    headings_rad: Floats

    @property
    def length_px(self) -> float:
        """Length of the line without its extensions, pixels."""
        return float(self.reach_px[-2])

    def at(self, distances_px: Floats) -> tuple[Floats, Floats, Floats]:
        """Places at these distances: x pixels, y pixels, heading radians; shaped as the input."""
        x = np.interp(distances_px, self.reach_px, self.nodes_px[:, 0])
        y = np.interp(distances_px, self.reach_px, self.nodes_px[:, 1])
        return x, y, np.interp(distances_px, self.reach_px, self.headings_rad)

    def place(self, distance_px: float) -> tuple[float, float, float]:
        """The place at one distance: x pixels, y pixels, heading radians."""
        x, y, heading = self.at(np.array([distance_px]))
        return float(x[0]), float(y[0]), float(heading[0])

    def offset(self, side_px: float | Floats) -> Path:
        """This path moved to its right by `side_px` pixels, left when negative; one value or one a point."""
        headings = self.headings_rad[1:-1]
        normals = np.stack([-np.sin(headings), np.cos(headings)], axis=1)
        return make_path(self.points_px + normals * np.reshape(side_px, (-1, 1)))

    def reversed(self) -> Path:
        """The same line travelled the other way."""
        return make_path(self.points_px[::-1])


def make_path(points_px: npt.ArrayLike | Sequence[Sequence[float]]) -> Path:
    """A path through these points, at least two, no two neighbours at the same place."""
    points = np.asarray(points_px, dtype=np.float64).reshape(-1, 2)
    if len(points) < 2:
        raise ValueError(f"a path needs at least two points; got {len(points)}")
    steps = points[1:] - points[:-1]
    lengths = np.hypot(steps[:, 0], steps[:, 1])
    if not lengths.min() > 0:
        raise ValueError("neighbouring points of a path must differ")
    segments = np.arctan2(steps[:, 1], steps[:, 0])
    # As numpy.unwrap, which takes several times as long on such short rows.
    segments[1:] -= 2 * math.pi * np.cumsum(np.round((segments[1:] - segments[:-1]) / (2 * math.pi)))
    headings = np.concatenate([segments[:1], (segments[1:] + segments[:-1]) / 2, segments[-1:]])
    before = points[0] - steps[0] / lengths[0] * _EXTENSION_PX
    after = points[-1] + steps[-1] / lengths[-1] * _EXTENSION_PX
    reach = np.concatenate([[0.0], np.cumsum(lengths)])
    return Path(
        points_px=points,
        nodes_px=np.concatenate([before[None], points, after[None]]),
        reach_px=np.concatenate([[-_EXTENSION_PX], reach, [reach[-1] + _EXTENSION_PX]]),
        headings_rad=np.concatenate([headings[:1], headings, headings[-1:]]),
    )


def bezier(controls_px: Sequence[tuple[float, float]], *, steps: int = 32) -> Path:
    """The smooth curve of these control points (any number from two)."""
    controls = np.asarray(controls_px, dtype=np.float64)
    degree = len(controls) - 1
    shares = np.linspace(0.0, 1.0, steps + 1)[:, None]
    weights = np.concatenate(
        [math.comb(degree, k) * shares**k * (1 - shares) ** (degree - k) for k in range(degree + 1)], axis=1
    )
    return make_path(weights @ controls)


def turn(entry: Path, exit_: Path, *, radius_px: float) -> Path:
    """Come along straight `entry`, turn with about this radius, leave along straight `exit_`."""
    start, toward = entry.points_px[0], _direction(entry)
    end, away = exit_.points_px[-1], _direction(exit_)
    cross = toward[0] * away[1] - toward[1] * away[0]
    if abs(cross) < 1e-6:
        raise ValueError("a turn needs two roads that are not parallel")
    gap = end - start
    along = (gap[0] * away[1] - gap[1] * away[0]) / cross
    corner = start + toward * along
    first, last = corner - toward * radius_px, corner + away * radius_px
    shares = np.linspace(0.0, 1.0, 17)[:, None]
    arc = (1 - shares) ** 2 * first + 2 * shares * (1 - shares) * corner + shares**2 * last
    return make_path(np.concatenate([start[None], arc, end[None]]))


def _direction(path: Path) -> Floats:
    step = path.points_px[-1] - path.points_px[0]
    return np.asarray(step / np.hypot(step[0], step[1]), dtype=np.float64)
