"""A few steps of the toy street through the trainer, and the result as others load it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import Molmo2ForConditionalGeneration

from molmo2_ground.model import load_checkpoint
from molmo2_ground.train.feed import KeyedBatch, NumberedLoader
from molmo2_ground.train.on_device import tensors
from molmo2_ground.train.optimizer import AdamGroup, PartAdamW
from molmo2_ground.train.parts import split_parts, tie_head
from molmo2_ground.train.schedule import LevelSchedule
from molmo2_ground.train.step import StepOutcome, StepPlace
from molmo2_ground.train.tiny_checkpoint import tiny_flags, write_checkpoint
from molmo2_ground.train.tiny_model import Batch, Digits, new_model, step_loss
from molmo2_ground.train.tiny_text import Text
from molmo2_ground.train.toy.street import make_scene
from molmo2_ground.train.toy_examples import StageData, ToyBatches
from molmo2_ground.train.trainer import RunPlan, Trainer

DATA = StageData(
    tokens=400,
    frames=(1,),
    image_share=0.5,
    looks=2,
    lists=1.0,
    questions=3,
    slots=2,
    tasks=("point",),
    views=2,
)
STEPS = 2


def toy_trainer(work: Path, text: Text, model: Molmo2ForConditionalGeneration) -> Trainer[KeyedBatch[Batch]]:
    digits = Digits.build(text.tokenizer, vocab_size=model.lm_head.weight.shape[0])

    def loss(batch: KeyedBatch[Batch], place: StepPlace) -> StepOutcome:
        found, hits = step_loss(model, batch.data, digits, train_vision=True)
        return StepOutcome(loss=found, numbers=hits)

    schedule = LevelSchedule(steps=STEPS, warmup=1)
    groups = [
        AdamGroup(name=part, pieces=pieces, peak_rate=3e-3, schedule=schedule)
        for part, pieces in split_parts(model, tied=True, train_embedding=True).items()
    ]
    batches = ToyBatches(DATA, text.writer, tiny_flags(text.tokenizer), seed=1, steps=STEPS)
    return Trainer(
        work,
        model,
        PartAdamW(groups),
        NumberedLoader(batches, name="toy", workers=1, prepare=tensors),
        loss,
        plan=RunPlan(steps=STEPS, log_every=2, save_every=1, curves=False, bar=False),
    )


@pytest.mark.slow
def test_a_trained_model_loads_in_the_sdk_and_in_plain_transformers(tmp_path: Path) -> None:
    text = Text.build()
    model = new_model(text.tokenizer, seed=0)
    fresh = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert toy_trainer(tmp_path / "work", text, model).run().finished
    tie_head(model)
    folder = write_checkpoint(model, text.tokenizer, tmp_path / "checkpoint")
    assert not torch.equal(
        model.state_dict()["model.vision_tower.positional_embedding"],
        fresh["model.vision_tower.positional_embedding"],
    )
    sdk = load_checkpoint(folder, device="cpu", dtype="float32")
    rgb, _ = make_scene(3, duration_s=1.0).render(0.0)
    assert sdk.logits(sdk.build_inputs([rgb], "Point to the car.")).isfinite().all()
    plain = Molmo2ForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    for name, tensor in plain.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name].to(torch.float16).float()), name

    # What was trained is in the snapshot too: a new process finds the run finished.
    again = new_model(text.tokenizer, seed=1)
    assert toy_trainer(tmp_path / "work", text, again).run().finished
    trained = model.state_dict()
    for name, tensor in again.state_dict().items():
        if name != "lm_head.weight":  # tied after the run
            assert torch.equal(tensor, trained[name]), name
