"""Zones, lines and speeds: what happened to tracked objects, as typed events.

Names load what they need when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from molmo2_ground._lazy import on_first_use

if TYPE_CHECKING:
    from molmo2_ground.analytics.event import (
        Appeared,
        CountChanged,
        Disappeared,
        Event,
        LineCrossed,
        ZoneEntered,
        ZoneLeft,
    )
    from molmo2_ground.analytics.events import Events, find_events, find_speeds
    from molmo2_ground.analytics.homography import Homography
    from molmo2_ground.analytics.line import Line
    from molmo2_ground.analytics.occupancy import Occupancy
    from molmo2_ground.analytics.rules import Rules
    from molmo2_ground.analytics.speed import Speed
    from molmo2_ground.analytics.summary import Summary
    from molmo2_ground.analytics.visit import Visit
    from molmo2_ground.analytics.zone import Zone
    from molmo2_ground.analytics.zone_file import ZoneFile, read_zone_file

__all__ = [
    "Appeared",
    "CountChanged",
    "Disappeared",
    "Event",
    "Events",
    "Homography",
    "Line",
    "LineCrossed",
    "Occupancy",
    "Rules",
    "Speed",
    "Summary",
    "Visit",
    "Zone",
    "ZoneEntered",
    "ZoneFile",
    "ZoneLeft",
    "find_events",
    "find_speeds",
    "read_zone_file",
]

_HOMES = {
    "event": (
        "Appeared",
        "CountChanged",
        "Disappeared",
        "Event",
        "LineCrossed",
        "ZoneEntered",
        "ZoneLeft",
    ),
    "events": ("Events", "find_events", "find_speeds"),
    "homography": ("Homography",),
    "line": ("Line",),
    "occupancy": ("Occupancy",),
    "rules": ("Rules",),
    "speed": ("Speed",),
    "summary": ("Summary",),
    "visit": ("Visit",),
    "zone": ("Zone",),
    "zone_file": ("ZoneFile", "read_zone_file"),
}
_HOME_OF = {name: f"{__name__}.{home}" for home, names in _HOMES.items() for name in names}


if not TYPE_CHECKING:  # a type checker reads the imports above, and is to find misspelt names
    __getattr__ = on_first_use(__name__, _HOME_OF)


def __dir__() -> list[str]:
    return sorted(__all__)
