"""JSON Schemas of all messages, as files beside this one, for whoever reads them without this package.

`python -m molmo2_ground.messages.schemas` writes them anew from the models, with `--check` it tells which
differ.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter

from molmo2_ground.messages.camera import CameraMessage
from molmo2_ground.messages.control import AnyRequest, ControlReply
from molmo2_ground.messages.kinds import MODEL_OF

FOLDER = Path(__file__).parent

_DIALECT = "https://json-schema.org/draft/2020-12/schema"

MODELS: dict[str, type[BaseModel] | Any] = {
    **{model.SCHEMA: model for model in MODEL_OF.values()},
    CameraMessage.SCHEMA: CameraMessage,
    "molmo2-ground/control-request/1": AnyRequest,
    "molmo2-ground/control-reply/1": ControlReply,
}
"""By the message's own `schema`: its model."""


def schema_file(name: str) -> Path:
    """`molmo2-ground/live-tracks/1` -> its file `live-tracks.1.json`."""
    _, kind, version = name.split("/")
    return FOLDER / f"{kind}.{version}.json"


def make_schema(name: str) -> dict[str, Any]:
    """The schema that a model gives. Raises `KeyError` for a message that there is not."""
    made = TypeAdapter(MODELS[name]).json_schema(by_alias=True, mode="validation")
    return {"$schema": _DIALECT, "$id": name, **made}


def schema_text(name: str) -> str:
    """The same as its file holds it."""
    return json.dumps(make_schema(name), indent=1, ensure_ascii=False) + "\n"
