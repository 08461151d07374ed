"""`LedgerEntry`: what became of an identity, and why; nothing is born, joined or lost without one."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

LedgerKind = Literal["birth", "return", "merge", "death"]


class LedgerEntry(BaseModel):
    """One change of identity.

    kind       `birth`: a new id. `return`: an id that was out of sight, across a gap or a reconnect, is taken
               up again. `merge`: two ids turned out to be one; `into` is the one that stays. `death`: the id
               is given up and never used again.
    stamp_ns   of the picture that shows it, by the source's clock; source_index: its number.
    reason     why, with the figures that decided it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: LedgerKind
    object_id: int
    question: str
    stamp_ns: int
    source_index: int
    reason: str
    into: int | None = None
