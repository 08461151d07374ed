"""`VisionChoice`: what runs the vision tower, as `vision=` and `--vision` name it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from molmo2_ground._wanted import WORDS

_WORDS = "'torch', 'onnx' or 'onnx-PROVIDER' such as onnx-cpu, and behind an onnx word maybe ':FOLDER'"


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionChoice:
    """What runs the vision tower and the connector.

    runtime   torch, or onnxruntime on an exported graph.
    provider  onnxruntime's provider without `ExecutionProvider`, in lower case; None for the best there is.
    folder    where the exported graph is, or is to be put; None for a folder of the user's cache.
    """

    runtime: Literal["torch", "onnx"] = "torch"
    provider: str | None = None
    folder: Path | None = None

    @classmethod
    def parse(cls, words: str) -> Self:
        """Read `torch`, `onnx`, `onnx-cpu`, `onnx:FOLDER` or `onnx-cuda:FOLDER`; `ValueError` for others."""
        WORDS.check("vision", words)
        kind, colon, folder = words.partition(":")
        runtime, dash, provider = kind.partition("-")
        if words == "torch":
            return cls()
        if runtime != "onnx" or (dash and not provider) or (colon and not folder):
            raise ValueError(f"vision must be {_WORDS}; got {words!r}")
        return cls(
            runtime="onnx",
            provider=provider.lower() or None,
            folder=Path(folder).expanduser() if folder else None,
        )
