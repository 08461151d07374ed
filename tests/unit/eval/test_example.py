from __future__ import annotations

import subprocess
import sys

import pytest

from molmo2_ground.eval.example import Truth, TruthObject, mean_summary


def test_an_object_has_one_id() -> None:
    twice = TruthObject(object_id=4, frames=())
    with pytest.raises(ValueError, match=r"came twice: \[4\]"):
        Truth(size_px=(4, 3), objects=(twice, TruthObject(object_id=5, frames=()), twice))


def test_a_rate_is_above_0() -> None:
    with pytest.raises(ValueError, match="above 0"):
        Truth(size_px=(4, 3), fps=0.0)


def test_the_mean_is_over_the_examples_that_have_the_score() -> None:
    assert mean_summary([{"f1": 1.0}, {"f1": 0.0, "close": 1.0}]) == {"f1": 0.5, "close": 1.0}
    assert mean_summary([]) == {}


def test_metrics_load_no_model() -> None:
    code = "import sys, molmo2_ground.eval.metrics, molmo2_ground.eval.intervals; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert not loaded & {"torch", "transformers", "av", "cv2", "PIL"}
    assert "scipy" in loaded
