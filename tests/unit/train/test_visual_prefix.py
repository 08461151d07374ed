"""What stands before all questions of a tree."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from molmo2_ground.clip import Clip
from molmo2_ground.model.inputs import visual_inputs
from molmo2_ground.train.rows import Subtitle
from molmo2_ground.train.visual_prefix import shown_subtitles, subtitle_text, visual_prefix
from tests.made_rows import FLAGS, film, pictures
from tests.trees import CODEC

CROPPED = replace(FLAGS, max_crops=6, overlap_margins=(1, 1))
WIDE = Clip.from_arrays([np.zeros((40, 300, 3), np.uint8), np.zeros((100, 90, 3), np.uint8)])


@pytest.mark.parametrize(
    ("clip", "max_crops"),
    [
        pytest.param(film(0.0, 0.5, 1.25), None, id="video"),
        pytest.param(pictures(1), None, id="image"),
        pytest.param(WIDE, None, id="images-of-two-shapes"),
        pytest.param(WIDE, 2, id="fewer-crops"),
    ],
)
def test_the_prefix_is_what_inference_puts_before_the_question(clip: Clip, max_crops: int | None) -> None:
    ids, visual = visual_prefix(clip, CODEC, CROPPED, max_crops=max_crops)
    inputs = visual_inputs(clip, codec=CODEC, flags=CROPPED, max_crops=max_crops)
    assert inputs is not None
    assert ids.tolist() == [CODEC.bos_id, *inputs.token_ids_V.tolist()]
    assert visual.tolist() == [token in FLAGS.special.visual for token in ids.tolist()]
    assert (ids == FLAGS.special.image_patch).sum() == len(inputs.pooling_TK)


def test_text_alone_has_the_first_word_only() -> None:
    ids, visual = visual_prefix(None, CODEC, FLAGS)
    assert ids.tolist() == [CODEC.bos_id]
    assert not visual.any()


def test_subtitles_stand_behind_the_frames_as_words() -> None:
    lines = (Subtitle(start_s=0.0, end_s=1.25, text="Hello."), Subtitle(start_s=2.0, end_s=3.0, text="Bye."))
    text = subtitle_text(lines)
    assert text == "subtitle\n0.0 - 1.2 Hello.\n2.0 - 3.0 Bye.\n"
    plain, _ = visual_prefix(film(0.0, 1.0), CODEC, FLAGS)
    ids, visual = visual_prefix(film(0.0, 1.0), CODEC, FLAGS, subtitle_text=text)
    assert ids.tolist() == [*plain.tolist(), *CODEC.encode(text)]
    assert not visual[len(plain) :].any()
    assert subtitle_text(()) == ""


@pytest.mark.parametrize(
    ("start_s", "end_s", "kept"),
    [
        pytest.param(10.0, 11.0, True, id="during"),
        pytest.param(8.0, 9.0, True, id="a-second-before"),
        pytest.param(8.0, 8.9, False, id="earlier"),
        pytest.param(15.0, 16.0, True, id="a-second-after"),
        pytest.param(15.1, 16.0, False, id="later"),
        pytest.param(11.5, 12.5, False, id="between-far-frames"),
        pytest.param(0.0, 100.0, True, id="all-the-time"),
    ],
)
def test_lines_near_a_frame_are_shown_in_the_clips_own_time(start_s: float, end_s: float, kept: bool) -> None:
    clip = film(0.0, 0.4, 4.0)  # seconds 10, 10.4 and 14 of the file
    line = Subtitle(start_s=start_s, end_s=end_s, text="Hm.")
    shown = shown_subtitles((line,), clip, start_s=10.0)
    if not kept:
        assert shown == ()
        return
    (one,) = shown
    assert (one.start_s, one.end_s) == pytest.approx((start_s - 10, end_s - 10))
    assert f"{max(0, start_s - 10):.1f} - " in subtitle_text(shown)
