"""`recorder_for`: the recorder that a file's name asks for."""

from __future__ import annotations

from pathlib import Path

from molmo2_ground._optional import require
from molmo2_ground.live.recording import Contents, Recorder, WhenFull

_LIBRARIES = {
    ".mcap": ("mcap.writer", "record"),
    ".rrd": ("rerun", "rerun"),
    ".db3": ("rosbags.rosbag2", "record"),
    "": ("rosbags.rosbag2", "record"),
}


def recorder_for(
    path: Path | str, *, contents: Contents | None = None, max_mb: float | None = None, wait: bool = False
) -> Recorder:
    """A recorder that is open.

    `run.mcap` is an MCAP file for Foxglove; `run.rrd` a Rerun file; `run.db3`, or a name without a suffix, a
    ROS 2 bag (`run.db3` makes the folder `run` with that file in it, as ROS does).
    contents  see `Contents`.   max_mb  begin another file after so many megabytes; only for `.mcap`.
    wait      hold up the caller when the disk is slower, instead of leaving updates out.
    Raises `ValueError` for another suffix and for a size that cannot be kept, and what the recorder raises.
    """
    target, kind = checked_recording(path, max_mb=max_mb), Path(path).suffix.lower()
    when_full: WhenFull = "wait" if wait else "skip"
    if kind == ".mcap":
        from molmo2_ground.integrations.mcap import McapRecorder

        return McapRecorder(target, contents=contents, max_mb=max_mb, when_full=when_full)
    if kind == ".rrd":
        from molmo2_ground.integrations.rerun import RerunLogger

        return RerunLogger(target, contents=contents, when_full=when_full)
    from molmo2_ground.integrations.rosbag import BagRecorder

    return BagRecorder(target, contents=contents, when_full=when_full)


def checked_recording(path: Path | str, *, max_mb: float | None = None) -> Path:
    """What a recording of this name will be on the disk: the file, or the folder of a bag. Opens nothing.

    Raises `ValueError` as `recorder_for`, `MissingExtraError` when the library for it is not installed.
    """
    target = Path(path)
    kind = target.suffix.lower()
    if kind not in _LIBRARIES:
        raise ValueError(
            f"a recording is named .mcap (Foxglove), .rrd (Rerun), .db3 or without a suffix (a ROS 2 bag); "
            f"got {target.name!r}"
        )
    if max_mb is not None and kind != ".mcap":
        raise ValueError(f"only .mcap recordings are cut by size; got {target} and a size of {max_mb:g} MB")
    module, extra = _LIBRARIES[kind]
    require(module, extra=extra)
    return target.with_suffix("") if kind == ".db3" else target
