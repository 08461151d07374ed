"""What all tests share."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

# Test modules share tests/media.py as `tests.media`, also when pytest is not started as `python -m pytest`.
_ROOT = str(Path(__file__).resolve().parent.parent)
if _ROOT not in sys.path:
    sys.path.insert(0, _ROOT)

from tests.media import Shelf  # noqa: E402 - the line above makes it importable


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    """Small media files of tests/media.py, each written once: `media(variable_rate)` gives its path."""
    return Shelf(tmp_path_factory.mktemp("media"))
