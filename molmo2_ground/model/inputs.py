"""`ModelInputs`: what the network is given for one question, built without the library's processors.

Token ids are written directly (a minute of video is thousands of picture words), patches stay uint8 until
they are on the device, and pooling indices count over all crops of the call, as the model reads them.

Shapes: L tokens of the prompt, V of them before the user's turn without the first word; C crops or frames,
N patches of each, P bytes of a patch; T patch tokens, K patches of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from molmo2_ground.clip import Clip, RgbArray
from molmo2_ground.model.crops import (
    IndexArray,
    PatchedImage,
    high_res_grid,
    image_tiling,
    patch_image,
    patches_of,
    pooling_windows,
    square_grid,
)
from molmo2_ground.model.flags import InputFlags
from molmo2_ground.model.resize_plan import resize_frame
from molmo2_ground.model.text_codec import TextCodec

Media = Clip | Sequence[RgbArray]


@dataclass(frozen=True, slots=True, kw_only=True)
class VisualUnit:
    """Crops that are pooled together: one frame, or one image with all its crops."""

    crops: int
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class VisualInputs:
    """The pictures of one prompt.

    token_ids_V   int64: picture words, times and image numbers, in order, without the prompt's first word.
    patches_CNP   uint8.
    pooling_TK    int64: patches of each patch token, counted over all C crops; -1 is padding.
    units         in order; their crops add up to C and their tokens to T.
    grids         images: (low rows, low cols, high rows, high cols) each; a video: one (frames, rows, cols).
    """

    kind: Literal["images", "video"]
    token_ids_V: torch.Tensor
    patches_CNP: torch.Tensor
    pooling_TK: torch.Tensor
    units: tuple[VisualUnit, ...]
    grids: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ModelInputs:
    """One prompt: the first word, the pictures, the user's turn.

    input_ids      int64[L].
    visual_L       bool[L]: words of pictures, which see each other both ways.
    patch_L        bool[L]: the T tokens that a picture feature is added to.
    prefix_length  tokens before the user's turn; they are the same for every question on the same pictures.
    visual         None for a prompt of text alone.
    """

    input_ids: torch.Tensor
    visual_L: torch.Tensor
    patch_L: torch.Tensor
    prefix_length: int
    visual: VisualInputs | None

    def __len__(self) -> int:
        return int(self.input_ids.shape[0])


def prompt_ids(codec: TextCodec, user_text: str) -> list[int]:
    """The user's turn and the opening of the answer; the pictures stand before it."""
    return [
        codec.turn_start_id,
        *codec.encode(f"user\n{user_text}"),
        codec.turn_end_id,
        *codec.encode("\n"),
        codec.turn_start_id,
        *codec.encode("assistant\n"),
    ]


def answer_ids(codec: TextCodec, answer_text: str) -> list[int]:
    """The answer and the word that ends it, as they follow `prompt_ids` in training."""
    return [*codec.encode(answer_text), codec.eos_id]


def frame_ids(flags: InputFlags) -> list[int]:
    """The picture words of one video frame, without its time."""
    words = flags.special
    rows, cols = flags.frame_grid
    row = [words.image_patch] * cols
    if flags.video_use_col_tokens:
        row.append(words.image_col)
    if flags.use_frame_special_tokens:
        return [words.frame_start, *row * rows, words.frame_end]
    return [words.image_start, *row * rows, words.image_end]


def video_ids(codec: TextCodec, flags: InputFlags, shown_times_s: Sequence[float]) -> list[int]:
    """Every frame's time in words, then its picture words. Times in seconds, shown to a tenth."""
    picture = frame_ids(flags)
    if not flags.frame_times:
        return picture * len(shown_times_s)
    ids: list[int] = []
    for number, time_s in enumerate(shown_times_s):
        # The space belongs to the time's text: it is tokenised with it.
        ids += codec.encode(f"{' ' if number else ''}{time_s:.1f} ")
        ids += picture
    return ids


def image_ids(
    flags: InputFlags, *, low_res_grid: tuple[int, int], high_res_grid: tuple[int, int]
) -> list[int]:
    """The picture words of one still image: the whole view, then the tiled view."""
    words = flags.special
    low_row = [words.image_patch] * low_res_grid[1]
    if flags.use_single_crop_col_tokens:
        low_row.append(words.image_col)
    high_row = [words.image_patch] * high_res_grid[1]
    if flags.image_use_col_tokens:
        high_row.append(words.image_col)
    low_start = words.low_res_image_start if flags.use_single_crop_start_token else words.image_start
    return [
        low_start,
        *low_row * low_res_grid[0],
        words.image_end,
        words.image_start,
        *high_row * high_res_grid[0],
        words.image_end,
    ]


def images_ids(codec: TextCodec, flags: InputFlags, images: Sequence[PatchedImage]) -> list[int]:
    """The picture words of still images; several are numbered in words from 1."""
    ids: list[int] = []
    for number, image in enumerate(images, start=1):
        if len(images) > 1:
            ids += codec.encode(f"Image {number}")
        ids += image_ids(flags, low_res_grid=image.low_res_grid, high_res_grid=image.high_res_grid)
    return ids


def frame_pooling(flags: InputFlags) -> IndexArray:
    """Patches of each token of one video frame, int64[tokens, K], counted from the frame's first patch."""
    windows, _ = pooling_windows(square_grid(flags), pooling=flags.video_pooling)
    return windows


def video_pooling(flags: InputFlags, frames: int) -> IndexArray:
    """Patches of each token of a whole video, int64[T, K], counted over all frames."""
    windows = frame_pooling(flags)
    offset = np.arange(frames, dtype=np.int64)[:, None, None] * flags.patches_per_side**2
    absolute = np.where(windows >= 0, windows + offset, windows)
    return absolute.reshape(-1, windows.shape[1])


def patch_frames(frames: Sequence[RgbArray], *, flags: InputFlags) -> RgbArray:
    """Stretch frames to the model's square and cut them: uint8[frames, N, P]."""
    side, patch = flags.image_size_px, flags.patch_size_px
    patches = np.empty((len(frames), flags.patches_per_side**2, patch * patch * 3), dtype=np.uint8)
    for place, frame in zip(patches, frames, strict=True):  # one at a time: no second copy of the whole video
        square = resize_frame(frame, height_px=side, width_px=side)
        place[:] = patches_of(square[None], patch_size_px=patch)[0]
    return patches


def video_inputs(
    frames: Sequence[RgbArray], shown_times_s: Sequence[float], *, codec: TextCodec, flags: InputFlags
) -> VisualInputs:
    """A video: frames of any size, and the time in seconds that the model is told for each."""
    if len(frames) != len(shown_times_s):
        raise ValueError(f"one time a frame is needed; got {len(shown_times_s)} for {len(frames)} frames")
    rows, cols = flags.frame_grid
    return VisualInputs(
        kind="video",
        token_ids_V=torch.tensor(video_ids(codec, flags, shown_times_s), dtype=torch.int64),
        patches_CNP=torch.from_numpy(patch_frames(frames, flags=flags)),
        pooling_TK=torch.from_numpy(video_pooling(flags, len(frames))),
        units=(VisualUnit(crops=1, tokens=rows * cols),) * len(frames),
        grids=((len(frames), rows, cols),),
    )


def image_inputs(
    images: Sequence[RgbArray], *, codec: TextCodec, flags: InputFlags, max_crops: int | None = None
) -> VisualInputs:
    """Still images at their own sizes; `max_crops` replaces the checkpoint's number of crops an image."""
    crops = flags.max_crops if max_crops is None else max_crops
    if crops < 1:
        raise ValueError(f"max_crops must be 1 or more; got {crops}")
    patched = [patch_image(image, flags=flags, max_crops=crops) for image in images]
    pooling, first_patch = [], 0
    for image in patched:
        pooling.append(np.where(image.pooling_TK >= 0, image.pooling_TK + first_patch, image.pooling_TK))
        first_patch += image.patches_CNP.shape[0] * image.patches_CNP.shape[1]
    return VisualInputs(
        kind="images",
        token_ids_V=torch.tensor(images_ids(codec, flags, patched), dtype=torch.int64),
        patches_CNP=torch.from_numpy(np.concatenate([image.patches_CNP for image in patched])),
        pooling_TK=torch.from_numpy(np.concatenate(pooling)),
        units=tuple(
            VisualUnit(crops=len(image.patches_CNP), tokens=len(image.pooling_TK)) for image in patched
        ),
        grids=tuple((*image.low_res_grid, *image.high_res_grid) for image in patched),
    )


def visual_inputs(
    media: Media,
    *,
    codec: TextCodec,
    flags: InputFlags,
    max_crops: int | None = None,
    shown_times_s: Sequence[float] | None = None,
) -> VisualInputs | None:
    """The pictures of a clip or a list of images, all of them; None when there are none.

    shown_times_s: for a video, the times to tell the model in place of the frames' own, seconds.
    """
    if not isinstance(media, Clip):
        media = Clip.from_arrays(media)
    if media.kind == "video":
        if max_crops is not None:
            raise ValueError("max_crops is for still images; a video frame is always one crop")
        times = media.shown_times_s.tolist() if shown_times_s is None else list(shown_times_s)
        return video_inputs([f.rgb for f in media.frames], times, codec=codec, flags=flags)
    if shown_times_s is not None:
        raise ValueError("shown_times_s is for videos; still images have no times")
    if not media.frames:
        return None
    return image_inputs([f.rgb for f in media.frames], codec=codec, flags=flags, max_crops=max_crops)


def visual_ids(
    media: Media,
    *,
    codec: TextCodec,
    flags: InputFlags,
    max_crops: int | None = None,
    shown_times_s: Sequence[float] | None = None,
) -> list[int]:
    """The token ids that `visual_inputs` would give for the same arguments, without touching a pixel."""
    if not isinstance(media, Clip):
        media = Clip.from_arrays(media)
    if media.kind == "video":
        times = media.shown_times_s.tolist() if shown_times_s is None else list(shown_times_s)
        return video_ids(codec, flags, times)
    crops = flags.max_crops if max_crops is None else max_crops
    ids: list[int] = []
    for number, frame in enumerate(media.frames, start=1):
        rows, cols = image_tiling(frame.rgb.shape[0], frame.rgb.shape[1], flags=flags, max_crops=crops)
        if len(media) > 1:
            ids += codec.encode(f"Image {number}")
        grid = high_res_grid(rows, cols, flags=flags)
        ids += image_ids(flags, low_res_grid=flags.low_res_grid, high_res_grid=grid)
    return ids


def visual_units(media: Media, *, flags: InputFlags, max_crops: int | None = None) -> tuple[VisualUnit, ...]:
    """The `units` that `visual_inputs` would give for the same arguments, without touching a pixel."""
    if not isinstance(media, Clip):
        media = Clip.from_arrays(media)
    if media.kind == "video":
        rows, cols = flags.frame_grid
        return (VisualUnit(crops=1, tokens=rows * cols),) * len(media)
    crops = flags.max_crops if max_crops is None else max_crops
    low_rows, low_cols = flags.low_res_grid
    units = []
    for frame in media.frames:
        rows, cols = image_tiling(frame.rgb.shape[0], frame.rgb.shape[1], flags=flags, max_crops=crops)
        high_rows, high_cols = high_res_grid(rows, cols, flags=flags)
        tokens = low_rows * low_cols + high_rows * high_cols
        units.append(VisualUnit(crops=1 + rows * cols, tokens=tokens))
    return tuple(units)


def visual_length(
    media: Media,
    *,
    codec: TextCodec,
    flags: InputFlags,
    max_crops: int | None = None,
    shown_times_s: Sequence[float] | None = None,
) -> int:
    """Tokens that `visual_inputs` would give for the same arguments, without touching a pixel."""
    return len(visual_ids(media, codec=codec, flags=flags, max_crops=max_crops, shown_times_s=shown_times_s))


def assemble(
    visual: VisualInputs | None, user_text: str, *, codec: TextCodec, flags: InputFlags
) -> ModelInputs:
    """First word, pictures, the user's turn."""
    pictures = [] if visual is None else [visual.token_ids_V]
    prefix_length = 1 + sum(len(part) for part in pictures)
    turn = torch.tensor(prompt_ids(codec, user_text), dtype=torch.int64)
    input_ids = torch.cat([torch.tensor([codec.bos_id]), *pictures, turn])
    return ModelInputs(
        input_ids=input_ids,
        visual_L=torch.isin(input_ids, torch.tensor(flags.mutual_ids, dtype=torch.int64)),
        patch_L=input_ids == flags.special.image_patch,
        prefix_length=prefix_length,
        visual=visual,
    )
