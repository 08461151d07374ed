"""`Thinning`: which pictures of a stream are wanted when fewer a second are enough."""

from __future__ import annotations

from molmo2_ground._wanted import NUMBER


class Thinning:
    """Keeps about `rate_hz` pictures a second, those nearest to the moments that are due, a period apart.

    Nearest rather than next: stamps jitter, and of a camera that sends just as many as are wanted none is to
    be lost for coming a little early.
    """

    def __init__(self, rate_hz: float) -> None:
        NUMBER.check("rate_hz", rate_hz)
        if not rate_hz > 0:
            raise ValueError(f"rate_hz must be above 0; got {rate_hz}")
        self._period_ns = round(1e9 / rate_hz)
        self.restart()

    def restart(self) -> None:
        """Begin anew with the next picture."""
        self._due_ns: int | None = None
        self._before_ns = 0

    def wants(self, stamp_ns: int) -> bool:
        """Whether the picture with this stamp is kept; stamps rise."""
        if self._due_ns is None:
            self._due_ns, self._before_ns = stamp_ns + self._period_ns, stamp_ns
            return True
        # Half the way to the next picture, as far as one can tell: it comes as this one came.
        near_ns = min(stamp_ns - self._before_ns, self._period_ns) // 2
        self._before_ns = stamp_ns
        if stamp_ns + near_ns < self._due_ns:
            return False
        # After a pause, and of a slow camera, what was due meanwhile is not made up for.
        self._due_ns = max(self._due_ns + self._period_ns, stamp_ns + self._period_ns // 2)
        return True
