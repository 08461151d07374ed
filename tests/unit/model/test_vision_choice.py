from __future__ import annotations

from pathlib import Path

import pytest

from molmo2_ground.model.vision_choice import VisionChoice


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param("torch", VisionChoice(), id="torch"),
        pytest.param("onnx", VisionChoice(runtime="onnx"), id="best-provider"),
        pytest.param("onnx-cuda", VisionChoice(runtime="onnx", provider="cuda"), id="provider"),
        pytest.param("onnx-CUDA", VisionChoice(runtime="onnx", provider="cuda"), id="in-capitals"),
        pytest.param("onnx:out/a", VisionChoice(runtime="onnx", folder=Path("out/a")), id="folder"),
        pytest.param("onnx:C:/a", VisionChoice(runtime="onnx", folder=Path("C:/a")), id="folder-with-colon"),
        pytest.param(
            "onnx-cpu:a-b", VisionChoice(runtime="onnx", provider="cpu", folder=Path("a-b")), id="both"
        ),
        pytest.param("onnx:~/a", VisionChoice(runtime="onnx", folder=Path.home() / "a"), id="home"),
    ],
)
def test_words_become_a_choice(words: str, expected: VisionChoice) -> None:
    assert VisionChoice.parse(words) == expected


@pytest.mark.parametrize(
    "words", ["", "onx", "onnx-", "onnx:", "onnx-cpu:", "torch:here", "torch-cpu", "onnxruntime", "Onnx"]
)
def test_other_words_are_refused(words: str) -> None:
    with pytest.raises(ValueError, match="vision must be 'torch', 'onnx'"):
        VisionChoice.parse(words)
