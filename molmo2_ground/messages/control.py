"""Requests to a running stream and its replies: add, change and remove questions, ask how it is.

One JSON object a request, told apart by `do`; one `ControlReply` for each, with the request's `id`.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, TypeAdapter

from molmo2_ground.messages.health import HealthMessage
from molmo2_ground.messages.part import Part
from molmo2_ground.messages.places import CountMessage, MasksMessage, PointsMessage, TracksMessage
from molmo2_ground.query import Query, Task

RequestSchema = Literal["molmo2-ground/control-request/1"]
ReplySchema = Literal["molmo2-ground/control-reply/1"]

RequestId = Annotated[str, Field(max_length=64)]
QuestionName = Annotated[str, Field(min_length=1, max_length=2100)]  # a question may be named by its words


class Question(Part):
    """What is asked for: `molmo2_ground.Query`, as far as it makes sense of a stream."""

    task: Task
    phrase: Annotated[str, Field(min_length=1, max_length=2000)]
    fps: float | None = None
    max_objects: Annotated[int, Field(ge=1)] | None = None

    @classmethod
    def of(cls, query: Query) -> Self:
        """The same as a message."""
        fps = query.fps if query.task == "track" else None
        return cls(task=query.task, phrase=query.phrase, fps=fps, max_objects=query.max_objects)

    def to_query(self) -> Query:
        """The same as a query. Raises `ValueError` when it makes none (no words, fps out of range)."""
        plain = Query(task=self.task, phrase=self.phrase, max_objects=self.max_objects)
        if self.fps is None:
            return plain
        return Query(task=self.task, phrase=self.phrase, fps=self.fps, max_objects=self.max_objects)


class ControlRequest(Part):
    """What all requests have: an id of the client's choice, which the reply repeats."""

    schema_: RequestSchema = Field(default="molmo2-ground/control-request/1", alias="schema")
    id: RequestId = ""


class AddRequest(ControlRequest):
    """Ask one more question, under a name of its own; the reply tells the name."""

    do: Literal["add"] = "add"
    query: Question
    name: QuestionName | None = None


class ChangeRequest(ControlRequest):
    """Ask something else under a name that is there."""

    do: Literal["change"] = "change"
    name: QuestionName
    query: Question


class RemoveRequest(ControlRequest):
    """Ask a question no longer."""

    do: Literal["remove"] = "remove"
    name: QuestionName


class QuestionsRequest(ControlRequest):
    """Tell what is asked now."""

    do: Literal["questions"] = "questions"


class StatusRequest(ControlRequest):
    """Tell how the stream is: the reply's `health`."""

    do: Literal["status"] = "status"


class SnapshotRequest(ControlRequest):
    """Tell what is known now: the reply's `messages`."""

    do: Literal["snapshot"] = "snapshot"


class PingRequest(ControlRequest):
    """Tell the time: the reply's `at_ns`."""

    do: Literal["ping"] = "ping"


AnyRequest = Annotated[
    AddRequest
    | ChangeRequest
    | RemoveRequest
    | QuestionsRequest
    | StatusRequest
    | SnapshotRequest
    | PingRequest,
    Field(discriminator="do"),
]
REQUEST: TypeAdapter[AnyRequest] = TypeAdapter(AnyRequest)


class ControlReply(Part):
    """What came of a request.

    id         of the request; empty when it had none that could be read.
    ok, error  whether it was done, and why not.
    at_ns      unix nanoseconds by the server's clock at which it answered.
    name       of the question that was added, changed or removed.
    questions  what is asked now, by name; to `questions`, `add`, `change` and `remove`.
    health     to `status`.
    messages   to `snapshot`: tracks and masks of the newest picture, and answers that came with it. Their
               `seq` counts within the reply. None when no picture has come yet.
    """

    schema_: ReplySchema = Field(default="molmo2-ground/control-reply/1", alias="schema")
    id: str = ""
    ok: bool
    error: str = ""
    at_ns: int
    name: str | None = None
    questions: dict[str, Question] | None = None
    health: HealthMessage | None = None
    messages: tuple[TracksMessage | MasksMessage | PointsMessage | CountMessage, ...] | None = None
