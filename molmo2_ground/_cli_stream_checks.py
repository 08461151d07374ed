"""What `stream` finds out before the model loads, which may take minutes: that its outputs can be made."""

from __future__ import annotations

import argparse
import os
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from molmo2_ground._cli_stream_options import watches_of

if TYPE_CHECKING:
    from molmo2_ground.analytics import ZoneFile

_NEEDS = {
    # option: (what makes no sense without, one of these)
    "zones": ("holds the places that sentences name; say them with --watch SENTENCE", ("watch",)),
    "clips": ("keeps what is around events; say which with --watch SENTENCE", ("watch",)),
    "keys": ("is for sockets; give --publish or --control too", ("publish", "control")),
    "insecure": ("is for sockets; give --publish or --control too", ("publish", "control")),
    "record_max_mb": ("is for recordings; give --record FILE.mcap too", ("record",)),
    "record_pictures": ("is for recordings; give --record FILE too", ("record",)),
    "debounce": ("is for what is watched; say what with --watch SENTENCE", ("watch",)),
    "cooldown": ("is for what is watched; say what with --watch SENTENCE", ("watch",)),
}
_ABOVE_0 = (
    "seconds", "speed", "open_timeout", "read_timeout", "record_max_mb",
    "fps", "max_age", "valid", "grace", "carry_fps", "tokens_per_minute",
)  # fmt: skip
_FROM_0 = ("look_every", "debounce", "cooldown")


def check_usage(arguments: argparse.Namespace) -> None:
    """Refuse options that make no sense together. Raises `ValueError`."""
    if arguments.ui and arguments.json is not None:
        raise ValueError("--ui and --json - both write to the terminal; choose one")
    for name, (why, others) in _NEEDS.items():
        value = getattr(arguments, name)
        is_given = value is not None and value is not False  # a 0 is given, and equals False
        if is_given and not any(getattr(arguments, o) for o in others):
            raise ValueError(f"--{name.replace('_', '-')} {why}")
    _check_followed(arguments)
    _check_numbers(arguments)


def _check_followed(arguments: argparse.Namespace) -> None:
    if arguments.buffer is not None and arguments.policy != "every":
        raise ValueError(
            f"--buffer is how many pictures may wait under --policy every; the policy is {arguments.policy}"
        )
    for name in ("carry_fps", "look_every"):
        if arguments.carry == "none" and getattr(arguments, name) is not None:
            raise ValueError(
                f"--{name.replace('_', '-')} is for places that are carried on; with --carry none every "
                "sampled picture is looked at, and no other is used"
            )


def _check_numbers(arguments: argparse.Namespace) -> None:
    for name in (*_ABOVE_0, *_FROM_0):
        value = getattr(arguments, name)
        if value is None or (0 < value < float("inf")) or (value == 0 and name in _FROM_0):
            continue
        least = "0 or above" if name in _FROM_0 else "above 0"
        raise ValueError(f"--{name.replace('_', '-')} is a finite number, {least}; got {value:g}")
    if arguments.carry_fps is not None and arguments.carry_fps < arguments.fps:
        raise ValueError(
            f"--carry-fps is at least --fps, {arguments.fps:g}; got {arguments.carry_fps:g}: places are "
            "carried on between the pictures that the model sees"
        )
    for name in ("updates", "buffer"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name} is at least 1; got {value}")
    if arguments.metrics is not None and not 0 <= arguments.metrics <= 65535:
        raise ValueError(f"--metrics takes a port, 0 to 65535; got {arguments.metrics}")


def check_outputs(arguments: argparse.Namespace, questions: Iterable[str], *, zones: ZoneFile | None) -> None:
    """Find what would stop an output or a watch when it is opened; nothing is made.

    Raises `ValueError` for what was written wrongly, `SourceError` and `OSError` for files, folders and
    addresses that cannot be used, `MissingExtraError` for a library that is not installed.
    """
    _check_watches(arguments, questions, zones)
    _check_recordings(arguments.record, max_mb=arguments.record_max_mb)
    if arguments.clips is not None and arguments.clips.exists() and not arguments.clips.is_dir():
        raise ValueError(f"--clips takes a folder; {arguments.clips} is a file")
    if arguments.publish is not None or arguments.control is not None:
        _check_sockets(arguments)
    if arguments.metrics is not None:
        _check_metrics(arguments.metrics)
    if arguments.ui:
        from molmo2_ground._optional import require

        require("rich.live", extra="live")


def _check_watches(arguments: argparse.Namespace, questions: Iterable[str], zones: ZoneFile | None) -> None:
    # Zones in shares of the picture wait for its size; names and sentences do not.
    names = [watch.name for watch in watches_of(arguments, questions, zones=zones, size_px=(1, 1))]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"--watch {twice!r} is given twice; say it once")


def _check_recordings(paths: Iterable[Path], *, max_mb: float | None) -> None:
    if not paths:
        return
    from molmo2_ground.integrations.recording import checked_recording

    targets: set[Path] = set()
    for path in paths:
        if not path.parent.is_dir():
            raise ValueError(f"cannot record to {path}: the folder {path.parent} does not exist")
        target = checked_recording(path, max_mb=max_mb)
        if target.exists() or target.is_symlink():
            raise ValueError(f"{target} exists; record under another name, or move that one away")
        if not os.access(target.parent, os.W_OK):
            raise PermissionError(f"cannot record to {path}: nothing can be written to {target.parent}")
        if target.absolute() in targets:
            raise ValueError("two recordings have the same name; choose different ones")
        targets.add(target.absolute())


def _check_sockets(arguments: argparse.Namespace) -> None:
    from molmo2_ground.integrations.zeromq import ServerKeys
    from molmo2_ground.integrations.zeromq.door import check_free
    from molmo2_ground.integrations.zeromq.endpoint import check_bind

    keys = None if arguments.keys is None else ServerKeys.load(arguments.keys)
    endpoints = [one for one in (arguments.publish, arguments.control) if one is not None]
    if len(endpoints) == 2 and endpoints[0] == endpoints[1] and not endpoints[0].endswith(":*"):
        raise ValueError(f"--publish and --control need two addresses; got {endpoints[0]} for both")
    for endpoint in endpoints:
        check_free(check_bind(endpoint, with_keys=keys is not None, insecure=arguments.insecure))


def _check_metrics(port: int) -> None:
    from molmo2_ground._optional import require

    require("prometheus_client", extra="live")
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError as error:
        raise OSError(
            error.errno, f"{os.strerror(error.errno or 0)}: --metrics cannot have port {port}; choose another"
        ) from error
