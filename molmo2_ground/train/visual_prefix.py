"""`visual_prefix`: what stands before every question of a tree, as token ids: pictures, times, subtitles."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from molmo2_ground.model.inputs import visual_ids

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from molmo2_ground.clip import Clip
    from molmo2_ground.model.flags import InputFlags
    from molmo2_ground.model.text_codec import TextCodec
    from molmo2_ground.train.rows import Subtitle

# A line is shown when a frame within this time of it is.
SUBTITLE_REACH_S = 1.0


def visual_prefix(
    clip: Clip | None,
    codec: TextCodec,
    flags: InputFlags,
    *,
    max_crops: int | None = None,
    subtitle_text: str = "",
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Token ids of what stands before a question, int64[P], and which see each other both ways, bool[P].

    clip           None for text alone: the prefix is the first word of every prompt.
    max_crops      of still images; None takes the checkpoint's number.
    subtitle_text  from `subtitle_text`; words behind the frames, not visual.
    """
    pictures = [] if clip is None else visual_ids(clip, codec=codec, flags=flags, max_crops=max_crops)
    words = codec.encode(subtitle_text) if subtitle_text else []
    ids = np.array([codec.bos_id, *pictures, *words], dtype=np.int64)
    return ids, np.isin(ids, flags.mutual_ids)


def shown_subtitles(
    subtitles: Sequence[Subtitle], clip: Clip, *, start_s: float = 0.0, reach_s: float = SUBTITLE_REACH_S
) -> tuple[Subtitle, ...]:
    """The lines that are spoken within `reach_s` of a frame of the clip, their times counted from its start.

    subtitles  in seconds of the file. start_s: second of the file at which the clip's shown times are 0.
    """
    shown_s = clip.shown_times_s + start_s
    return tuple(
        line.model_copy(update={"start_s": line.start_s - start_s, "end_s": line.end_s - start_s})
        for line in subtitles
        if ((shown_s >= line.start_s - reach_s) & (shown_s <= line.end_s + reach_s)).any()
    )


def subtitle_text(lines: Sequence[Subtitle]) -> str:
    """The lines as the model reads them behind the frames; empty without any."""
    if not lines:
        return ""
    # Lines on screen at the clip's start began before it.
    spoken = (f"{max(0.0, line.start_s):.1f} - {line.end_s:.1f} {line.text}\n" for line in lines)
    return "".join(("subtitle\n", *spoken))
