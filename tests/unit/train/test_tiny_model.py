"""The tiny model trains with the very computation that inference runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from molmo2_ground.model import load_checkpoint
from molmo2_ground.model.attention import attention_rule
from molmo2_ground.train import tree_attention
from molmo2_ground.train.muon import Muon, orthogonalise
from molmo2_ground.train.tiny_checkpoint import tiny_flags, write_checkpoint
from molmo2_ground.train.tiny_model import (
    Batch,
    Digits,
    new_model,
    patch_features,
    patches,
    step_loss,
    text_hidden,
    visual_tokens,
)
from molmo2_ground.train.tiny_text import Text
from molmo2_ground.train.tiny_trainer import split_parameters
from molmo2_ground.train.toy.street import make_scene
from molmo2_ground.train.toy_examples import StageData, ToyBatches
from molmo2_ground.train.toy_view import Kind, show
from molmo2_ground.train.tree import Branch, MessageTree, SlotBatch, pack_slots
from molmo2_ground.train.visual_prefix import visual_prefix

TEXT = Text.build()
FLAGS = tiny_flags(TEXT.tokenizer)
BRANCHES = (
    Branch(user_text="Track the red car.", answer='<tracks coords="0.0 1 100 200">the red car</tracks>'),
    Branch(user_text="How many cars are there in the video?", answer="There are none."),
)


def random_slots(rng: np.random.Generator) -> SlotBatch:
    """Two trees with prefixes of different length and slots of several short branches."""
    shape, n_prefix = (2, 3, 7), 6
    branch_ids = np.sort(rng.integers(0, 4, size=shape), axis=-1)[..., ::-1].copy()
    valid = np.ones((2, n_prefix), dtype=np.bool_)
    valid[1, 4:] = False
    zeros = np.zeros(shape, dtype=np.int64)
    return SlotBatch(
        prefix_ids=np.zeros((2, n_prefix), dtype=np.int64),
        prefix_valid=valid,
        prefix_visual=rng.random((2, n_prefix)) < 0.5,
        ids=zeros,
        targets=zeros,
        positions=zeros,
        branch_ids=branch_ids,
        weights=zeros.astype(np.float32),
        marks=zeros,
    )


@pytest.mark.parametrize("seed", range(3))
def test_split_attention_equals_one_dense_row_under_the_rule(seed: int) -> None:
    slots = random_slots(np.random.default_rng(seed))
    masks = tree_attention.tree_masks(slots, dtype=torch.float64)
    batch, n_slots, slot_len = slots.ids.shape
    n_prefix = slots.prefix_ids.shape[1]
    length = n_prefix + n_slots * slot_len
    generator = torch.Generator().manual_seed(seed)
    query, key, value = (
        torch.randn(batch, 2, length, 4, generator=generator, dtype=torch.float64) for _ in range(3)
    )
    split, _ = tree_attention.tree_attention(
        torch.nn.Module(), query, key, value, None, scaling=0.5, tree=masks
    )
    # One row a tree: branches of different slots get different numbers, padding a number of its own.
    offset = np.arange(n_slots)[None, :, None] * 10
    numbers = np.where(slots.branch_ids > 0, slots.branch_ids + offset, 1000)
    branch_ids = torch.from_numpy(
        np.concatenate([np.zeros((batch, n_prefix), dtype=np.int64), numbers.reshape(batch, -1)], 1)
    )
    pad = torch.zeros(batch, n_slots * slot_len, dtype=torch.bool)
    allowed = attention_rule(
        torch.cat([torch.from_numpy(slots.prefix_visual), pad], 1),
        valid_L=torch.cat([torch.from_numpy(slots.prefix_valid), ~pad], 1),
        branch_ids_L=branch_ids,
    )
    dense = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=allowed[:, None] | torch.eye(length, dtype=torch.bool), scale=0.5
    ).transpose(1, 2)
    real = torch.from_numpy(
        np.concatenate([slots.prefix_valid, (slots.branch_ids > 0).reshape(batch, -1)], 1)
    )
    assert torch.allclose(split[real], dense[real], atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "times"), [("image", [0.0]), ("video", [0.0, 0.5, 1.0])])
def test_training_and_inference_give_the_same_logits(kind: Kind, times: list[float], tmp_path: Path) -> None:
    model = new_model(TEXT.tokenizer, seed=0)
    loaded = load_checkpoint(write_checkpoint(model, TEXT.tokenizer, tmp_path), device="cpu", dtype="float32")
    view = show(make_scene(5, duration_s=4), np.array(times), kind, np.random.default_rng(0))
    prefix_ids, visual = visual_prefix(view.clip, TEXT.writer.codec, FLAGS)
    tree = MessageTree(prefix_ids=prefix_ids, prefix_visual=visual, branches=BRANCHES)
    packed = pack_slots([tree], TEXT.writer, slots=1, slot_len=64, pad_id=0)
    pictures = [f.rgb for f in view.clip.frames for _ in range(2 if kind == "image" else 1)]
    where = np.nonzero(packed.prefix_ids.reshape(-1) == FLAGS.special.image_patch)[0]
    batch = Batch(frames_FNV=patches(np.stack(pictures)), visual_slots=where, trees=packed)
    with torch.no_grad():
        hidden = text_hidden(
            model, batch, visual_tokens(model, patch_features(model, torch.from_numpy(batch.frames_FNV)))
        )
        logits = model.lm_head(hidden).float()[0, 0]
    for number, branch in enumerate(BRANCHES, start=1):
        inputs = loaded.build_inputs(view.clip, branch.user_text)
        asked = len(inputs) - len(prefix_ids)
        written = TEXT.writer.write(branch).ids[:asked]
        assert inputs.input_ids.tolist() == [*prefix_ids.tolist(), *written.tolist()]
        ours = logits[torch.from_numpy(packed.branch_ids[0, 0] == number)][:asked]
        theirs = loaded.logits(inputs)[len(prefix_ids) :]
        # bf16 against fp32: rounding only, far below the spread of the logits (about 10).
        assert (ours - theirs).abs().max() < 0.1


@pytest.mark.slow
def test_a_few_steps_on_one_batch_bring_the_loss_down() -> None:
    torch.manual_seed(0)
    data = StageData(
        tokens=400,
        frames=(1,),
        image_share=0.5,
        looks=2,
        lists=1.0,
        questions=3,
        slots=2,
        tasks=("point", "count"),
        views=2,
    )
    batch = ToyBatches(data, TEXT.writer, FLAGS, seed=1, steps=1)[0]
    model = new_model(TEXT.tokenizer, seed=0)
    digits = Digits.build(TEXT.tokenizer, vocab_size=model.lm_head.weight.shape[0])
    matrices, others = split_parameters(model.named_parameters())
    optimizer = Muon(matrices, others, matrix_lr=1e-2, other_lr=1e-3)
    losses = []
    for _ in range(6):
        loss, _ = step_loss(model, batch, digits, train_vision=True)
        loss.backward()
        optimizer.step(scale=1.0)
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.6 * losses[0]


@pytest.mark.parametrize("shape", [(2, 16, 16), (1, 8, 32), (3, 32, 8)], ids=["square", "wide", "tall"])
def test_orthogonalised_updates_have_singular_values_near_one(shape: tuple[int, ...]) -> None:
    matrices = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalise(matrices).float())
    assert values.min() > 0.4
    assert values.max() < 1.4


VOCAB_SIZE = TEXT.tokenizer.get_vocab_size() - 10
DIGITS = Digits.build(TEXT.tokenizer, vocab_size=VOCAB_SIZE)


@pytest.mark.parametrize("coordinate", [0, 5, 99, 100, 499, 500, 731, 995, 999])
def test_soft_digits_spell_a_gaussian_around_the_coordinate(coordinate: int) -> None:
    first, second, third = (DIGITS.soft_NPD[coordinate, place] for place in range(3))
    assert all(abs(float(part.sum()) - 1) < 1e-5 for part in (first, second, third))
    numbers = np.arange(1000)
    mass = np.exp(-0.5 * ((numbers - coordinate) / 3.0) ** 2)
    hundred, ten = coordinate // 100, coordinate // 10
    for digit in range(10):
        expected = mass[numbers // 100 == digit].sum() / mass.sum()
        assert float(first[digit]) == pytest.approx(expected, abs=1e-5)
        of_hundred = mass * (numbers // 100 == hundred)
        expected = of_hundred[numbers // 10 % 10 == digit].sum() / of_hundred.sum()
        assert float(second[digit]) == pytest.approx(expected, abs=1e-5)
        of_ten = mass * (numbers // 10 == ten)
        assert float(third[digit]) == pytest.approx(
            of_ten[numbers % 10 == digit].sum() / of_ten.sum(), abs=1e-5
        )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(" 1 031 999", [(0, 31), (1, 31), (2, 31), (0, 999), (1, 999), (2, 999)], id="two"),
        pytest.param("12.5 1 1000 007", [(0, 7), (1, 7), (2, 7)], id="the-far-edge-is-only-itself"),
        pytest.param("a total of 12.", [], id="no-coordinate"),
        pytest.param("123", [(0, 123), (1, 123), (2, 123)], id="all-there-is"),
    ],
)
def test_places_are_the_digits_of_coordinates(text: str, expected: list[tuple[int, int]]) -> None:
    ids = torch.tensor(TEXT.tokenizer.encode(text, add_special_tokens=False).ids)
    place, whole = DIGITS.places(ids)
    found = [(int(p), int(w)) for p, w in zip(place, whole, strict=True) if p >= 0]
    assert found == expected
    assert bool(((place < 0) == (whole < 0)).all())


def test_the_fused_kernels_look_where_the_plain_products_do() -> None:
    slots = random_slots(np.random.default_rng(1))
    masks = tree_attention.tree_masks(slots, dtype=torch.float64)
    batch, n_slots, slot_len = slots.ids.shape
    n_prefix = slots.prefix_ids.shape[1]
    generator = torch.Generator().manual_seed(1)
    parts = [
        torch.randn(
            batch, 2, n_prefix + n_slots * slot_len, 4, generator=generator, dtype=torch.float64
        ).split([n_prefix, n_slots * slot_len], 2)
        for _ in range(3)
    ]
    rows = tree_attention.row_masks(masks)
    plain, fused = tree_attention._plain(parts, masks), tree_attention._fused(parts, masks, rows)
    assert torch.allclose(plain, fused, atol=1e-12)
