from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from molmo2_ground.model import Molmo2, load_checkpoint
from molmo2_ground.model.flags import InputFlags
from molmo2_ground.model.random_checkpoint import Kind, byte_tokenizer, random_flags, write_random_checkpoint
from molmo2_ground.model.text_codec import TextCodec

KINDS: tuple[Kind, ...] = ("qwen", "olmo")


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: write_random_checkpoint(tmp_path_factory.mktemp(kind), kind=kind) for kind in KINDS}


@pytest.fixture(scope="session")
def models(folders: dict[str, Path]) -> dict[str, Molmo2]:
    return {kind: load_checkpoint(folder, device="cpu") for kind, folder in folders.items()}


@pytest.fixture(scope="session")
def model(models: dict[str, Molmo2]) -> Molmo2:
    return models["qwen"]


@pytest.fixture(scope="session")
def codec() -> TextCodec:
    return TextCodec(byte_tokenizer(), bos_word="<|im_end|>", eos_word="<|im_end|>")


@pytest.fixture(scope="session")
def flags_of() -> Callable[..., InputFlags]:
    tokenizer = byte_tokenizer()

    def make(kind: Kind = "qwen", **changes: Any) -> InputFlags:
        return random_flags(kind, tokenizer=tokenizer, **changes)

    return make
