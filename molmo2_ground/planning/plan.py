"""`Plan`: what a question will look at, need and take. Made by `planner.plan_question`."""

from __future__ import annotations

import json
from typing import Literal

from pydantic import BaseModel, ConfigDict

SCHEMA = "molmo2-ground/plan/1"


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class PlannedFrames(_Value):
    """Which pictures are shown.

    count           pictures in all; a frame that two windows share is one.
    fps             frames a second of a video's steady grid; None for evenly spread times and for pictures.
    windows         looks that the video is cut into; 1 when one is enough. Each has `window_frames` frames,
                    `overlap_frames` of them shared with the one before; `together` are asked at a time.
    sampling        the rule in a word, as receipts name it.
    """

    count: int
    fps: float | None = None
    windows: int = 1
    window_frames: int | None = None
    overlap_frames: int = 0
    together: int = 1
    sampling: str


class PlannedTokens(_Value):
    """How long the prompts are, and about how long the answers.

    prompts  tokens of each look's prompt, in order; a run reports their sum as `tokens_in`.
    exact    False where a prompt depends on what is found before it, and may differ by a few tokens.
    answers  of all looks together, an estimate; `answers_basis` says what it supposes.
    """

    prompts: tuple[int, ...]
    exact: bool = True
    answers: int
    answers_basis: str

    @property
    def prompt_total(self) -> int:
        """Tokens of all prompts."""
        return sum(self.prompts)


class PlannedMemory(_Value):
    """Bytes at the moment when most are held, above a process that has loaded libraries and nothing else.

    On an accelerator they are the accelerator's, and pixels, which stay in the machine's memory, are 0.
    free_bytes: what the device has free now, with the weights that are there already; None when unknown.
    """

    device: str
    dtype: str
    weights_bytes: int
    keys_values_bytes: int
    features_bytes: int
    pixels_bytes: int
    working_bytes: int
    free_bytes: int | None = None

    @property
    def peak_bytes(self) -> int:
        """All that is held then."""
        return (
            self.weights_bytes
            + self.keys_values_bytes
            + self.features_bytes
            + self.pixels_bytes
            + self.working_bytes
        )


class PlannedTime(_Value):
    """Seconds by stage, from a short run of the model on this machine; without loading the model.

    answer_s is `runs` of the network, each of `run_s`; how many there are is an estimate, as the length of
    the answers is.
    """

    reading_s: float
    vision_s: float
    prefill_s: float
    runs: float
    run_s: float

    @property
    def answer_s(self) -> float:
        """Of writing the answers."""
        return self.runs * self.run_s

    @property
    def total_s(self) -> float:
        """From the file to the answer."""
        return self.reading_s + self.vision_s + self.prefill_s + self.answer_s


class Plan(_Value):
    """What a question will look at, need and take.

    time     None when nothing was run to measure it.
    problem  why it cannot be run as it is, and what can; None when it fits.
    notes    what a reader should know beside the numbers.
    """

    task: Literal["point", "count", "track", "ask"]
    query: str
    source: str
    model_id: str
    frames: PlannedFrames
    tokens: PlannedTokens
    memory: PlannedMemory
    time: PlannedTime | None = None
    problem: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether it can be run as it is."""
        return self.problem is None

    def json_text(self) -> str:
        """One JSON object, `schema` first, a member a line."""
        fields = {"schema": SCHEMA, **self.model_dump(mode="json")}
        members = [
            f"{json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}" for name, value in fields.items()
        ]
        return "{" + ",\n ".join(members) + "}"
