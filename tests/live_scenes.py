"""Live captures of made-up scenes, a backend that tells the truth, and a clock that is moved by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from molmo2_ground.answer import RawAnswer
from molmo2_ground.backends.base import BackendSession
from molmo2_ground.clip import Clip, RgbArray
from molmo2_ground.clocks import Clocks
from molmo2_ground.errors import BackendError
from molmo2_ground.model.limits import ModelLimits
from molmo2_ground.query import Decoding, Prompt
from molmo2_ground.sources.feeds.capture import Capture
from molmo2_ground.thousandths import spell_coordinate, spell_seconds, to_thousandths

BEGIN_NS = 1_800_000_000_000_000_000
SIZE_PX = (320, 180)

Places = dict[int, tuple[float, float]]
"""Where things in sight are, shares of width and height, by their number in the truth."""


@dataclass
class HandClock:
    """A clock that stands still until it is moved; both clocks go together."""

    now_ns: int = 0

    @property
    def clocks(self) -> Clocks:
        return Clocks(unix_ns=lambda: BEGIN_NS + self.now_ns, monotonic_ns=lambda: 5_000_000 + self.now_ns)

    def to(self, time_s: float) -> None:
        self.now_ns = round(time_s * 1e9)


@dataclass
class Street:
    """Textured squares on a textured ground: `places` says where each is at a time."""

    places: Callable[[float], Places]
    side_px: int = 18
    size_px: tuple[int, int] = SIZE_PX
    seed: int = 3
    _ground: RgbArray = field(init=False)
    _looks: RgbArray = field(init=False)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        width, height = self.size_px
        coarse = rng.integers(90, 130, (height // 6 + 1, width // 6 + 1, 3), dtype=np.uint8)
        self._ground = coarse.repeat(6, axis=0).repeat(6, axis=1)[:height, :width].copy()
        looks = rng.integers(0, 256, (8, self.side_px // 3, self.side_px // 3, 3), dtype=np.uint8)
        self._looks = looks.repeat(3, axis=1).repeat(3, axis=2)

    def paint(self, time_s: float) -> RgbArray:
        rgb = self._ground.copy()
        width, height = self.size_px
        half = self.side_px // 2
        for number, (x_norm, y_norm) in self.places(time_s).items():
            left, top = round(x_norm * width) - half, round(y_norm * height) - half
            x0, y0 = max(left, 0), max(top, 0)
            x1, y1 = min(left + self.side_px, width), min(top + self.side_px, height)
            if x1 > x0 and y1 > y0:
                rgb[y0:y1, x0:x1] = self._looks[number % 8][y0 - top : y1 - top, x0 - left : x1 - left]
        return rgb

    def capture(
        self,
        index: int,
        time_s: float,
        *,
        epoch: int = 1,
        late_s: float = 0.0,
        stamp_s: float | None = None,
    ) -> Capture:
        """The picture of a time; it arrives `late_s` after it was taken, by its camera's clock."""
        recv_ns = BEGIN_NS + round((time_s + late_s) * 1e9)
        return Capture(
            index=index,
            epoch=epoch,
            stamp_ns=BEGIN_NS + round((time_s if stamp_s is None else stamp_s) * 1e9),
            stamped_by="camera",
            recv_ns=recv_ns,
            decoded_ns=recv_ns,
            monotonic_ns=5_000_000 + round((time_s + late_s) * 1e9),
            width_px=self.size_px[0],
            height_px=self.size_px[1],
            paint=lambda: self.paint(time_s),
        )


@dataclass
class TruthBackend:
    """Answers every tracking question with the true places, by the frames' own times; obeys `Backend`.

    places  of the truth at a time. numbers_from: names things anew in every answer, from a number that
            changes, so that only places tell who is who. fails: answers (from 0) that are an error, or text.
    pick    from the words that are asked for to the things that they mean; all when left out.
    """

    places: Callable[[float], Places]
    begin_s: float = 0.0
    track_frames: int = 8
    fails: dict[int, Exception | str] = field(default_factory=dict)
    pick: Callable[[str], Sequence[int]] | None = None
    scatter: float = 0.0
    asked: list[tuple[Prompt, Clip]] = field(default_factory=list)
    tokens_in: int = 100
    model_id: str = "truth"

    @property
    def limits(self) -> ModelLimits:
        return ModelLimits(
            max_frames=64, max_fps=2.0, max_crops=4, context_tokens=8192, track_frames=self.track_frames
        )

    def resize_frame(self, rgb_hwc: RgbArray) -> RgbArray:
        return rgb_hwc[::4, ::4]

    def open(self, clip: Clip) -> TruthSession:
        return TruthSession(self, clip)

    def at_once(self, clip: Clip) -> int:
        return 8

    def answer_together(
        self, asked: Sequence[tuple[BackendSession, Prompt]], *, decoding: Decoding
    ) -> list[RawAnswer]:
        return [session.answer(prompt, decoding=decoding) for session, prompt in asked]

    def written(self, prompt: Prompt, clip: Clip) -> str:
        number = len(self.asked)
        self.asked.append((prompt, clip))
        failure = self.fails.get(number)
        if isinstance(failure, Exception):
            raise failure
        if failure is not None:
            return failure
        rng = np.random.default_rng(number)
        wanted = None if self.pick is None else set(self.pick(prompt.label))
        first = 1 + number % 3
        if clip.kind == "images":
            there = [p for n, p in self.places(self.still_s).items() if wanted is None or n in wanted]
            spots = " ".join(f"{n} {_spelled(*place)}" for n, place in enumerate(there, start=1))
            return f'Counting shows <points coords="1 {spots}">x</points>' if there else "There are none."
        ids: dict[int, int] = {}
        groups = []
        for frame in clip.frames:
            named = []
            for thing, (x_norm, y_norm) in sorted(self.places(self.begin_s + (frame.time_s or 0.0)).items()):
                if wanted is not None and thing not in wanted:
                    continue
                own = ids.setdefault(thing, first + len(ids))
                dx, dy = rng.normal(0, self.scatter, 2) if self.scatter else (0.0, 0.0)
                named.append(f"{own} {_spelled(x_norm + dx, y_norm + dy)}")
            if named:
                groups.append(f"{spell_seconds(frame.shown_time_s or 0.0)} {' '.join(named)}")
        if not groups:
            return "There are none."
        return f'<tracks coords="{";".join(groups)}">{prompt.label}</tracks>'

    still_s: float = 0.0


class TruthSession:
    def __init__(self, backend: TruthBackend, clip: Clip) -> None:
        self._backend, self._clip = backend, clip

    def answer(self, prompt: Prompt, *, decoding: Decoding) -> RawAnswer:
        return RawAnswer(
            text=self._backend.written(prompt, self._clip),
            stop_reason="end",
            tokens_in=self._backend.tokens_in,
            tokens_out=10,
            forwards=10,
            model_id="truth",
            revision=None,
            backend="truth",
            recipe="truth/1",
            timings_ms={"vision": 1.0, "prefill": 2.0, "decode_text": 3.0},
        )

    def close(self) -> None:
        pass

    def __enter__(self) -> TruthSession:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _spelled(x_norm: float, y_norm: float) -> str:
    x, y = (min(max(value, 0.0), 1.0) for value in (x_norm, y_norm))
    return f"{spell_coordinate(to_thousandths(x, 1))} {spell_coordinate(to_thousandths(y, 1))}"


def times(seconds: float, fps: float, *, begin_s: float = 0.0) -> Iterator[float]:
    for number in range(round(seconds * fps)):
        yield begin_s + number / fps


__all__ = ["BackendError", "HandClock", "Street", "TruthBackend", "times"]
