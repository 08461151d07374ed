"""A fake of onnxruntime: what its packages do on machines with and without a card that they can use."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


class _Options:
    intra_op_num_threads = 0
    log_severity_level = 2

    def add_session_config_entry(self, key: str, value: str) -> None:
        assert key.startswith("session.")
        assert value


class FakeOnnxruntime(ModuleType):
    """The part of onnxruntime that we call. `works`: the providers that it can use of those that it lists."""

    __version__ = "0.fake"
    SessionOptions = _Options

    def __init__(self, *, lists: Sequence[str], works: Sequence[str]) -> None:
        super().__init__("onnxruntime")
        self._lists = list(lists)
        self._works = set(works)

    def set_default_logger_severity(self, level: int) -> None:
        assert 0 <= level <= 4

    def get_available_providers(self) -> list[str]:
        return list(self._lists)

    def InferenceSession(
        self, graph: str | bytes, options: _Options, providers: Sequence[str]
    ) -> FakeSession:
        assert graph
        assert set(providers) <= set(self._lists)
        usable = [name for name in providers if name in self._works]
        return FakeSession([*usable, *([] if CPU in usable else [CPU])])


class FakeSession:
    """A session of a graph that gives back what it is given."""

    def __init__(self, providers: list[str]) -> None:
        self._providers = providers

    def get_providers(self) -> list[str]:
        return self._providers

    def run(self, outputs: None, inputs: dict[str, Any]) -> list[Any]:
        return list(inputs.values())
