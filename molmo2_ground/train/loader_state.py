"""`LoaderState`: where a loader is between two batches, in plain JSON; and how other ranks go on from it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from molmo2_ground.train.mixture import MixtureSampler, SamplerState
from molmo2_ground.train.packer import PackerState


class LoaderState(BaseModel):
    """All that a loader knows between two batches, but for the examples that wait: they are made anew.

    backlog   keys of examples that come before the sampler's next.
    offered   examples that were taken so far, those that failed included.
    batches   batches that were handed out.
    bad_rows  numbers of the rows that failed, in order, by data set.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    schema_version: Literal[1] = 1
    rank: Annotated[int, Field(ge=0)]
    ranks: Annotated[int, Field(ge=1)]
    sampler: SamplerState
    packer: PackerState
    backlog: tuple[str, ...] = ()
    offered: Annotated[int, Field(ge=0)] = 0
    batches: Annotated[int, Field(ge=0)] = 0
    bad_rows: dict[str, tuple[Annotated[int, Field(ge=0)], ...]] = Field(default_factory=dict)
    # Earlier states counted here each time that a row failed; which rows, they do not say.
    skipped: dict[str, int] = Field(default_factory=dict, exclude=True)


def reshare(states: Sequence[LoaderState], *, ranks: int) -> list[LoaderState]:
    """States for another number of ranks, made of those of all ranks of a run.

    Every example of the mixture's stream is still shown once: what waited in the ranks' pools, and what some
    ranks had drawn and others not, is dealt out anew and comes first. Packs are others than before.

    Raises `ValueError` when a rank is missing or the states are of different streams.
    """
    states = sorted(states, key=lambda state: state.rank)
    if ranks < 1:
        raise ValueError(f"ranks must be 1 or more; got {ranks}")
    before = [(state.rank, state.ranks) for state in states]
    if before != [(rank, len(states)) for rank in range(len(states))] or not states:
        raise ValueError(f"expected the state of each rank of one run, got (rank, ranks) of {before}")
    if (
        len({(s.sampler.seed, str(s.sampler.shares), str(s.sampler.sizes), s.packer.limits) for s in states})
        > 1
    ):
        raise ValueError("expected states of one run, got some of other seeds, data sets or limits")
    furthest = max(states, key=lambda state: state.sampler.drawn)
    waiting = [one.key for state in states for one in state.packer.waiting]
    left = [
        *waiting,
        *chain.from_iterable(state.backlog for state in states),
        *chain.from_iterable(_behind(state, furthest.sampler.drawn) for state in states),
    ]
    bad: dict[str, set[int]] = {}
    for name, rows in chain.from_iterable(state.bad_rows.items() for state in states):
        bad.setdefault(name, set()).update(rows)
    shown = sum(state.offered for state in states) - len(waiting)
    return [
        LoaderState(
            rank=rank,
            ranks=ranks,
            sampler=furthest.sampler,
            packer=PackerState(
                limits=furthest.packer.limits,
                packs=max(state.packer.packs for state in states),
                too_long=sum(state.packer.too_long for state in states) if rank == 0 else 0,
                waiting=(),
            ),
            backlog=tuple(left[rank::ranks]),
            offered=len(range(rank, shown, ranks)),
            batches=max(state.batches for state in states),
            bad_rows={name: tuple(sorted(rows)) for name, rows in bad.items()},
        )
        for rank in range(ranks)
    ]


def _behind(state: LoaderState, drawn: int) -> Iterator[str]:
    """The rank's own examples among the stream's first `drawn` that it has not taken yet."""
    saved = state.sampler
    stream = MixtureSampler(
        saved.shares, saved.sizes, seed=saved.seed, worker=state.rank, workers=state.ranks
    )
    stream.restore(saved)
    for key in stream:
        if stream.state().drawn > drawn:
            return
        yield str(key)
