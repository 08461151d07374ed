"""Names of a package that load what they need when they are first used."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping


def on_first_use(package: str, home_of: Mapping[str, str]) -> Callable[[str], object]:
    """The `__getattr__` of a package whose names live in other modules.

    home_of: the full name of the module that each name lives in.
    """

    def find(name: str) -> object:
        if name not in home_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value: object = getattr(importlib.import_module(home_of[name]), name)
        # Found once, it is the package's own, also over a module of its name.
        setattr(sys.modules[package], name, value)
        return value

    return find
