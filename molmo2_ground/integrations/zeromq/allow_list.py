"""`AllowList`: the clients that a server lets in, as a folder says at this moment."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from molmo2_ground.errors import SourceError
from molmo2_ground.integrations.zeromq.keys import PUBLIC, read_public

_log = logging.getLogger(__name__)

Fingerprint = tuple[tuple[str, int, int], ...]


class AllowList:
    """Public keys in a folder. It is looked at for each client that comes and for each `withdrawn`.

    A folder or file that cannot be read lets nobody in, and shuts out whom it let in.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._read_as: Fingerprint | None = None
        self._keys: frozenset[bytes] = frozenset()
        self._admitted: set[bytes] = set()
        self._refused = 0

    @property
    def refused(self) -> int:
        """Clients turned away so far for a key that is not let in; each try counts."""
        return self._refused

    def callback(self, domain: str, key: bytes) -> bool:
        """Whether to let in the client with this public key (Z85); `zmq.auth` asks under this name."""
        with self._lock:
            if key in self._current():
                self._admitted.add(key)
                return True
            self._refused += 1
            return False

    def withdrawn(self) -> bool:
        """Whether a key has been taken away, since the last call, from a client that was let in."""
        with self._lock:
            gone = self._admitted - self._current()
            self._admitted -= gone
            return bool(gone)

    def _current(self) -> frozenset[bytes]:
        now = self._fingerprint()
        if now != self._read_as:
            self._keys, self._read_as = self._read(now), now
        return self._keys

    def _fingerprint(self) -> Fingerprint:
        try:
            facts = [(path.name, path.stat()) for path in self._folder.iterdir() if path.suffix == PUBLIC]
        except OSError as error:
            if self._read_as != ():
                _log.warning("nobody is let in: %s cannot be read (%s)", self._folder, error)
            return ()
        return tuple(sorted((name, stat.st_mtime_ns, stat.st_size) for name, stat in facts))

    def _read(self, files: Fingerprint) -> frozenset[bytes]:
        keys = set()
        for name, _, _ in files:
            try:
                keys.add(read_public(self._folder / name))
            except SourceError as error:
                _log.warning("left out of those let in: %s", error)
        return frozenset(keys)
