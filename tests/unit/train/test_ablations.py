from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from molmo2_ground.eval.compare import compare
from molmo2_ground.eval.runner import evaluate
from molmo2_ground.model import load_checkpoint
from molmo2_ground.model.checkpoint import open_checkpoint
from molmo2_ground.train import ablations
from molmo2_ground.train.ablations import ARMS, RECIPE, told
from molmo2_ground.train.tiny import CLIPS, STAGES
from molmo2_ground.train.tiny_text import Text
from molmo2_ground.train.toy.questions import make_questions
from molmo2_ground.train.toy.street import make_scene
from molmo2_ground.train.toy_examples import ToyBatches, answer_text
from molmo2_ground.train.toy_suite import ToySuite
from molmo2_ground.train.toy_view import show
from molmo2_ground.train.visual_prefix import visual_prefix
from tests import small_tiny
from tests.fake_suite import FakeSuite, finder

BY_NAME = {arm.name: arm for arm in ARMS}
TEXT = Text.build()
TINY = open_checkpoint("tiny").folder


def test_every_arm_but_the_recipe_changes_one_thing() -> None:
    assert ARMS[0] is RECIPE
    assert len(BY_NAME) == len(ARMS)
    for arm in ARMS:
        text = arm.text(TEXT)
        stages = [arm.stage(stage) for stage in STAGES]
        assert stages[0] == STAGES[0]  # the vision stage is trained once
        changed = [text.flags != TEXT.flags, text.writer != TEXT.writer, stages != list(STAGES)]
        assert sum(changed) == (0 if arm is RECIPE else 1)


def test_without_times_a_prefix_is_pictures_alone() -> None:
    view = show(make_scene(3, duration_s=3.0), np.arange(4) / 2, "video", np.random.default_rng(0))
    with_times, _ = visual_prefix(view.clip, TEXT.writer.codec, TEXT.flags)
    flags = BY_NAME["no-times"].text(TEXT).flags
    without, visual = visual_prefix(view.clip, TEXT.writer.codec, flags)
    assert visual[1:].all()
    times = [token for token in with_times if token not in flags.special.visual]
    assert TEXT.writer.codec.decode(times[1:]) == "0.0  0.5  1.0  1.5 "
    assert without.tolist() == [with_times[0], *(t for t in with_times if t in flags.special.visual)]


def test_a_number_alone_is_the_number_of_places() -> None:
    rng = np.random.default_rng(1)
    seen = set()
    for seed in range(6):
        view = show(make_scene(seed, duration_s=3.0), np.arange(4) / 2, "video", rng)
        for question in make_questions(
            view.scene, rng, view.visible_ids, 4, tasks=("count",), states=view.states
        ):
            points = answer_text(question, view)
            number = answer_text(question, view, counting="number")
            if question.object_ids:
                assert points.endswith(f"shows a total of {number}.")
            else:
                assert points == number == "There are none."
            seen.add(number)
    assert len(seen) > 2


def test_batches_of_the_arm_count_by_the_number_alone() -> None:
    data = replace(CLIPS, frames=(2,), tokens=800, looks=0, lists=0.0, tasks=("count",))
    stage = replace(STAGES[2], data=data)
    changed = BY_NAME["number-alone"].stage(stage).data
    assert changed is not None
    for counts, words in ((data, True), (changed, False)):
        batch = ToyBatches(counts, TEXT.writer, TEXT.flags, seed=3, steps=1)[0]
        written = TEXT.writer.codec.decode(batch.trees.ids[batch.trees.branch_ids > 0].tolist())
        assert "How many" in written
        assert ("Counting the" in written) is words


def test_even_weights_are_all_one() -> None:
    data = replace(CLIPS, frames=(2,), tokens=800, looks=0, lists=0.0, come_and_go=0)
    writer = BY_NAME["even-weights"].text(TEXT).writer
    batch = ToyBatches(data, writer, TEXT.flags, seed=3, steps=1)[0]
    learnt = batch.trees.weights[batch.trees.targets >= 0]
    assert set(learnt.tolist()) == {1.0}


@pytest.mark.slow
def test_the_table_names_every_arm_and_says_what_changed(tmp_path: Path) -> None:
    suite = FakeSuite(count=16)
    arms = (
        RECIPE,
        replace(BY_NAME["even-weights"], asks=("f1", "count")),
    )
    runs = {
        "recipe": evaluate(suite, finder(), tmp_path / "a"),
        "even-weights": evaluate(suite, finder(squints=True), tmp_path / "b"),
    }
    table = told(runs, arms, how="2 steps an arm.")
    assert "| the recipe |" in table
    found = {one.name: one for one in compare(runs["recipe"], runs["even-weights"]).differences}["f1"]
    assert found.interval.difference != 0
    change = next(line for line in table.splitlines() if "| `f1` |" in line)
    assert change.startswith(
        f"| every token weighs the same | `f1` | {100 * found.interval.difference:+.1f} |"
    )
    assert change.endswith(f"| {found.verdict} |")


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--arms", "one-way,sideways", "--arms knows recipe, one-way, no-times"),
        ("--clips", "0", "--clips: a suite has at least one clip; got 0"),
        ("--scale", "0", "--scale must be above 0; got 0"),
        ("--minutes", "-1", "--minutes must be above 0; got -1"),
        ("--start", "nowhere", "--start: no checkpoint 'nowhere'"),
    ],
)
def test_bad_options_are_named_before_anything_runs(
    option: str, value: str, message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit):
        ablations.main(["--work", str(tmp_path), f"{option}={value}"])
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_start_that_knows_other_words_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    shutil.copytree(TINY, tmp_path / "other")
    words = json.loads((tmp_path / "other" / "tokenizer.json").read_text())
    words["added_tokens"][-1]["content"] = "<other>"
    (tmp_path / "other" / "tokenizer.json").write_text(json.dumps(words))
    with pytest.raises(SystemExit):
        ablations.main(["--work", str(tmp_path / "work"), "--start", str(tmp_path / "other")])
    assert "as the bundled `tiny` is; " in capsys.readouterr().err
    assert not (tmp_path / "work").exists()


@pytest.mark.slow
def test_arms_go_on_from_a_finished_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["--work", str(tmp_path), "--device", "cpu", "--workers", "0", "--threads", "1"]
    suite = ToySuite(2)
    suite.settings = replace(suite.settings, max_new_tokens=12)
    command += ["--arms", "one-way", "--start", "tiny"]
    assert ablations.main(command, stages=small_tiny.STAGES, suite=suite) == 0
    assert "2 steps an arm onward from `tiny` (cpu)" in capsys.readouterr().out
    finished = load_file(TINY / "model.safetensors")
    begun = load_file(tmp_path / "one-way" / f"{STAGES[0].name}.safetensors")
    table = finished["model.transformer.wte.embedding"]
    assert torch.equal(begun["model.language_model.embed_tokens.weight"][: len(table)], table.float())
    names = {path.stem for path in (tmp_path / "one-way").glob("*.safetensors")}
    assert names == {STAGES[0].name, STAGES[-1].name}
    # Finished arms are taken as they are: under other settings the table would tell an untruth of them.
    with pytest.raises(SystemExit):
        ablations.main([*command, "--seed", "3"], stages=small_tiny.STAGES, suite=suite)
    told_of = capsys.readouterr().err
    assert told_of.count("\n") == 1
    assert "holds arms of another study (2 steps an arm onward from `tiny` (cpu), seed 0)" in told_of


@pytest.mark.slow
def test_the_command_trains_asks_and_compares_and_does_nothing_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    command = ["--work", str(tmp_path), "--device", "cpu", "--workers", "0", "--threads", "1"]
    command += ["--arms", "one-way"]
    # What has learnt nothing writes until it is stopped.
    suite = ToySuite(2)
    suite.settings = replace(suite.settings, max_new_tokens=12)
    assert ablations.main(command, stages=small_tiny.STAGES, suite=suite) == 0
    table = capsys.readouterr().out
    assert table == (tmp_path / "ablations.md").read_text()
    assert "8 steps an arm (cpu), seed 0; 2 held-out clips" in table
    figures = json.loads((tmp_path / "ablations.json").read_text())["figures"]
    assert list(figures) == ["recipe", "one-way"]
    assert load_checkpoint(tmp_path / "one-way" / "checkpoint", device="cpu").flags.mutual_sight is False
    assert load_checkpoint(tmp_path / "recipe" / "checkpoint", device="cpu").flags.mutual_sight is True
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    (tmp_path / "ablations.md").unlink()
    with caplog.at_level("INFO", logger=ablations.logger.name):
        assert ablations.main(command, stages=small_tiny.STAGES, suite=suite) == 0
    assert "one-way: taken from" in caplog.text
    assert capsys.readouterr().out == table
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")} == stamps
