"""Results as a page for a browser, in one file that needs no network."""

from __future__ import annotations

from molmo2_ground.viewer.report import write_report

__all__ = ["write_report"]
