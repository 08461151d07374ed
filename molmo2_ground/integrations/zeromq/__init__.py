"""ZeroMQ: a stream's updates go out to whoever subscribes, and questions come in over a control socket.

`Publisher` and `ControlServer` stand beside the stream, `Subscriber` and `ControlClient` in the robot.
Names load what they need when they are first used; all need the extra `live` (pyzmq).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from molmo2_ground._lazy import on_first_use

if TYPE_CHECKING:
    from molmo2_ground.integrations.zeromq.control_client import ControlClient
    from molmo2_ground.integrations.zeromq.control_server import Controls, ControlServer
    from molmo2_ground.integrations.zeromq.keys import ClientKeys, ServerKeys
    from molmo2_ground.integrations.zeromq.publisher import Publisher
    from molmo2_ground.integrations.zeromq.subscriber import Received, Subscriber

__all__ = [
    "ClientKeys",
    "ControlClient",
    "ControlServer",
    "Controls",
    "Publisher",
    "Received",
    "ServerKeys",
    "Subscriber",
]

_HERE = "molmo2_ground.integrations.zeromq"
_HOME_OF = {
    "ClientKeys": f"{_HERE}.keys",
    "ControlClient": f"{_HERE}.control_client",
    "ControlServer": f"{_HERE}.control_server",
    "Controls": f"{_HERE}.control_server",
    "Publisher": f"{_HERE}.publisher",
    "Received": f"{_HERE}.subscriber",
    "ServerKeys": f"{_HERE}.keys",
    "Subscriber": f"{_HERE}.subscriber",
}


if not TYPE_CHECKING:  # a type checker reads the imports above, and is to find misspelt names
    __getattr__ = on_first_use(__name__, _HOME_OF)
