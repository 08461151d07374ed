"""The ways in which a live source fails that are treated differently."""

from __future__ import annotations

from molmo2_ground.errors import SourceError


class StalledError(SourceError):
    """Connected, and no picture came for as long as it may take: it is connected anew."""


class RefusedError(SourceError):
    """Trying again cannot help: a wrong password, an address that is no source, a missing library."""


class WholeFileError(SourceError):
    """The other side sent a file or a closed playlist to its end: no camera does that."""
