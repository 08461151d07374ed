"""What a packed batch gives is what its examples give alone. Numbers are those of the recipe's invariants.

Random checkpoints of both kinds, fp32. Alone means the SDK's own inference, `Molmo2.logits`, which knows
nothing of trees or packs, wherever pictures see each other both ways. Shapes: L tokens, D channels, V words.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from molmo2_ground.model import Molmo2
from molmo2_ground.model.decoding import word_logits
from molmo2_ground.model.inputs import ModelInputs, VisualInputs, VisualUnit
from molmo2_ground.model.random_checkpoint import Kind
from molmo2_ground.train.example import PreparedExample
from molmo2_ground.train.packed_batch import BatchShape, PackedBatch, pack_batch
from molmo2_ground.train.packed_step import PackedStep, StepOptions
from molmo2_ground.train.tree import IGNORE, FlatTree
from tests.made_up_sets_to_train import example_of, random_model

KINDS: tuple[Kind, ...] = ("qwen", "olmo")
TOLERANCE = 1e-5  # of the largest logit
SHAPE = BatchShape(token_multiple=32)
VIDEO, TEXT = example_of("video", index=0), example_of("text", index=1)
IMAGE, IMAGES = example_of("image", index=2), example_of("images", index=3)
EVERYTHING = [[IMAGE, TEXT, VIDEO], [IMAGES, example_of("text", index=9, branches=1)]]
BOTH_WAYS = pytest.mark.parametrize("bidirectional", [True, False], ids=["both-ways", "causal"])


@pytest.fixture(scope="module", params=KINDS)
def model(request: pytest.FixtureRequest) -> Molmo2:
    return random_model(request.param)


def packed(rows: Sequence[Sequence[PreparedExample]], shape: BatchShape = SHAPE) -> PackedBatch:
    return pack_batch(rows, shape=shape, pad_id=7)


def step_of(model: Molmo2, **options: Any) -> PackedStep:
    """A step on the shared network: nothing may drop, and no weight may change."""
    return PackedStep(model.network, flags=model.flags, options=StepOptions(**options)).eval()


def learning(model: Molmo2, **options: Any) -> PackedStep:
    """A step on a network of its own, all of which learns."""
    network = copy.deepcopy(model.network).requires_grad_(True)
    return PackedStep(network, flags=model.flags, options=StepOptions(**options)).train()


@torch.inference_mode()
def logits(step: PackedStep, batch: PackedBatch) -> list[Tensor]:
    """Of each example in order, float32[L, V]."""
    hidden = step.hidden(batch)
    return [
        word_logits(step.network, hidden[one.row, one.first_token : one.first_token + one.tokens])
        for one in batch.placed
    ]


def branch_alone(example: PreparedExample, number: int) -> PreparedExample:
    """The example with one branch only, its weights as they are."""
    tree = example.tree
    kept = (tree.branch_ids == 0) | (tree.branch_ids == number)
    names = ("ids", "targets", "weights", "positions", "branch_ids", "visual", "marks")
    return replace(example, tree=FlatTree(**{name: getattr(tree, name)[kept] for name in names}))


def inference(model: Molmo2, example: PreparedExample) -> Tensor:
    """float32[L, V] of an example of one branch by the SDK's inference, to which it is one long prompt."""
    visual = None
    if example.crops:
        unit = VisualUnit(crops=example.crops, tokens=len(example.pooling_TK))
        visual = VisualInputs(
            kind="images",
            token_ids_V=torch.empty(0),
            patches_CNP=example.patches_CNP,
            pooling_TK=example.pooling_TK,
            units=(unit,),
            grids=(),
        )
    patch_L = torch.zeros(example.tokens, dtype=torch.bool)
    patch_L[torch.from_numpy(example.places_T)] = True
    return model.logits(
        ModelInputs(
            input_ids=torch.from_numpy(example.tree.ids),
            visual_L=torch.from_numpy(example.tree.visual),
            patch_L=patch_L,
            prefix_length=1,
            visual=visual,
        )
    )


def same(found: Tensor, expected: Tensor, tolerance: float = TOLERANCE) -> bool:
    assert expected.std() > 0.1
    return bool((found - expected).abs().max() < tolerance * expected.abs().max())


@BOTH_WAYS
def test_invariant_01_a_batch_gives_each_example_what_it_gets_alone(
    model: Molmo2, bidirectional: bool
) -> None:
    step = step_of(model, bidirectional=bidirectional, crops_at_once=4)
    together = logits(step, packed(EVERYTHING, BatchShape(token_multiple=32, crop_buckets=(32,))))
    for found, example in zip(together, (one for row in EVERYTHING for one in row), strict=True):
        assert same(found, logits(step, packed([[example]]))[0])


@pytest.mark.parametrize("example", [VIDEO, IMAGE, IMAGES, TEXT], ids=lambda one: one.key.dataset)
def test_invariant_02_a_branch_gets_what_inference_gives_its_conversation(
    model: Molmo2, example: PreparedExample
) -> None:
    found = logits(step_of(model), packed([[TEXT, example]]))[1]
    for number in range(1, 4):
        expected = inference(model, branch_alone(example, number))
        branch = torch.from_numpy(example.tree.branch_ids)
        assert same(found[(branch == 0) | (branch == number)], expected)


def test_invariant_03_examples_in_another_order_get_the_same(model: Molmo2) -> None:
    step = step_of(model)
    one = logits(step, packed([[IMAGE, VIDEO, TEXT]]))
    other = logits(step, packed([[TEXT, IMAGE], [VIDEO]]))
    for found, expected in zip((other[1], other[2], other[0]), one, strict=True):
        assert same(found, expected)


def test_invariant_15_text_among_pictures_gets_what_it_gets_alone(model: Molmo2) -> None:
    found = logits(step_of(model), packed([[VIDEO, TEXT, IMAGE]]))[1]
    branch = torch.from_numpy(TEXT.tree.branch_ids)
    for number in (1, 2, 3):
        expected = inference(model, branch_alone(TEXT, number))
        assert same(found[(branch == 0) | (branch == number)], expected)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@BOTH_WAYS
def test_invariant_06_a_block_mask_gives_what_the_dense_one_gives(model: Molmo2, bidirectional: bool) -> None:
    batch = packed([[VIDEO, TEXT]], BatchShape())
    dense = logits(step_of(model, bidirectional=bidirectional), batch)
    blocks = logits(step_of(model, bidirectional=bidirectional, block_mask=True), batch)
    assert all(same(found, expected) for found, expected in zip(blocks, dense, strict=True))


def gradients(step: PackedStep, batches: Iterable[PackedBatch], **options: Any) -> dict[str, Tensor]:
    """Of all batches together, by the weights' names; zeros where a weight had no part."""
    step.zero_grad()
    for batch in batches:
        step(batch, **options).loss.backward()
    return {
        name: torch.zeros_like(p) if p.grad is None else p.grad.clone() for name, p in step.named_parameters()
    }


def check_gradients(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float = 1e-4) -> None:
    assert found.keys() == expected.keys()
    for name, wanted in expected.items():
        if name.endswith("k_proj.bias"):
            continue  # one shift of all keys changes no attention: there is nothing but rounding in it
        assert wanted.abs().max() > 1e-6, name
        assert (found[name] - wanted).abs().max() < tolerance * wanted.abs().max(), name


@pytest.mark.slow
def test_invariant_10_a_batch_teaches_what_its_branches_teach_one_by_one(model: Molmo2) -> None:
    step = learning(model)
    batch = packed(EVERYTHING)
    single = [
        packed([[branch_alone(one, number)]])
        for row in EVERYTHING
        for one in row
        for number in range(1, int(one.tree.branch_ids.max()) + 1)
    ]
    assert sum(one.weight_sum for one in single) == pytest.approx(batch.weight_sum)
    together = gradients(step, [batch])
    # The tower, the connector, the words of pictures, the language model: all of them learn.
    check_gradients(together, gradients(step, single, weight_sum=batch.weight_sum))


@pytest.mark.slow
def test_invariant_10_the_parts_of_a_step_add_up_to_its_loss(model: Molmo2) -> None:
    step, whole = step_of(model), packed(EVERYTHING)
    parts = [packed([row]) for row in EVERYTHING]
    apart = [step(part, weight_sum=whole.weight_sum).loss for part in parts]
    assert float(sum(apart)) == pytest.approx(float(step(whole).loss), rel=1e-5)
    # Ranks whose gradients are averaged: each loss is so many times as large.
    ranked = [step(part, weight_sum=whole.weight_sum, ranks=2).loss / 2 for part in parts]
    assert float(sum(ranked)) == pytest.approx(float(step(whole).loss), rel=1e-5)


def test_the_loss_is_the_weighted_cross_entropy_of_the_logits(model: Molmo2) -> None:
    batch = packed([[IMAGE, TEXT]])
    found = step_of(model, z_loss=1e-4)(batch)
    rows = torch.cat(logits(step_of(model), batch))
    targets, weights = (
        torch.from_numpy(np.concatenate([getattr(one.tree, name) for one in (IMAGE, TEXT)]))
        for name in ("targets", "weights")
    )
    learnt = targets != IGNORE
    entropy = torch.nn.functional.cross_entropy(rows[learnt], targets[learnt], reduction="none")
    per_token = entropy + 1e-4 * rows[learnt].logsumexp(1).square()
    expected = (weights[learnt] * per_token).sum() / weights[learnt].sum()
    assert float(found.loss) == pytest.approx(float(expected), rel=1e-5)
    assert torch.allclose(found.cross_entropy_M, entropy, rtol=1e-4, atol=1e-5)
    assert {name: pytest.approx(float(value)) for name, value in found.numbers.items()} == {
        "cross_entropy": float(entropy.mean()),
        "learnt": int(learnt.sum()),
        "tokens": IMAGE.tokens + TEXT.tokens,
        "crops": IMAGE.crops,
        "fill": batch.fill,
    }


RECOMPUTED: dict[str, dict[str, Any]] = {
    "vision": {"recompute_vision": True, "crops_at_once": 2},
    "language": {"recompute_language": True},
    "both": {"recompute_vision": True, "recompute_language": True, "crops_at_once": 3},
}


@pytest.mark.slow
@pytest.mark.parametrize("recomputed", RECOMPUTED.values(), ids=RECOMPUTED)
@pytest.mark.parametrize("dropout", [0.0, 0.3], ids=["whole", "dropout"])
def test_what_is_recomputed_in_the_backward_pass_gives_the_same_gradients(
    model: Molmo2, recomputed: dict[str, Any], dropout: float
) -> None:
    batches = [packed([row]) for row in EVERYTHING]
    drops = {"response_dropout": dropout, "other_dropout": dropout / 3}
    plain = gradients(learning(model, **drops), batches, dropout_seed=5)
    check_gradients(gradients(learning(model, **drops, **recomputed), batches, dropout_seed=5), plain)


@pytest.mark.slow
def test_two_forward_passes_may_come_before_their_backward_passes(model: Molmo2) -> None:
    step = learning(model, response_dropout=0.3, recompute_language=True)
    batches = [packed([row]) for row in EVERYTHING]
    step.zero_grad()
    expected = gradients(step, batches[:1], dropout_seed=1)
    one, other = step(batches[0], dropout_seed=1), step(batches[1], dropout_seed=2)
    step.zero_grad()
    one.loss.backward()
    found = {name: p.grad for name, p in step.named_parameters() if p.grad is not None}
    check_gradients(found, {name: expected[name] for name in found})
    assert other.loss.isfinite()


@pytest.mark.slow
def test_dropout_goes_by_the_seed_and_sleeps_in_eval(model: Molmo2) -> None:
    step, batch = learning(model, response_dropout=0.3), packed(EVERYTHING)
    losses = [float(step(batch, dropout_seed=seed).loss.detach()) for seed in (1, 1, 2)]
    assert losses[0] == losses[1] != losses[2]
    with pytest.raises(ValueError, match="needs dropout_seed"):
        step(batch)
    step.eval()
    assert float(step(batch).loss.detach()) == pytest.approx(float(step_of(model)(batch).loss), rel=1e-6)


def test_a_batch_of_text_runs_the_tower_where_all_processes_must(model: Molmo2) -> None:
    step = learning(model)
    alone = gradients(step, [packed([[TEXT]])])
    with_crops = packed([[TEXT]], BatchShape(token_multiple=32, crop_buckets=(4,), always_pictures=True))
    assert len(with_crops.patches_CNP) == 4
    step.zero_grad()
    step(with_crops).loss.backward()
    for name, parameter in step.named_parameters():
        # Behind the last layer that is read there is none in these networks.
        assert parameter.grad is not None, name
        assert torch.equal(parameter.grad, alone[name]), name


def test_a_tied_head_learns_as_the_words_do(model: Molmo2) -> None:
    step = learning(model, tied_head=True)
    found = gradients(step, [packed([[TEXT]])])
    assert not found["network.lm_head.weight"].any()
    untied = learning(model)
    with torch.no_grad():
        untied.network.lm_head.weight.copy_(untied.network.model.language_model.embed_tokens.weight[:300])
    apart = gradients(untied, [packed([[TEXT]])])
    table = "network.model.language_model.embed_tokens.weight"
    both = apart[table].clone()
    both[:300] += apart["network.lm_head.weight"]
    assert torch.allclose(found[table], both, rtol=1e-4, atol=1e-6)


def test_a_network_answers_as_before_while_it_is_trained(model: Molmo2) -> None:
    asked = branch_alone(IMAGE, 1)
    step_of(model)(packed([[VIDEO]]))
    during = inference(model, asked)
    fresh = Molmo2(model.checkpoint, copy.deepcopy(model.network))  # sets inference's own attention
    assert torch.equal(during, inference(fresh, asked))
    assert model.generate(model.build_inputs([], "hi"), max_new_tokens=3).text == (
        fresh.generate(fresh.build_inputs([], "hi"), max_new_tokens=3).text
    )


@pytest.mark.slow
@pytest.mark.parametrize("how", ["autocast", "weights"])
def test_bf16_gives_nearly_the_same_loss_and_gradients_of_the_weights_own_type(
    model: Molmo2, how: str
) -> None:
    batch, step = packed(EVERYTHING), learning(model)
    exact = float(step_of(model)(batch).loss)
    if how == "weights":
        step = step.to(torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=how == "autocast"):
        found = step(batch)
    assert found.loss.dtype == torch.float32
    assert float(found.loss.detach()) == pytest.approx(exact, rel=0.02)
    found.loss.backward()
    for name, parameter in step.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize(
    "wrong", [{"crops_at_once": 0}, {"response_dropout": 1.0}, {"other_dropout": -0.1}], ids=str
)
def test_options_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        StepOptions(**wrong)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_block_mask_teaches_on_a_gpu_what_the_dense_one_teaches(model: Molmo2) -> None:
    batch = packed(EVERYTHING, BatchShape())
    steps = [learning(model, block_mask=blocks).to("cuda") for blocks in (False, True)]
    dense, blocks = (gradients(step, [batch]) for step in steps)
    check_gradients(blocks, dense, tolerance=1e-2)  # TF32 products and other kernels
