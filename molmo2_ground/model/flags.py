"""`InputFlags`: everything about a checkpoint's input that its own files say.

Nothing here has a default: the library's class defaults differ from what the released files hold, and a
model fed by a default it was not trained with answers badly without any error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from molmo2_ground.errors import CheckpointError

# Words of the extra vocabulary in the order in which the released checkpoints number them, from the first id
# behind the base vocabulary.
EXTRA_WORDS = (
    "<im_start>",
    "<im_end>",
    "<im_patch>",
    "<im_col>",
    "<low_res_im_start>",
    "<|image|>",
    "<im_low>",
    "<frame_start>",
    "<frame_end>",
    "<|video|>",
    "<|points|>",
    "<|token_index|>",
    "<|vit_index|>",
    "<|vit_loc|>",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecialIds:
    """Token ids of the eight visual words; tokens of these ids see each other both ways.

    `image_low` stands in no prompt of Molmo2, and the frame words in few: -1 where a checkpoint has none.
    """

    image_start: int
    image_end: int
    image_patch: int
    image_col: int
    low_res_image_start: int
    image_low: int
    frame_start: int
    frame_end: int

    @property
    def visual(self) -> tuple[int, ...]:
        """The ids of all eight words."""
        return tuple(getattr(self, field.name) for field in fields(self))

    @classmethod
    def read(
        cls, config: Mapping[str, Any], *, token_id: Callable[[str], int | None], where: str
    ) -> SpecialIds:
        """Take each id from config.json, or from the tokenizer where config.json does not name it.

        token_id: gives the id of a word, or None. Raises `CheckpointError` when neither knows a word, or when
        the two disagree.
        """
        return cls(**{name: _special_id(config, name, token_id, where) for name in _WORDS})


# field -> (key in config.json, word in the tokenizer)
_WORDS = {
    "image_start": ("image_start_token_id", "<im_start>"),
    "image_end": ("image_end_token_id", "<im_end>"),
    "image_patch": ("image_patch_id", "<im_patch>"),
    "image_col": ("image_col_id", "<im_col>"),
    "low_res_image_start": ("low_res_image_start_token_id", "<low_res_im_start>"),
    "image_low": ("image_low_res_id", "<im_low>"),
    "frame_start": ("frame_start_token_id", "<frame_start>"),
    "frame_end": ("frame_end_token_id", "<frame_end>"),
}

_OPTIONAL = ("image_low", "frame_start", "frame_end")


def _special_id(
    config: Mapping[str, Any], name: str, token_id: Callable[[str], int | None], where: str
) -> int:
    key, word = _WORDS[name]
    written, spoken = config.get(key), token_id(word)
    if written is None and spoken is None:
        if name in _OPTIONAL:
            return -1
        raise CheckpointError(
            f"{where}: the id of {word} is unknown: config.json has no {key} "
            "and tokenizer.json has no such word"
        )
    if written is not None and spoken is not None and written != spoken:
        raise CheckpointError(
            f"{where}: config.json says {key} = {written}, and {word} is {spoken} in tokenizer.json; "
            "the two files belong to different checkpoints"
        )
    return int(written if spoken is None else spoken)  # type: ignore[arg-type]  # one of them is known


@dataclass(frozen=True, slots=True, kw_only=True)
class InputFlags:
    """How pictures and text become the input of one checkpoint.

    image_size_px         side of the square that the vision tower reads, pixels.
    patch_size_px         side of one patch, pixels.
    image_pooling         rows, cols of patches that one token of a still image stands for.
    video_pooling         the same for a frame of a video.
    max_crops             most high-resolution crops of one still image.
    overlap_margins       patches by which neighbouring crops overlap: (left and top, right and bottom).
    pixel_mean, pixel_std of a pixel divided by 255, per channel.
    max_frames, max_fps   most frames of a video, and most of them in a second.
    track_frames          most frames of a video that tracking looks at in one go, None for max_frames. A
                          key of our own: a model that tracks short windows better than long clips says so.
    use_...               which words stand around and between the patch tokens.
    frame_times           every frame's time stands before it in words.
    mutual_sight          words of pictures see each other both ways; else what came before, as all words do.
                          The last two are keys of our own that files hold only where they are false: models
                          made to measure what each is worth (`train/ablations.py`).
    """

    image_size_px: int
    patch_size_px: int
    image_pooling: tuple[int, int]
    video_pooling: tuple[int, int]
    max_crops: int
    overlap_margins: tuple[int, int]
    pixel_mean: tuple[float, float, float]
    pixel_std: tuple[float, float, float]
    max_frames: int
    max_fps: float
    image_use_col_tokens: bool
    use_single_crop_col_tokens: bool
    use_single_crop_start_token: bool
    video_use_col_tokens: bool
    use_frame_special_tokens: bool
    special: SpecialIds
    track_frames: int | None = None
    frame_times: bool = True
    mutual_sight: bool = True

    def __post_init__(self) -> None:
        if self.image_size_px <= 0 or self.patch_size_px <= 0 or self.image_size_px % self.patch_size_px:
            raise ValueError(
                f"the image side must be a multiple of the patch side; got {self.image_size_px} px "
                f"and {self.patch_size_px} px"
            )
        if min(self.overlap_margins) < 0 or sum(self.overlap_margins) >= self.patches_per_side:
            raise ValueError(
                f"overlap margins {list(self.overlap_margins)} leave nothing of a crop of "
                f"{self.patches_per_side} patches a side"
            )
        at_once = self.max_frames if self.track_frames is None else self.track_frames
        if min(*self.image_pooling, *self.video_pooling, self.max_crops, self.max_frames, at_once) < 1:
            raise ValueError("pooling windows, max_crops, max_frames and track_frames must be 1 or more")
        if self.use_frame_special_tokens and min(self.special.frame_start, self.special.frame_end) < 0:
            raise ValueError("frames are to stand between frame words, and the tokenizer has none")
        if min(self.pixel_std) <= 0 or self.max_fps <= 0:
            raise ValueError("pixel_std and max_fps must be above 0")

    @property
    def patches_per_side(self) -> int:
        """Patches along one side of a crop or frame."""
        return self.image_size_px // self.patch_size_px

    @property
    def mutual_ids(self) -> tuple[int, ...]:
        """The words that see each other both ways."""
        return self.special.visual if self.mutual_sight else ()

    @property
    def window_px(self) -> int:
        """Distance between neighbouring crops, pixels: a crop's side without its margins."""
        return self.image_size_px - self.margin_px

    @property
    def margin_px(self) -> int:
        """Both overlap margins together, pixels."""
        return sum(self.overlap_margins) * self.patch_size_px

    @property
    def frame_grid(self) -> tuple[int, int]:
        """Rows, cols of tokens of one video frame."""
        return self._pooled(self.video_pooling)

    @property
    def low_res_grid(self) -> tuple[int, int]:
        """Rows, cols of tokens of the whole-image view of a still image."""
        return self._pooled(self.image_pooling)

    def _pooled(self, pooling: tuple[int, int]) -> tuple[int, int]:
        side = self.patches_per_side
        return -(-side // pooling[0]), -(-side // pooling[1])

    def to_files(self) -> dict[str, dict[str, Any]]:
        """The three JSON files of the released layout that hold these flags, by file name."""
        shared = {
            "size": {"height": self.image_size_px, "width": self.image_size_px},
            "patch_size": self.patch_size_px,
            "image_mean": list(self.pixel_mean),
            "image_std": list(self.pixel_std),
            "resample": _BILINEAR,
            "do_resize": True,
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "do_convert_rgb": True,
        }
        return {
            "processor_config.json": {
                "processor_class": "Molmo2Processor",
                **{name: getattr(self, name) for name in _PROCESSOR_FLAGS},
                **({} if self.mutual_sight else {_MUTUAL_SIGHT: False}),
            },
            "preprocessor_config.json": {
                "image_processor_type": "Molmo2ImageProcessor",
                "processor_class": "Molmo2Processor",
                "pooling_size": list(self.image_pooling),
                "max_crops": self.max_crops,
                "overlap_margins": list(self.overlap_margins),
                **shared,
            },
            "video_preprocessor_config.json": {
                "video_processor_type": "Molmo2VideoProcessor",
                "processor_class": "Molmo2Processor",
                "pooling_size": list(self.video_pooling),
                "num_frames": self.max_frames,
                "max_fps": self.max_fps,
                "do_sample_frames": True,
                "frame_sample_mode": "uniform_last_frame",
                **({} if self.track_frames is None else {_TRACK_FRAMES: self.track_frames}),
                **({} if self.frame_times else {_FRAME_TIMES: False}),
                **shared,
            },
        }

    @classmethod
    def from_files(
        cls, files: Mapping[str, Mapping[str, Any]], *, special: SpecialIds, where: str
    ) -> InputFlags:
        """Read what `to_files` writes and what the released checkpoints hold.

        files: content by file name, as `to_files` gives. Raises `CheckpointError` naming file and key.
        """
        image = _Reader(files, "preprocessor_config.json", where)
        video = _Reader(files, "video_preprocessor_config.json", where)
        words = _Reader(files, "processor_config.json", where)
        _check_shared(image, video, where)
        flags = {name: words.flag(name) for name in _PROCESSOR_FLAGS if name != "use_single_crop_col_tokens"}
        # None in the file means: as the high-resolution view does.
        own = words.get("use_single_crop_col_tokens", missing=None)
        flags["use_single_crop_col_tokens"] = flags["image_use_col_tokens"] if own is None else bool(own)
        track_frames = video.get(_TRACK_FRAMES, missing=None)
        try:
            return cls(
                image_size_px=image.side("size"),
                patch_size_px=int(image.get("patch_size")),
                image_pooling=image.pair("pooling_size"),
                video_pooling=video.pair("pooling_size"),
                max_crops=int(image.get("max_crops")),
                overlap_margins=image.pair("overlap_margins"),
                pixel_mean=image.channels("image_mean"),
                pixel_std=image.channels("image_std"),
                max_frames=int(video.get("num_frames")),
                max_fps=float(video.get("max_fps")),
                track_frames=None if track_frames is None else int(track_frames),
                frame_times=video.flag(_FRAME_TIMES, missing=True),
                mutual_sight=words.flag(_MUTUAL_SIGHT, missing=True),
                special=special,
                **flags,
            )
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"{where}: the input settings make no sense: {error}") from error


_BILINEAR = 2
_TRACK_FRAMES = "track_num_frames"
_FRAME_TIMES = "frame_times_in_words"
_MUTUAL_SIGHT = "visual_tokens_see_each_other"
_PROCESSOR_FLAGS = (
    "image_use_col_tokens",
    "use_single_crop_col_tokens",
    "use_single_crop_start_token",
    "video_use_col_tokens",
    "use_frame_special_tokens",
)


def _check_shared(image: _Reader, video: _Reader, where: str) -> None:
    for name in ("size", "patch_size", "image_mean", "image_std"):
        of_images, of_frames = image.get(name), video.get(name, missing=image.get(name))
        if of_images != of_frames:
            raise CheckpointError(
                f"{where}: {name} is {of_images} in {image.name} and {of_frames} in {video.name}; "
                "frames and images must share one size and one normalisation"
            )
    for file in (image, video):
        if file.get("resample", missing=_BILINEAR) != _BILINEAR:
            raise CheckpointError(
                f"{where}: resample is {file.get('resample')} in {file.name}, expected {_BILINEAR}: "
                "Molmo2 was trained with bilinear resizing alone"
            )


class _Reader:
    """One JSON file's values, with errors that name the file and the key."""

    def __init__(self, files: Mapping[str, Mapping[str, Any]], name: str, where: str) -> None:
        self.name = name
        self._where = where
        self._values = files[name]

    def get(self, key: str, **missing: Any) -> Any:
        if key in self._values:
            return self._values[key]
        if "missing" in missing:
            return missing["missing"]
        raise CheckpointError(
            f"{self._where}: {self.name} has no {key}; expected it there "
            "as in the released Molmo2 checkpoints"
        )

    def flag(self, key: str, **missing: bool) -> bool:
        value = self.get(key, **missing)
        if not isinstance(value, bool):
            raise CheckpointError(f"{self._where}: {key} in {self.name} must be true or false; got {value!r}")
        return value

    def pair(self, key: str) -> tuple[int, int]:
        first, second = self._listed(key, 2)
        return int(first), int(second)

    def channels(self, key: str) -> tuple[float, float, float]:
        red, green, blue = self._listed(key, 3)
        return float(red), float(green), float(blue)

    def side(self, key: str) -> int:
        size = self.get(key)
        if not isinstance(size, Mapping) or size.get("height") != size.get("width") or not size.get("height"):
            raise CheckpointError(f"{self._where}: {key} in {self.name} must be a square; got {size!r}")
        return int(size["height"])

    def _listed(self, key: str, count: int) -> list[Any]:
        value = self.get(key)
        if not isinstance(value, list) or len(value) != count:
            raise CheckpointError(
                f"{self._where}: {key} in {self.name} must be a list of {count} numbers; got {value!r}"
            )
        return value
