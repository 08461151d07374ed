"""`RateLimit`: so many requests at once, so many a second, for each peer and for all together."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field


@dataclass(slots=True)
class Bucket:
    """Permits that refill: `burst` at first and at most, `per_s` more each second."""

    burst: float
    per_s: float
    _left: float = field(init=False)
    _at_ns: int | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self._left = self.burst

    def take(self, now_ns: int) -> bool:
        """Whether one more is allowed at this moment (monotonic nanoseconds, never falling)."""
        if self._at_ns is not None:
            self._left = min(self.burst, self._left + (now_ns - self._at_ns) / 1e9 * self.per_s)
        self._at_ns = now_ns
        if self._left < 1:
            return False
        self._left -= 1
        return True


class RateLimit:
    """Remembers the peers that asked last, at most 256.

    Whoever makes up a new name each time gains nothing: all peers together have a limit too.
    """

    _MOST_PEERS = 256

    def __init__(
        self, *, peer: tuple[float, float] = (20, 10), total: tuple[float, float] = (400, 200)
    ) -> None:
        """peer, total: (at once, a second)."""
        self._peer, self._total = peer, Bucket(*total)
        self._peers: OrderedDict[bytes, Bucket] = OrderedDict()

    def all_may(self, now_ns: int) -> bool:
        """Whether anybody may ask now."""
        return self._total.take(now_ns)

    def may(self, peer: bytes, now_ns: int) -> bool:
        """Whether this peer may."""
        bucket = self._peers.pop(peer, None) or Bucket(*self._peer)
        self._peers[peer] = bucket
        if len(self._peers) > self._MOST_PEERS:
            self._peers.popitem(last=False)
        return bucket.take(now_ns)
