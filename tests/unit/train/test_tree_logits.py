"""What a network answers in a pack is what it answers alone. Numbers are those of the recipe's invariants.

Random checkpoints of both kinds, fp32. Alone means the SDK's own inference, `Molmo2.logits`, which knows
nothing of trees, wherever pictures see each other both ways. Shapes: L tokens, D channels, V words.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch

from molmo2_ground.clip import Clip
from molmo2_ground.model import Molmo2, load_checkpoint
from molmo2_ground.model.decoding import embed, word_logits
from molmo2_ground.model.inputs import ModelInputs, VisualInputs, assemble
from molmo2_ground.model.random_checkpoint import Kind, write_random_checkpoint
from molmo2_ground.train import Branch, MessageTree, flatten
from molmo2_ground.train.block_mask import dense_mask, row_tokens
from molmo2_ground.train.loss import weighted_loss
from molmo2_ground.train.tree import BranchWriter, FlatBranch, FlatPack, FlatTree, Turn, pack_trees
from tests.trees import random_tree

KINDS: tuple[Kind, ...] = ("qwen", "olmo")
TOLERANCE = 1e-5  # of the largest logit
BRANCHES = (
    Branch(user_text="Point to the dog.", answer='<points coords="1 1 100 200">the dog</points>'),
    Branch(
        user_text="How many?",
        answer="There are none.",
        later_turns=(Turn(user_text="Are you sure?", answer="Yes."),),
    ),
    Branch(user_text="What is it?", answer="A horse."),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A tree and the pictures of its prefix; None for text alone."""

    tree: MessageTree
    visual: VisualInputs | None


@pytest.fixture(scope="module", params=KINDS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Molmo2:
    folder = write_random_checkpoint(tmp_path_factory.mktemp(request.param), kind=request.param)
    return load_checkpoint(folder, device="cpu", dtype="float32")


def shown(model: Molmo2, media: Any, *branches: Branch) -> Shown:
    visual = model.build_visual(media)
    inputs = assemble(visual, "", codec=model.codec, flags=model.flags)
    head = slice(0, inputs.prefix_length)
    tree = MessageTree(
        prefix_ids=inputs.input_ids[head].numpy(),
        prefix_visual=inputs.visual_L[head].numpy(),
        branches=branches,
    )
    return Shown(tree=tree, visual=visual)


@pytest.fixture
def video(model: Molmo2) -> Shown:
    rng = np.random.default_rng(0)
    frames = rng.integers(256, size=(3, 40, 60, 3), dtype=np.uint8)
    return shown(model, Clip.from_arrays(frames, times_s=np.arange(3) / 2), *BRANCHES)


@pytest.fixture
def image(model: Molmo2) -> Shown:
    rng = np.random.default_rng(1)
    return shown(model, [rng.integers(256, size=(50, 70, 3), dtype=np.uint8)], *BRANCHES[1:])


@pytest.fixture
def text(model: Molmo2) -> Shown:
    return shown(model, [], *BRANCHES[:2])


def writer_of(model: Molmo2) -> BranchWriter:
    return BranchWriter(codec=model.codec)


def flat_of(model: Molmo2, example: Shown) -> FlatTree:
    return flatten(example.tree, writer_of(model))


@torch.inference_mode()
def row_logits(
    model: Molmo2, pack: FlatPack, pictures: list[VisualInputs | None], *, bidirectional: bool = True
) -> torch.Tensor:
    """float32[L, V] of one row, as a trainer runs it."""
    ids = torch.from_numpy(pack.ids)
    features = [model.vision.encode(visual) for visual in pictures if visual is not None]
    embeds = embed(
        model.network,
        ids,
        patch_L=(ids == model.flags.special.image_patch) & torch.from_numpy(pack.valid),
        features_TD=torch.cat(features) if features else None,
    )
    hidden = model.network.model.language_model(
        inputs_embeds=embeds[None],
        attention_mask=dense_mask(row_tokens([pack], bidirectional=bidirectional)),
        position_ids=torch.from_numpy(pack.positions)[None],
        use_cache=False,
    ).last_hidden_state[0]
    return word_logits(model.network, hidden)


def alone(model: Molmo2, example: Shown, branch: FlatBranch) -> torch.Tensor:
    """float32[L, V] of one conversation by the SDK's inference: prefix, then the branch."""
    start = assemble(example.visual, "", codec=model.codec, flags=model.flags)
    words = torch.zeros(len(branch), dtype=torch.bool)
    head = slice(0, start.prefix_length)
    inputs: ModelInputs = replace(
        start,
        input_ids=torch.cat([start.input_ids[head], torch.from_numpy(branch.ids)]),
        visual_L=torch.cat([start.visual_L[head], words]),
        patch_L=torch.cat([start.patch_L[head], words]),
    )
    return model.logits(inputs)


def same(found: torch.Tensor, expected: torch.Tensor) -> bool:
    assert expected.std() > 0.1
    return bool((found - expected).abs().max() < TOLERANCE * expected.abs().max())


@pytest.mark.parametrize("bidirectional", [True, False], ids=["both-ways", "causal"])
def test_invariant_01_a_pack_of_trees_gives_each_tree_what_it_gets_alone(
    model: Molmo2, video: Shown, image: Shown, text: Shown, bidirectional: bool
) -> None:
    examples = [image, text, video]
    flat = [flat_of(model, example) for example in examples]
    pack = pack_trees(flat, pad_id=model.flags.special.image_patch, length=sum(map(len, flat)) + 5)
    pictures = [example.visual for example in examples]
    together = row_logits(model, pack, pictures, bidirectional=bidirectional)
    assert together.isfinite().all()
    for number, (tree, example) in enumerate(zip(flat, examples, strict=True), start=1):
        row = pack_trees([tree], pad_id=0)
        by_itself = row_logits(model, row, [example.visual], bidirectional=bidirectional)
        assert same(together[torch.from_numpy(pack.tree_ids) == number], by_itself)


@pytest.mark.parametrize("name", ["video", "image", "text"])
def test_invariant_02_a_branch_gives_the_logits_of_its_conversation_alone(
    model: Molmo2, name: str, request: pytest.FixtureRequest
) -> None:
    example: Shown = request.getfixturevalue(name)
    flat = flat_of(model, example)
    logits = row_logits(model, pack_trees([flat], pad_id=0), [example.visual])
    n_prefix = len(example.tree.prefix_ids)
    for number, branch in enumerate(example.tree.branches, start=1):
        assert isinstance(branch, Branch)
        conversation = alone(model, example, writer_of(model).write(branch))
        assert same(logits[torch.from_numpy(flat.branch_ids) == number], conversation[n_prefix:])
        assert same(logits[:n_prefix], conversation[:n_prefix])


def test_a_checkpoint_whose_pictures_see_one_way_answers_as_it_was_trained(model: Molmo2) -> None:
    one_way = Molmo2(
        replace(model.checkpoint, flags=replace(model.flags, mutual_sight=False, frame_times=False)),
        model.network,
    )
    frames = np.random.default_rng(0).integers(256, size=(3, 40, 60, 3), dtype=np.uint8)
    example = shown(one_way, Clip.from_arrays(frames, times_s=np.arange(3) / 2), *BRANCHES)
    both_ways = shown(model, Clip.from_arrays(frames, times_s=np.arange(3) / 2), *BRANCHES)
    assert not example.tree.prefix_visual.any()
    assert len(example.tree.prefix_ids) < len(both_ways.tree.prefix_ids)  # no times
    flat = flat_of(one_way, example)
    row = pack_trees([flat], pad_id=0)
    logits = row_logits(one_way, row, [example.visual])
    assert same(logits, row_logits(one_way, row, [example.visual], bidirectional=False))
    n_prefix = len(example.tree.prefix_ids)
    branch = example.tree.branches[0]
    assert isinstance(branch, Branch)
    conversation = alone(one_way, example, writer_of(one_way).write(branch))
    assert same(logits[torch.from_numpy(flat.branch_ids) == 1], conversation[n_prefix:])


def test_invariant_03_branches_in_another_order_give_the_same_in_another_order(
    model: Molmo2, image: Shown, video: Shown
) -> None:
    order = [2, 0, 1]
    branches = video.tree.branches
    turned = replace(video, tree=replace(video.tree, branches=tuple(branches[n] for n in order)))
    before, after = flat_of(model, video), flat_of(model, turned)
    one = row_logits(model, pack_trees([before], pad_id=0), [video.visual])
    other = row_logits(model, pack_trees([after], pad_id=0), [video.visual])
    for new, old in enumerate(order, start=1):
        there = torch.from_numpy(before.branch_ids) == old + 1
        assert same(other[torch.from_numpy(after.branch_ids) == new], one[there])


def test_invariant_03_trees_in_another_order_give_each_the_same(
    model: Molmo2, image: Shown, video: Shown
) -> None:
    first, second = flat_of(model, image), flat_of(model, video)
    one = row_logits(model, pack_trees([first, second], pad_id=0), [image.visual, video.visual])
    other = row_logits(model, pack_trees([second, first], pad_id=0), [video.visual, image.visual])
    assert same(other[len(second) :], one[: len(first)])
    assert same(other[: len(second)], one[len(first) :])


def test_invariant_15_a_tree_of_text_among_pictures_gives_what_it_gives_alone(
    model: Molmo2, image: Shown, video: Shown, text: Shown
) -> None:
    flat = [flat_of(model, example) for example in (video, text, image)]
    pack = pack_trees(flat, pad_id=0)
    logits = row_logits(model, pack, [video.visual, None, image.visual])
    for number, branch in enumerate(text.tree.branches, start=1):
        assert isinstance(branch, Branch)
        here = torch.from_numpy((pack.tree_ids == 2) & (pack.branch_ids == number))
        conversation = alone(model, text, writer_of(model).write(branch))
        assert same(logits[here], conversation[len(text.tree.prefix_ids) :])


def test_a_question_in_a_tree_is_the_prompt_that_inference_sends(model: Molmo2, video: Shown) -> None:
    flat = flat_of(model, video)
    branch = video.tree.branches[0]
    assert isinstance(branch, Branch)
    prompt = assemble(video.visual, branch.user_text, codec=model.codec, flags=model.flags)
    assert flat.ids[: len(prompt)].tolist() == prompt.input_ids.tolist()
    assert flat.visual[: len(prompt)].tolist() == prompt.visual_L.tolist()


def loss_of(model: Molmo2, pack: FlatPack, *, weight_sum: float) -> torch.Tensor:
    """The loss of one row whose pictures have no features: flags and places alone matter here."""
    language = model.network.model.language_model
    hidden = language(
        inputs_embeds=language.embed_tokens(torch.from_numpy(pack.ids))[None],
        attention_mask=dense_mask(row_tokens([pack])),
        position_ids=torch.from_numpy(pack.positions)[None],
        use_cache=False,
    ).last_hidden_state[0]
    targets, weights = torch.from_numpy(pack.targets), torch.from_numpy(pack.weights)
    return weighted_loss(
        hidden, model.network.lm_head.weight, targets, weights, weight_sum=weight_sum, z_loss=1e-4
    ).loss


def test_a_pack_teaches_what_its_conversations_teach_one_by_one(model: Molmo2) -> None:
    rng = np.random.default_rng(0)
    trees = [random_tree(rng, text_only=number == 1) for number in range(3)]
    pack = pack_trees([flatten(tree) for tree in trees], pad_id=0, length=128)
    single = [
        pack_trees([flatten(replace(tree, branches=(branch,)))], pad_id=0)
        for tree in trees
        for branch in tree.branches
    ]
    assert len(single) > len(trees)
    assert sum(one.weight_sum for one in single) == pytest.approx(pack.weight_sum)
    parameters = [p.requires_grad_() for p in model.network.model.language_model.parameters()]
    parameters.append(model.network.lm_head.weight.requires_grad_())
    together = loss_of(model, pack, weight_sum=pack.weight_sum)
    apart = torch.stack([loss_of(model, one, weight_sum=pack.weight_sum) for one in single]).sum()
    torch.testing.assert_close(together, apart, rtol=1e-5, atol=0)
    expected = torch.autograd.grad(apart, parameters)
    for found, wanted in zip(torch.autograd.grad(together, parameters), expected, strict=True):
        assert wanted.abs().max() > 0
        assert (found - wanted).abs().max() < 1e-4 * wanted.abs().max()
