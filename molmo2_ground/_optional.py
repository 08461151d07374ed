"""The one door to optional libraries."""

from __future__ import annotations

import importlib
import importlib.metadata
from types import ModuleType

from molmo2_ground.errors import MissingExtraError


def require(module: str, *, extra: str, hint: str = "") -> ModuleType:
    """Import `module`, or raise `MissingExtraError` naming the extra of this package that brings it.

    hint: what else there is to say about how to get it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        # A library that is there but broken must not be reported as absent: keep its own words.
        raise MissingExtraError(
            f"{module} is needed for this and could not be imported ({error}); "
            f"install it with: pip install 'molmo2-ground[{extra}]'{f' ({hint})' if hint else ''}"
        ) from error


def is_installed(distribution: str) -> bool:
    """Whether a package is installed, by the name under which pip knows it; nothing is imported."""
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
