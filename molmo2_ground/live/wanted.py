"""`Wanted`: the kind of thing that an option takes, and the one line for what is none."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral, Real


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
            raise ValueError(f"{what} is {self.words}{none}; got {value!r}")

    def or_nothing(self) -> Wanted:
        """The same, or None."""
        return Wanted(self.words, self.kinds, or_none=True)


NUMBER, WHOLE, WORDS = (
    Wanted("a number", (Real,)),
    Wanted("a whole number", (Integral,)),
    Wanted("words", (str,)),
)
