"""`Parser`: command lines that are refused in one line, and the numbers that they take."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn

BAD_USAGE = 2


class Parser(argparse.ArgumentParser):
    """Says in one line what is wrong; the usage, of many lines, is there for the asking.

    Options are written in full: `--rate`, meant for a learning rate, is not to be taken for `--rates`.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **options})

    def error(self, message: str) -> NoReturn:
        """End the process with exit code 2."""
        self.exit(BAD_USAGE, f"{self.prog}: {message}; see {self.prog} --help\n")


def whole_number(text: str) -> int:
    """For argparse: a number of 0 or more."""
    return _whole(text, least=0)


def number_from_1(text: str) -> int:
    """For argparse: a number of 1 or more."""
    return _whole(text, least=1)


def _whole(text: str, *, least: int) -> int:
    # What Python's own int() takes beside this, such as 1_000 or other scripts' digits, is likelier a slip.
    if not (text.isascii() and text.isdecimal()) or int(text) < least:
        raise argparse.ArgumentTypeError(f"expected a whole number of {least} or more; got {text!r}")
    return int(text)
