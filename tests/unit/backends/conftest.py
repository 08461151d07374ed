from __future__ import annotations

from pathlib import Path

import pytest

from molmo2_ground.model import Molmo2, load_checkpoint
from molmo2_ground.model.random_checkpoint import write_random_checkpoint


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="session")
def model(folder: Path) -> Molmo2:
    return load_checkpoint(folder, device="cpu")
