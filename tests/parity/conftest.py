from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from molmo2_ground.model.random_checkpoint import Kind, write_random_checkpoint


@pytest.fixture(scope="session")
def checkpoint_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[Kind, Path]:
    kinds: tuple[Kind, ...] = ("qwen", "olmo")
    return {kind: write_random_checkpoint(tmp_path_factory.mktemp(kind), kind=kind) for kind in kinds}


@pytest.fixture(scope="session")
def maker() -> ModuleType:
    import importlib.util

    path = Path(__file__).with_name("make_goldens.py")
    spec = importlib.util.spec_from_file_location("make_goldens", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
