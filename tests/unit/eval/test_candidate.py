from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest

from molmo2_ground.backends.scripted import ScriptedBackend
from molmo2_ground.clip import Clip
from molmo2_ground.errors import CheckpointError
from molmo2_ground.eval import candidate as module
from molmo2_ground.eval.candidate import capped, checkpoint_candidate, files_digest
from molmo2_ground.eval.example import Settings
from molmo2_ground.grounder import Grounder
from molmo2_ground.model.limits import ModelLimits
from tests.fake_suite import picture_of

LIMITS = ModelLimits(max_frames=8, max_fps=2.0, max_crops=1, context_tokens=99)


@pytest.mark.slow
def test_the_bundled_model_is_named_by_its_files() -> None:
    tiny = checkpoint_candidate("tiny", device="cpu")
    assert tiny.name == "tiny"
    assert tiny.identity == checkpoint_candidate("tiny", device="cpu").identity
    assert tiny.identity != checkpoint_candidate("tiny", device="cuda").identity
    assert tiny.identity == checkpoint_candidate("tiny", device="cpu", vision="torch").identity
    by_onnx = {
        checkpoint_candidate("tiny", device="cpu", vision=f"onnx{where}").identity for where in ("", ":a")
    }
    assert len(by_onnx) == 1
    assert tiny.identity not in by_onnx
    assert pickle.loads(pickle.dumps(tiny)).identity == tiny.identity


def test_a_model_that_is_nowhere_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError):
        checkpoint_candidate(tmp_path / "nothing")


def test_the_digest_follows_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_READ_WHOLE_BYTES", 4)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"0123")
    seen = [files_digest(tmp_path)]
    weights.write_bytes(b"0124")
    seen.append(files_digest(tmp_path))
    (tmp_path / "notes.txt").write_text("no part of a checkpoint")
    assert files_digest(tmp_path) == seen[-1]
    weights.write_bytes(b"0124 and more than is read")
    seen.append(files_digest(tmp_path))
    os.utime(weights, ns=(1, 1))
    seen.append(files_digest(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    seen.append(files_digest(tmp_path))
    assert len(set(seen)) == 5


def test_a_suite_s_limit_holds_for_the_frames_looked_at() -> None:
    video = Clip.from_arrays([picture_of(n) for n in range(40)], fps=2.0)
    backend = ScriptedBackend(["There are none."] * 2, limits=LIMITS)
    assert capped(backend, Settings()) is backend
    assert capped(backend, Settings(max_frames=8)) is backend
    few = capped(backend, Settings(max_frames=3))
    assert (few.limits.max_frames, few.limits.max_fps, few.model_id) == (3, 2.0, "scripted")
    assert len(Grounder(few).point(video, "a square")) == 0
