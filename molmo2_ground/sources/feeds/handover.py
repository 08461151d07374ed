"""`Handover`: from a thread that may hang in somebody else's code to one that must not."""

from __future__ import annotations

from collections.abc import Callable
from threading import Condition
from typing import Generic, TypeVar

from molmo2_ground.errors import SourceError
from molmo2_ground.sources.feeds.failures import StalledError

T = TypeVar("T")


class Handover(Generic[T]):
    """One thing at a time from a giver to a taker; either side can end it, and then nobody waits any more."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._held: list[T] = []
        self._opened = self._over = self._closed = False
        self._error: SourceError | None = None

    # --- the giver

    def opened(self) -> bool:
        """Say that the source is open; False when nobody wants it any more."""
        with self._changed:
            self._opened = True
            self._changed.notify_all()
            return not self._closed

    def give(self, thing: T) -> bool:
        """Wait until the thing before was taken, and leave this one; False when nobody wants it any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or not self._held)
            if not self._closed:
                self._held.append(thing)
                self._changed.notify_all()
            return not self._closed

    def pause(self, seconds: float) -> bool:
        """Wait; True, and at once, when nobody wants anything any more."""
        with self._changed:
            return self._changed.wait_for(lambda: self._closed, timeout=seconds)

    def end(self, error: SourceError | None = None) -> None:
        """Nothing comes any more, and why."""
        with self._changed:
            self._over, self._error = True, error
            self._changed.notify_all()

    # --- the taker

    def wait_opened(self, timeout_s: float, *, late: Callable[[], SourceError]) -> None:
        """Return when the source is open; raises what it failed with, or what `late` makes after the time."""
        with self._changed:
            self._changed.wait_for(lambda: self._opened or self._over or self._closed, timeout=timeout_s)
            if self._over and self._error is not None:
                raise self._error
            if self._closed:
                raise SourceError("closed while it was opened")
            if not self._opened and not self._over:
                raise late()

    def take(self, timeout_s: float, *, late: Callable[[], StalledError]) -> T | None:
        """The next thing; None at the end. Raises what the giver failed with, or what `late` makes."""
        with self._changed:
            self._changed.wait_for(lambda: self._held or self._over or self._closed, timeout=timeout_s)
            if self._closed:
                return None
            if self._held:
                thing = self._held.pop()
                self._changed.notify_all()
                return thing
            if self._over:
                if self._error is not None:
                    raise self._error
                return None
            raise late()

    def close(self) -> None:
        """Want nothing any more."""
        with self._changed:
            self._closed = True
            self._held.clear()
            self._changed.notify_all()

    @property
    def is_closed(self) -> bool:
        """Whether nobody wants anything any more."""
        return self._closed
