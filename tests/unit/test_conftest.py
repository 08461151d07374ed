"""On a build machine a skipped test is a failed one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # each test starts pytest as a process of its own

SKIPS = """
import pytest

@pytest.mark.skipif(True, reason="there is no abacus")
def test_marked(): ...

def test_inside():
    pytest.skip("the abacus is broken")

@pytest.mark.xfail(reason="known")
def test_known_to_fail():
    assert False
"""


@pytest.mark.parametrize(
    ("variable", "code", "told"),
    [
        pytest.param({"CI": "true"}, 1, "1 failed, 1 xfailed, 1 error", id="build-machine"),
        pytest.param({}, 0, "2 skipped, 1 xfailed", id="desk"),
    ],
)
def test_a_skip_fails_only_on_a_build_machine(
    variable: dict[str, str], code: int, told: str, tmp_path: Path
) -> None:
    (tmp_path / "test_abacus.py").write_text(SKIPS)
    others = {name: value for name, value in os.environ.items() if name not in ("CI", "PYTEST_ADDOPTS")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.conftest", "--rootdir", str(tmp_path), str(tmp_path)],
        cwd=Path(__file__).parents[2],
        env={**others, **variable},
        capture_output=True,
        text=True,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert told in done.stdout
