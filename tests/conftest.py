"""What all tests share."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

# Test modules share tests/media.py as `tests.media`, also when pytest is not started as `python -m pytest`.
_ROOT = str(Path(__file__).resolve().parent.parent)
if _ROOT not in sys.path:
    sys.path.insert(0, _ROOT)

from tests.media import Shelf  # noqa: E402 - the line above makes it importable

# A shell that starts the suite in its background has it ignore Ctrl-C, and every command that a test starts
# would inherit that and never end.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    """Small media files of tests/media.py, each written once: `media(variable_rate)` gives its path."""
    return Shelf(tmp_path_factory.mktemp("media"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a skipped test on a build machine: what it lacks is to be installed there by .ci/run."""
    report = yield
    if report.skipped and os.environ.get("CI") and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome, report.longrepr = "failed", f"{item.nodeid} was skipped with CI set: {reason}"
    return report


def pytest_collection_finish() -> None:
    """Take what all tests share, libraries and the tests themselves, out of what garbage is looked for in.

    Tests that count what is alive collect several times, and each time took seconds.
    """
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Generator[None, bool | None, bool | None]:
    """Give each test what the one before had: torch's threads and what is logged.

    Commands set both for their process. A sum of floats may come out differently on one thread and on
    several, and after a command with --quiet no warning is heard.
    """
    loaded = sys.modules.get("torch")
    before = None if loaded is None else loaded.get_num_threads()
    logger = logging.getLogger("molmo2_ground")
    level = logger.level
    done = yield
    if loaded is not None:
        loaded.set_num_threads(before)
    logger.setLevel(level)
    return done
