"""`molmo2-ground keys`: key files for a publisher and those who may listen to it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from molmo2_ground._cli_output import say

if TYPE_CHECKING:
    from molmo2_ground.grounder import Grounder

Loader = Callable[..., "Grounder"]


def add_parser(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], *, common: argparse.ArgumentParser
) -> None:
    """Add `keys`."""
    words = "make keys for a publisher and its clients, list those let in, shut one out"
    parser = commands.add_parser(
        "keys",
        help=words,
        description=words.capitalize() + ". Nothing that exists is ever overwritten.",
        parents=[common],
    )
    parser.add_argument("folder", metavar="DIR", type=Path, help="made when it does not exist")
    parser.add_argument(
        "--client", metavar="NAME", action="append", default=[], help="make a client's keys and let it in"
    )
    parser.add_argument("--revoke", metavar="NAME", action="append", default=[], help="shut a client out")
    parser.add_argument(
        "--list", action="store_true", help="print the clients that are let in, and do no more"
    )
    parser.set_defaults(call=keys)


def keys(arguments: argparse.Namespace, loader: Loader | None) -> int:
    """`keys DIR [--client NAME]… [--revoke NAME]… [--list]`."""
    from molmo2_ground.integrations.zeromq.keys import (
        allowed_names,
        check_new_clients,
        make_client_keys,
        make_server_keys,
        revoke,
    )

    folder: Path = arguments.folder
    if arguments.list:
        if arguments.client or arguments.revoke:
            raise ValueError("--list changes nothing; leave out --client and --revoke")
        if not folder.is_dir():
            raise FileNotFoundError(
                f"the folder {folder} does not exist; molmo2-ground keys {folder} makes it"
            )
        for name in allowed_names(folder):
            print(name)
        return 0
    check_new_clients(folder, arguments.client)  # a wrong name must not leave half of them made
    for name in arguments.revoke:
        revoke(folder, name)
        print(f"{name} is shut out; servers that run shut it out within two seconds")
    if arguments.revoke and not arguments.client:
        return 0
    if make_server_keys(folder):
        print(f"made {folder / 'server.key_secret'} (stays on this machine; for --keys {folder})")
        print(f"made {folder / 'server.key'} (public: copy it to each client)")
    elif not arguments.client and not arguments.quiet:
        say(f"{folder} has the server's keys already; nothing was changed (--client NAME adds a client)")
    for name in arguments.client:
        secret = make_client_keys(folder, name)
        print(f"made {secret} (move it to {name}, with a copy of {folder / 'server.key'})")
    return 0
