"""Examples ready to be packed. Numbers are those of the recipe's invariants."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from molmo2_ground.clip import Clip
from molmo2_ground.model.inputs import assemble, visual_inputs
from molmo2_ground.train.example import POINTING_CROPS, CropRule, PreparedExample, prepare_example
from molmo2_ground.train.mixture import ExampleKey
from molmo2_ground.train.tree import Branch, MessageTree
from tests.made_up_sets_to_train import FLAGS, Medium, clip_of, example_of, tree_of
from tests.trees import CODEC, WRITER

KEY = ExampleKey(dataset="street", epoch=2, index=5)
ASKED = Branch(user_text="Where is it?", answer="There are none.")
MEDIA: tuple[Medium, ...] = ("text", "image", "images", "video")


def prepared(tree: MessageTree, clip: Clip | None, **options: Any) -> PreparedExample:
    return prepare_example(
        KEY, tree, clip, writer=WRITER, flags=FLAGS, max_tokens=options.pop("max_tokens", 999), **options
    )


def shown(clip: Clip | None, *branches: Branch, **options: Any) -> MessageTree:
    """A tree with the pictures' words in it, as inference writes them."""
    visual = None if clip is None else visual_inputs(clip, codec=CODEC, flags=FLAGS, **options)
    start = assemble(visual, "", codec=CODEC, flags=FLAGS)
    head = slice(0, start.prefix_length)
    return MessageTree(
        prefix_ids=start.input_ids[head].numpy(),
        prefix_visual=start.visual_L[head].numpy(),
        branches=branches,
    )


@pytest.mark.parametrize("medium", MEDIA)
@pytest.mark.parametrize("with_pictures", [True, False], ids=["tree-has-pictures", "tree-has-none"])
def test_an_example_is_the_prompt_that_inference_sends(medium: Medium, with_pictures: bool) -> None:
    clip = clip_of(medium, np.random.default_rng(0))
    example = prepared(shown(clip, ASKED) if with_pictures else tree_of((ASKED,)), clip)
    visual = None if clip is None else visual_inputs(clip, codec=CODEC, flags=FLAGS)
    prompt = assemble(visual, ASKED.user_text, codec=CODEC, flags=FLAGS)
    length = len(prompt)
    assert example.tree.ids[:length].tolist() == prompt.input_ids.tolist()
    assert example.tree.visual[:length].tolist() == prompt.visual_L.tolist()
    assert example.places_T.tolist() == prompt.patch_L.nonzero().squeeze(1).tolist()
    if visual is None:
        assert (example.crops, len(example.pooling_TK)) == (0, 0)
        assert example.patches_CNP.shape[1:] == (FLAGS.patches_per_side**2, 588)
    else:
        assert torch.equal(example.patches_CNP, visual.patches_CNP)
        assert torch.equal(example.pooling_TK, visual.pooling_TK)


def test_a_packer_is_told_the_key_the_tokens_and_the_crops() -> None:
    example = example_of("video", index=3)
    one = example.candidate
    assert (one.key, one.tokens, one.crops) == ("video:0:3", len(example.tree), 3)
    assert example.nbytes == example.patches_CNP.nbytes + example.pooling_TK.nbytes


def test_still_images_are_cut_anew_for_other_crops_and_words_behind_them_stay() -> None:
    clip = Clip.from_arrays([np.zeros((60, 500, 3), dtype=np.uint8)])
    tree = shown(clip, ASKED)
    said = np.array(CODEC.encode("subtitle\n"), dtype=np.int64)
    tree = replace(
        tree,
        prefix_ids=np.concatenate([tree.prefix_ids, said]),
        prefix_visual=np.concatenate([tree.prefix_visual, np.zeros(len(said), dtype=np.bool_)]),
    )
    few, many = prepared(tree, clip, max_crops=2), prepared(tree, clip, max_crops=24)
    assert few.crops == 3
    assert many.crops > prepared(tree, clip).crops > few.crops
    assert many.crops <= 25
    for example in (few, many):
        behind = int(example.places_T[-1]) + 1
        # The last row's end and the picture's end, then the words.
        assert example.tree.ids[behind + 2 : behind + 2 + len(said)].tolist() == said.tolist()
        assert not example.tree.visual[behind + 2 :].any()


def test_a_tree_of_another_video_is_refused() -> None:
    rng = np.random.default_rng(0)
    tree = shown(clip_of("video", rng, frames=3), ASKED)
    with pytest.raises(ValueError, match=r"street:2:5.*another video than its clip"):
        prepared(tree, clip_of("video", rng, frames=4))


def test_a_tree_of_pictures_without_them_is_refused() -> None:
    tree = shown(clip_of("image", np.random.default_rng(0)), ASKED)
    with pytest.raises(ValueError, match=r"street:2:5.*none are given"):
        prepared(tree, None)


@pytest.mark.slow
@pytest.mark.parametrize("medium", MEDIA)
def test_invariant_16_a_long_example_loses_whole_branches_and_no_picture(medium: Medium) -> None:
    clip = clip_of(medium, np.random.default_rng(1))
    branches = tuple(replace(ASKED, answer="1 " * n) for n in (3, 9, 2))
    whole = prepared(tree_of(branches), clip)
    ends = [int(np.flatnonzero(whole.tree.branch_ids == number)[-1]) + 1 for number in (1, 2, 3)]
    for room in range(ends[0], ends[2] + 1):
        kept = sum(end <= room for end in ends)
        example = prepared(tree_of(branches), clip, max_tokens=room)
        assert example.tokens == ends[kept - 1]
        assert example.tree.dropped == 3 - kept
        assert example.tree.ids.tolist() == whole.tree.ids[: ends[kept - 1]].tolist()
        assert (example.crops, len(example.places_T)) == (whole.crops, len(whole.places_T))
    with pytest.raises(ValueError, match="does not fit"):
        prepared(tree_of(branches), clip, max_tokens=ends[0] - 1)


def test_a_share_of_single_images_gets_more_crops() -> None:
    rng = np.random.default_rng(0)
    one, two, video = (clip_of(medium, rng) for medium in ("image", "images", "video"))
    drawn = [POINTING_CROPS.draw(one, np.random.default_rng(seed)) for seed in range(2000)]
    assert set(drawn) == {8, 24}
    assert drawn.count(24) == pytest.approx(600, abs=3 * 21)
    assert {POINTING_CROPS.draw(two, np.random.default_rng(seed)) for seed in range(99)} == {8}
    assert CropRule(max_crops=5).draw(one, rng) == 5
    assert POINTING_CROPS.draw(video, rng) is POINTING_CROPS.draw(None, rng) is None


@pytest.mark.parametrize("wrong", [{"max_crops": 0}, {"high_res_crops": 0}, {"high_res_share": 1.1}])
def test_a_crop_rule_that_is_none_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="1 crop or more and a share"):
        CropRule(**wrong)


@pytest.mark.parametrize("index", [-2, 3 * 36])
def test_pooling_that_points_to_no_patch_is_refused(index: int) -> None:
    example = example_of("video")
    pooling = example.pooling_TK.clone()
    pooling[0, 0] = index
    with pytest.raises(ValueError, match="from 0 to 107"):
        replace(example, pooling_TK=pooling)


def test_places_that_do_not_match_the_pictures_are_refused() -> None:
    example = example_of("video")
    with pytest.raises(ValueError, match="one place a patch token"):
        replace(example, places_T=example.places_T[:-1])


@pytest.mark.parametrize("branches", [(), (replace(ASKED, weight=0.0),)], ids=["no-branch", "weight-0"])
def test_a_tree_that_teaches_nothing_is_refused(branches: tuple[Branch, ...]) -> None:
    with pytest.raises(ValueError, match=r"street:2:5: nothing is learnt"):
        prepared(tree_of(branches), None)
