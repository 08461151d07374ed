from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from molmo2_ground.errors import BackendError, MissingExtraError
from molmo2_ground.model.onnx_session import IDENTITY_GRAPH, conflict, open_session, really_runs, runtime
from tests.fake_onnxruntime import CPU, CUDA, FakeOnnxruntime

needs_onnxruntime = pytest.mark.skipif(
    importlib.util.find_spec("onnxruntime") is None,
    reason="onnxruntime is not installed: pip install '.[onnx]'",
)


def test_without_onnxruntime_both_extras_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r"molmo2-ground\[onnx\].*\[onnx-gpu\].*exclude each other"):
        runtime()


@pytest.mark.parametrize(
    "installed",
    [
        pytest.param([], id="none"),
        pytest.param(["onnxruntime"], id="cpu"),
        pytest.param(["onnxruntime-gpu", "numpy"], id="gpu"),
    ],
)
def test_one_package_is_no_conflict(installed: list[str]) -> None:
    assert conflict(installed) is None


def test_two_packages_are_a_conflict_with_a_way_out() -> None:
    words = conflict(["onnxruntime-gpu", "onnxruntime"])
    assert words is not None
    assert "pip uninstall onnxruntime onnxruntime-gpu" in words


@pytest.mark.parametrize(
    ("lists", "works", "asked", "runs"),
    [
        pytest.param([CPU], [CPU], None, CPU, id="cpu-alone"),
        pytest.param([CUDA, CPU], [CUDA, CPU], None, CUDA, id="best"),
        pytest.param([CUDA, CPU], [CPU], None, CPU, id="listed-but-not-working"),
        pytest.param([CUDA, CPU], [CUDA, CPU], "cpu", CPU, id="asked-cpu"),
        pytest.param([CUDA, CPU], [CUDA, CPU], "Cuda", CUDA, id="asked-cuda"),
        pytest.param(["OtherExecutionProvider", CPU], [CPU], None, CPU, id="others-only-when-asked"),
    ],
)
def test_the_session_says_what_really_runs(
    lists: list[str], works: list[str], asked: str | None, runs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", FakeOnnxruntime(lists=lists, works=works))
    opened = open_session(b"graph", provider=asked)
    assert opened.provider == runs
    assert str(opened) == f"onnxruntime 0.fake on {runs}"


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        pytest.param("cuda", f"asked for {CUDA} and runs on {CPU}", id="does-not-work"),
        pytest.param("tensorrt", "no provider 'tensorrt' here; expected one of: cuda, cpu", id="not-there"),
    ],
)
def test_another_provider_than_the_one_asked_for_is_an_error(
    asked: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", FakeOnnxruntime(lists=[CUDA, CPU], works=[CPU]))
    with pytest.raises(BackendError, match=message):
        open_session(b"graph", provider=asked)


def test_the_smallest_graph_tells_what_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", FakeOnnxruntime(lists=[CUDA, CPU], works=[CPU]))
    assert really_runs() == (CPU, (CUDA, CPU))


@pytest.mark.slow
@needs_onnxruntime
def test_nothing_is_kept_or_sent_home(tmp_path: Path) -> None:
    # With its usage events on, onnxruntime leaves an id of the machine in the user's cache when it loads.
    code = "from molmo2_ground.model.onnx_session import really_runs; really_runs()"
    clean = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    there = {**clean, "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    subprocess.run([sys.executable, "-c", code], check=True, env=there)
    assert list(tmp_path.iterdir()) == []


@needs_onnxruntime
def test_the_smallest_graph_runs() -> None:
    running, listed = really_runs()
    assert running in listed


@needs_onnxruntime
@pytest.mark.parametrize(
    "graph", [b"", b"no graph at all", IDENTITY_GRAPH[:-9]], ids=["none", "words", "cut"]
)
def test_a_damaged_graph_is_one_line(graph: bytes) -> None:
    with pytest.raises(BackendError, match=r"\Aonnxruntime cannot open a graph: .+\Z"):
        open_session(graph, provider="cpu")


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("onnx") is None, reason="onnx is not installed: pip install '.[onnx]'"
)
def test_the_smallest_graph_is_what_its_comment_says() -> None:
    import onnx

    model = onnx.load_from_string(IDENTITY_GRAPH)
    onnx.checker.check_model(model, full_check=True)
    (node,) = model.graph.node
    assert (node.op_type, list(node.input), list(node.output)) == ("Identity", ["x"], ["y"])
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 13)]
