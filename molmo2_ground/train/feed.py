"""What feeds a training run: `Loader` and its batches, whose place in the data can be saved and found again.

A step takes one micro-batch or several. Each says which examples it holds, for error reports, and how much
they weigh, so that a loss can be divided by the weights of the whole step.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from molmo2_ground.errors import TrainingError
from molmo2_ground.train.data_worker import serve_the_run, unheard_signals

if TYPE_CHECKING:
    from collections.abc import Callable

# What `json.dumps` writes and `json.loads` gives back unchanged; mappings have strings as keys.
Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]

DataT = TypeVar("DataT")
DataT_co = TypeVar("DataT_co", covariant=True)


class TrainBatch(Protocol):
    """A micro-batch: what else it holds is between the loader and the loss.

    keys        the examples in it, by names from which they can be made again.
    weight_sum  the weights of all its learnt tokens together; 1.0 where a loss is a mean already.
    """

    @property
    def keys(self) -> Sequence[str]:
        """Names of the examples."""
        ...

    @property
    def weight_sum(self) -> float:
        """The weights of the learnt tokens."""
        ...


BatchT = TypeVar("BatchT", bound=TrainBatch)
BatchT_co = TypeVar("BatchT_co", bound=TrainBatch, covariant=True)


class Loader(Protocol[BatchT_co]):
    """An iterator of micro-batches that knows where it is.

    After `restore(loader.state())`, in any process, the next batches are the same to the byte.
    """

    def __next__(self) -> BatchT_co: ...

    def state(self) -> Mapping[str, Json]:
        """The place after the batch that was given out last, whatever has been prepared beyond it."""
        ...

    def restore(self, state: Mapping[str, Json]) -> None:
        """Go on at a saved place."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class KeyedBatch(Generic[DataT]):
    """A batch of any kind with the names of its examples and their weight."""

    data: DataT
    keys: tuple[str, ...]
    weight_sum: float = 1.0


class NumberedBatches(Protocol[DataT_co]):
    """Batch number n made from nothing but n, such as the toy street's."""

    def __len__(self) -> int: ...
    def __getitem__(self, step: int) -> DataT_co: ...


class NumberedLoader(Generic[DataT]):
    """Hands out numbered batches in order; its state is the next number.

    name       of the data: key n is `name:n`.
    workers    processes that make batches ahead of time; 0 makes each one when it is asked for.
    prefetch   batches that each worker makes ahead.
    prepare    done to each batch by the process that makes it; `on_device.tensors` lets arrays come through
               shared memory instead of a pipe.
    weight_of  the weight of one batch; None for losses that are means of their batch.
    pin        copy batches to page-locked memory, from where a GPU takes them without waiting; works for
               tensors and containers of tensors.
    """

    def __init__(
        self,
        batches: NumberedBatches[DataT],
        *,
        name: str,
        workers: int = 0,
        prefetch: int = 4,
        prepare: Callable[[DataT], DataT] | None = None,
        weight_of: Callable[[DataT], float] | None = None,
        pin: bool = False,
    ) -> None:
        self.batches = _PreparedBatches(batches, prepare)
        self.name = name
        self.workers, self.prefetch, self.pin = workers, prefetch, pin
        self._weight_of = weight_of
        self._next = 0
        self._source: Iterator[DataT] | None = None

    def __next__(self) -> KeyedBatch[DataT]:
        if self._next >= len(self.batches):
            raise StopIteration
        if self._source is None:
            self._source = self._from(self._next)
        data = next(self._source)
        number, self._next = self._next, self._next + 1
        weight = 1.0 if self._weight_of is None else self._weight_of(data)
        return KeyedBatch(data=data, keys=(f"{self.name}:{number}",), weight_sum=weight)

    def state(self) -> dict[str, Json]:
        """The name of the data and the number of the next batch."""
        return {"name": self.name, "next": self._next}

    def restore(self, state: Mapping[str, Json]) -> None:
        """Go on at a saved number. `TrainingError`: it is of other data."""
        number = state.get("next")
        if state.get("name") != self.name or not isinstance(number, int):
            raise TrainingError(
                f"the saved loader is of other data: expected a place in {self.name}, got {dict(state)}; "
                "go on with the data it was saved with, or start in another folder"
            )
        self._next, self._source = number, None

    def _from(self, start: int) -> Iterator[DataT]:
        if not self.workers:
            return (self.batches[number] for number in range(start, len(self.batches)))
        import torch
        from torch.utils.data import DataLoader

        loader: DataLoader[Any] = DataLoader(
            self.batches,  # type: ignore[arg-type]  # anything with a length and an index will do
            batch_size=None,
            sampler=range(start, len(self.batches)),
            num_workers=self.workers,
            prefetch_factor=self.prefetch,
            pin_memory=self.pin,
            worker_init_fn=serve_the_run,
            # Torch draws the seed of its workers from here, and otherwise from the generator that all share.
            generator=torch.Generator(),
        )
        with unheard_signals():
            return iter(loader)


class _PreparedBatches(Generic[DataT]):
    def __init__(self, batches: NumberedBatches[DataT], prepare: Callable[[DataT], DataT] | None) -> None:
        self._batches, self._prepare = batches, prepare

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, step: int) -> DataT:
        batch = self._batches[step]
        return batch if self._prepare is None else self._prepare(batch)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Prepared(Generic[BatchT]):
    batch: BatchT
    state: Mapping[str, Json]


class PrefetchedLoader(Generic[BatchT]):
    """Lets a loader run ahead in a thread, `depth` batches at most; the place it tells is the consumer's.

    prepare  done to each batch in the thread, such as pinning its memory or copying it to the GPU.
    An error of the loader is raised where its batch would have come.
    """

    def __init__(
        self, loader: Loader[BatchT], *, depth: int = 2, prepare: Callable[[BatchT], BatchT] | None = None
    ) -> None:
        if depth < 1:
            raise ValueError(f"depth must be 1 or more, got {depth}")
        self._loader, self._depth, self._prepare = loader, depth, prepare
        self._state: Mapping[str, Json] = dict(loader.state())
        self._ready: queue.Queue[_Prepared[BatchT] | BaseException] = queue.Queue(maxsize=depth)
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def __next__(self) -> BatchT:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="prefetch", daemon=True)
            self._thread.start()
        item = self._ready.get()
        if isinstance(item, BaseException):
            self.close()
            raise item
        self._state = item.state
        return item.batch

    def state(self) -> Mapping[str, Json]:
        """The place after the batch that was given out last."""
        return self._state

    def restore(self, state: Mapping[str, Json]) -> None:
        """Drop what was prepared and go on at a saved place."""
        self.close()
        self._loader.restore(state)
        self._state = dict(state)

    def close(self) -> None:
        """Stop the thread. The loader may be ahead of `state()`: restore before it is used again."""
        if self._thread is None:
            return
        self._stopped.set()
        while self._thread.is_alive():
            self._drop_one()
            self._thread.join(timeout=0.05)
        self._thread = None
        self._stopped.clear()
        self._ready = queue.Queue(maxsize=self._depth)

    def _drop_one(self) -> None:
        try:
            self._ready.get_nowait()
        except queue.Empty:
            return

    def _run(self) -> None:
        try:
            while not self._stopped.is_set():
                batch = next(self._loader)
                state = dict(self._loader.state())
                batch = batch if self._prepare is None else self._prepare(batch)
                self._ready.put(_Prepared(batch=batch, state=state))
        except BaseException as error:  # whatever it is, the consumer is to see it
            self._ready.put(error)
