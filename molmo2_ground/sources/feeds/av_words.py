"""Failures of FFmpeg in our own words: its own quote addresses, with their passwords."""

from __future__ import annotations

import av

from molmo2_ground.errors import SourceError
from molmo2_ground.sources.feeds.failures import RefusedError, StalledError

_REFUSED: tuple[tuple[type[Exception], str], ...] = (
    (
        av.HTTPUnauthorizedError,
        "user or password are refused (401). In an address, write characters such as @ / # : ? % of a "
        "password by their numbers: @ is %40",
    ),
    (av.HTTPForbiddenError, "access is refused (403)"),
    (av.ProtocolNotFoundError, "this FFmpeg build does not speak this protocol, or it may not be used here"),
    (av.DecoderNotFoundError, "this FFmpeg build cannot decode it"),
    (PermissionError, "permission denied"),
)


def failure_of(error: Exception, *, name: str, doing: str) -> SourceError:
    """What to tell of an error of PyAV: one line, without a cause that would print the address.

    doing: `opened` or `read`.
    """
    for kind, words in _REFUSED:
        if isinstance(error, kind):
            return RefusedError(f"{name}: {words}")
    if isinstance(error, av.ExitError | TimeoutError):
        if doing == "read":
            return StalledError(f"{name}: no data came in time")
        return SourceError(f"{name}: did not answer in time")
    if isinstance(error, av.HTTPNotFoundError):
        # Servers that pass on cameras say so until the camera has come.
        return SourceError(f"{name}: there is nothing under this path (404)")
    if isinstance(error, av.InvalidDataError):
        return SourceError(f"{name}: nothing came in time, or what came is no video that can be {doing}")
    # The text that belongs to the number, without the file's name.
    reason = getattr(error, "strerror", None) or type(error).__name__
    return SourceError(f"{name}: cannot be {doing} ({reason})")
