from __future__ import annotations

import contextlib
import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from molmo2_ground.errors import CheckpointError
from molmo2_ground.model.weight_files import read_header, weight_entries


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.zeros(3, 4), "b": torch.zeros(5, dtype=torch.float16)}, path)
    return path


def test_shapes_are_read_without_the_values(weights: Path) -> None:
    assert {name: entry.shape for name, entry in weight_entries(weights.parent).items()} == {
        "a": (3, 4),
        "b": (5,),
    }


@pytest.mark.parametrize("keep", [0, 4, 8, 30, -1], ids=lambda n: f"{n}-bytes")
def test_a_file_cut_short_is_named(weights: Path, keep: int) -> None:
    weights.write_bytes(weights.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"model\.safetensors: .*(cut short|cannot be read)"):
        read_header(weights)


def test_bytes_behind_the_end_are_noticed(weights: Path) -> None:
    weights.write_bytes(weights.read_bytes() + b"!")
    with pytest.raises(CheckpointError, match=r"expected \d+ bytes, got \d+"):
        read_header(weights)


def header(content: object) -> bytes:
    written = json.dumps(content).encode()
    return len(written).to_bytes(8, "little") + written


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(
            {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}, "another size", id="too-small"
        ),
        pytest.param(
            {"a": {"dtype": "X9", "shape": [1], "data_offsets": [0, 4]}}, "cannot be read", id="dtype"
        ),
        pytest.param({"a": [1, 2]}, "cannot be read", id="no-object"),
        pytest.param([1, 2], "cannot be read", id="list"),
        pytest.param(
            {"a": {"dtype": "F32", "shape": [float("inf")], "data_offsets": [0, 4]}},
            "cannot be read",
            id="endless",
        ),
        pytest.param({"a": {"shape": [1], "data_offsets": [0, 4]}}, "cannot be read", id="no-dtype"),
    ],
)
def test_a_wrong_header_is_named(content: object, message: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(header(content) + b"\0" * 4)
    with pytest.raises(CheckpointError, match=message):
        read_header(path)


@pytest.mark.slow
@given(st.binary(max_size=200))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
def test_any_bytes_are_read_or_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    # Anything but these two is an error of another kind, and fails the test.
    with contextlib.suppress(CheckpointError):
        assert read_header(path) == {}


@pytest.mark.slow
@given(st.integers(0, 190), st.integers(0, 255))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_changed_byte_is_read_or_refused(weights: Path, place: int, value: int) -> None:
    content = bytearray(weights.read_bytes())
    content[place % len(content)] = value
    path = weights.with_name("changed.safetensors")
    path.write_bytes(content)
    # The length of the file is fixed, so what can still be read has shapes that fill it.
    with contextlib.suppress(CheckpointError):
        assert sum(math.prod(entry.shape) for entry in read_header(path).values()) >= 0


@pytest.mark.parametrize(
    ("index", "message"),
    [
        pytest.param({"weight_map": {"a": "part"}}, r"part is missing; ", id="missing-part"),
        pytest.param({"weight_map": {"c": "model.safetensors"}}, r"does not hold c", id="missing-weight"),
        pytest.param({"weight_map": ["a"]}, "no weight_map", id="list"),
        pytest.param({}, "no weight_map", id="empty"),
        pytest.param([], "expected a JSON object", id="no-object"),
    ],
)
def test_an_index_at_odds_with_the_files_is_named(index: object, message: str, weights: Path) -> None:
    (weights.parent / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=message):
        weight_entries(weights.parent)


def test_a_folder_without_weights_says_what_it_looked_for(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no weights; expected model\.safetensors"):
        weight_entries(tmp_path)
