"""`messages_of`: an update becomes the messages that say it, numbered topic by topic.

Publishers and recorders all say an update in these words, so that what was recorded is what was sent.
A topic is `molmo2/<stream name>/<kind>/`. Several questions of one kind share its topic and its `seq`; the
header's `question` (its name) and `query` (its words) tell them apart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from molmo2_ground.live.update import LiveTrack, Look, Update, WatchEvent
from molmo2_ground.messages import (
    BoundingBox2D,
    CountMessage,
    Detection,
    EventMessage,
    Header,
    MaskPart,
    MasksMessage,
    PointsMessage,
    Pose2D,
    Position2D,
    Result,
    TracksMessage,
)
from molmo2_ground.messages.kinds import Kind, PlaceMessage, topic_name
from molmo2_ground.query import Query
from molmo2_ground.results import Answer, Count, Mask, Points, State


def frame_name(source: str, frame_id: str | None = None) -> str:
    """The camera's optical frame, as in ROS. source: the stream's name as topics spell it."""
    return frame_id or f"{source}_optical_frame"


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """One message, and the kind that its topic is named for."""

    kind: Kind
    message: PlaceMessage

    def handed_over(self, pub_ns: int) -> Said:
        """The same, given to its socket or file at `pub_ns` (unix nanoseconds).

        Too late to act on by then, its status is `stale`.
        """
        late = pub_ns > self.message.header.valid_until_ns
        header = self.message.header.model_copy(
            update={"pub_ns": pub_ns, "status": "stale" if late else "ok"}
        )
        return replace(self, message=self.message.model_copy(update={"header": header}))


@dataclass(slots=True)
class Numbering:
    """What a row of messages remembers from one update to the next; one for each publisher or recorder.

    Not for several threads at once.
    """

    _seq: Counter[Kind] = field(default_factory=Counter)
    _dropped: dict[Kind, Counter[str]] = field(default_factory=dict)
    _left_out: Counter[str] = field(default_factory=Counter)
    _answered: set[tuple[str, Query | None]] = field(default_factory=set)
    _masked: set[str] = field(default_factory=set)

    def count_dropped(self, dropped: Mapping[str, int]) -> None:
        """Note pictures that were left out since the update before; every topic will tell them once."""
        self._left_out.update(dropped)

    def next(self, kind: Kind) -> tuple[int, dict[str, int]]:
        """The next message of this kind: its number from 0, and the pictures left out since the one before.

        The first of a kind tells all that were left out since this numbering began.
        """
        seq = self._seq[kind]
        self._seq[kind] += 1
        told = self._dropped.get(kind, Counter())
        self._dropped[kind] = Counter(self._left_out)
        return seq, dict(self._left_out - told)

    def note(self, update: Update, questions: Mapping[str, Query]) -> None:
        """Remember which questions have been answered and which have had masks."""
        told = [look.question for look in update.looks if look.result is not None]
        for name in (*told, *(track.question for track in update.tracks)):
            self._answered.add((name, questions.get(name)))
        self._masked.update(track.question for track in update.tracks if track.mask is not None)
        current = {(name, questions.get(name)) for name in (*questions, *told)}
        self._answered &= current | {
            (track.question, questions.get(track.question)) for track in update.tracks
        }
        self._masked &= {name for name, _ in self._answered}

    def answered(self, name: str, query: Query | None) -> bool:
        """Whether the model has ever said what there is, be it nothing."""
        return (name, query) in self._answered

    def masked(self, name: str) -> bool:
        """Whether things of this question have had masks."""
        return name in self._masked


def messages_of(
    update: Update,
    *,
    questions: Mapping[str, Query],
    numbering: Numbering,
    source: str | None = None,
    frame_id: str | None = None,
) -> Iterator[Said]:
    """Say an update: what is followed, then masks, then the answers that came in, then events.

    questions  what is asked for, by name.
    source     the stream's name, where it is to be another than the update's own.
    frame_id   the camera's optical frame, as in ROS; `<source>_optical_frame` without it.

    A question's tracks are said in every update from its first answer on, also when nothing is there: an
    empty list means that nothing was found, silence that the model has not answered. Its masks are said
    likewise from the first mask on. Points and counts are said once, when the answer comes in, under the
    stamp of the picture that they are of. `ask` has a topic only for points in its answer, none for its text.
    `pub_ns` is the time the update was made until `Said.handed_over` fills it in; take all of the iterator.
    """
    speaker = _Speaker(update, questions, numbering, topic_name(source or update.source), frame_id)
    numbering.count_dropped(update.dropped)
    numbering.note(update, questions)
    yield from speaker.tracks()
    yield from speaker.masks()
    for look in update.looks:
        yield from speaker.look(look)
    for event in update.events:
        yield speaker.event(event)


class _Speaker:
    """The messages of one update."""

    def __init__(
        self,
        update: Update,
        questions: Mapping[str, Query],
        numbering: Numbering,
        source: str,
        frame_id: str | None,
    ) -> None:
        self._update, self._questions, self._numbering = update, questions, numbering
        self._source, self._frame_id = source, frame_name(source, frame_id)
        tracked = (name for name, query in questions.items() if query.task == "track")
        # Things of a question that has just been removed are still there: they are said, without its words.
        self._tracked = tuple(dict.fromkeys((*tracked, *(track.question for track in update.tracks))))

    def tracks(self) -> Iterator[Said]:
        for name in self._tracked:
            if self._numbering.answered(name, self._questions.get(name)):
                detections = tuple(_tracked(track) for track in self._update.of(name))
                header = self._header("tracks", TracksMessage.SCHEMA, name)
                yield Said(kind="tracks", message=TracksMessage(header=header, detections=detections))

    def masks(self) -> Iterator[Said]:
        for name in self._tracked:
            if self._numbering.masked(name):
                parts = tuple(_mask(track.mask) for track in self._update.of(name) if track.mask is not None)
                header = self._header("masks", MasksMessage.SCHEMA, name)
                yield Said(kind="masks", message=MasksMessage(header=header, masks=parts))

    def look(self, look: Look) -> Iterator[Said]:
        result = look.result.points if isinstance(look.result, Answer) else look.result
        if isinstance(result, Points):
            header = self._look_header("points", PointsMessage.SCHEMA, look, result.receipt.size_px)
            detections = tuple(
                _detection(
                    str(point.object_id),
                    point.label,
                    Position2D(x=point.x_px, y=point.y_px),
                    state=point.state,
                    seen_ns=(look.stamp_ns, look.stamp_ns),
                )
                for point in result
            )
            yield Said(kind="points", message=PointsMessage(header=header, detections=detections))
        elif isinstance(result, Count):
            header = self._look_header("count", CountMessage.SCHEMA, look, result.receipt.size_px)
            places = tuple(Position2D(x=point.x_px, y=point.y_px) for point in result.points)
            message = CountMessage(header=header, value=result.value, stated=result.stated, points=places)
            yield Said(kind="count", message=message)

    def event(self, event: WatchEvent) -> Said:
        header = self._header("events", EventMessage.SCHEMA, event.question).model_copy(
            update={"stamp_ns": event.stamp_ns, "source_index": event.source_index}
        )
        message = EventMessage(
            header=header,
            name=event.watch,
            at_ns=event.stamp_ns,
            event=event.event.model_dump(mode="json"),
            receipt_of=event.receipt_of,
            clip=event.clip,
        )
        return Said(kind="events", message=message)

    def _look_header(self, kind: Kind, schema: str, look: Look, size_px: tuple[int, int]) -> Header:
        """The header of an answer about a picture that is usually older than the update's.

        Stamps of both pictures tell how much older; it may be used for so much less, and is so much older.
        """
        capture = self._update.capture
        earlier_ns = capture.stamp_ns - look.stamp_ns
        same_clock = (look.clock, look.stamped_by) == (capture.clock, capture.stamped_by)
        if not same_clock or (look.epoch != capture.epoch and capture.clock != "unix"):
            # Another connection's clock may have begun elsewhere; the times of arrival can be compared.
            earlier_ns = capture.recv_ns - look.recv_ns
        return self._header(kind, schema, look.question).model_copy(
            update={
                "stamp_ns": look.stamp_ns,
                "source_index": look.source_index,
                "epoch": look.epoch,
                "clock": look.clock,
                "stamped_by": look.stamped_by,
                "recv_ns": look.recv_ns,
                "infer_ns": look.answered_ns,
                "age_ms": self._update.age_ms + earlier_ns / 1e6,
                "valid_until_ns": self._update.valid_until_ns - earlier_ns,
                "size_px": size_px,
            }
        )

    def _header(self, kind: Kind, schema: str, question: str) -> Header:
        update, capture = self._update, self._update.capture
        seq, dropped = self._numbering.next(kind)
        query = self._questions.get(question)
        return Header(
            schema_=schema,
            source=self._source,
            seq=seq,
            epoch=capture.epoch,
            stamp_ns=capture.stamp_ns,
            clock=capture.clock,
            stamped_by=capture.stamped_by,
            recv_ns=capture.recv_ns,
            infer_ns=update.made_ns,
            pub_ns=update.made_ns,
            frame_id=self._frame_id,
            source_index=capture.index,
            size_px=update.size_px,
            age_ms=update.age_ms,
            dropped_since_last=dropped,
            query="" if query is None else query.phrase,
            question=question,
            status="stale" if update.stale else "ok",
            valid_until_ns=update.valid_until_ns,
        )


def _tracked(track: LiveTrack) -> Detection:
    return _detection(
        str(track.object_id),
        track.label,
        Position2D(x=track.x_px, y=track.y_px),
        state=track.state,
        seen_ns=(track.observed_ns, track.born_ns),
        mask=track.mask,
    )


def _detection(
    name: str,
    label: str,
    point: Position2D,
    *,
    state: State,
    seen_ns: tuple[int, int],
    mask: Mask | None = None,
) -> Detection:
    box = None if mask is None else mask.rle.box_px
    if box is None:
        around = BoundingBox2D(center=Pose2D(position=point))
    else:
        left, top, right, bottom = box
        middle = Position2D(x=(left + right) / 2, y=(top + bottom) / 2)
        around = BoundingBox2D(center=Pose2D(position=middle), size_x=right - left, size_y=bottom - top)
    return Detection(
        id=name,
        results=(Result(class_id=label),),
        bbox=around,
        point=point,
        state=state,
        observed_ns=seen_ns[0],
        born_ns=seen_ns[1],
    )


def _mask(mask: Mask) -> MaskPart:
    return MaskPart(id=str(mask.object_id), counts=mask.counts, state=mask.state, flags=mask.flags)
