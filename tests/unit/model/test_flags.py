from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from molmo2_ground.errors import CheckpointError
from molmo2_ground.model.flags import EXTRA_WORDS, InputFlags, SpecialIds

FlagsOf = Callable[..., InputFlags]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="released"),
        pytest.param(
            {"use_frame_special_tokens": True, "use_single_crop_col_tokens": True}, id="other-words"
        ),
        pytest.param(
            {"video_pooling": (2, 4), "overlap_margins": (0, 2), "max_fps": 1.5}, id="other-numbers"
        ),
        pytest.param({"frame_times": False, "mutual_sight": False, "track_frames": 4}, id="our-own-keys"),
        pytest.param({"pixel_mean": (0.1, 0.2, 0.3), "pixel_std": (0.4, 0.5, 0.6)}, id="other-normalisation"),
    ],
)
def test_files_give_back_the_flags(changes: dict[str, Any], flags_of: FlagsOf) -> None:
    flags = flags_of("qwen", **changes)
    assert InputFlags.from_files(flags.to_files(), special=flags.special, where="here") == flags


def test_files_hold_our_own_keys_only_where_they_say_something(flags_of: FlagsOf) -> None:
    plain = flags_of().to_files()
    changed = flags_of(frame_times=False, mutual_sight=False).to_files()
    assert changed[VIDEO].keys() - plain[VIDEO].keys() == {"frame_times_in_words"}
    words = "processor_config.json"
    assert changed[words].keys() - plain[words].keys() == {"visual_tokens_see_each_other"}


def test_null_columns_of_the_whole_view_mean_as_the_crops(flags_of: FlagsOf) -> None:
    flags = flags_of()
    files = flags.to_files()
    files["processor_config.json"]["use_single_crop_col_tokens"] = None
    read = InputFlags.from_files(files, special=flags.special, where="here")
    assert read.use_single_crop_col_tokens is read.image_use_col_tokens is True


VIDEO, IMAGE = "video_preprocessor_config.json", "preprocessor_config.json"


@pytest.mark.parametrize(
    ("file", "key", "value", "message"),
    [
        pytest.param(VIDEO, "num_frames", None, "num_frames", id="no-frame-cap"),
        pytest.param(IMAGE, "max_crops", None, "max_crops", id="no-crops"),
        pytest.param(
            "processor_config.json", "use_frame_special_tokens", None, "use_frame", id="no-word-flag"
        ),
        pytest.param(
            "processor_config.json", "video_use_col_tokens", "no", "true or false", id="flag-of-text"
        ),
        pytest.param(VIDEO, "pooling_size", [3], "list of 2", id="short-pooling"),
        pytest.param(IMAGE, "pooling_size", [0, 2], "1 or more", id="zero-pooling"),
        pytest.param(IMAGE, "overlap_margins", [3, 3], "leave nothing", id="margins-eat-the-crop"),
        pytest.param(IMAGE, "max_crops", "many", "make no sense", id="crops-of-text"),
        pytest.param(VIDEO, "size", {"height": 70, "width": 70}, "must share", id="two-sizes"),
        pytest.param(VIDEO, "max_fps", 0, "above 0", id="no-rate"),
        pytest.param(IMAGE, "resample", 3, "resample is 3", id="other-resize"),
    ],
)
def test_unusable_files_are_named(file: str, key: str, value: Any, message: str, flags_of: FlagsOf) -> None:
    flags = flags_of()
    files = flags.to_files()
    if value is None:
        del files[file][key]
    else:
        files[file][key] = value
    with pytest.raises(CheckpointError, match=message) as caught:
        InputFlags.from_files(files, special=flags.special, where="the/folder")
    assert "the/folder" in str(caught.value)


@pytest.mark.parametrize(
    ("height", "width"), [(84, 90), (0, 0), (85, 85)], ids=["no-square", "nothing", "no-multiple"]
)
def test_odd_sizes_are_refused(height: int, width: int, flags_of: FlagsOf) -> None:
    flags = flags_of()
    files = flags.to_files()
    for file in (VIDEO, IMAGE):
        files[file]["size"] = {"height": height, "width": width}
    with pytest.raises(CheckpointError, match=r"square|multiple"):
        InputFlags.from_files(files, special=flags.special, where="here")


def words() -> Callable[[str], int | None]:
    ids = {word: 300 + number for number, word in enumerate(EXTRA_WORDS)}
    return ids.get


def test_ids_follow_the_released_order() -> None:
    special = SpecialIds.read({}, token_id=words(), where="here")
    assert (special.image_start, special.image_end, special.image_patch, special.image_col) == (
        300,
        301,
        302,
        303,
    )
    assert (special.low_res_image_start, special.image_low) == (304, 306)
    assert (special.frame_start, special.frame_end) == (307, 308)
    assert len(set(special.visual)) == 8


def test_config_serves_where_the_tokenizer_is_silent() -> None:
    config = {
        "image_start_token_id": 1,
        "image_end_token_id": 2,
        "image_patch_id": 3,
        "image_col_id": 4,
        "low_res_image_start_token_id": 5,
        "image_low_res_id": 6,
        "frame_start_token_id": 7,
        "frame_end_token_id": 8,
    }
    assert SpecialIds.read(config, token_id=lambda word: None, where="here").visual == (
        1,
        2,
        3,
        4,
        5,
        6,
        7,
        8,
    )


def test_words_that_no_prompt_holds_may_be_absent(flags_of: FlagsOf) -> None:
    known = {word: number for number, word in enumerate(EXTRA_WORDS[:5])}
    special = SpecialIds.read({}, token_id=known.get, where="here")
    assert special.visual == (0, 1, 2, 3, 4, -1, -1, -1)
    assert flags_of(special=special).special is special
    with pytest.raises(ValueError, match="frame words"):
        flags_of(special=special, use_frame_special_tokens=True)


@pytest.mark.parametrize(
    ("config", "token_id", "message"),
    [
        pytest.param({}, lambda word: None, "unknown", id="nobody-knows"),
        pytest.param({"image_patch_id": 7}, words(), "different checkpoints", id="they-disagree"),
    ],
)
def test_unclear_ids_are_refused(config: dict[str, int], token_id: Any, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        SpecialIds.read(config, token_id=token_id, where="here")
