"""`Latencies`: how long each step from the camera to the subscriber takes, in constant memory."""

from __future__ import annotations

import math
import threading
from bisect import bisect_left
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from molmo2_ground.clocks import Clocks

STAGES = ("received", "decoded", "vision", "prefill", "decode", "carried", "made", "published")
"""In the order in which a picture goes through them.

received   from when the camera took the picture to its arrival; only where the camera stamps it.
decoded    from its arrival to decoded.
vision, prefill, decode  of a look: seeing the pictures, reading the question, writing the answer.
carried    following the things into this picture.
made       from its arrival to the finished update: everything of ours, waiting included.
published  from the finished update to its hand-over to the socket.
"""

BOUNDS_MS = (1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1e3, 2e3, 5e3, 10e3, 30e3, 60e3)
"""Upper ends of the histogram's buckets, milliseconds; one more is open upwards."""

WINDOW_S = 60.0  # quantiles are of so many seconds
_WINDOW_NS = int(WINDOW_S * 1e9)
_NEWEST = 4096  # and of at most so many measurements: a minute at 68 pictures a second
_MOST_STAGES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Everything that was measured of one stage since the start.

    counts  one a bucket of `BOUNDS_MS` and the open one, not summed up. total_ms: the sum of all.
    """

    counts: tuple[int, ...]
    total_ms: float

    @property
    def count(self) -> int:
        """How many measurements."""
        return sum(self.counts)


class _Stage:
    __slots__ = ("counts", "recent", "total_ms")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_MS) + 1)
        self.total_ms = 0.0
        self.recent: deque[tuple[int, float]] = deque(maxlen=_NEWEST)


class Latencies:
    """Measurements by stage; any thread may add and read.

    Stages beside `STAGES` may be added, up to 32 in all.
    """

    def __init__(self, *, clocks: Clocks | None = None) -> None:
        self._clocks = clocks or Clocks()
        self._lock = threading.Lock()
        self._stages: dict[str, _Stage] = {}

    def add(self, stage: str, ms: float) -> None:
        """Note one measurement, milliseconds; below 0 (a clock that was set) counts as 0.

        Raises `ValueError` for a number that is none, and for a 33rd stage.
        """
        if not math.isfinite(ms):
            raise ValueError(f"a stage takes a number of milliseconds; got {ms} for {stage!r}")
        ms, now_ns = max(0.0, float(ms)), self._clocks.monotonic_ns()
        with self._lock:
            found = self._stages.get(stage)
            if found is None:
                if len(self._stages) >= _MOST_STAGES:
                    raise ValueError(f"there are at most {_MOST_STAGES} stages; got {stage!r} as one more")
                found = self._stages[stage] = _Stage()
            found.counts[bisect_left(BOUNDS_MS, ms)] += 1
            found.total_ms += ms
            found.recent.append((now_ns, ms))
            # Of a rare stage they would else gather for hours.
            while found.recent[0][0] < now_ns - _WINDOW_NS:
                found.recent.popleft()

    def add_all(self, timings_ms: Mapping[str, float]) -> None:
        """Note one measurement a stage, milliseconds."""
        for stage, ms in timings_ms.items():
            self.add(stage, ms)

    def quantiles(self) -> dict[str, dict[str, float]]:
        """By stage: `p50`, `p99` and `max` of the last minute, milliseconds; stages without one are left out.

        A quantile is one of the measurements: the smallest that is at least as large as that share of them.
        """
        since_ns = self._clocks.monotonic_ns() - _WINDOW_NS
        found = {}
        with self._lock:
            recent = {name: [ms for at, ms in s.recent if at >= since_ns] for name, s in self._stages.items()}
        for name in _in_order(recent):
            if values := sorted(recent[name]):
                found[name] = {"p50": _rank(values, 0.5), "p99": _rank(values, 0.99), "max": values[-1]}
        return found

    def histograms(self) -> dict[str, Histogram]:
        """By stage, everything since the start."""
        with self._lock:
            made = {
                name: Histogram(counts=tuple(s.counts), total_ms=s.total_ms)
                for name, s in self._stages.items()
            }
        return {name: made[name] for name in _in_order(made)}


def _rank(values: list[float], share: float) -> float:
    return values[max(0, math.ceil(share * len(values)) - 1)]


def _in_order(names: Mapping[str, object]) -> list[str]:
    """In the order of the way, the others after them by name."""
    return sorted(names, key=lambda name: (STAGES.index(name) if name in STAGES else len(STAGES), name))
