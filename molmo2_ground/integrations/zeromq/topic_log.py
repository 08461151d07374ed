"""`TopicLog`: what a subscriber has learnt of one topic from its numbers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class TopicLog:
    """Counts of one topic since the subscription began.

    received     messages that arrived.   lost  that were sent in between and never arrived, by `seq`.
    restarts     times that `seq` began anew: another run of the publisher.
    reconnects   times that a higher `epoch` came: the camera was connected anew, or the publisher was.
    stale        arrived too late to act on.   superseded  replaced by a newer one before they were taken.
    """

    received: int = 0
    lost: int = 0
    restarts: int = 0
    reconnects: int = 0
    stale: int = 0
    superseded: int = 0
    _next_seq: int | None = None
    _epoch: int | None = None

    def take(self, seq: int, epoch: int | None) -> int:
        """Note a message; how many were lost right before it."""
        self.received += 1
        expected, self._next_seq = self._next_seq, seq + 1
        if epoch is not None:
            # Answers about pictures from before a reconnect may follow later ones: only a rise is one.
            if self._epoch is not None and epoch > self._epoch:
                self.reconnects += 1
            self._epoch = epoch if self._epoch is None else max(epoch, self._epoch)
        if expected is None or seq == expected:
            return 0
        if seq < expected:
            # A new run counts from 0, so those before this one were sent and not received.
            self.restarts += 1
            missed = seq
        else:
            missed = seq - expected
        self.lost += missed
        return missed
