"""Live sources: cameras and streams, one picture after another, for as long as they last."""

from __future__ import annotations
