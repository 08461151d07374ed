from __future__ import annotations

import subprocess
import sys

import pytest

import molmo2_ground.train as train


@pytest.mark.parametrize(
    "name",
    [
        "Branch",
        "FineTuning",
        "MessageTree",
        "Packer",
        "attention_rule",
        "branch_weight",
        "fine_tune",
        "flatten",
    ],
)
def test_a_promised_name_is_there(name: str) -> None:
    assert name in train.__all__
    assert name in dir(train)
    assert callable(getattr(train, name))


def test_the_names_are_sorted_and_another_one_is_an_error() -> None:
    assert train.__all__ == sorted(train.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Brnach'"):
        _ = train.Brnach  # type: ignore[attr-defined]  # misspelt on purpose


def test_the_folder_alone_loads_nothing_heavy() -> None:
    code = "import sys, molmo2_ground.train; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"torch", "transformers", "av", "cv2"}.isdisjoint(done.stdout.split())
