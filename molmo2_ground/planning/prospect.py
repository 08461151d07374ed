"""`Prospect`: one way of asking a question, with everything that can be told about it without running it."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from molmo2_ground.backends.prompt_room import PromptRoom
from molmo2_ground.clip import Clip
from molmo2_ground.errors import PromptTooLongError
from molmo2_ground.look import Looking, looks
from molmo2_ground.model.inputs import visual_units
from molmo2_ground.model.memory import Memory, Sight, peak_memory
from molmo2_ground.planning.answer_length import AnswerLength, answer_length
from molmo2_ground.query import Prompt, Query, build_prompt
from molmo2_ground.sources import MediaLike, open_clip, probe
from molmo2_ground.windows import shift_to_zero, windows_together


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Look:
    """One prompt: its pictures (without pixels of their own when they are a file's), words and length."""

    clip: Clip
    prompt: Prompt
    tokens: int
    answer: AnswerLength


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prospect:
    """A question about a source, as a model would be asked it.

    media: still pictures are read already and come as a clip, which took `read_s` seconds. name: of the
    source, for messages.
    """

    media: MediaLike
    query: Query
    room: PromptRoom
    looking: Looking
    name: str
    read_s: float = 0.0

    @classmethod
    def of(cls, media: MediaLike, query: Query, *, room: PromptRoom) -> Prospect:
        """The question as it stands. Raises `SourceError` when the media cannot be opened."""
        began = time.perf_counter()
        info = probe(media)
        looking = Looking.at(media, info=info, limits=room.checkpoint.limits)
        if info.kind == "images":
            media = open_clip(media)
        read_s = time.perf_counter() - began
        name = media.source if isinstance(media, Clip) else Path(os.fspath(media)).name  # type: ignore[arg-type]  # only a path is neither
        return cls(media=media, query=query, room=room, looking=looking, name=name, read_s=read_s)

    @property
    def by_windows(self) -> bool:
        """Whether the video is tracked window by window."""
        return self.looking.by_windows(self.query)

    def looks(self) -> tuple[Look, ...]:
        """Every prompt, in order; a window that ends before the thing to follow is shown is left out.

        Raises `SourceError` for a source that cannot be asked this, `ValueError` for a point outside of it.
        """
        side_px = self.room.checkpoint.flags.image_size_px
        clips = looks(self.media, self.query, looking=self.looking, name=self.name, side_px=side_px)
        found: list[Look] = []
        for clip in clips:
            query = self._aimed(clip, first=not found) if self.by_windows else self.query
            if query is not None:
                found.append(self._look(query, shift_to_zero(clip) if self.by_windows else clip))
        if not found:
            at = self.query.at or (math.nan,)
            raise ValueError(f"at= names the time {at[0]:g} s, after the end of the video")
        return tuple(found)

    def _aimed(self, clip: Clip, *, first: bool) -> Query | None:
        """The question to a window. Later ones go on from a place found before; here, from the same one."""
        at = self.query.at
        if at is None:
            return self.query
        start_s, end_s = float(clip.shown_times_s[0]), float(clip.shown_times_s[-1])
        if first and at[0] > end_s:
            return None
        return replace(self.query, at=(at[0] - start_s if first else 0.0, *at[1:]))

    def _look(self, query: Query, clip: Clip) -> Look:
        prompt = build_prompt(query, clip)
        tokens = self.room.tokens(prompt, clip)
        left = self.room.checkpoint.context_tokens - tokens
        answer = answer_length(query, prompt, clip, codec=self.room.checkpoint.codec, room=left)
        return Look(clip=clip, prompt=prompt, tokens=tokens, answer=answer)

    def too_long(self, looks: Sequence[Look]) -> str | None:
        """Why a prompt does not fit the context, in the words of the error that a run would raise."""
        for look in looks:
            try:
                self.room.check(look.prompt, look.clip)
            except PromptTooLongError as error:
                return str(error)
        return None

    def together(self, looks: Sequence[Look]) -> int:
        """Looks that are held and answered at the same time."""
        if not self.by_windows or self.query.at is not None:
            return 1
        return min(len(looks), windows_together(self.room.at_once(looks[0].clip)))

    @property
    def overlap(self) -> int:
        """Frames that a window shares with the one before."""
        return self.looking.window(self.query)[1] if self.by_windows else 0

    def sight(self, looks: Sequence[Look]) -> Sight:
        """The sizes that memory depends on: of the longest look."""
        longest = max(looks, key=lambda look: look.tokens)
        flags, crops = self.room.checkpoint.flags, self.room.crops(longest.prompt, longest.clip)
        units = visual_units(longest.clip, flags=flags, max_crops=crops)
        pooling = flags.video_pooling if longest.clip.kind == "video" else flags.image_pooling
        patch_tokens = sum(unit.tokens for unit in units)
        info = self.looking.info
        distinct = sum(len(look.clip) for look in looks) - self.overlap * (len(looks) - 1)
        return Sight(
            tokens=longest.tokens,
            answer_tokens=longest.answer.tokens,
            crops=sum(unit.crops for unit in units),
            unit_crops=max((unit.crops for unit in units), default=1),
            patch_tokens=patch_tokens,
            patches_a_token=pooling[0] * pooling[1],
            pixel_bytes=sum(frame.rgb.shape[0] * frame.rgb.shape[1] * 3 for frame in longest.clip.frames),
            frame_pixels=info.width_px * info.height_px if not isinstance(self.media, Clip) else 0,
            together=self.together(looks),
            all_tokens=patch_tokens * distinct // max(1, len(longest.clip)),
        )

    def memory(self, looks: Sequence[Look]) -> Memory:
        """The most that is held at a time."""
        return peak_memory(
            self.room.checkpoint,
            self.sight(looks),
            device=self.room.device,
            dtype=self.room.dtype,
            int8=self.room.int8,
        )
