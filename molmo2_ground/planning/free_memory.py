"""How much memory a device has to give."""

from __future__ import annotations

from pathlib import Path

import torch

_SYSTEM = Path("/proc/meminfo")
_GROUP = Path("/sys/fs/cgroup")  # of a container, which may have less than its machine


def free_bytes(device: torch.device, *, system: Path = _SYSTEM, group: Path = _GROUP) -> int | None:
    """Bytes that a new process could have of a device's memory now; None where nobody says.

    system, group: where Linux tells of the machine's memory and of the container's share of it.
    """
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type != "cpu":
        return None
    machine, share = _available(system), _share(group)
    return machine if share is None or machine is None else min(machine, share)


def _available(system: Path) -> int | None:
    try:
        lines = system.read_text(encoding="ascii").splitlines()
    except OSError:  # no Linux
        return None
    found = next((line.split() for line in lines if line.startswith("MemAvailable:")), None)
    return None if found is None else int(found[1]) * 1024


def _share(group: Path) -> int | None:
    try:
        most = (group / "memory.max").read_text(encoding="ascii").strip()
        used = (group / "memory.current").read_text(encoding="ascii").strip()
    except OSError:  # no container
        return None
    return None if most == "max" else max(0, int(most) - int(used))
