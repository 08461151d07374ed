"""`recorder_for`: the recorder that a file's name asks for."""

from __future__ import annotations

from pathlib import Path

from molmo2_ground.live.recording import Contents, Recorder, WhenFull


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
    target = Path(path)
    when_full: WhenFull = "wait" if wait else "skip"
    kind = target.suffix.lower()
    if max_mb is not None and kind != ".mcap":
        raise ValueError(f"only .mcap recordings are cut by size; got {target} and a size of {max_mb:g} MB")
    if kind == ".mcap":
        from molmo2_ground.integrations.mcap import McapRecorder

        return McapRecorder(target, contents=contents, max_mb=max_mb, when_full=when_full)
    if kind == ".rrd":
        from molmo2_ground.integrations.rerun import RerunLogger

        return RerunLogger(target, contents=contents, when_full=when_full)
    if kind in ("", ".db3"):
        from molmo2_ground.integrations.rosbag import BagRecorder

        return BagRecorder(target.with_suffix(""), contents=contents, when_full=when_full)
    raise ValueError(
        f"a recording is named .mcap (Foxglove), .rrd (Rerun), .db3 or without a suffix (a ROS 2 bag); "
        f"got {target.name!r}"
    )
