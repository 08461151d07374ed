"""What molmo2-ground publishes over ZeroMQ, as ROS 2 topics."""

from __future__ import annotations
