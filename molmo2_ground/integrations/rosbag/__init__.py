"""Recordings as ROS 2 bags, without ROS; needs the extra `record`."""

from __future__ import annotations

from molmo2_ground.integrations.rosbag.recorder import BagRecorder
from molmo2_ground.integrations.rosbag.recovery import recover_bag

__all__ = ["BagRecorder", "recover_bag"]
