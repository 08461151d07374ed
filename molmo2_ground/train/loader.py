"""`PackedLoader`: from a mixture of data sets to packed batches, without end, and from any step on again.

    maker = ExampleMaker(sources={"street": street}, writer=writer, flags=flags, seed=7, max_tokens=16384)
    loader = PackedLoader(maker, mixture.shares(maker.sizes), limits=STAGE2)
    batch = next(loader)
    saved = loader.state()             JSON; of the loader as it was behind the last batch
    loader.restore(saved)

The sampler says which example comes next; worker processes make them, in order; the packer, here, says which
share a row. Which examples come and how they are packed depends on the seed alone: any number of processes,
0 included, gives the same bytes in the same order.
"""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from molmo2_ground.train.data_worker import serve_the_run, unheard_signals
from molmo2_ground.train.example_source import ExampleError, ExampleMaker, Failure
from molmo2_ground.train.loader_state import LoaderState
from molmo2_ground.train.mixture import ExampleKey, MixtureSampler
from molmo2_ground.train.packed_batch import BatchShape, PackedBatch, pack_batch
from molmo2_ground.train.packer import STAGE2, Pack, Packer, PackLimits, TooLong

if TYPE_CHECKING:
    from molmo2_ground.train.example import PreparedExample
    from molmo2_ground.train.packer import Candidate

logger = logging.getLogger(__name__)
ItemT = TypeVar("ItemT")

# So many rows that fail one after another are no few bad ones, and nobody reads more of their names.
_MOST_FAILURES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class LoaderOptions:
    """How a loader works.

    rows           packs in a batch.
    processes      worker processes that make examples; 0: they are made here, when they are asked for.
    ahead          examples that each process has made, or is making, before they are asked for.
    start_method   how processes are started; None: the platform's way. With `spawn` and `forkserver` the data
                   sets must be picklable.
    skip_failures  an example that cannot be made or packed is left out, its row named once and counted;
                   otherwise, and when no row is good, it is an `ExampleError`.
    examples       the stream ends after so many of this rank's, and what waits is packed; None: it has no
                   end. For measuring a loss: ranks may end after different numbers of batches.
    """

    rows: int = 1
    processes: int = 0
    ahead: int = 4
    start_method: Literal["fork", "spawn", "forkserver"] | None = None
    skip_failures: bool = False
    examples: int | None = None

    def __post_init__(self) -> None:
        for name, least in (("rows", 1), ("processes", 0), ("ahead", 1), ("examples", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} must be {least} or more, got {value}")


class PackedLoader(Iterator[PackedBatch]):
    """The stream of packed batches of one rank of a run; close it, or use it in a `with`, when done."""

    def __init__(
        self,
        maker: ExampleMaker,
        shares: Mapping[str, float],
        *,
        limits: PackLimits = STAGE2,
        shape: BatchShape | None = None,
        options: LoaderOptions | None = None,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        """Start at the first example.

        shares  how often each data set is drawn, by name, as `Mixture.shares(maker.sizes)` gives them.
        shape   to which sizes batches are filled up; by default full rows, and `BatchShape.of`'s crops.
        rank    of `ranks` processes of a run; each has its own part of the one stream.
        """
        self.maker, self.limits = maker, limits
        self.options = LoaderOptions() if options is None else options
        self.shape = BatchShape.of(limits, rows=self.options.rows) if shape is None else shape
        self._shares, self._rank, self._ranks = dict(shares), rank, ranks
        self._sampler = self._stream()
        self._packer = Packer(limits)
        self._backlog: deque[str] = deque()
        self._held: dict[str, PreparedExample] = {}
        self._offered = self._batches = 0
        self._failing: set[tuple[str, int]] = set()  # rows since the last good one
        self._bad: dict[str, set[int]] = {}
        self._results: Iterator[PreparedExample | Failure] | None = None
        self._state = self._now()

    def __next__(self) -> PackedBatch:
        """The next batch. Raises `ExampleError` for an example that fails, unless such are skipped."""
        try:
            if self._results is None:
                self._start()
            packs = list(islice(self._packs(), self.options.rows))
        except BaseException:
            self.close()  # what came behind the last batch is as if it had not been
            raise
        if not packs:
            raise StopIteration
        rows = [[self._held.pop(one.key) for one in pack.examples] for pack in packs]
        batch = pack_batch(rows, shape=self.shape, pad_id=self.maker.writer.codec.eos_id)
        self._batches += 1
        self._state = self._now()
        return batch

    def state(self) -> dict[str, Any]:
        """Where the loader was behind its last batch, as JSON values: a few kilobytes, and each bad row.

        Examples that are made ahead do not count: they are made again.
        """
        saved: dict[str, Any] = self._state.model_dump(mode="json")
        return saved

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on behind the batch that was the last when the state was taken; the next ones are the same.

        The examples that waited are made again when the next batch is asked for. ValueError, and nothing
        changed: the state is of another stream, other limits or another rank, or damaged.
        """
        saved = LoaderState.model_validate_json(json.dumps(state))
        if (saved.rank, saved.ranks) != (self._rank, self._ranks):
            raise ValueError(
                f"the saved loader is of another rank: expected {self._rank} of {self._ranks}, got "
                f"{saved.rank} of {saved.ranks}; make states for another number of ranks with `reshare`"
            )
        sampler, packer = self._stream(), Packer(self.limits)
        sampler.restore(saved.sampler)
        packer.restore(saved.packer)
        self.close()
        self._sampler, self._packer, self._backlog = sampler, packer, deque(saved.backlog)
        self._offered, self._batches = saved.offered, saved.batches
        self._held, self._bad, self._failing = {}, _as_sets(saved.bad_rows), set()
        self._state = saved

    @property
    def skipped(self) -> dict[str, int]:
        """How many rows failed and were left out so far, by data set."""
        return {name: len(rows) for name, rows in self._bad.items()}

    @property
    def held_bytes(self) -> int:
        """Memory of the pictures of the examples that wait to be packed, bytes."""
        return sum(example.nbytes for example in self._held.values())

    @property
    def most_bytes(self) -> int:
        """Bound on the memory of pictures at any time, bytes, were every example one of the most crops.

        The pool and the newcomer, the rows of a batch twice (apart and joined), and what the processes have
        made ahead, which lies in shared memory.
        """
        flags = self.maker.flags
        per_crop = 3 * flags.image_size_px**2
        ahead = self.options.processes * self.options.ahead
        examples = self.limits.pool + 1 + 2 * self.options.rows + ahead
        return examples * self.limits.max_crops * per_crop

    def close(self) -> None:
        """End the worker processes. A later batch starts new ones, and goes on behind the last batch."""
        if self._results is not None:
            self._results = None  # the last reference: torch ends its workers with it
            self._rewind()

    def __enter__(self) -> PackedLoader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _rewind(self) -> None:
        """Forget what came behind the last batch."""
        self._sampler, self._packer = self._stream(), Packer(self.limits)
        self._sampler.restore(self._state.sampler)
        self._packer.restore(self._state.packer)
        self._backlog = deque(self._state.backlog)
        self._offered = self._state.offered
        self._held, self._bad, self._failing = {}, _as_sets(self._state.bad_rows), set()

    def _now(self) -> LoaderState:
        return LoaderState(
            rank=self._rank,
            ranks=self._ranks,
            sampler=self._sampler.state(),
            packer=self._packer.state(),
            backlog=tuple(self._backlog),
            offered=self._offered,
            batches=self._batches,
            bad_rows={name: tuple(sorted(rows)) for name, rows in self._bad.items()},
        )

    def _stream(self) -> MixtureSampler:
        return MixtureSampler(
            self._shares, self.maker.sizes, seed=self.maker.seed, worker=self._rank, workers=self._ranks
        )

    def _start(self) -> None:
        """Set the processes to work, first on the examples that wait."""
        ahead = self._stream()
        ahead.restore(self._sampler.state())
        fresh: Iterator[ExampleKey] = chain(map(ExampleKey.parse, tuple(self._backlog)), ahead)
        if self.options.examples is not None:
            fresh = islice(fresh, max(0, self.options.examples - self._offered))
        waiting = self._packer.waiting
        keys = chain((ExampleKey.parse(one.key) for one in waiting), fresh)
        self._results = _made(self.maker, keys, self.options)
        for one in waiting:
            self._held[one.key] = self._again(one, next(self._results))

    def _again(self, saved: Candidate, made: PreparedExample | Failure) -> PreparedExample:
        if isinstance(made, Failure):
            raise ExampleError(f"{made}; it waited when the state was taken, so it cannot be left out now")
        if made.candidate != saved:
            raise ExampleError(
                f"example {saved.key} is not what it was when the state was taken: expected {saved.tokens} "
                f"tokens and {saved.crops} crops, got {made.tokens} and {made.crops}; go on with the data, "
                "the seed and the input settings of that run"
            )
        return made

    def _packs(self) -> Iterator[Pack]:
        for example in self._examples():
            found = self._packer.offer(example.candidate)
            if isinstance(found, TooLong):
                self._fail(self.maker.failure(example.key, found.reason))
                continue
            self._held[str(example.key)] = example
            self._failing.clear()
            if found is not None:
                yield found
        yield from self._packer.drain()

    def _examples(self) -> Iterator[PreparedExample]:
        assert self._results is not None
        most = self.options.examples
        while most is None or self._offered < most:
            key = ExampleKey.parse(self._backlog.popleft()) if self._backlog else next(self._sampler)
            made = next(self._results)
            self._offered += 1
            assert made.key == key, f"asked for {key}, got {made.key}"
            if isinstance(made, Failure):
                self._fail(made)
            else:
                yield made

    def _fail(self, failure: Failure) -> None:
        if not self.options.skip_failures:
            raise ExampleError(
                f"{str(failure).rstrip('.')}; mend the data, or leave such examples out (--skip-bad; "
                "skip_failures in Python)"
            )
        name, row = failure.key.dataset, failure.key.index
        self._failing.add((name, row))
        rows = sum(self.maker.sizes[name] for name in self._shares)
        if len(self._failing) == rows:
            others = f"and so it is with all {rows:,} rows" if rows > 1 else "it is the only row"
            raise ExampleError(f"{str(failure).rstrip('.')}; {others}: mend the data")
        if len(self._failing) > _MOST_FAILURES:
            raise ExampleError(
                f"{str(failure).rstrip('.')}; nor can {_MOST_FAILURES:,} rows before it: mend the data"
            )
        bad = self._bad.setdefault(name, set())
        if row not in bad:  # each epoch brings it again
            bad.add(row)
            logger.warning("left out: %s", failure)


def _as_sets(rows: Mapping[str, Iterable[int]]) -> dict[str, set[int]]:
    return {name: set(numbers) for name, numbers in rows.items()}


class _ByKey(Dataset[Any]):
    """What torch's workers run: a key in, an example or its failure out."""

    def __init__(self, maker: ExampleMaker) -> None:
        self._maker = maker

    def __getitem__(self, key: ExampleKey) -> PreparedExample | Failure:
        return self._maker.try_make(key)


def _made(
    maker: ExampleMaker, keys: Iterable[ExampleKey], options: LoaderOptions
) -> Iterator[PreparedExample | Failure]:
    """The examples of these keys, in order."""
    if options.processes == 0:
        return map(maker.try_make, keys)
    made: DataLoader[Any] = DataLoader(
        _ByKey(maker),
        batch_size=None,
        sampler=keys,
        num_workers=options.processes,
        prefetch_factor=options.ahead,
        multiprocessing_context=options.start_method,
        collate_fn=_as_it_is,
        worker_init_fn=serve_the_run,
        # Torch gives every worker a seed drawn from here, and otherwise from the generator that all share.
        generator=torch.Generator().manual_seed(maker.seed % 2**63),
    )
    with unheard_signals(options.start_method):
        return map(_own, iter(made))


def _as_it_is(item: ItemT) -> ItemT:
    return item


def _own(made: PreparedExample | Failure) -> PreparedExample | Failure:
    """A copy in this process's memory: shared memory is scarce, and a pool would fill it."""
    if isinstance(made, Failure):
        return made
    return replace(made, patches_CNP=made.patches_CNP.clone(), pooling_TK=made.pooling_TK.clone())
