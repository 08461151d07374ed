"""The whole way from the toy street to weights that have learnt: mixture, loader, packs, step, update."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from molmo2_ground.query import Query, build_prompt
from molmo2_ground.train.example import POINTING_CROPS
from molmo2_ground.train.example_source import ExampleMaker, ExampleParts
from molmo2_ground.train.loader import LoaderOptions, PackedLoader
from molmo2_ground.train.mixture import Group, Member, Mixture
from molmo2_ground.train.packed_step import PackedStep, StepOptions
from molmo2_ground.train.packer import PackLimits
from molmo2_ground.train.toy.questions import ToyTask, make_questions
from molmo2_ground.train.toy.street import make_scene
from molmo2_ground.train.toy_examples import answer_text
from molmo2_ground.train.toy_view import FIRST_TRAINING_SEED, Kind, show
from molmo2_ground.train.tree import Branch, BranchWriter
from tests.made_up_sets_to_train import random_model, tree_of

LIMITS = PackLimits(max_tokens=1024, max_crops=24, pool=4)
MIXTURE = Mixture(
    groups=(
        Group(name="still", rate=1.0, members=(Member(name="photos", kind="pointing"),)),
        Group(name="moving", rate=2.0, members=(Member(name="clips", kind="tracking"),)),
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Street:
    """A data set of the toy street: a scene for each number, and what is asked about it."""

    kind: Kind
    size: int = 20

    def __len__(self) -> int:
        return self.size

    def parts(self, index: int, *, rng: np.random.Generator) -> ExampleParts:
        scene = make_scene(FIRST_TRAINING_SEED + index, duration_s=4.0)
        times_s = np.arange(4) / 2 if self.kind == "video" else np.array([rng.uniform(0, 3)])
        view = show(scene, times_s, self.kind, rng)
        tasks: tuple[ToyTask, ...] = (
            ("point", "count", "track") if self.kind == "video" else ("point", "count")
        )
        questions = make_questions(scene, rng, view.visible_ids, 4, tasks=tasks, states=view.states)
        branches = tuple(
            Branch(
                user_text=build_prompt(Query(task=one.task, phrase=one.phrase), view.clip).text,
                answer=answer_text(one, view),
                kind="tracking" if one.task == "track" else "pointing",
            )
            for one in questions
        )
        return ExampleParts(tree=tree_of(branches), clip=view.clip)

    def name_of(self, index: int) -> str:
        return f"street {FIRST_TRAINING_SEED + index}"


def losses(step: PackedStep, loader: PackedLoader, count: int) -> Iterator[float]:
    """Of `count` updates, each of two batches that are weighed together."""
    optimizer = torch.optim.AdamW(step.parameters(), lr=2e-3)
    for number in range(count):
        parts = [next(loader), next(loader)]
        weight_sum = sum(part.weight_sum for part in parts)
        optimizer.zero_grad()
        total = 0.0
        for place, part in enumerate(parts):
            loss = step(part, weight_sum=weight_sum, dropout_seed=2 * number + place).loss
            loss.backward()
            total += float(loss.detach())
        optimizer.step()
        yield total


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["qwen", "olmo"])
def test_a_network_learns_the_street_from_packed_batches(kind: str) -> None:
    model = random_model("qwen" if kind == "qwen" else "olmo")
    network = copy.deepcopy(model.network).requires_grad_(True)
    options = StepOptions(response_dropout=0.1, recompute_vision=True, recompute_language=True)
    step = PackedStep(network, flags=model.flags, options=options).train()
    maker = ExampleMaker(
        sources={"photos": Street(kind="image"), "clips": Street(kind="video")},
        writer=BranchWriter(codec=model.codec),
        flags=model.flags,
        seed=3,
        max_tokens=LIMITS.max_tokens,
        crops={"photos": POINTING_CROPS},
    )
    with PackedLoader(
        maker, MIXTURE.shares(maker.sizes), limits=LIMITS, options=LoaderOptions(processes=1)
    ) as loader:
        found = list(losses(step, loader, 20))
    assert np.isfinite(found).all()
    # From random answers to the words that answers are made of.
    assert np.mean(found[-4:]) < 0.6 * found[0]
