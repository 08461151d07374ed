from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from molmo2_ground.errors import CheckpointError
from molmo2_ground.model import load_checkpoint
from molmo2_ground.model.checkpoint import TINY_FOLDER, locate, open_checkpoint
from molmo2_ground.model.molmo2 import chosen_device
from molmo2_ground.model.random_checkpoint import write_random_checkpoint


@pytest.fixture
def folder(folders: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(folders["qwen"], tmp_path / "checkpoint"))


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_checkpoint(tmp_path_factory.mktemp("parts"), max_shard_bytes=200_000)


def edit(folder: Path, name: str, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads((folder / name).read_text())
    change(content)
    (folder / name).write_text(json.dumps(content))


def rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


LM_HEAD = "lm_head.weight"
WTE = "model.transformer.wte.embedding"
DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no-config": (lambda f: (f / "config.json").unlink(), r"config\.json is missing"),
    "config-no-json": (lambda f: (f / "config.json").write_text("{"), r"config\.json cannot be read as JSON"),
    "other-model": (
        lambda f: edit(f, "config.json", lambda c: c.update(model_type="molmo_point")),
        r"config\.json: model_type is 'molmo_point', expected 'molmo2'",
    ),
    "config-nonsense": (
        lambda f: edit(f, "config.json", lambda c: c["text_config"].update(hidden_size="wide")),
        r"config\.json: .*hidden_size",
    ),
    "no-tokenizer": (lambda f: (f / "tokenizer.json").unlink(), r"tokenizer\.json is missing"),
    "tokenizer-nonsense": (
        lambda f: (f / "tokenizer.json").write_text("{}"),
        r"tokenizer\.json cannot be read",
    ),
    "no-end-word": (
        lambda f: edit(f, "tokenizer_config.json", lambda c: c.pop("eos_token")),
        r"tokenizer_config\.json names no eos_token",
    ),
    "no-processor": (lambda f: (f / "processor_config.json").unlink(), r"processor_config\.json is missing"),
    "no-video": (
        lambda f: (f / "video_preprocessor_config.json").unlink(),
        r"video_preprocessor_config\.json is missing",
    ),
    "other-picture-size": (
        lambda f: edit(f, "config.json", lambda c: c["vit_config"].update(image_default_input_size=[98, 98])),
        r"preprocessor_config\.json: pictures of 84 px .* reads \[98, 98\]",
    ),
    "other-positions": (
        lambda f: edit(f, "config.json", lambda c: c["vit_config"].update(image_num_pos=35)),
        r"image_num_pos is 35, expected 36",
    ),
    "no-weights": (lambda f: (f / "model.safetensors").unlink(), r"no weights; expected model\.safetensors"),
    "cut-short": (lambda f: shorten(f / "model.safetensors"), r"model\.safetensors: cut short or damaged"),
    "empty-file": (lambda f: (f / "model.safetensors").write_bytes(b""), r"model\.safetensors: not a saf"),
    "missing-weight": (lambda f: rewrite(f, lambda w: w.pop(LM_HEAD)), rf"no weight file holds {LM_HEAD}"),
    "wrong-shape": (
        lambda f: rewrite(f, lambda w: w.update({LM_HEAD: w[LM_HEAD][:-1].clone()})),
        r"model\.safetensors: lm_head\.weight has shape \[299, 48\], expected \[300, 48\]",
    ),
    "wrong-vocabulary": (
        lambda f: rewrite(f, lambda w: w.update({WTE: w[WTE][:-1].clone()})),
        r"model\.safetensors: the two embedding tables .* expected 316 rows of 48",
    ),
    "one-layer-more": (
        lambda f: edit(f, "config.json", lambda c: c["text_config"].update(num_hidden_layers=4)),
        r"no weight file holds model\.transformer\.blocks\.3",
    ),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGE.values(), ids=DAMAGE.keys())
def test_damage_names_the_file(damage: Callable[[Path], object], message: str, folder: Path) -> None:
    damage(folder)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_checkpoint(folder, device="cpu")
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("loss", ["missing", "short"])
def test_a_damaged_part_is_named(loss: str, parts: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(parts, tmp_path / "checkpoint"))
    part = sorted(folder.glob("model-*"))[1]
    if loss == "missing":
        part.unlink()
    else:
        shorten(part)
    with pytest.raises(CheckpointError, match=part.name):
        load_checkpoint(folder, device="cpu")


@pytest.mark.slow
def test_parts_load_like_one_file(parts: Path, folders: dict[str, Path]) -> None:
    one, several = (load_checkpoint(path, device="cpu") for path in (folders["qwen"], parts))
    inputs = one.build_inputs([], "Hello.")
    assert torch.equal(one.logits(inputs), several.logits(inputs))
    assert one.checkpoint.parameters == several.checkpoint.parameters


@pytest.mark.parametrize(
    ("name", "message"),
    [
        pytest.param("no such thing", "expected 'tiny', a folder, or a hub id", id="words"),
        pytest.param("./missing/folder", "expected 'tiny', a folder, or a hub id", id="missing-folder"),
        pytest.param("a/b/c", "expected 'tiny', a folder, or a hub id", id="deep-path"),
    ],
)
def test_what_is_no_checkpoint_is_refused(name: str, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(name)


def test_a_file_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "model.bin").touch()
    with pytest.raises(CheckpointError, match="is a file"):
        open_checkpoint(tmp_path / "model.bin")


def test_tiny_is_the_one_in_the_package() -> None:
    assert locate("tiny") == (TINY_FOLDER, "tiny", None)


@pytest.mark.slow
def test_memory_is_told(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="molmo2_ground")
    load_checkpoint(folder, device="cpu", dtype="bfloat16")
    assert caplog.messages == [
        f"{folder}: 0.2 million parameters, 0.3 MB as bfloat16 on cpu, "
        "and up to 1.6 MB for a prompt of 4,096 tokens"
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "expected"),
    [("auto", torch.float32), ("bfloat16", torch.bfloat16), (torch.float16, torch.float16)],
    ids=["auto-on-cpu", "by-name", "as-torch-names-it"],
)
def test_numbers_are_of_the_wanted_kind(dtype: Any, expected: torch.dtype, folders: dict[str, Path]) -> None:
    model = load_checkpoint(folders["qwen"], device="cpu", dtype=dtype)
    assert {weight.dtype for weight in model.network.parameters()} == {expected}
    assert model.logits(model.build_inputs([], "Hello.")).dtype == torch.float32


@pytest.mark.parametrize("dtype", ["int16", "Tensor", "quick", torch.int64], ids=str)
def test_other_kinds_of_numbers_are_refused(dtype: Any, folders: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match="dtype must be"):
        load_checkpoint(folders["qwen"], device="cpu", dtype=dtype)


@pytest.mark.parametrize("device", ["foo", "", "cuda:99", "cpu:x", "meta"])
def test_a_device_that_is_not_there_is_refused(device: str) -> None:
    with pytest.raises(ValueError, match=r"device must be 'auto' or one that is here: cpu.*; got '"):
        chosen_device(device)


@pytest.mark.slow
def test_stored_halves_are_read_as_full_numbers(tmp_path: Path) -> None:
    model = load_checkpoint(write_random_checkpoint(tmp_path, dtype=torch.float16), device="cpu")
    stored = load_file(tmp_path / "model.safetensors")[LM_HEAD]
    assert torch.equal(model.network.lm_head.weight, stored.float())


def test_end_words_come_from_the_files(folder: Path) -> None:
    edit(folder, "generation_config.json", lambda c: c.update(eos_token_id=[7, 9]))
    edit(
        folder,
        "tokenizer_config.json",
        lambda c: c.update(bos_token=None, eos_token={"content": "<|im_end|>"}),
    )
    codec = open_checkpoint(folder).codec
    assert codec.stop_ids == {7, 9, codec.turn_end_id}
    assert codec.bos_id == codec.eos_id == codec.turn_end_id


def test_end_words_may_stand_in_a_file_of_their_own(folder: Path) -> None:
    edit(folder, "tokenizer_config.json", lambda c: c.pop("eos_token"))
    (folder / "special_tokens_map.json").write_text(json.dumps({"eos_token": "<|endoftext|>"}))
    codec = open_checkpoint(folder).codec
    assert codec.eos_id == codec.token_id("<|endoftext|>")


def test_input_settings_may_stand_in_one_file(folder: Path) -> None:
    expected = open_checkpoint(folder).flags
    for name, key in [
        ("preprocessor_config.json", "image_processor"),
        ("video_preprocessor_config.json", "video_processor"),
    ]:
        words = json.loads((folder / "processor_config.json").read_text())
        words[key] = json.loads((folder / name).read_text())
        (folder / "processor_config.json").write_text(json.dumps(words))
        (folder / name).unlink()
    assert open_checkpoint(folder).flags == expected


@pytest.mark.slow
def test_weights_saved_by_the_library_load_too(folders: dict[str, Path], tmp_path: Path) -> None:
    # The library cuts the embedding in two equal halves when it saves, and drops ids from config.json.
    model = load_checkpoint(folders["qwen"], device="cpu")
    folder = Path(shutil.copytree(folders["qwen"], tmp_path / "saved"))
    model.network.save_pretrained(folder)
    assert load_file(folder / "model.safetensors")[WTE].shape[0] == (300 + 16) // 2
    again = load_checkpoint(folder, device="cpu")
    inputs = model.build_inputs([], "Hello.")
    assert torch.equal(again.logits(inputs), model.logits(inputs))
    assert again.flags == model.flags


@pytest.mark.slow
def test_proportions_and_config_of_the_released_4b(tmp_path: Path) -> None:
    # The released config.json speaks of 27 layers of the vision tower, counts those that are read from the
    # end, and the files hold 25.
    folder = write_random_checkpoint(tmp_path, kind="qwen-4b", dtype=torch.bfloat16)
    edit(folder, "config.json", lambda c: c["vit_config"].update(num_hidden_layers=27))
    edit(folder, "config.json", lambda c: c["adapter_config"].update(vit_layers=[-3, -9]))
    model = load_checkpoint(folder, device="cpu", dtype="bfloat16")
    assert len(model.network.model.vision_tower.layers) == 25
    assert (model.limits.max_frames, model.limits.max_crops, model.limits.context_tokens) == (384, 8, 36864)
    picture = np.zeros((480, 640, 3), np.uint8)
    inputs = model.build_inputs([picture], "Point to the mug.")
    assert int(inputs.visual_L.sum()) == 752
    assert model.build_inputs([picture], "Point.", max_crops=1).visual_L.sum() == 410
    generated = model.generate(model.build_inputs([picture], "Point.", max_crops=1), max_new_tokens=3)
    assert generated.tokens_in > 410
    assert len(generated.token_ids) <= 3


@pytest.mark.slow
def test_a_hub_id_comes_from_the_hubs_cache(folders: dict[str, Path], tmp_path: Path) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    home = tmp_path / "models--someone--molmo2-random"
    shutil.copytree(folders["qwen"], home / "snapshots" / commit)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(commit)
    script = (
        "from molmo2_ground.errors import CheckpointError\n"
        "from molmo2_ground.model import load_checkpoint\n"
        "model = load_checkpoint('someone/molmo2-random', device='cpu')\n"
        "print(model.model_id, model.revision)\n"
        "try:\n"
        "    load_checkpoint('someone/not-there', device='cpu')\n"
        "except CheckpointError as error:\n"
        "    print('refused:', error)\n"
    )
    # The hub's library reads its environment at import, so this needs a process of its own.
    environment = {**os.environ, "HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    ran = subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=True,
    )
    found, refused = ran.stdout.split("\n", 1)
    assert found == f"someone/molmo2-random {commit}"
    assert refused.startswith("refused: someone/not-there is no folder here")
