"""How many messages a socket keeps for who does not keep up."""

from __future__ import annotations

from molmo2_ground._wanted import WHOLE


def check_high_water(messages: int) -> None:
    """Raise `ValueError` unless it is a whole number of at least 1: to ZeroMQ 0 means without end."""
    WHOLE.check("high_water", messages)
    if messages < 1:
        raise ValueError(f"high_water is at least 1 message, 0 would keep without end; got {messages}")
