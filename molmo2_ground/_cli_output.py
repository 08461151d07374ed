"""What the command line says beside its results, on stderr: messages and a progress bar."""

from __future__ import annotations

import sys

_BAR_CELLS = 24


def say(message: str) -> None:
    """One line for people on stderr."""
    print(message, file=sys.stderr)


def one_line(error: BaseException) -> str:
    """An error's message on one line, whatever raised it; its class when it has no words.

    What the system says comes without its number, behind the file that it is about.
    """
    if isinstance(error, OSError) and error.strerror:
        about = "" if error.filename is None else f"{error.filename}: "
        return " ".join(f"{about}{error.strerror}".split())
    return " ".join(str(error).split()) or type(error).__name__


class Bar:
    """A progress bar on stderr when that is a terminal, silence when it is not."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._shown = sys.stderr.isatty() and not quiet
        self._drawn = ""

    def tell(self, what: str, share: float, note: str = "") -> None:
        """Show that `share` (0 to 1) of the work called `what` is done, and a few words behind it."""
        if not self._shown:
            return
        full = round(_BAR_CELLS * min(1.0, max(0.0, share)))
        drawn = f"{what:10} [{'#' * full}{'.' * (_BAR_CELLS - full)}] {share:4.0%} {note}".rstrip()
        if drawn != self._drawn:
            left_over = " " * max(0, len(self._drawn) - len(drawn))
            self._drawn = drawn
            sys.stderr.write(f"\r{drawn}{left_over}")
            sys.stderr.flush()

    def clear(self) -> None:
        """Take the bar off the line, before something else is said."""
        if self._drawn:
            sys.stderr.write("\r" + " " * len(self._drawn) + "\r")
            sys.stderr.flush()
            self._drawn = ""
