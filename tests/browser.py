"""A real browser for tests: chromium or chrome without a window."""

from __future__ import annotations

import shutil
from pathlib import Path

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def browser_command(address: str, *options: str, profile: Path) -> list[str]:
    """What starts the browser on a page; `profile` is a folder of its own."""
    assert BROWSER is not None
    return [
        BROWSER,
        "--headless",
        "--no-sandbox",  # the browser refuses to run as root with it, as in containers
        "--disable-gpu",
        "--disable-dev-shm-usage",  # which is small in containers
        "--hide-scrollbars",
        f"--user-data-dir={profile}",
        *options,
        address,
    ]
