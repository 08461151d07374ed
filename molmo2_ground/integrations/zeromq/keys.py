"""CURVE keys as files, and the folder that says which clients are let in.

    DIR/server.key             public: copy it to each client
    DIR/server.key_secret      stays here, readable by its owner alone
    DIR/allowed/NAME.key       public keys that are let in; taking the file away shuts the client out
    DIR/clients/NAME.key_secret  a client's own: move it to that client

The files are ZeroMQ certificates, as `zmq.auth` and CZMQ read them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from molmo2_ground._optional import require
from molmo2_ground.errors import SourceError

PUBLIC, SECRET = ".key", ".key_secret"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_KEY = re.compile(rb"[!-~]{40}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerKeys:
    """What a publisher or control server needs: its own pair, Z85, and the folder of the clients let in."""

    public: bytes
    secret: bytes
    allowed: Path

    def __repr__(self) -> str:
        return f"ServerKeys(allowed={str(self.allowed)!r})"

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> ServerKeys:
        """Read the folder that `molmo2-ground keys DIR` made.

        Raises `SourceError` when a file is missing, damaged, or a secret that others may read.
        """
        public, secret = _read_pair(Path(folder) / f"server{SECRET}")
        return cls(public=public, secret=secret, allowed=Path(folder) / "allowed")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientKeys:
    """What a subscriber or control client needs: its own pair and the server's public key, Z85."""

    public: bytes
    secret: bytes
    server: bytes

    def __repr__(self) -> str:
        return "ClientKeys()"

    @classmethod
    def load(cls, own: str | os.PathLike[str], server: str | os.PathLike[str]) -> ClientKeys:
        """own: the client's `NAME.key_secret`. server: the server's `server.key`. Raises `SourceError`."""
        public, secret = _read_pair(Path(own))
        return cls(public=public, secret=secret, server=_read(Path(server))[0])


def make_server_keys(folder: str | os.PathLike[str]) -> bool:
    """Make the folder and the server's keys in it; False when they are there, which are never replaced.

    Raises `SourceError` when only one of the two files is there, and for a folder that cannot be made.
    """
    root = Path(folder)
    for part in (root, root / "allowed", root / "clients"):
        try:
            part.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise SourceError(
                f"the folder {part} cannot be made ({error.strerror}); choose another"
            ) from error
    public, secret = root / f"server{PUBLIC}", root / f"server{SECRET}"
    if public.exists() and secret.exists():
        return False
    for one, other in ((public, secret), (secret, public)):
        if one.exists():
            raise SourceError(
                f"{one} is there and {other.name} is not; bring that back, or move {one.name} away as well"
            )
    _make_pair(public, secret)
    return True


def make_client_keys(folder: str | os.PathLike[str], name: str) -> Path:
    """Make a client's keys, let it in, and return the file to move to the client; needs the server's keys.

    Raises `ValueError` for a name that no file may have, `FileExistsError` when the client has keys already.
    """
    public, secret = _free_client_files(Path(folder), name)
    _make_pair(public, secret)
    return secret


def check_new_clients(folder: str | os.PathLike[str], names: Iterable[str]) -> None:
    """Raise what `make_client_keys` would raise for one of the names; make nothing."""
    known: set[str] = set()
    for name in names:
        _free_client_files(Path(folder), name)
        if name in known:
            raise ValueError(f"the client {name} is named twice; name it once")
        known.add(name)


def allowed_names(folder: str | os.PathLike[str]) -> tuple[str, ...]:
    """The clients that are let in, sorted."""
    return tuple(
        sorted(path.name.removesuffix(PUBLIC) for path in (Path(folder) / "allowed").glob(f"*{PUBLIC}"))
    )


def revoke(folder: str | os.PathLike[str], name: str) -> None:
    """Shut a client out: its public key leaves `allowed`. Raises `SourceError` when it was not let in."""
    public = _client_files(Path(folder), name)[0]
    try:
        public.unlink()
    except FileNotFoundError:
        known = ", ".join(allowed_names(folder)) or "nobody"
        raise SourceError(f"{name} is not let in by {public.parent}; let in: {known}") from None


def read_public(path: Path) -> bytes:
    """The public key of a certificate, Z85, 40 bytes. Raises `SourceError`."""
    return _read(path)[0]


def _client_files(root: Path, name: str) -> tuple[Path, Path]:
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"a client's name has 1 to 64 of a-z A-Z 0-9 _ - . and begins with none of - and .; got {name!r}"
        )
    return root / "allowed" / f"{name}{PUBLIC}", root / "clients" / f"{name}{SECRET}"


def _free_client_files(root: Path, name: str) -> tuple[Path, Path]:
    for path in (files := _client_files(root, name)):
        if path.exists():
            raise FileExistsError(
                f"{path} exists and is not overwritten; choose another name or move it away"
            )
    return files


def _make_pair(public: Path, secret: Path) -> None:
    zmq: Any = require("zmq", extra="live")
    public_key, secret_key = (key.decode("ascii") for key in zmq.curve_keypair())
    _write_new(secret, public_key, secret_key, mode=0o600)
    _write_new(public, public_key, None, mode=0o644)


def _write_new(path: Path, public: str, secret: str | None, *, mode: int) -> None:
    lines = ["# A ZeroMQ CURVE certificate made by molmo2-ground.", "metadata", "curve"]
    lines.append(f'    public-key = "{public}"')
    if secret is not None:
        lines[0] += " SECRET: give it to nobody."
        lines.append(f'    secret-key = "{secret}"')
    # Made with its mode, not given it later: nobody can read it in between. O_EXCL: nothing is overwritten.
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="ascii") as file:
        file.write("\n".join(lines) + "\n")


def _read_pair(path: Path) -> tuple[bytes, bytes]:
    public, secret = _read(path)
    if secret is None:
        raise SourceError(f"{path} holds no secret key; expected a file that ends in {SECRET}")
    if path.stat().st_mode & 0o077:
        raise SourceError(
            f"others may read or change {path}, which is secret; expected mode 600: chmod 600 {path}"
        )
    return public, secret


def _read(path: Path) -> tuple[bytes, bytes | None]:
    zmq_auth: Any = require("zmq.auth", extra="live")
    if not path.is_file():
        raise SourceError(f"there is no key file {path}; molmo2-ground keys DIR makes such files")
    try:
        public, secret = zmq_auth.load_certificate(path)
    except (OSError, ValueError) as error:
        raise SourceError(
            f"{path} cannot be read as a key ({error}); molmo2-ground keys DIR makes such files"
        ) from error
    for key in (public, secret):
        if key is not None and not _KEY.fullmatch(key):
            raise SourceError(f"{path} is damaged: a key has 40 characters; make it anew")
    return public, secret
