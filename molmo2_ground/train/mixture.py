"""`Mixture`: how often each dataset is drawn; `MixtureSampler`: which example comes next.

Groups of datasets have rates set by hand. In a group, a dataset is drawn in proportion to the root of its
size, so that large ones lead without drowning the rest. Every random choice comes from a seed and a name for
what is chosen, never from a generator that is shared: an example can be made again alone, on any machine, in
any order.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from molmo2_ground.train.weights import BranchKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A dataset of a group.

    rate     factor on its share of the group.
    cap      it counts as no larger than this.
    by_size  False: it has the same share however large it is.
    kind     what its answers are; `branch_weight` makes their weight in the loss from it.
    """

    name: str
    rate: float = 1.0
    cap: int | None = None
    by_size: bool = True
    kind: BranchKind = "answer"

    def __post_init__(self) -> None:
        if not self.rate > 0 or not math.isfinite(self.rate):
            raise ValueError(f"the rate of {self.name} must be over 0, got {self.rate}")
        if self.cap is not None and self.cap < 1:
            raise ValueError(f"the cap of {self.name} must be 1 or more, got {self.cap}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Datasets that share a rate; only the ratio of the groups' rates counts."""

    name: str
    rate: float
    members: tuple[Member, ...]

    def __post_init__(self) -> None:
        if not self.rate > 0 or not math.isfinite(self.rate):
            raise ValueError(f"the rate of group {self.name} must be over 0, got {self.rate}")
        if not self.members:
            raise ValueError(f"group {self.name} must have a dataset, got none")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    """Groups of datasets, each dataset in one of them.

    cap_is_size  a cap stands for the size, also of a dataset that is smaller: the rule of the released code.
    """

    groups: tuple[Group, ...]
    cap_is_size: bool = False

    def __post_init__(self) -> None:
        names = [member.name for member in self.members]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice or not names:
            raise ValueError(f"a mixture must hold one dataset or more, each once; got {twice or 'none'}")

    @property
    def members(self) -> tuple[Member, ...]:
        """All datasets, group by group."""
        return tuple(member for group in self.groups for member in group.members)

    def only(self, names: set[str]) -> Mixture:
        """The mixture of these datasets alone; a group keeps its rate, and one that loses all goes.

        ValueError: a name is not in the mixture, or nothing is left.
        """
        unknown = sorted(names - {member.name for member in self.members})
        if unknown:
            raise ValueError(f"no dataset of this mixture: {', '.join(unknown)}; take names from .members")
        kept = [
            (group, tuple(member for member in group.members if member.name in names))
            for group in self.groups
        ]
        return replace(self, groups=tuple(replace(group, members=left) for group, left in kept if left))

    def shares(self, sizes: Mapping[str, int]) -> dict[str, float]:
        """How often each dataset is drawn, by name; together 1.

        sizes  examples of each dataset, counted as trees. ValueError: one is missing or empty.
        """
        missing = sorted(m.name for m in self.members if sizes.get(m.name, 0) < 1)
        if missing:
            raise ValueError(
                f"expected 1 example or more of every dataset, got none of {', '.join(missing)}; "
                "leave datasets out with .only(names)"
            )
        all_groups = math.fsum(group.rate for group in self.groups)
        shares = {}
        for group in self.groups:
            weights = {m.name: m.rate * self._size_term(m, sizes[m.name]) for m in group.members}
            whole = math.fsum(weights.values())
            shares.update({name: group.rate / all_groups * w / whole for name, w in weights.items()})
        return dict(sorted(shares.items()))

    def _size_term(self, member: Member, size: int) -> float:
        if not member.by_size:
            return 1.0
        if member.cap is None:
            return math.sqrt(size)
        return math.sqrt(member.cap if self.cap_is_size else min(size, member.cap))


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class ExampleKey:
    """One example as one epoch shows it: all that is needed, with the seed, to make it again."""

    dataset: str
    epoch: int
    index: int

    def __str__(self) -> str:
        return f"{self.dataset}:{self.epoch}:{self.index}"

    @classmethod
    def parse(cls, text: str) -> ExampleKey:
        """The key that `str` wrote. ValueError: it is none."""
        parts = text.rsplit(":", 2)
        if len(parts) != 3 or not all(part.isascii() and part.isdigit() for part in parts[1:]):
            raise ValueError(f"expected a key like dataset:epoch:index, got {text!r}")
        return cls(dataset=parts[0], epoch=int(parts[1]), index=int(parts[2]))


def example_rng(seed: int, key: ExampleKey, *, purpose: str = "") -> np.random.Generator:
    """The generator for all that is random about an example; a purpose of its own makes choices independent.

    The same arguments give the same numbers in every process. All of them count, so equal indices of two
    datasets, or of two epochs, have nothing in common.
    """
    return _rng(seed, "example", key.dataset, key.epoch, key.index, purpose)


def _rng(*name: int | str) -> np.random.Generator:
    # Not hash(): it differs from process to process. JSON keeps ("a", "bc") and ("ab", "c") apart.
    digest = hashlib.sha256(json.dumps(name).encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest, "big")))


class SamplerState(BaseModel):
    """Where a sampler is in its stream, and of what stream; plain JSON by `model_dump_json`.

    drawn  examples drawn so far.
    taken  how many of them were of each dataset.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    schema_version: Literal[1] = 1
    seed: int
    shares: dict[str, Annotated[float, Field(gt=0)]]
    sizes: dict[str, Annotated[int, Field(ge=1)]]
    drawn: Annotated[int, Field(ge=0)]
    taken: dict[str, Annotated[int, Field(ge=0)]]


class MixtureSampler(Iterator[ExampleKey]):
    """The endless stream of examples of a mixture.

    Each draw picks a dataset by its share, then that dataset's next example: every epoch shows each example
    once, in an order of its own. The stream is one for all workers; worker w of n has its draws w, w + n, ….
    """

    _BLOCK = 1024  # draws whose datasets are picked at once

    def __init__(
        self,
        shares: Mapping[str, float],
        sizes: Mapping[str, int],
        *,
        seed: int,
        worker: int = 0,
        workers: int = 1,
    ) -> None:
        if not 0 <= worker < workers:
            raise ValueError(f"worker must be from 0 to {workers - 1}, got {worker}")
        if not shares or not all(share > 0 and math.isfinite(share) for share in shares.values()):
            raise ValueError(
                f"expected one share or more, all over 0, got {dict(shares)}; see Mixture.shares"
            )
        empty = sorted(name for name in shares if sizes.get(name, 0) < 1)
        if empty:
            raise ValueError(f"expected 1 example or more of every dataset, got none of {', '.join(empty)}")
        self.seed, self.worker, self.workers = seed, worker, workers
        # Sorted, so that the order in which a mixture is written down changes nothing.
        self.shares = {name: float(share) for name, share in sorted(shares.items())}
        self.sizes = {name: int(sizes[name]) for name in self.shares}
        self._names = list(self.shares)
        edges = np.cumsum(list(self.shares.values()))
        self._edges: npt.NDArray[np.float64] = edges / edges[-1]  # the last is exactly 1: over every draw
        self._drawn = 0
        self._taken = dict.fromkeys(self._names, 0)
        self._block: tuple[int, npt.NDArray[np.int64]] | None = None
        self._orders: dict[str, tuple[int, npt.NDArray[np.integer]]] = {}

    def __next__(self) -> ExampleKey:
        while True:
            number, dataset = self._drawn, self._dataset_of(self._drawn)
            epoch, place = divmod(self._taken[dataset], self.sizes[dataset])
            self._drawn += 1
            self._taken[dataset] += 1
            if number % self.workers == self.worker:
                return ExampleKey(dataset=dataset, epoch=epoch, index=int(self._order(dataset, epoch)[place]))

    def state(self) -> SamplerState:
        """What `restore` needs so that the next examples are the same."""
        return SamplerState(
            seed=self.seed, shares=self.shares, sizes=self.sizes, drawn=self._drawn, taken=dict(self._taken)
        )

    def restore(self, state: SamplerState) -> None:
        """Go on from a saved state. ValueError, and nothing changed: it is of another stream, or damaged."""
        for name, here, saved in (
            ("seed", self.seed, state.seed),
            ("sizes", self.sizes, state.sizes),
            ("shares", self.shares, state.shares),
        ):
            if here != saved:
                raise ValueError(
                    f"the saved sampler has other {name}: expected {here}, got {saved}; "
                    "go on with what it was saved with, or start the sampler anew"
                )
        if state.taken.keys() != self._taken.keys() or sum(state.taken.values()) != state.drawn:
            raise ValueError(
                f"the saved sampler is damaged: expected examples of {self._names}, {state.drawn} together, "
                f"got {state.taken}; restore another save, or start the sampler anew"
            )
        self._drawn, self._taken = state.drawn, dict(state.taken)

    def _dataset_of(self, draw: int) -> str:
        block, place = divmod(draw, self._BLOCK)
        if self._block is None or self._block[0] != block:
            values = _rng(self.seed, "draws", block).random(self._BLOCK)
            self._block = (block, np.searchsorted(self._edges, values, side="right"))
        return self._names[int(self._block[1][place])]

    def _order(self, dataset: str, epoch: int) -> npt.NDArray[np.integer]:
        known = self._orders.get(dataset)
        if known is None or known[0] != epoch:
            size = self.sizes[dataset]
            order = _rng(self.seed, "order", dataset, epoch).permutation(size)
            # In as few bytes as hold an index: every worker keeps an order of every dataset.
            known = self._orders[dataset] = (epoch, order.astype(np.min_scalar_type(size)))
        return known[1]
