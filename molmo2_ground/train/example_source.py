"""`ExampleMaker`: makes any example of any data set again, from its key and a seed alone.

A data set is anything that obeys `ExampleSource`: it knows how many examples it has and gives one's message
tree and what is looked at. `RowSource` makes one of rows on disk.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from molmo2_ground.errors import GroundError
from molmo2_ground.train.example import CropRule, PreparedExample, prepare_example
from molmo2_ground.train.mixture import ExampleKey, example_rng

if TYPE_CHECKING:
    from molmo2_ground.clip import Clip
    from molmo2_ground.model.flags import InputFlags
    from molmo2_ground.train.rows import Row
    from molmo2_ground.train.tree import BranchWriter, MessageTree


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ExampleParts:
    """A message tree and what it is about; clip is None, or has no frames, for text alone."""

    tree: MessageTree
    clip: Clip | None


class ExampleSource(Protocol):
    """A data set: so many examples, each made from its number and a generator, and from nothing else."""

    def __len__(self) -> int: ...

    def parts(self, index: int, *, rng: np.random.Generator) -> ExampleParts:
        """Example `index`; `rng` is all the chance there may be in it."""
        ...

    def name_of(self, index: int) -> str:
        """What the data set itself calls the example (a row's id), for messages."""
        ...


class ExampleError(GroundError):
    """An example that cannot be made; the message names data set, index, row and reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An example that could not be made or packed.

    row     what the data set calls it. reason: what went wrong, in words.
    """

    key: ExampleKey
    row: str
    reason: str

    def __str__(self) -> str:
        return (
            f"example {self.key.index} of {self.key.dataset}, row {self.row} (epoch {self.key.epoch}), "
            f"cannot be trained on: {self.reason}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleMaker:
    """Makes prepared examples from keys; the same bytes in every process.

    sources     the data sets by name; each is read in whatever process makes its examples.
    seed        with the key, all that an example's chances come from.
    max_tokens  of one example; whole branches are left out of a longer one.
    crops       how still images are cut, by data set; `CropRule()` for one that is not named.
    """

    sources: Mapping[str, ExampleSource]
    writer: BranchWriter
    flags: InputFlags
    seed: int
    max_tokens: int
    crops: Mapping[str, CropRule] = field(default_factory=dict)

    def __post_init__(self) -> None:
        unknown = sorted(set(self.crops) - set(self.sources))
        if unknown:
            raise ValueError(
                f"expected crop rules for {sorted(self.sources)} at most, got some for {unknown}"
            )

    @property
    def sizes(self) -> dict[str, int]:
        """Examples of each data set, for `Mixture.shares` and `MixtureSampler`."""
        return {name: len(source) for name, source in self.sources.items()}

    def make(self, key: ExampleKey) -> PreparedExample:
        """The example of this key. Raises what its data set raises, and `ValueError` when it fits no row."""
        rng = example_rng(self.seed, key)
        parts = self.sources[key.dataset].parts(key.index, rng=rng)
        # A generator of its own, so that what the data set draws and how it is cut stay independent.
        cut = self.crops.get(key.dataset, CropRule()).draw(
            parts.clip, example_rng(self.seed, key, purpose="crops")
        )
        return prepare_example(
            key,
            parts.tree,
            parts.clip,
            writer=self.writer,
            flags=self.flags,
            max_tokens=self.max_tokens,
            max_crops=cut,
        )

    def try_make(self, key: ExampleKey) -> PreparedExample | Failure:
        """The example, or why there is none."""
        try:
            return self.make(key)
        # Whatever a reader of foreign files raises is one example's failure, and it is handed on by name.
        except Exception as error:
            return self.failure(key, f"{type(error).__name__}: {' '.join(str(error).split())}")

    def failure(self, key: ExampleKey, reason: str) -> Failure:
        """Say of an example why it cannot be trained on."""
        try:
            row = self.sources[key.dataset].name_of(key.index)
        except Exception as error:  # the row itself may be what cannot be read
            row = f"unknown ({type(error).__name__})"
        return Failure(key=key, row=row, reason=reason)


class Rows(Protocol):
    """Rows by number: a `RowFolder`, or a list."""

    def __len__(self) -> int: ...
    def __getitem__(self, number: int, /) -> Row: ...


class HasTree(Protocol):
    """What `row_tree` makes of a row: a message tree, and whatever else."""

    @property
    def tree(self) -> MessageTree:
        """What is learnt."""
        ...


class TreeOfRow(Protocol):
    """Makes a row's tree of the row and what is shown of it."""

    def __call__(self, row: Row, clip: Clip | None, /, *, rng: np.random.Generator) -> HasTree:
        """`rng` is all the chance there may be in it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RowSource:
    """A data set of rows: how a row's clip is opened and how its tree is made are handed in.

        RowSource(rows=folder, open_clip=partial(open_row_clip, folder=path),
                  make_tree=partial(row_tree, codec=codec, flags=flags))

    To be sent to processes that do not start as a copy of this one, all three must be picklable.
    """

    rows: Rows
    open_clip: Callable[[Row], Clip | None]
    make_tree: TreeOfRow

    def __len__(self) -> int:
        return len(self.rows)

    def parts(self, index: int, *, rng: np.random.Generator) -> ExampleParts:
        """The row's tree and clip."""
        row = self.rows[index]
        clip = self.open_clip(row)
        return ExampleParts(tree=self.make_tree(row, clip, rng=rng).tree, clip=clip)

    def name_of(self, index: int) -> str:
        """The row's id."""
        return self.rows[index].row_id
