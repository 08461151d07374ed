"""`Packer`: chooses, on the fly, which examples share a sequence.

Examples come one at a time and wait in a pool. When the pool is full, the newcomer and those that wait are
the candidates for one sequence. Of all sets that fit, the one leaves whose tokens plus `crop_value` times
crops are the most. Crops fill the vision tower as tokens fill the language model, so a sequence is full when
both are.

The packer knows examples by their key and size only. Whoever feeds it keeps their arrays, and makes them anew
from the keys after a restore; so the state is small, and plain JSON.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import index
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field


@dataclass(frozen=True, slots=True, kw_only=True)
class PackLimits:
    """What a sequence may hold, and how the packer chooses.

    max_tokens, max_crops  the most of each in one sequence; a video frame counts as a crop.
    crop_value             a crop is worth this many tokens.
    pool                   examples that wait; the newcomer is one more candidate.
    patience               an example passed over this often is due: the oldest one due is in every pack.
    length_steps           the solver knows lengths in steps of max_tokens // length_steps tokens, rounded up.
    """

    max_tokens: int = 16384
    max_crops: int = 128
    crop_value: int = 30
    pool: int = 48
    patience: int = 32
    length_steps: int = 512

    def __post_init__(self) -> None:
        for name, least in (
            ("max_tokens", 1),
            ("max_crops", 0),
            ("crop_value", 0),
            ("pool", 0),
            ("patience", 0),
            ("length_steps", 1),
        ):
            value = getattr(self, name)
            if value < least:
                raise ValueError(f"{name} must be {least} or more, got {value}")

    @property
    def step_tokens(self) -> int:
        """Tokens in one step of length."""
        return max(1, self.max_tokens // self.length_steps)


# The three stages of the paper. What a crop is worth it says for 16,384 tokens only; stage 1 has that of the
# released code, whose sequences there are 2,536 tokens long.
STAGE1 = PackLimits(max_tokens=2560, max_crops=16, crop_value=1)
STAGE1_RELEASED = PackLimits(max_tokens=2536, max_crops=16, crop_value=1)
STAGE2 = PackLimits(max_tokens=16384, max_crops=128)
STAGE3 = PackLimits(max_tokens=36864, max_crops=384)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An example by its key, and the room that it needs in a sequence."""

    key: str
    tokens: int
    crops: int = 0

    def __post_init__(self) -> None:
        # Sizes of arrays are often numpy's integers, which wrap around and are no JSON.
        object.__setattr__(self, "tokens", index(self.tokens))
        object.__setattr__(self, "crops", index(self.crops))
        if self.tokens < 1 or self.crops < 0:
            raise ValueError(
                f"example {self.key} must have 1 token or more and 0 crops or more, "
                f"got {self.tokens} tokens and {self.crops} crops"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Pack:
    """Examples that share one sequence, in the order in which they came; `number` counts packs from 0."""

    number: int
    examples: tuple[Candidate, ...]

    @property
    def tokens(self) -> int:
        """Tokens of all examples together."""
        return sum(example.tokens for example in self.examples)

    @property
    def crops(self) -> int:
        """Crops of all examples together."""
        return sum(example.crops for example in self.examples)


@dataclass(frozen=True, slots=True, kw_only=True)
class TooLong:
    """An example that no sequence can hold; the packer did not take it."""

    example: Candidate
    limits: PackLimits

    @property
    def reason(self) -> str:
        """What does not fit, in words."""
        return (
            f"example {self.example.key} fits in no pack: expected at most {self.limits.max_tokens} tokens "
            f"and {self.limits.max_crops} crops, got {self.example.tokens} and {self.example.crops}; "
            "leave out branches or frames of it, or raise the limits"
        )


class _Saved(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class WaitingState(_Saved):
    """One example of the pool, and how many packs had been made when it came."""

    key: str
    tokens: Annotated[int, Field(ge=1)]
    crops: Annotated[int, Field(ge=0)]
    since: Annotated[int, Field(ge=0)]


class PackerState(_Saved):
    """All that a packer knows between two examples; JSON by `model_dump_json` and `model_validate_json`."""

    schema_version: Literal[1] = 1
    limits: PackLimits
    packs: Annotated[int, Field(ge=0)]
    too_long: Annotated[int, Field(ge=0)]
    waiting: tuple[WaitingState, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Waiting:
    example: Candidate
    since: int  # packs made when it came


class Packer:
    """Takes examples one at a time, and gives back packs of them.

    Every example that it takes leaves in exactly one pack, and at most `patience + pool` packs pass it over:
    once it is due, every pack takes at least the oldest, and never more than `pool` are older.
    """

    def __init__(self, limits: PackLimits = STAGE2) -> None:
        self.limits = limits
        self._solver = _Solver(limits)
        self._waiting: list[_Waiting] = []  # as they came, the oldest first
        self._packs = 0
        self._too_long = 0

    def __len__(self) -> int:
        """How many examples wait."""
        return len(self._waiting)

    @property
    def packs(self) -> int:
        """How many packs were made."""
        return self._packs

    @property
    def too_long(self) -> int:
        """How many examples were handed back because no sequence can hold them."""
        return self._too_long

    @property
    def waiting(self) -> tuple[Candidate, ...]:
        """The examples in the pool, the oldest first."""
        return tuple(one.example for one in self._waiting)

    def offer(self, example: Candidate) -> Pack | TooLong | None:
        """Take one example: a pack if the pool was full, None if not, `TooLong` if no pack can hold it.

        ValueError: an example of this key waits already.
        """
        if example.tokens > self.limits.max_tokens or example.crops > self.limits.max_crops:
            self._too_long += 1
            return TooLong(example=example, limits=self.limits)
        if any(one.example.key == example.key for one in self._waiting):
            raise ValueError(
                f"example {example.key} waits in the pool already; expected a key of its own for each example"
            )
        self._waiting.append(_Waiting(example=example, since=self._packs))
        return self._emit() if len(self._waiting) > self.limits.pool else None

    def drain(self) -> Iterator[Pack]:
        """Pack what waits until nothing does: the end of the data."""
        while self._waiting:
            yield self._emit()

    def pack_all(self, examples: Iterable[Candidate]) -> Iterator[Pack | TooLong]:
        """Offer every example, then drain."""
        for example in examples:
            made = self.offer(example)
            if made is not None:
                yield made
        yield from self.drain()

    def state(self) -> PackerState:
        """What `restore` needs so that the next packs are the same."""
        return PackerState(
            limits=self.limits,
            packs=self._packs,
            too_long=self._too_long,
            waiting=tuple(
                WaitingState(
                    key=one.example.key,
                    tokens=one.example.tokens,
                    crops=one.example.crops,
                    since=one.since,
                )
                for one in self._waiting
            ),
        )

    def restore(self, state: PackerState) -> None:
        """Go on from a saved state. ValueError, and nothing changed: it is of other limits, or damaged."""
        if state.limits != self.limits:
            raise ValueError(
                f"the saved packer has other limits: expected {self.limits}, got {state.limits}; "
                "go on with the limits it was saved with, or start the packer anew"
            )
        fault = self._fault(state)
        if fault:
            raise ValueError(
                f"the saved packer is damaged: {fault}; restore another save, or start the packer anew"
            )
        self._waiting = [
            _Waiting(example=Candidate(key=one.key, tokens=one.tokens, crops=one.crops), since=one.since)
            for one in state.waiting
        ]
        self._packs, self._too_long = state.packs, state.too_long

    def _fault(self, state: PackerState) -> str | None:
        """What no packer of these limits could have saved, in words."""
        sinces = [one.since for one in state.waiting]
        if len(state.waiting) > self.limits.pool:
            return f"expected at most {self.limits.pool} waiting examples, got {len(state.waiting)}"
        if len({one.key for one in state.waiting}) < len(state.waiting):
            return "expected each example once, got one that waits twice"
        if sinces != sorted(sinces) or (sinces and sinces[-1] > state.packs):
            return f"expected examples in the order of their coming, up to pack {state.packs}, got {sinces}"
        for one in state.waiting:
            if one.tokens > self.limits.max_tokens or one.crops > self.limits.max_crops:
                return f"expected only examples that fit, got {one}"
        return None

    def _emit(self) -> Pack:
        oldest_is_due = self._packs - self._waiting[0].since >= self.limits.patience
        chosen = self._solver.choose([one.example for one in self._waiting], with_first=oldest_is_due)
        pack = Pack(number=self._packs, examples=tuple(self._waiting[k].example for k in chosen))
        taken = set(chosen)
        self._waiting = [one for k, one in enumerate(self._waiting) if k not in taken]
        self._packs += 1
        return pack


class _Solver:
    """The exact 0/1 knapsack with two limits, over lengths in whole steps.

    Lengths are rounded up and the room is rounded down, so a set that fits in steps fits in tokens.
    """

    def __init__(self, limits: PackLimits) -> None:
        self.limits = limits
        self.room_steps = limits.max_tokens // limits.step_tokens
        # No set that fits is worth more than this, so the tables hold it in the fewest bytes: half the work.
        most = limits.max_tokens + limits.crop_value * limits.max_crops
        self._tables: npt.NDArray[np.unsignedinteger] = np.empty(
            (limits.pool + 2, limits.max_crops + 1, self.room_steps + 1), dtype=np.min_scalar_type(most)
        )

    def steps(self, tokens: int) -> int:
        """Length in steps.

        When max_tokens is no multiple of a step, the longest examples round up to more than the room. They
        fit alone, and as the whole room that is all that they can: any other example takes a step.
        """
        return min(-(-tokens // self.limits.step_tokens), self.room_steps)

    def choose(self, candidates: Sequence[Candidate], *, with_first: bool) -> list[int]:
        """Indices of the best set, rising; `with_first`: of the best among those that hold the first.

        Of equally good sets, the one without the later candidates.
        """
        lengths = [self.steps(candidate.tokens) for candidate in candidates]
        room, crops = self.room_steps, self.limits.max_crops
        chosen = []
        if with_first:
            chosen.append(0)
            room, crops = room - lengths[0], crops - candidates[0].crops
        rest = [
            k
            for k in range(len(chosen), len(candidates))
            if lengths[k] <= room and candidates[k].crops <= crops
        ]
        # tables[n][c, r]: the most that the first n of `rest` are worth in c crops and r steps.
        tables = self._tables[:, : crops + 1, : room + 1]
        tables[0] = 0
        for n, k in enumerate(rest):
            self._add(tables[n], tables[n + 1], lengths[k], candidates[k])
        for n in range(len(rest), 0, -1):
            if tables[n][crops, room] != tables[n - 1][crops, room]:
                k = rest[n - 1]
                chosen.append(k)
                room, crops = room - lengths[k], crops - candidates[k].crops
        return sorted(chosen)

    def _add(
        self,
        without: npt.NDArray[np.unsignedinteger],
        best: npt.NDArray[np.unsignedinteger],
        length: int,
        candidate: Candidate,
    ) -> None:
        """The table with one more candidate, written into `best`."""
        n_rows, n_columns = without.shape
        crops = candidate.crops
        value = without.dtype.type(candidate.tokens + self.limits.crop_value * crops)
        best[:crops] = without[:crops]
        best[crops:, :length] = without[crops:, :length]
        fits = best[crops:, length:]
        np.add(without[: n_rows - crops, : n_columns - length], value, out=fits)
        np.maximum(fits, without[crops:, length:], out=fits)
