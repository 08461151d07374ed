"""Examples in rows, with their pictures. Numbers are those of the recipe's invariants."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from molmo2_ground.train.example import PreparedExample
from molmo2_ground.train.packed_batch import BatchShape, pack_batch, unpack
from molmo2_ground.train.packer import STAGE2
from tests.made_up_sets_to_train import Medium, example_of

MEDIA: tuple[Medium, ...] = ("text", "image", "images", "video")
POOL = {(medium, n): example_of(medium, index=n, branches=n + 1) for medium in MEDIA for n in range(2)}
Rows = list[list[PreparedExample]]
rows_of_examples = st.lists(
    st.lists(st.sampled_from(list(POOL.values())), min_size=1, max_size=4), min_size=1, max_size=3
)


def same(one: PreparedExample, other: PreparedExample) -> bool:
    trees = all(
        np.array_equal(getattr(one.tree, field.name), getattr(other.tree, field.name))
        for field in fields(one.tree)
    )
    return (
        trees
        and one.key == other.key
        and torch.equal(one.patches_CNP, other.patches_CNP)
        and torch.equal(one.pooling_TK, other.pooling_TK)
        and np.array_equal(one.places_T, other.places_T)
    )


@pytest.mark.slow
@given(rows=rows_of_examples, buckets=st.sampled_from([(), (4, 8), (2, 64)]), always=st.booleans())
@settings(max_examples=40, deadline=None)
def test_invariant_14_unpacked_the_examples_are_what_they_were(
    rows: Rows, buckets: tuple[int, ...], always: bool
) -> None:
    shape = BatchShape(token_multiple=16, crop_buckets=buckets, always_pictures=always)
    again = unpack(pack_batch(rows, shape=shape, pad_id=0))
    assert [len(row) for row in again] == [len(row) for row in rows]
    for found, expected in zip(again, rows, strict=True):
        assert all(same(one, other) for one, other in zip(found, expected, strict=True))


@pytest.mark.slow
@given(rows=rows_of_examples)
@settings(max_examples=40, deadline=None)
def test_invariant_14_each_patch_token_gets_the_patches_of_its_own_picture(rows: Rows) -> None:
    batch = pack_batch(rows, shape=BatchShape(crop_buckets=(64,)), pad_id=0)
    flat = batch.patches_CNP.flatten(0, 1)
    ids = np.concatenate([row.ids for row in batch.rows])
    feature = 0
    for example in (one for row in rows for one in row):
        own = example.patches_CNP.flatten(0, 1)
        for windows, place in zip(example.pooling_TK, example.places_T, strict=True):
            found = batch.pooling_TK[feature]
            assert torch.equal(flat[found[found >= 0]], own[windows[windows >= 0]])
            assert ids[batch.places_T[feature]] == example.tree.ids[place]
            feature += 1
    assert feature == len(batch.pooling_TK) == len(batch.places_T)


def test_rows_of_pictures_and_videos_have_the_wider_pooling() -> None:
    image, video, text = (POOL[medium, 0] for medium in ("image", "video", "text"))
    assert (image.pooling_TK.shape[1], video.pooling_TK.shape[1]) == (4, 9)
    batch = pack_batch([[image, text, video]], shape=BatchShape(), pad_id=0)
    assert batch.pooling_TK.shape == (len(image.places_T) + len(video.places_T), 9)
    assert (batch.pooling_TK[: len(image.places_T), 4:] == -1).all()


def test_a_batch_says_what_it_holds() -> None:
    rows = [[POOL["video", 0], POOL["text", 1]], [POOL["image", 1]]]
    batch = pack_batch(rows, shape=BatchShape(row_tokens=200, crop_buckets=(64,)), pad_id=0)
    assert batch.keys == ("video:0:0", "text:0:1", "image:0:1")
    assert [len(row) for row in batch.rows] == [256, 256]
    assert batch.tokens == sum(one.tokens for row in rows for one in row)
    assert batch.crops == rows[0][0].crops + rows[1][0].crops < len(batch.patches_CNP) == 64
    assert batch.fill == pytest.approx(batch.tokens / 512)
    weights = [one.tree.weights[one.tree.targets != -100].sum() for row in rows for one in row]
    assert batch.weight_sum == pytest.approx(sum(weights))
    assert not batch.patches_CNP[batch.crops :].any()


@pytest.mark.parametrize(
    ("buckets", "always", "used", "expected"),
    [
        ((), False, 5, 5),
        ((), False, 0, 0),
        ((), True, 0, 1),
        ((16, 32, 64, 128), False, 0, 0),
        ((16, 32, 64, 128), True, 0, 16),
        ((16, 32, 64, 128), False, 16, 16),
        ((16, 32, 64, 128), False, 17, 32),
        ((16, 32, 64, 128), False, 128, 128),
        ((16, 32, 64, 128), False, 129, 256),
    ],
)
def test_crops_are_filled_up_to_a_few_numbers(
    buckets: tuple[int, ...], always: bool, used: int, expected: int
) -> None:
    assert BatchShape(crop_buckets=buckets, always_pictures=always).crops(used) == expected


@pytest.mark.parametrize(
    ("row_tokens", "longest", "expected"),
    [(None, 1, 128), (None, 129, 256), (16384, 5, 16384), (100, 5, 128)],
)
def test_rows_are_filled_up_to_whole_blocks(row_tokens: int | None, longest: int, expected: int) -> None:
    assert BatchShape(row_tokens=row_tokens).length(longest) == expected


def test_the_shape_of_a_stage_has_full_rows_and_four_numbers_of_crops() -> None:
    shape = BatchShape.of(STAGE2, rows=2)
    assert (shape.row_tokens, shape.crop_buckets) == (16384, (32, 64, 128, 256))


@pytest.mark.parametrize("wrong", [(0,), (4, 4), (8, 4)])
def test_buckets_that_do_not_rise_are_refused(wrong: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="must rise"):
        BatchShape(crop_buckets=wrong)


@pytest.mark.parametrize("rows", [[], [[POOL["text", 0]], []]])
def test_a_row_of_nothing_is_refused(rows: Rows) -> None:
    with pytest.raises(ValueError, match="rows of one example or more"):
        pack_batch(rows, shape=BatchShape(), pad_id=0)


def test_a_row_too_long_for_its_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="do not fit into a row of 128"):
        pack_batch([[POOL["video", 0]] * 4], shape=BatchShape(row_tokens=128), pad_id=0)
