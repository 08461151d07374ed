from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import pytest
import torch

from molmo2_ground.errors import TrainingError
from molmo2_ground.train.named_tensors import model_tensors
from molmo2_ground.train.snapshot import STATE_FILE, SnapshotStore, load_weights, open_snapshot

WEIGHTS = {"model": {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2, dtype=torch.bfloat16)}}


def saved(folder: Path, *steps: int, keep: int = 5) -> SnapshotStore:
    store = SnapshotStore(folder, keep=keep)
    for step in steps:
        store.save(step, tensors=WEIGHTS, state={"loader": {"next": step}, "losses": [0.1, 1 / 3]})
    return store


def test_what_is_saved_is_read_back_to_the_bit(tmp_path: Path) -> None:
    snapshot = saved(tmp_path, 7).latest()
    assert snapshot is not None
    assert (snapshot.step, snapshot.state) == (7, {"loader": {"next": 7}, "losses": [0.1, 1 / 3]})
    read = snapshot.tensors("model")
    assert read.keys() == WEIGHTS["model"].keys()
    for name, tensor in WEIGHTS["model"].items():
        assert torch.equal(read[name], tensor)
        assert read[name].dtype == tensor.dtype


def test_the_newest_is_taken_and_only_so_many_are_kept(tmp_path: Path) -> None:
    store = saved(tmp_path, 1, 2, 10, 9, keep=2)
    assert sorted(os.listdir(tmp_path)) == ["step-00000009", "step-00000010"]
    latest = store.latest()
    assert latest is not None
    assert latest.step == 10


def test_an_empty_or_missing_folder_has_no_snapshot(tmp_path: Path) -> None:
    assert SnapshotStore(tmp_path).latest() is None
    assert SnapshotStore(tmp_path / "none").latest() is None


def damage_size(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


def damage_state(folder: Path) -> None:
    path = folder / STATE_FILE
    path.write_text(path.read_text()[:-9])


def damage_missing(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def damage_version(folder: Path) -> None:
    path = folder / STATE_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": 2}))


@pytest.mark.parametrize("damage", [damage_size, damage_state, damage_missing, damage_version])
def test_a_damaged_snapshot_is_passed_over_and_made_anew(
    damage: object, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert callable(damage)
    store = saved(tmp_path, 3, 6)
    damage(tmp_path / "step-00000006")
    with caplog.at_level(logging.WARNING):
        latest = store.latest()
    assert latest is not None
    assert latest.step == 3
    assert "step-00000006 is damaged and passed over" in caplog.text
    saved(tmp_path, 6)
    again = store.latest()
    assert again is not None
    assert again.step == 6
    assert sorted(os.listdir(tmp_path)) == ["step-00000003", "step-00000006"]


@pytest.mark.parametrize("keep", [1, 2])
def test_damaged_snapshots_of_later_steps_do_not_push_out_whole_ones(keep: int, tmp_path: Path) -> None:
    saved(tmp_path, 3, 6, 9)
    for step in (6, 9):
        damage_size(tmp_path / f"step-{step:08d}")
    store = saved(tmp_path, 4, keep=keep)
    latest = store.latest()
    assert latest is not None
    assert latest.step == 4
    assert (tmp_path / "step-00000003").exists() == (keep == 2)


def test_when_all_are_damaged_the_run_is_not_started_anew_in_silence(tmp_path: Path) -> None:
    store = saved(tmp_path, 3)
    damage_state(tmp_path / "step-00000003")
    with pytest.raises(TrainingError, match=r"no snapshot in .* is whole"):
        store.latest()


def test_what_a_kill_left_is_removed_and_other_files_are_not(tmp_path: Path) -> None:
    store = saved(tmp_path, 3)
    (tmp_path / ".step-00000006.0123abcd.part").mkdir()
    (tmp_path / ".step-00000006.0123abcd.part" / "model.safetensors").write_bytes(b"half")
    (tmp_path / "notes.txt").write_text("mine")
    latest = store.latest()
    assert latest is not None
    assert latest.step == 3
    assert sorted(os.listdir(tmp_path)) == ["notes.txt", "step-00000003"]


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    def full(tensors: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(
        TrainingError, match=r"step 3 could not be written.*No space left.*goes on from the start"
    ):
        SnapshotStore(tmp_path, write=full).save(3, tensors=WEIGHTS, state={})
    assert os.listdir(tmp_path) == []


def test_numbers_that_json_cannot_hold_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        SnapshotStore(tmp_path).save(1, tensors=WEIGHTS, state={"loss": float("nan")})
    with pytest.raises(ValueError, match="keep must be 1 or more"):
        SnapshotStore(tmp_path, keep=0)


def test_the_weights_of_a_snapshot_start_another_run(tmp_path: Path) -> None:
    tied = torch.nn.Linear(3, 3)
    whole = torch.nn.ModuleDict({"one": tied, "same": tied})
    SnapshotStore(tmp_path).save(4, tensors={"model": model_tensors(whole)}, state={})
    linear = torch.nn.Linear(3, 3)
    load_weights(tmp_path / "step-00000004", torch.nn.ModuleDict({"one": linear}))
    assert torch.equal(linear.weight, tied.weight)
    with pytest.raises(TrainingError, match=r"another model: expected 1 tensors, got 2"):
        load_weights(
            tmp_path / "step-00000004", torch.nn.ModuleDict({"one": torch.nn.Linear(3, 3, bias=False)})
        )
    with pytest.raises(TrainingError, match="step-00000005 cannot be read"):
        open_snapshot(tmp_path / "step-00000005")
