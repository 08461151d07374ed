"""`Address`: a live source as users write it, taken apart, and a name for it that gives nothing away.

`safe_name` makes every name that logs, messages and errors use. It would rather hide too much than too
little: what stands before the last `@` may be a password, whatever the rules for addresses say, because
people paste passwords as they are.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Literal, TypeAlias
from urllib.parse import quote, unquote, urlsplit

from molmo2_ground.sources.feeds.failures import RefusedError

SourceAddress: TypeAlias = "str | int | os.PathLike[str]"
Kind = Literal["device", "file", "stream", "zmq"]

STREAM_SCHEMES = ("rtsp", "rtsps", "rtmp", "rtmps", "http", "https", "udp", "srt")
_ZMQ_SCHEMES = ("zmq+tcp", "zmq+ipc")
# The others may also listen, at an address without a host.
_NEEDS_HOST = ("rtsp", "rtsps", "http", "https")
# These have no port that everybody uses; without one FFmpeg waits for ever on a port of its own choice.
_NEEDS_PORT = ("udp", "srt", "zmq+tcp")
_EXPECTED = (
    "expected a camera's number or /dev/video…, a file, or an address that begins with "
    f"{', '.join(f'{scheme}://' for scheme in (*STREAM_SCHEMES, *_ZMQ_SCHEMES))}"
)
_SCHEME = re.compile(r"\s*([a-z][a-z0-9+.-]*):/+", re.IGNORECASE)
_ANY_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*:/\S*", re.IGNORECASE)
_HOST_AND_PORT = re.compile(r"(\[[^\]]*\]|[^:@]*)(:[0-9]*)?")
_LONGEST_NAME = 200
HIDDEN = "…"


class Secret:
    """A text that printing does not show."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text; for the library that needs it, never for a message."""
        return self._text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return f"Secret({HIDDEN})"


_NOTHING = Secret("")


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a source is.

    name      for people: without user, password and query.
    scheme    in small letters; empty for a device or a file.
    location  what the library that opens it is given, passwords and all.
    written   what stood after the `://`.
    """

    kind: Kind
    name: str
    scheme: str = ""
    location: Secret
    written: Secret = _NOTHING

    @property
    def host(self) -> str | None:
        """Whom it names, None when it is nobody or cannot be told; not for messages: it may hold a secret."""
        try:
            return urlsplit(self.location.reveal()).hostname if self.scheme else None
        except ValueError:
            return None

    @classmethod
    def of(cls, source: SourceAddress) -> Address:
        """Take a source apart; raises `RefusedError` for what is none."""
        if isinstance(source, bool) or not isinstance(source, int | str | os.PathLike):
            raise RefusedError(f"{_EXPECTED}; got {type(source).__name__}")
        text = os.fspath(source) if isinstance(source, os.PathLike) else str(source)
        if not isinstance(text, str) or not text.strip() or "\0" in text:
            raise RefusedError(f"{_EXPECTED}; got {'a path in bytes' if isinstance(text, bytes) else 'none'}")
        text = text.strip() if _SCHEME.match(text) else text
        if text.isdecimal():
            path = f"/dev/video{int(text)}"
            return cls(kind="device", name=path, location=Secret(path))
        if re.fullmatch(r"/dev/video\d+|/dev/v4l/by-(id|path)/.+", text):
            return cls(kind="device", name=text, location=Secret(text))
        if is_address(text):
            return cls._of_url(text)
        return cls(kind="file", name=safe_name(os.path.basename(text) or text), location=Secret(text))

    @classmethod
    def _of_url(cls, text: str) -> Address:
        name = safe_name(text)
        scheme, mark, rest = text.partition("://")
        scheme = scheme.lower()
        if not mark or not rest.strip("/?#@:") or any(c.isspace() or not c.isprintable() for c in text):
            raise RefusedError(f"{_EXPECTED}; {name} is incomplete, or holds blanks")
        if scheme in _ZMQ_SCHEMES:
            if "@" in rest:
                raise RefusedError(f"{name}: ZeroMQ knows no users; leave out what stands before the @")
            if scheme in _NEEDS_PORT:
                _check_host(rest, name, scheme=scheme)
            kind: Kind = "zmq"
            location = f"{scheme.removeprefix('zmq+')}://{rest.partition('?')[0]}"
        elif scheme in STREAM_SCHEMES:
            quoted = _with_quoted_password(rest)
            _check_host(quoted, name, scheme=scheme)
            kind, location = "stream", f"{scheme}://{quoted}"
        else:
            raise RefusedError(f"{_EXPECTED}; got {name}")
        return cls(kind=kind, name=name, scheme=scheme, location=Secret(location), written=Secret(rest))

    @property
    def query(self) -> Secret:
        """What stands after the `?`."""
        return Secret(self.written.reveal().rpartition("@")[2].partition("?")[2])

    def scrubbed(self, text: str) -> str:
        """Somebody else's words about this source, without its secrets and without any address."""
        text = without_credentials(text)
        # Marked first and taken out together: pieces overlap, and the rest of one is a secret too.
        secret = [False] * len(text)
        for piece in _pieces(self.location.reveal(), self.written.reveal()):
            at = text.find(piece)
            while at >= 0:
                secret[at : at + len(piece)] = [True] * len(piece)
                at = text.find(piece, at + 1)
        kept = "".join("\0" if hidden else c for c, hidden in zip(text, secret, strict=True))
        return re.sub("\0+", HIDDEN, kept)


def without_credentials(text: str) -> str:
    """The text with every address in it called by its `safe_name`."""
    return _ANY_ADDRESS.sub(lambda found: safe_name(found[0]), text)


def is_address(text: str) -> bool:
    """Whether it is meant as an address and not as a path, well written or not."""
    return "://" in text or _SCHEME.match(text) is not None


def safe_name(text: str) -> str:
    """A source as logs, messages and errors may call it, whatever was written: a name, not an address.

    A path stays as it is. Of an address remain the scheme, the host and the path: what stands before the last
    `@` goes, and the query, the fragment, and every part of the path that says something `=` something.
    """
    text = "".join(c if c.isprintable() else "_" for c in text)
    match = _SCHEME.match(text)
    if not is_address(text) and not ("@" in text and ":" in text):
        return text
    scheme = f"{match[1].lower()}://" if match else ""
    rest = text[match.end() :] if match else text.rpartition("://")[2]
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    before, at, after = rest.rpartition("@")
    if at and before != authority.rpartition("@")[0]:
        # By the rules this @ is part of the path; it may as well be that of a password with a slash.
        if re.search("[?#]", before) and _HOST_AND_PORT.fullmatch(authority.rpartition("@")[2]):
            return f"{scheme}{HIDDEN}"  # or of a token: nothing is safe in both readings
        scheme += f"{HIDDEN}@"
    shown = re.split(r"[?#;&]", after, maxsplit=1)[0]
    parts = [HIDDEN if "=" in unquote(part) else part for part in shown.split("/")]
    return _shortened(scheme + "/".join(parts))


def _shortened(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}{HIDDEN}"


def _with_quoted_password(rest: str) -> str:
    """What follows `://`, its user and password written as the rules for addresses want them."""
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" in authority and "@" not in rest[len(authority) :]:
        who, _, host = authority.rpartition("@")
        rest_of_it = rest[len(authority) :]
    elif "@" in rest and not _HOST_AND_PORT.fullmatch(authority.rpartition("@")[2]):
        # No host is called so: the slash, question mark or number sign belongs to the password.
        who, _, tail = rest.rpartition("@")
        host = re.split(r"[/?#]", tail, maxsplit=1)[0]
        rest_of_it = tail[len(host) :]
    else:
        return rest
    user, colon, password = who.partition(":")
    return f"{_quoted(user)}{colon}{_quoted(password)}@{host}{rest_of_it}"


def _check_host(quoted: str, name: str, *, scheme: str) -> None:
    """Refuse what no attempt can reach; `quoted` follows the `://`. The port is not told: see `safe_name`."""
    match = _HOST_AND_PORT.fullmatch(re.split(r"[/?#]", quoted, maxsplit=1)[0].rpartition("@")[2])
    if match is None:
        return  # an address of a kind that FFmpeg may understand
    if scheme in _NEEDS_HOST and not match[1]:
        raise RefusedError(f"{name}: there is no host; expected SCHEME://HOST:PORT/PATH")
    if len(digits := (match[2] or "")[1:]) > 5 or int(digits or 0) > 65535:
        raise RefusedError(f"{name}: there is no such port; expected one up to 65535")
    # FFmpeg also takes the port of UDP from the query.
    if scheme in _NEEDS_PORT and not digits and "localport=" not in quoted:
        raise RefusedError(f"the port is missing; expected {scheme}://HOST:PORT, got {name}")


def _quoted(text: str) -> str:
    # Already written by the rules when each % begins a character's number.
    is_quoted = re.fullmatch(r"(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*", text) is not None
    return text if is_quoted else quote(text, safe="")


def _pieces(location: str, written: str) -> set[str]:
    """Everything in an address that may be secret or a part of a secret, in each way of writing it."""
    found: set[str] = set()
    for text in (location.partition("://")[2] or location, written):
        before, at, after = text.rpartition("@")
        user, _, password = before.partition(":")
        query = [q for whole in (after, text) for q in re.split(r"[?#]", whole, maxsplit=1)[1:]]
        whole = [*([before, user, password] if at else []), *query]
        values = [part.partition("=")[2] for q in query for part in re.split(r"[&;]", q)]
        # Some cameras take the password in the path: /user=admin_password=…_channel=1.
        said = [word for part in after.split("/") if "=" in part for word in re.split(r"[=&;_]", part)]
        for secret in (*whole, *values, *said):
            for form in (secret, unquote(secret), quote(secret, safe="")):
                # A library may take an address apart in another place and print what it took for a host.
                found |= {form, *re.split(r"[@/#?:%&;]", form)}
    return {piece for piece in found if len(piece) > 1}
