"""Failures of FFmpeg in our own words: its own quote addresses, with their passwords."""

from __future__ import annotations

import errno
import socket

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


def failure_of(error: Exception, *, name: str, doing: str, host: str | None = None) -> SourceError:
    """What to tell of an error of PyAV: one line, without a cause that would print the address.

    doing: `opened` or `read`. host: whom the address names, None when it is nobody.
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
    # FFmpeg gives names that it cannot find the number of broken wires.
    broken = doing == "opened" and getattr(error, "errno", None) == errno.EIO
    if broken and host and (why := _unknown(host)):
        return SourceError(f"{name}: its host cannot be found ({why}); check its name and the network")
    # The text that belongs to the number, without the file's name.
    reason = getattr(error, "strerror", None) or type(error).__name__
    return SourceError(f"{name}: cannot be {doing} ({reason})")


def _unknown(host: str) -> str:
    """Why there is no such host; empty when there is. Asks whom the system asks for names."""
    try:
        socket.getaddrinfo(host, None)
    except socket.gaierror as error:
        return error.strerror or "unknown"
    except UnicodeError:
        return "no name that a host could have"
    return ""
