from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

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


def test_the_code_in_the_page_prints_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    text = (Path(__file__).parents[3] / "docs" / "evaluation.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    exec(compile(block, "evaluation.md", "exec"), {"__name__": "__page__"})
    scores, score = capsys.readouterr().out.splitlines()
    assert f"# {scores}\n" in block
    assert float(score) == pytest.approx(1 / 3)


@pytest.mark.slow
def test_metrics_load_no_model() -> None:
    code = "import sys, molmo2_ground.eval.metrics, molmo2_ground.eval.intervals; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert not loaded & {"torch", "transformers", "av", "cv2", "PIL"}
    assert "scipy" in loaded
