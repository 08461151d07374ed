"""`Dashboard`: how a stream is, in the terminal, redrawn by a thread of its own."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from molmo2_ground._optional import require
from molmo2_ground.clocks import Clocks
from molmo2_ground.live.health import HealthMeter
from molmo2_ground.live.ledger import LedgerEntry
from molmo2_ground.live.update import Update, WatchEvent

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from molmo2_ground.live.dashboard_view import Shown

_LOG = logging.getLogger(__name__)

_MOST_LINES = 24
_MOST_AGES = 17  # as many as fit beside the age at 80 columns


class Dashboard:
    """Shows a stream until it is closed; use it in a `with` block, and hand it every update.

    console  where it draws; standard output when left out. What is no terminal gets a line every `line_s`
             seconds instead.
    hz       redraws a second.

    `take` notes the update and returns; drawing is another thread's. Raises `MissingExtraError` without rich
    (`molmo2-ground[live]`).
    """

    def __init__(
        self,
        meter: HealthMeter,
        *,
        console: Console | None = None,
        hz: float = 4.0,
        line_s: float = 5.0,
        clocks: Clocks | None = None,
    ) -> None:
        if not hz > 0 or not line_s > 0:
            raise ValueError(f"hz and line_s are above 0; got {hz} and {line_s}")
        self._console: Console = (
            require("rich.console", extra="live").Console() if console is None else console
        )
        self._meter, self._hz, self._line_s = meter, hz, line_s
        self._clocks = clocks or Clocks()
        self._lock = threading.Lock()
        self._update: Update | None = None
        self._told: deque[tuple[int, WatchEvent]] = deque(maxlen=_MOST_LINES)
        self._ledger: deque[LedgerEntry] = deque(maxlen=_MOST_LINES)
        self._ages_ms: deque[float] = deque(maxlen=_MOST_AGES)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def take(self, update: Update) -> None:
        """Note an update."""
        with self._lock:
            self._update = update
            self._told.extend((update.made_ns, event) for event in update.events)
            self._ledger.extend(update.ledger)
            self._ages_ms.append(update.age_ms)

    def shown(self) -> Shown:
        """What is drawn now."""
        from molmo2_ground.live.dashboard_view import Shown

        health, changes = self._meter.peek(), self._meter.recent_events
        with self._lock:
            return Shown(
                health=health,
                update=self._update,
                changes=changes,
                told=tuple(self._told),
                ledger=tuple(self._ledger),
                ages_ms=tuple(self._ages_ms),
                now_ns=self._clocks.unix_ns(),
            )

    def __rich__(self) -> RenderableType:
        """The picture of this moment, for any console."""
        from molmo2_ground.live.dashboard_view import drawn

        return drawn(self.shown())

    def line(self) -> str:
        """The state of this moment in one line."""
        from molmo2_ground.live.dashboard_view import status_line

        return status_line(self.shown())

    def start(self) -> Self:
        """Begin to draw."""
        if self._thread is not None:
            raise RuntimeError("a dashboard is started once; make another one")
        draw = self._draw if self._console.is_terminal else self._write_lines
        self._thread = threading.Thread(target=self._guarded, args=(draw,), name="dashboard", daemon=True)
        self._thread.start()
        return self

    def close(self) -> None:
        """Draw the last state and give the terminal back; closing again does nothing."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _guarded(self, draw: Callable[[], None]) -> None:
        try:
            draw()
        except (Exception, SystemExit):  # a terminal that is gone; rich makes a closed pipe a SystemExit
            _LOG.warning("the dashboard is gone; the stream goes on", exc_info=True)

    def _draw(self) -> None:
        live = require("rich.live", extra="live").Live(
            self, console=self._console, screen=True, auto_refresh=False, vertical_overflow="crop"
        )
        with live:
            live.refresh()
            while not self._stop.wait(1 / self._hz):
                live.refresh()
        # The screen is given back as it was; what the stream came to stays to be read.
        self._console.print(self.line(), soft_wrap=True, markup=False, highlight=False)

    def _write_lines(self) -> None:
        while True:
            self._console.print(self.line(), soft_wrap=True, markup=False, highlight=False)
            if self._stop.wait(self._line_s):
                self._console.print(self.line(), soft_wrap=True, markup=False, highlight=False)
                return
