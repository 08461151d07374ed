"""The joined run: rows, trees, packs, steps, snapshots, export."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import Molmo2ForConditionalGeneration

from molmo2_ground.errors import TrainingError
from molmo2_ground.model import load_checkpoint
from molmo2_ground.model.checkpoint import open_checkpoint
from molmo2_ground.model.hub_layout import save_hub_layout
from molmo2_ground.model.random_checkpoint import byte_tokenizer, write_random_checkpoint
from molmo2_ground.train.export import NOTE_FILE
from molmo2_ground.train.finetune import FineTuning, fine_tune
from molmo2_ground.train.logbook import LOG_FILE, read_lines
from molmo2_ground.train.row_data import open_folders
from molmo2_ground.train.stage_run import RunOptions, TrainedStage, fitted, train_stage, trained_flags
from molmo2_ground.train.stages import stage2_joint, stage3_long
from tests.made_up_rows import box, moments, row_folder, track_row
from tests.made_up_sets_to_train import FLAGS
from tests.media import Shelf

SETTINGS = FineTuning(steps=4, rows=2, tokens=400, rate=1e-3)


@pytest.fixture
def rows(media: Shelf, tmp_path: Path) -> Path:
    made = [
        track_row(
            f"walk {number}",
            annotations=[
                {
                    "task": ("track",),
                    "label": "the dog",
                    "moments": moments((0.0, 0.5, 1.0), box(1, 5.0 * number)),
                    "rate_fps": 2.0,
                }
            ],
        )
        for number in range(5)
    ]
    return row_folder(media, tmp_path / "rows", *made)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_random_checkpoint(tmp_path / "model", kind="qwen")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def lines(run: TrainedStage) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in line.items() if name not in ("seconds", "wait_s")}
        for line in read_lines(run.work / LOG_FILE)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_invariant_a_stopped_run_of_rows_ends_as_one_that_was_not(
    rows: Path, model: Path, tmp_path: Path, workers: int
) -> None:
    whole = fine_tune([rows], model=model, out=tmp_path / "whole", settings=SETTINGS)
    assert whole.checkpoint is not None
    # So late that each call makes one step: three stops, one of them while examples wait to be packed.
    for step in (1, 2, 3):
        part = fine_tune(
            [rows],
            model=model,
            out=tmp_path / "parts",
            settings=SETTINGS,
            options=RunOptions(seconds=0.0, workers=workers),
        )
        assert (part.step, part.checkpoint) == (step, None)
        assert not (tmp_path / "parts").exists()
    last = fine_tune([rows], model=model, out=tmp_path / "parts", settings=SETTINGS)
    assert last.checkpoint is not None
    assert lines(last) == lines(whole)
    before, after = weights(whole.checkpoint), weights(last.checkpoint)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert any(not torch.equal(before[name], old) for name, old in weights(model).items())


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        pytest.param({"folders": "rows"}, "folders are a list, each of it a path", id="one-folder"),
        pytest.param({"rates": "1"}, "rates are a list, each of it a number", id="a-rate-in-words"),
        pytest.param({"settings": {"steps": 3}}, "settings is a FineTuning", id="settings"),
        pytest.param({"options": {}}, "options is a RunOptions", id="options"),
        pytest.param({"settings": FineTuning(steps="3")}, "steps is a whole number", id="steps"),  # type: ignore[arg-type]
        pytest.param({"settings": FineTuning(frozen="vit")}, "frozen are a list", id="frozen"),  # type: ignore[arg-type]
        pytest.param({"options": RunOptions(workers="2")}, "workers is a whole number", id="workers"),  # type: ignore[arg-type]
        pytest.param({"options": RunOptions(device=0)}, "device is a device's name", id="device"),  # type: ignore[arg-type]
        pytest.param({"options": RunOptions(workers=-1)}, "workers must be 0 or more", id="no-workers"),
        pytest.param({"options": RunOptions(log_every=0)}, "log_every must be 1 or more", id="never-logged"),
        pytest.param({"options": RunOptions(rows_at_once=0)}, "rows_at_once must be 1", id="nothing-at-once"),
        pytest.param({"options": RunOptions(seconds=-1)}, "seconds must be 0 or more", id="time-back"),
        pytest.param({"options": RunOptions(seconds=float("nan"))}, "seconds must be 0", id="no-time"),
    ],
)
def test_wrong_options_are_told_before_anything_is_written(
    rows: Path, tmp_path: Path, wrong: dict[str, Any], line: str
) -> None:
    given: dict[str, Any] = {"folders": [rows], "settings": SETTINGS, **wrong}
    with pytest.raises(ValueError, match=line):
        fine_tune(model="tiny", out=tmp_path / "out", **given)
    assert not (tmp_path / "out-work").exists()


@pytest.mark.parametrize("out", ["", ".", "/"])
def test_a_checkpoint_without_a_name_is_told(rows: Path, out: str) -> None:
    with pytest.raises(ValueError, match=r"a folder with a name of its own; got '[./]' \(--out names it\)"):
        fine_tune([rows], model="tiny", out=Path(out), settings=SETTINGS)


@pytest.mark.slow
def test_another_seed_does_not_go_on_with_a_run(rows: Path, model: Path, tmp_path: Path) -> None:
    out, options = tmp_path / "out", RunOptions(seconds=0.0)
    fine_tune([rows], model=model, out=out, settings=SETTINGS, options=options)
    with pytest.raises(TrainingError, match=r"another run: .*seed was 6198, is 1"):
        fine_tune([rows], model=model, out=out, settings=replace(SETTINGS, seed=1))


@pytest.mark.slow
@pytest.mark.parametrize("tied", [True, False])
def test_a_table_that_was_one_stays_as_the_checkpoint_has_it_and_the_export_loads(
    rows: Path, model: Path, tmp_path: Path, tied: bool
) -> None:
    old = load_checkpoint(model, device="cpu", dtype="float32").network
    if tied:
        with torch.no_grad():
            base = old.lm_head.weight.shape[0]
            old.lm_head.weight.copy_(old.model.language_model.embed_tokens.weight[:base])
        model = save_hub_layout(old, tmp_path / "tied", tokenizer=byte_tokenizer(), flags=FLAGS)
    done = fine_tune(
        [rows], model=model, out=tmp_path / "out", settings=replace(SETTINGS, steps=2, frozen=("vit",))
    )
    assert done.checkpoint is not None
    new = load_checkpoint(done.checkpoint, device="cpu", dtype="float32").network
    assert torch.equal(new.lm_head.weight, old.lm_head.weight) == tied
    was, now = old.state_dict(), new.state_dict()
    changed = {name for name in was if not torch.equal(was[name], now[name])}
    assert not any(name.startswith("model.vision_tower.") for name in changed)
    assert any(name.startswith("model.multi_modal_projector.") for name in changed)
    assert any(name.startswith("model.language_model.layers.") for name in changed)
    plain = Molmo2ForConditionalGeneration.from_pretrained(done.checkpoint, dtype=torch.float32)
    for name, tensor in plain.state_dict().items():
        assert torch.equal(tensor, now[name]), name
    note = json.loads((done.checkpoint / NOTE_FILE).read_text())
    assert (note["step"], note["run"]["stage"]["frozen"]) == (2, ["vit"])
    assert (done.checkpoint / "curves.png").stat().st_size > 1000
    assert done.curves.is_file()
    assert (done.checkpoint / "tokenizer.json").read_bytes() == (model / "tokenizer.json").read_bytes()


@pytest.mark.slow
def test_a_checkpoint_is_asked_with_the_sight_it_was_trained_with(
    rows: Path, model: Path, tmp_path: Path
) -> None:
    data = open_folders([rows])
    stage = replace(SETTINGS.stage(data), steps=1, precision="float32", bidirectional=False)
    one_way = train_stage(stage, data, model=model, out=tmp_path / "one-way").checkpoint
    assert one_way is not None
    assert not open_checkpoint(one_way).flags.mutual_sight
    # And it goes on so, though the recipe would have it otherwise.
    again = fine_tune([rows], model=one_way, out=tmp_path / "again", settings=replace(SETTINGS, steps=1))
    assert again.checkpoint is not None
    assert not open_checkpoint(again.checkpoint).flags.mutual_sight
    mutual = fine_tune([rows], model=model, out=tmp_path / "mutual", settings=replace(SETTINGS, steps=1))
    assert mutual.checkpoint is not None
    assert open_checkpoint(mutual.checkpoint).flags.mutual_sight


@pytest.mark.slow
def test_a_tied_table_that_is_learnt_is_written_as_two_equal_ones(
    rows: Path, model: Path, tmp_path: Path
) -> None:
    old = load_checkpoint(model, device="cpu", dtype="float32").network
    base = old.lm_head.weight.shape[0]
    with torch.no_grad():
        old.lm_head.weight.copy_(old.model.language_model.embed_tokens.weight[:base])
    tied = save_hub_layout(old, tmp_path / "tied", tokenizer=byte_tokenizer(), flags=FLAGS)
    data = open_folders([rows])
    stage = replace(SETTINGS.stage(data), steps=2, train_embedding=True, precision="float32")
    done = train_stage(stage, data, model=tied, out=tmp_path / "out")
    assert done.checkpoint is not None
    new = load_checkpoint(done.checkpoint, device="cpu", dtype="float32").network
    assert torch.equal(new.lm_head.weight, new.model.language_model.embed_tokens.weight[:base])
    assert not torch.equal(new.lm_head.weight, old.lm_head.weight)


def test_a_folder_with_other_things_is_not_replaced(rows: Path, model: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(TrainingError, match="holds other things"):
        fine_tune([rows], model=model, out=tmp_path / "mine", settings=SETTINGS)
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"


@pytest.mark.slow
def test_only_what_was_trained_into_a_folder_is_replaced(rows: Path, model: Path, tmp_path: Path) -> None:
    out, link = tmp_path / "out", tmp_path / "link"
    link.symlink_to(out, target_is_directory=True)
    out.mkdir()
    settings = replace(SETTINGS, steps=1)
    fine_tune([rows], model=model, out=link, settings=settings)
    assert link.is_symlink()
    assert (out / NOTE_FILE).is_file()
    (out / "notes.txt").write_text("mine")
    with pytest.raises(TrainingError, match=r"holds more than the checkpoint .*: notes.txt; move that away"):
        fine_tune([rows], model=model, out=out, settings=replace(settings, seed=2), work=tmp_path / "other")
    (out / "notes.txt").unlink()
    fine_tune([rows], model=model, out=out, settings=replace(settings, seed=2), work=tmp_path / "other")
    assert json.loads((out / NOTE_FILE).read_text())["run"]["stage"]["seed"] == 2


def test_rows_of_a_step_are_shared_out_evenly(rows: Path, model: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="multiple"):
        fine_tune(
            [rows], model=model, out=tmp_path / "out", settings=SETTINGS, options=RunOptions(rows_at_once=3)
        )


def test_fine_tuning_keeps_the_recipe_s_ratios(rows: Path) -> None:
    stage = FineTuning(steps=50, rate=4e-4, frozen=("vit",), tokens=900, seed=3).stage(open_folders([rows]))
    assert stage.rate_llm == pytest.approx(4e-4)
    assert stage.rate_connector == pytest.approx(2e-4)
    assert (stage.steps, stage.warmup_llm, stage.rows, stage.limits.max_tokens) == (50, 5, 8, 900)
    assert (stage.seed, stage.data_seed, stage.frozen) == (3, 3, ("vit",))
    recipe = stage2_joint()
    assert (stage.z_loss, stage.response_dropout, stage.betas) == (
        recipe.z_loss,
        recipe.response_dropout,
        recipe.betas,
    )


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"rate": 0.0}, {"tokens": 0}, {"rows": 0}])
def test_wrong_numbers_are_told(rows: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"or more|over 0"):
        FineTuning(**wrong).stage(open_folders([rows]))


def test_a_stage_asks_no_more_of_a_checkpoint_than_it_knows_unless_it_teaches_it() -> None:
    small = replace(FLAGS, max_frames=16, max_crops=1, max_fps=1.0)
    stage = fitted(stage3_long(), small)
    assert (stage.max_frames, stage.max_fps, stage.image_crops, stage.image_share_large) == (16, 1.0, 1, 0.0)
    assert fitted(stage3_long(), small, longer=True).max_frames == 384
    assert trained_flags(small, stage3_long()).max_frames == 384
    assert trained_flags(small, replace(stage3_long(), max_frames=8)).max_frames == 16
