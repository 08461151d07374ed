"""`Part`: what all messages and their parts have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Part(BaseModel):
    """Frozen, no unknown fields, no infinite numbers; survives JSON unchanged.

    In JSON a field `schema_` is called `schema`, which pydantic keeps for itself.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, serialize_by_alias=True, validate_by_name=True
    )
