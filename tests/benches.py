"""Benchmarks as modules: what they make and measure serves tests too."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType


def load_bench(name: str) -> ModuleType:
    """The script `benchmarks/NAME.py`, not run."""
    path = Path(__file__).parents[1] / "benchmarks" / f"{name}.py"
    found = importlib.util.spec_from_file_location(f"bench_{name}", path)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules[found.name] = module
    found.loader.exec_module(module)
    return module
