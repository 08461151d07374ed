"""`ReplayedLoader`: a new batch every so many steps, and in between one of the last new ones again.

For a device that is faster than the processes that make its batches.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic

import numpy as np

from molmo2_ground.errors import TrainingError
from molmo2_ground.train.feed import BatchT, Json, Loader


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Kept(Generic[BatchT]):
    """A batch, and the place in the data before it."""

    batch: BatchT
    before: Mapping[str, Json]


class ReplayedLoader(Generic[BatchT]):
    """Gives each new batch once, then `uses - 1` draws from the last `kept` new ones, this one among them.

    new      where new batches come from.
    seed     with the number of the step, all that a draw depends on.
    prepare  done once to each new batch, such as copying it to the device, where it is kept.

    The state holds no batch: after `restore` the kept ones are made again when the next one is asked for.
    """

    def __init__(
        self,
        new: Loader[BatchT],
        *,
        uses: int = 1,
        kept: int = 64,
        seed: int = 0,
        prepare: Callable[[BatchT], BatchT] | None = None,
    ) -> None:
        for name, value, least in (("uses", uses, 1), ("kept", kept, 1), ("seed", seed, 0)):
            if value < least:
                raise ValueError(f"{name} must be {least} or more, got {value}")
        self.uses, self.kept, self.seed = uses, kept, seed
        self._new, self._prepare = new, prepare
        self._given = 0
        self._pool: deque[_Kept[BatchT]] = deque(maxlen=kept)
        self._to_remake = 0

    def __next__(self) -> BatchT:
        while self._to_remake:
            self._take()
            self._to_remake -= 1
        if self._given % self.uses == 0:
            batch = self._take()
        else:
            rng = np.random.default_rng([self.seed, self._given])
            batch = self._pool[int(rng.integers(len(self._pool)))].batch
        self._given += 1
        return batch

    def _take(self) -> BatchT:
        before = dict(self._new.state())
        batch = next(self._new)
        batch = batch if self._prepare is None else self._prepare(batch)
        if self.uses > 1:
            self._pool.append(_Kept(batch=batch, before=before))
        return batch

    def state(self) -> dict[str, Json]:
        """How many were given out, and the place in the data before the oldest kept batch."""
        oldest = self._pool[0].before if self._pool else self._new.state()
        return {
            "uses": self.uses,
            "kept": self.kept,
            "seed": self.seed,
            "given": self._given,
            "remake": len(self._pool) + self._to_remake,
            "new": dict(oldest),
        }

    def restore(self, state: Mapping[str, Json]) -> None:
        """Go on at a saved place. `TrainingError`: it was saved with other settings, or is damaged."""
        mine = {"uses": self.uses, "kept": self.kept, "seed": self.seed}
        given, remake, new = state.get("given"), state.get("remake"), state.get("new")
        whole = isinstance(given, int) and isinstance(remake, int) and isinstance(new, Mapping)
        if not whole or {name: state.get(name) for name in mine} != mine:
            raise TrainingError(
                f"the saved loader uses batches otherwise: expected {mine}, got {dict(state)}; go on with "
                "the settings it was saved with, or start in another folder"
            )
        assert isinstance(given, int)
        assert isinstance(remake, int)
        assert isinstance(new, Mapping)
        self._new.restore(new)
        self._given, self._to_remake = given, remake
        self._pool.clear()
