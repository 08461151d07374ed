from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from molmo2_ground.errors import CheckpointError
from molmo2_ground.masks.choice import segmenter_named
from molmo2_ground.masks.sam2 import SAM2, Sam2, load_sam2
from molmo2_ground.masks.sam3_tracker import load_sam3_tracker
from molmo2_ground.masks.sam_checkpoint import open_sam
from molmo2_ground.masks.sam_random import write_random_sam2
from tests.small_sam import assert_same, frames, point, walked

WEIGHTS, CONFIG, PICTURES = "model.safetensors", "config.json", "video_preprocessor_config.json"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_sam2(tmp_path_factory.mktemp("sam2"))


def rewritten(folder: Path, **changes: object) -> None:
    for name in (CONFIG, PICTURES):
        content = json.loads((folder / name).read_text())
        content |= {key: value for key, value in changes.items() if key in content or name == CONFIG}
        (folder / name).write_text(json.dumps(content))


def without(*names: str) -> Callable[[Path], None]:
    def remove(folder: Path) -> None:
        weights = load_file(folder / WEIGHTS)
        save_file({name: weight for name, weight in weights.items() if name not in names}, folder / WEIGHTS)

    return remove


def cut_short(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-100])


def reshaped(folder: Path) -> None:
    weights = load_file(folder / WEIGHTS)
    weights["no_memory_embedding"] = torch.zeros((1, 1, 7))
    save_file(weights, folder / WEIGHTS)


def of_kind(kind: str) -> Callable[[Path], None]:
    return lambda folder: rewritten(folder, model_type=kind)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        pytest.param(lambda f: (f / CONFIG).unlink(), "config.json is missing", id="no-config"),
        pytest.param(lambda f: (f / CONFIG).write_text("{"), "cannot be read as JSON", id="torn-config"),
        pytest.param(of_kind("molmo2"), "that is a Molmo2, which answers questions", id="a-molmo2"),
        pytest.param(of_kind("sam"), "that is the first SAM, which has no memory", id="sam-1"),
        pytest.param(of_kind("sam2"), "that is a SAM 2 for single pictures", id="sam-2-for-pictures"),
        pytest.param(of_kind("sam3_video"), "load_sam3_tracker reads it", id="sam-3"),
        pytest.param(of_kind("bert"), "model_type is 'bert', expected 'sam2_video' of SAM 2", id="bert"),
        pytest.param(lambda f: rewritten(f, num_maskmem="many"), "num_maskmem", id="odd-config"),
        pytest.param(
            lambda f: (f / WEIGHTS).unlink(), "no weights; expected model.safetensors", id="no-weights"
        ),
        pytest.param(cut_short, "cut short or damaged", id="cut-short"),
        pytest.param(without("no_memory_embedding"), "no weights for no_memory_embedding", id="one-missing"),
        pytest.param(
            reshaped, "no_memory_embedding has shape [1, 1, 7], expected [1, 1, 128]", id="another-shape"
        ),
        pytest.param(
            lambda f: rewritten(f, size={"height": 512, "width": 512}),
            "config.json's network reads 64 px",
            id="another-size",
        ),
        pytest.param(lambda f: rewritten(f, image_mean=[0.5]), "expected three numbers", id="one-mean"),
    ],
)
def test_a_damaged_checkpoint_is_one_line(
    sound: Path,
    tmp_path: Path,
    damage: Callable[[Path], object],
    words: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(sound, folder)
    damage(folder)
    with pytest.raises(CheckpointError) as caught:
        load_sam2(folder, device="cpu")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        pytest.param(
            "no such thing",
            "no segmenter 'no such thing': expected 'region', 'sam2.1-hiera-tiny'",
            id="words",
        ),
        pytest.param("./missing/folder", "no segmenter './missing/folder'", id="missing-folder"),
        pytest.param(__file__, "is a file; a checkpoint is a folder", id="file"),
    ],
)
def test_a_name_that_means_nothing_is_refused(name: str, words: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        segmenter_named(name, device="cpu")
    assert words in str(caught.value)


def test_wrong_arguments_are_told_before_anything_is_read() -> None:
    with pytest.raises(ValueError, match="policy is one of"):
        load_sam2("no such thing", policy="all")  # type: ignore[arg-type]


def test_a_sam_2_is_no_sam_3(sound: Path) -> None:
    with pytest.raises(CheckpointError, match="load_sam2 reads it"):
        load_sam3_tracker(sound, device="cpu")


@pytest.mark.slow
@pytest.mark.parametrize(
    "twin",
    ["shared_image_embedding.positional_embedding", "prompt_encoder.shared_embedding.positional_embedding"],
)
def test_a_table_stored_under_one_of_its_two_names_is_enough(sound: Path, tmp_path: Path, twin: str) -> None:
    folder = tmp_path / "one-name"
    shutil.copytree(sound, folder)
    without(twin)(folder)
    shown, points = frames(2), [point(1, 0)]
    assert_same(
        walked(load_sam2(folder, device="cpu"), shown, points),
        walked(load_sam2(sound, device="cpu"), shown, points),
    )


@pytest.mark.slow
def test_a_folder_is_named_as_it_was_asked_for(sound: Path) -> None:
    segmenter = segmenter_named(str(sound), device="cpu")
    assert isinstance(segmenter, Sam2)
    assert (segmenter.name, segmenter.from_both_ends) == (str(sound), False)
    assert segmenter.checkpoint.revision is None


def test_short_names_are_those_of_the_released_checkpoints() -> None:
    assert SAM2.short == (
        "sam2.1-hiera-tiny",
        "sam2.1-hiera-small",
        "sam2.1-hiera-base-plus",
        "sam2.1-hiera-large",
        "sam2-hiera-tiny",
        "sam2-hiera-small",
        "sam2-hiera-base-plus",
        "sam2-hiera-large",
    )


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights(sound: Path, tmp_path: Path) -> None:
    again = load_file(write_random_sam2(tmp_path / "again") / WEIGHTS)
    other = load_file(write_random_sam2(tmp_path / "other", seed=1) / WEIGHTS)
    weights = load_file(sound / WEIGHTS)
    assert all(torch.equal(weight, again[name]) for name, weight in weights.items())
    assert not torch.equal(weights["no_memory_embedding"], other["no_memory_embedding"])
    assert (sound / WEIGHTS).stat().st_size < 6_000_000


def test_pictures_without_settings_are_made_as_published(sound: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bare"
    shutil.copytree(sound, folder)
    for name in ("preprocessor_config.json", PICTURES):
        (folder / name).unlink()
    pictures = open_sam(folder, family=SAM2).pictures
    assert pictures.mean == (0.485, 0.456, 0.406)
    assert pictures.std == (0.229, 0.224, 0.225)
    (folder / "processor_config.json").write_text(
        json.dumps({"processor_class": "x", "image_processor": {"image_mean": [0.1, 0.2, 0.3]}})
    )
    assert open_sam(folder, family=SAM2).pictures.mean == (0.1, 0.2, 0.3)


@pytest.mark.slow
def test_a_short_name_comes_from_the_hubs_cache(sound: Path, tmp_path: Path) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    home = tmp_path / "models--facebook--sam2.1-hiera-tiny"
    shutil.copytree(sound, home / "snapshots" / commit)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(commit)
    script = (
        "from molmo2_ground.errors import CheckpointError\n"
        "from molmo2_ground.masks.choice import segmenter_named\n"
        "for name in ('sam2.1-hiera-tiny', 'facebook/sam2.1-hiera-tiny'):\n"
        "    segmenter = segmenter_named(name, device='cpu')\n"
        "    print(segmenter.name, segmenter.checkpoint.revision)\n"
        "for name in ('sam2-hiera-large', 'someone/not-there', 'sam3'):\n"
        "    try:\n"
        "        segmenter_named(name)\n"
        "    except CheckpointError as error:\n"
        "        print('refused:', error)\n"
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
    lines = ran.stdout.splitlines()
    assert lines[:2] == [f"facebook/sam2.1-hiera-tiny {commit}"] * 2
    refused = ["facebook/sam2-hiera-large", "someone/not-there", "facebook/sam3"]
    assert len(lines) == 5
    for line, name in zip(lines[2:], refused, strict=True):
        assert line.startswith(f"refused: {name} is no folder here and could not be fetched from the hub: ")
