"""onnxruntime: whether it is here, and sessions that say which provider really runs them.

The package for GPUs lists CUDA on machines that have none, and then runs on the CPU without an error; what a
session says of itself is the only word to trust.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from molmo2_ground._optional import is_installed, require
from molmo2_ground.errors import BackendError

PACKAGES = ("onnxruntime", "onnxruntime-gpu")
CPU = "CPUExecutionProvider"
# Taken without being asked for, best first. Others (TensorRT builds engines for minutes) are asked by name.
_OF_THEMSELVES = ("CUDAExecutionProvider", CPU)
_SUFFIX = "ExecutionProvider"
_SILENT = 4  # only what ends the process; we say in our own words what did not work

# A graph of one operation, `y = Identity(x)` on float32[1], opset 13, as `onnx` writes it; a test reads it.
IDENTITY_GRAPH = bytes.fromhex(
    "0807" "3a37" "0a10" "0a0178" "120179" "2208" "4964656e74697479" "1201" "67"
    "5a0f" "0a0178" "120a" "0a08" "0801" "1204" "0a02" "0801"
    "620f" "0a0179" "120a" "0a08" "0801" "1204" "0a02" "0801"
    "4204" "0a00" "100d"
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OnnxSession:
    """A graph ready to run. provider: what really runs it; asked: what it was to be, None for the best."""

    session: Any
    provider: str
    asked: str | None
    version: str

    def __str__(self) -> str:
        return f"onnxruntime {self.version} on {self.provider}"


def runtime() -> Any:
    """The module onnxruntime, which is kept from reporting home; `MissingExtraError` when it is not there.

    Its packages send usage events to their maker unless they are told not to before they load. Whoever wants
    them sent sets ORT_DISABLE_TELEMETRY=0.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    found: Any = require(
        "onnxruntime", extra="onnx", hint="or with [onnx-gpu] for NVIDIA cards; the two exclude each other"
    )
    found.set_default_logger_severity(_SILENT)
    return found


def conflict(installed: Sequence[str] | None = None) -> str | None:
    """Both packages of onnxruntime write into one folder; what to do about it, or None when all is well.

    installed: names of packages that are here, to look at in place of this Python's own.
    """
    both = [name for name in PACKAGES if (is_installed(name) if installed is None else name in installed)]
    if len(both) < 2:
        return None
    return (
        f"{' and '.join(both)} are both installed and have overwritten each other; remove both and keep one: "
        f"pip uninstall {' '.join(both)}, then pip install 'molmo2-ground[onnx]' or 'molmo2-ground[onnx-gpu]'"
    )


def open_session(graph: Path | bytes, *, provider: str | None = None, threads: int = 0) -> OnnxSession:
    """Make a graph ready to run.

    provider: its name without `ExecutionProvider`, in any case; None for the best that works.
    threads: of the CPU, 0 for onnxruntime's own choice.
    Raises `MissingExtraError`, and `BackendError` when another provider runs than the one asked for, or when
    onnxruntime cannot read the graph.
    """
    onnxruntime = runtime()
    wanted = _wanted(onnxruntime.get_available_providers(), provider)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = _SILENT
    # Threads that spin while they wait take the processors from torch, which runs in turns with us.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(
            graph if isinstance(graph, bytes) else str(graph), options, providers=wanted
        )
    except Exception as error:  # its errors have no common class that it makes public
        what = "a graph" if isinstance(graph, bytes) else graph
        raise BackendError(f"onnxruntime cannot open {what}: {' '.join(str(error).split())}") from error
    running = str(session.get_providers()[0])
    if provider is not None and running != wanted[0]:
        raise BackendError(
            f"onnxruntime was asked for {wanted[0]} and runs on {running}: a library or a device that it "
            "needs is missing; ask for another, or for none to take the best that works"
        )
    return OnnxSession(
        session=session, provider=running, asked=provider, version=str(onnxruntime.__version__)
    )


def _wanted(there: Sequence[str], provider: str | None) -> list[str]:
    if provider is None:
        return [name for name in _OF_THEMSELVES if name in there]
    for name in there:
        if name.removesuffix(_SUFFIX).lower() == provider.lower():
            return [name]
    words = ", ".join(name.removesuffix(_SUFFIX).lower() for name in there)
    raise BackendError(f"onnxruntime has no provider {provider!r} here; expected one of: {words}")


def really_runs() -> tuple[str, tuple[str, ...]]:
    """The provider that really runs a graph of one operation, and those that onnxruntime lists.

    Raises `MissingExtraError`, `BackendError`.
    """
    import numpy as np

    opened = open_session(IDENTITY_GRAPH)
    given = np.array([1.0], dtype=np.float32)
    (returned,) = opened.session.run(None, {"x": given})
    if not np.array_equal(returned, given):
        raise BackendError(f"{opened} returns {returned} where {given} was given; install it again")
    return opened.provider, tuple(runtime().get_available_providers())
