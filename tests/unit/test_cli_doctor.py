"""What `doctor` says of the two packages of onnxruntime, which exclude each other."""

from __future__ import annotations

import sys

import pytest

from molmo2_ground._cli_doctor import extras, onnxruntime
from tests.fake_onnxruntime import CPU, CUDA, FakeOnnxruntime


@pytest.mark.parametrize(
    ("installed", "works", "states"),
    [
        pytest.param([], [CPU], [], id="not-here"),
        pytest.param(["onnxruntime"], [CPU], ["ok"], id="cpu"),
        pytest.param(["onnxruntime-gpu"], [CUDA, CPU], ["ok"], id="gpu"),
        pytest.param(["onnxruntime-gpu"], [CPU], ["ok", "missing"], id="gpu-without-a-card"),
        pytest.param(["onnxruntime", "onnxruntime-gpu"], [CPU], ["failed"], id="both"),
    ],
)
def test_doctor_says_which_provider_of_onnxruntime_really_runs(
    installed: list[str], works: list[str], states: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lists = [CUDA, CPU] if "onnxruntime-gpu" in installed else [CPU]
    monkeypatch.setitem(sys.modules, "onnxruntime", FakeOnnxruntime(lists=lists, works=works))
    found = list(onnxruntime(dict.fromkeys(installed, "1.2.3")))
    assert [finding.state for finding in found] == states
    if states[:1] == ["ok"]:
        assert found[0].words == f"1.2.3, really runs on {works[0]}; lists {', '.join(lists)}"
    if states == ["failed"]:
        assert "pip uninstall onnxruntime onnxruntime-gpu" in found[0].words


def test_doctor_does_not_offer_an_extra_beside_its_rival() -> None:
    # numpy plays the package that must not be there with it.
    lines = ['no-such-library; extra == "onnx-gpu"']
    (finding,) = extras(lines, rivals={"onnx-gpu": "numpy"})
    assert finding.state == "missing"
    assert finding.words == (
        "not beside numpy, which is here; to change: pip uninstall numpy, "
        "then pip install 'molmo2-ground[onnx-gpu]'"
    )
    (finding,) = extras(lines, rivals={"onnx-gpu": "another-missing-library"})
    assert finding.words.startswith("without no-such-library")
