"""`PreparedExample`: one example ready to be packed: its tokens, and its pictures as patches.

    example = prepare_example(key, tree, clip, writer=writer, flags=flags, max_tokens=16384)

Shapes: L tokens; C crops or frames, N patches of each, P bytes of a patch; T patch tokens, K patches of each.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from molmo2_ground.model.inputs import visual_inputs
from molmo2_ground.train.packer import Candidate
from molmo2_ground.train.tree import IGNORE, flatten

if TYPE_CHECKING:
    from molmo2_ground.clip import Clip
    from molmo2_ground.model.flags import InputFlags
    from molmo2_ground.model.inputs import VisualInputs
    from molmo2_ground.model.text_codec import TextCodec
    from molmo2_ground.train.mixture import ExampleKey
    from molmo2_ground.train.tree import BranchWriter, FlatTree, IntArray, MessageTree


@dataclass(frozen=True, slots=True, kw_only=True)
class CropRule:
    """How many high-resolution crops a still image may have; the whole view is one more.

    max_crops        of each image of an example.
    high_res_crops   of a single image, in place of max_crops, in this share of the examples.
    """

    max_crops: int = 8
    high_res_crops: int = 24
    high_res_share: float = 0.0

    def __post_init__(self) -> None:
        if min(self.max_crops, self.high_res_crops) < 1 or not 0.0 <= self.high_res_share <= 1.0:
            raise ValueError(
                "expected 1 crop or more and a share from 0 to 1; got "
                f"max_crops={self.max_crops}, high_res_crops={self.high_res_crops}, "
                f"high_res_share={self.high_res_share}"
            )

    def draw(self, clip: Clip | None, rng: np.random.Generator) -> int | None:
        """The most crops for one example; None where there is no still image to cut."""
        if clip is None or clip.kind == "video" or not len(clip):
            return None
        # One draw an example, whatever comes of it: what else is drawn does not shift.
        high = rng.random() < self.high_res_share
        return self.high_res_crops if high and len(clip) == 1 else self.max_crops


# Image pointing in the recipe's second and third stage: 30 % of the pictures in up to 24 crops.
POINTING_CROPS = CropRule(high_res_share=0.3)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PreparedExample:
    """One example in numbers.

    tree         the tokens in one row.
    patches_CNP  uint8: the pictures or frames in patches; C is 0 for text alone.
    pooling_TK   int64: patches of each patch token, counted over this example's C crops; -1 is padding.
    places_T     int64: which token of the tree each patch token is.
    """

    key: ExampleKey
    tree: FlatTree
    patches_CNP: torch.Tensor
    pooling_TK: torch.Tensor
    places_T: IntArray

    def __post_init__(self) -> None:
        if len(self.places_T) != len(self.pooling_TK):
            raise ValueError(
                f"example {self.key}: one place a patch token is needed; got {len(self.places_T)} places "
                f"for {len(self.pooling_TK)} tokens of pictures"
            )
        patches = self.patches_CNP.shape[0] * self.patches_CNP.shape[1]
        if (
            self.pooling_TK.numel()
            and not -1 <= int(self.pooling_TK.min()) <= self.pooling_TK.max() < patches
        ):
            raise ValueError(
                f"example {self.key}: pooling must count from 0 to {patches - 1} over its own patches, or be "
                f"-1; got {int(self.pooling_TK.min())} to {int(self.pooling_TK.max())}"
            )

    @property
    def tokens(self) -> int:
        """Tokens in the row."""
        return len(self.tree)

    @property
    def crops(self) -> int:
        """Crops and frames that the vision tower reads."""
        return int(self.patches_CNP.shape[0])

    @property
    def candidate(self) -> Candidate:
        """What a packer has to know."""
        return Candidate(key=str(self.key), tokens=self.tokens, crops=self.crops)

    @property
    def nbytes(self) -> int:
        """Memory of the patches and pooling indices, bytes: nearly all that an example takes."""
        return self.patches_CNP.nbytes + self.pooling_TK.nbytes


def prepare_example(
    key: ExampleKey,
    tree: MessageTree,
    clip: Clip | None,
    *,
    writer: BranchWriter,
    flags: InputFlags,
    max_tokens: int,
    max_crops: int | None = None,
) -> PreparedExample:
    """Tokens and patches of one example.

    tree        its prefix may hold the pictures' words already. Still images are cut anew for `max_crops`
                and their words written anew; a video's must be the clip's. Words behind the pictures
                (subtitles) stay.
    clip        what is looked at; None or an empty clip for text alone.
    max_tokens  whole branches are left out from the end until the row fits; never a part of a picture.
    max_crops   of each still image; the checkpoint's number by default.

    Raises `ValueError` when the tree shows other pictures than the clip, does not fit, or teaches nothing.
    """
    visual = None
    if clip is not None and len(clip):
        visual = visual_inputs(clip, codec=writer.codec, flags=flags, max_crops=max_crops)
    whole = _with_pictures(key, tree, visual, codec=writer.codec, flags=flags)
    flat = flatten(whole, writer, max_tokens=max_tokens)
    if not ((flat.targets != IGNORE) & (flat.weights > 0)).any():
        raise ValueError(f"example {key}: nothing is learnt from it: no branch of its tree has an answer")
    side = flags.patches_per_side
    nothing = torch.empty(0, side * side, 3 * flags.patch_size_px**2, dtype=torch.uint8)
    return PreparedExample(
        key=key,
        tree=flat,
        patches_CNP=nothing if visual is None else visual.patches_CNP,
        pooling_TK=torch.empty(0, 0, dtype=torch.int64) if visual is None else visual.pooling_TK,
        places_T=np.flatnonzero(flat.ids == flags.special.image_patch),
    )


def _with_pictures(
    key: ExampleKey, tree: MessageTree, visual: VisualInputs | None, *, codec: TextCodec, flags: InputFlags
) -> MessageTree:
    """The tree with the words of these pictures behind its first word."""
    # Not by `prefix_visual`, which marks nothing where pictures see only what came before.
    shown = np.flatnonzero(np.isin(tree.prefix_ids, flags.special.visual))
    if visual is None:
        if len(shown):
            raise ValueError(
                f"example {key}: its tree shows pictures ({len(shown)} tokens of them), and none are given; "
                "hand over the clip that the tree was made of"
            )
        return tree
    head = np.concatenate([[codec.bos_id], visual.token_ids_V.numpy()]).astype(np.int64)
    behind = int(shown[-1]) + 1 if len(shown) else 1
    if len(shown) and visual.kind == "video" and not np.array_equal(tree.prefix_ids[:behind], head):
        raise ValueError(
            f"example {key}: its tree shows another video than its clip: expected the words of "
            f"{len(visual.units)} frames at the clip's times, {len(head)} tokens, got {behind}; make both of "
            "the same frames"
        )
    ids = np.concatenate([head, tree.prefix_ids[behind:]])
    return replace(tree, prefix_ids=ids, prefix_visual=np.isin(ids, flags.mutual_ids))
