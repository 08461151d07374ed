"""`Wanted`: the kind of thing that an option takes, and the one line for what is none."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

_LONGEST = 120


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an option takes.

    words     what is wanted, for people.   kinds  the classes that show it.
    or_none   None is taken too.
    """

    words: str
    kinds: tuple[type, ...]
    or_none: bool = False

    def check(self, what: str, value: object) -> None:
        """Raise `ValueError` for a value of another kind; `what` is how the option is called."""
        if value is None and self.or_none:
            return
        # To Python, True is a number.
        if not isinstance(value, self.kinds) or (isinstance(value, bool) and bool not in self.kinds):
            none = ", or None" if self.or_none else ""
            raise ValueError(f"{what} is {self.words}{none}; got {_shown(value)}")

    def all_of(self, what: str, values: Any) -> tuple[Any, ...]:
        """The values of a list or the like; `ValueError` unless it is one, and all in it of this kind."""
        alone = not isinstance(values, Iterable) or isinstance(values, (str, bytes, *self.kinds))
        listed = () if alone else tuple(values)
        if alone:
            raise ValueError(f"{what} are a list, each of it {self.words}; got {_shown(values)}")
        for number, value in enumerate(listed, start=1):
            if not isinstance(value, self.kinds):
                raise ValueError(
                    f"{what} are a list, each of it {self.words}; number {number} of it is {_shown(value)}"
                )
        return listed

    def or_nothing(self) -> Wanted:
        """The same, or None."""
        return Wanted(self.words, self.kinds, or_none=True)


def _shown(value: object) -> str:
    """A value as Python writes it, or its kind alone where that is long: a whole result is no one line."""
    text = repr(value)
    return (
        text if len(text) <= _LONGEST and text.isprintable() else f"something of type {type(value).__name__}"
    )


NUMBER, WHOLE, WORDS, YES_OR_NO, PATH, FUNCTION = (
    Wanted("a number", (Real,)),
    Wanted("a whole number", (Integral,)),
    Wanted("words", (str,)),
    Wanted("True or False", (bool,)),
    Wanted("a path", (str, os.PathLike)),
    Wanted("a function", (Callable,)),  # type: ignore[arg-type]  # a class to isinstance, not to mypy
)


def check_kinds(wanted: Mapping[str, Wanted], options: Mapping[str, object]) -> None:
    """Raise `ValueError` for the first option that is of another kind than its table says."""
    for option, value in options.items():
        if option in wanted:
            wanted[option].check(option, value)
