"""Where a socket may be bound: this machine alone, unless keys or the user's word say otherwise."""

from __future__ import annotations

from molmo2_ground._loopback import is_loopback
from molmo2_ground._wanted import WORDS

DEFAULT_ENDPOINT = "tcp://127.0.0.1:5556"


def check_endpoint(endpoint: str) -> str:
    """The endpoint as given, when it is one that we speak. Raises `ValueError` otherwise."""
    WORDS.check("an address", endpoint)
    scheme, separator, rest = endpoint.partition("://")
    if not separator or scheme not in ("tcp", "ipc") or not rest:
        raise ValueError(f"an address is tcp://HOST:PORT or ipc://FILE; got {endpoint!r}")
    host, colon, port = rest.rpartition(":")
    if scheme == "tcp" and not (colon and host and (port == "*" or (port.isdecimal() and int(port) < 65536))):
        raise ValueError(f"an address is tcp://HOST:PORT, such as {DEFAULT_ENDPOINT}; got {endpoint!r}")
    return endpoint


def stays_on_this_machine(endpoint: str) -> bool:
    """Whether only this machine can reach what is bound there."""
    scheme, _, rest = endpoint.partition("://")
    if scheme == "ipc":
        return True
    return is_loopback(rest.rpartition(":")[0].strip("[]"))  # a star or a network card is no such host


def check_bind(endpoint: str, *, with_keys: bool, insecure: bool) -> str:
    """The endpoint, when it may be bound so. Raises `ValueError` when others could listen in or speak."""
    check_endpoint(endpoint)
    if not (stays_on_this_machine(endpoint) or with_keys or insecure):
        raise ValueError(
            f"{endpoint} can be reached from other machines, and without keys anybody there may listen: "
            f"make keys (molmo2-ground keys DIR), bind 127.0.0.1, or say insecure (--insecure)"
        )
    return endpoint


def is_ipv6(endpoint: str) -> bool:
    """Whether the host is written as an IPv6 address."""
    return "[" in endpoint
