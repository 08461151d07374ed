"""`molmo2-ground echo`: what a publisher sends, for people or as lines of JSON."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from molmo2_ground._amount import amount
from molmo2_ground._cli_output import say

if TYPE_CHECKING:
    from molmo2_ground.grounder import Grounder
    from molmo2_ground.integrations.zeromq import Received, Subscriber
    from molmo2_ground.integrations.zeromq.topic_log import TopicLog
    from molmo2_ground.messages import Detection
    from molmo2_ground.messages.kinds import Kind, Message

Loader = Callable[..., "Grounder"]

_QUIET_S = 5.0  # seconds without a message after which echo says why that may be
_AGAIN_S = 60.0  # … and says so again, when nothing has changed
_WAIT_S = 0.5
_RATE_OVER = 20  # messages
_MOST_NAMED = 3


def add_parser(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], *, common: argparse.ArgumentParser
) -> None:
    """Add `echo`."""
    words = "print what a publisher sends, with its rate, age and gaps"
    parser = commands.add_parser("echo", help=words, description=words.capitalize() + ".", parents=[common])
    parser.add_argument("address", metavar="ADDRESS", help="such as tcp://127.0.0.1:5556")
    parser.add_argument(
        "topic",
        metavar="TOPIC",
        nargs="?",
        help="tracks, points, count, masks, events or health; or STREAM or STREAM/KIND (default: everything)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object a message")
    parser.add_argument("--count", metavar="N", type=int, help="end after N messages")
    parser.add_argument("--seconds", metavar="S", type=float, help="end after so many seconds")
    parser.add_argument("--key", metavar="FILE", type=Path, help="our NAME.key_secret")
    parser.add_argument("--server-key", metavar="FILE", type=Path, help="the publisher's server.key")
    parser.set_defaults(call=echo)


def echo(arguments: argparse.Namespace, loader: Loader | None) -> int:
    """`echo ADDRESS [TOPIC]`; exit 1 when nothing came in the time given, 130 after Ctrl-C."""
    from molmo2_ground.integrations.zeromq import ClientKeys, Subscriber

    if (arguments.key is None) != (arguments.server_key is None):
        raise ValueError("--key and --server-key go together: our own keys, and the publisher's public one")
    if arguments.count is not None and arguments.count < 1:
        raise ValueError(f"--count is at least 1; got {arguments.count}")
    if arguments.seconds is not None and not 0 < arguments.seconds < float("inf"):
        raise ValueError(f"--seconds is above 0; got {arguments.seconds:g}")
    keys = None if arguments.key is None else ClientKeys.load(arguments.key, arguments.server_key)
    stream, kinds = _topic(arguments.topic)
    with Subscriber(arguments.address, stream=stream, kinds=kinds, keys=keys, keep="every") as subscriber:
        printer = _Printer(arguments.address, as_json=arguments.json, quiet=arguments.quiet)
        code = 0
        try:
            _print_all(subscriber, printer, arguments)
        except KeyboardInterrupt:
            code = 130
        if not arguments.quiet:
            for line in printer.summary(subscriber):
                say(line)
        return code if printer.printed or code else 1


def _print_all(subscriber: Subscriber, printer: _Printer, arguments: argparse.Namespace) -> None:
    until = None if arguments.seconds is None else time.monotonic() + arguments.seconds
    while arguments.count is None or printer.printed < arguments.count:
        left_s = _WAIT_S if until is None else min(_WAIT_S, until - time.monotonic())
        if left_s <= 0:
            return
        received = subscriber.receive(left_s, stale_too=True)
        if received is None:
            printer.wonder(subscriber)
        else:
            printer.print(received)


class _Printer:
    """Prints messages, and says what may be wrong when none come."""

    def __init__(self, address: str, *, as_json: bool, quiet: bool) -> None:
        self._address, self._as_json, self._quiet = address, as_json, quiet
        self._seen_s: dict[tuple[str, Kind], deque[float]] = {}
        self._since_s = time.monotonic()
        self._said, self._said_at_s = "", 0.0
        self.printed = 0

    def print(self, received: Received) -> None:
        self._since_s, self._said = time.monotonic(), ""
        seen_s = self._seen_s.setdefault((received.stream, received.kind), deque(maxlen=_RATE_OVER + 1))
        seen_s.append(self._since_s)
        self.printed += 1
        if self._as_json:
            from molmo2_ground.messages.kinds import topic_of

            body = json.dumps(received.message.model_dump(mode="json", by_alias=True), ensure_ascii=False)
            topic = json.dumps(topic_of(received.stream, received.kind))
            line = f'{{"topic": {topic}, "lost": {received.lost}, "message": {body}}}\n'
            sys.stdout.buffer.write(line.encode())
        else:
            print(message_line(received, hz=_rate(seen_s)))
        sys.stdout.flush()

    def wonder(self, subscriber: Subscriber) -> None:
        """After a while without a message, say why that may be."""
        quiet_s = time.monotonic() - self._since_s
        if self._quiet or quiet_s < _QUIET_S:
            return
        why = why_nothing(subscriber, self._address)
        if why != self._said or quiet_s - self._said_at_s >= _AGAIN_S:
            self._said, self._said_at_s = why, quiet_s
            say(f"nothing came for {quiet_s:.0f} s: {why}")

    def summary(self, subscriber: Subscriber) -> list[str]:
        """What came in all, a line a topic."""
        if not self.printed:
            return [f"nothing came: {why_nothing(subscriber, self._address)}"]
        lines = [
            _log_line(stream, kind, log)
            for (stream, kind), log in sorted(subscriber.logs.items())
            if (stream, kind) in self._seen_s
        ]
        if subscriber.unreadable:
            lines.append(f"no messages of ours: {subscriber.unreadable}")
        return lines


def why_nothing(subscriber: Subscriber, address: str) -> str:
    """The likeliest reason that no message comes, as far as the connection tells."""
    if subscriber.link == "connecting" and subscriber.reached:
        return (
            f"something is there at {address} and does not speak ZeroMQ: another program, or a publisher "
            "that hangs; is this the address that `stream --publish` told?"
        )
    if subscriber.link == "connecting":
        return f"nobody answers at {address}; is the publisher running, and this its address?"
    if subscriber.link == "refused":
        return (
            f"{address} does not let us in: it wants keys (--key, --server-key), and got none, others or "
            "ones not on its list; or it is no publisher of ours"
        )
    if subscriber.alive:
        return "the publisher is alive and says nothing of this topic"
    return "connected, and nothing is sent, not even a heartbeat; is the stream's name right?"


def message_line(received: Received, *, hz: float | None = None) -> str:
    """`cam/tracks 12 people: 2 things, person 1 at (160, 90), … | 2.0 Hz, age 43 ms, 742 B, lost 3`."""
    from molmo2_ground.messages import HealthMessage

    message = received.message
    facts = [] if hz is None else [f"{hz:.1f} Hz"]
    if isinstance(message, HealthMessage):
        seq, asked = message.seq, ""
        at_ns = message.pub_ns
    else:
        header = message.header
        seq, asked = header.seq, f" {header.question}:"
        at_ns = header.pub_ns
        age_ms = (time.time_ns() - header.stamp_ns) / 1e6 if header.clock == "unix" else header.age_ms
        facts.append(f"age {age_ms:.0f} ms")
        facts += [f"dropped {number} {reason}" for reason, number in header.dropped_since_last.items()]
        facts += ["STALE"] if header.status == "stale" or time.time_ns() > header.valid_until_ns else []
    facts.append(f"{received.nbytes} B")
    facts += [f"LOST {received.lost}"] if received.lost else []
    at = datetime.fromtimestamp(at_ns / 1e9).strftime("%H:%M:%S.%f")[:-3]
    return f"{at} {received.stream}/{received.kind} {seq}{asked} {_what(message)} | {', '.join(facts)}"


def _what(message: Message) -> str:
    from molmo2_ground import messages

    match message:
        case messages.HealthMessage():
            age = (
                "no picture yet"
                if message.frame_age_ms is None
                else f"picture {message.frame_age_ms:.0f} ms ago"
            )
            dropped = sum(message.dropped.values())
            return f"{message.state}, {age}, {message.taken} of {message.received} used, {dropped} dropped"
        case messages.CountMessage():
            stated = "" if message.stated in (None, message.value) else f" (it wrote {message.stated})"
            return f"{message.value}{stated}"
        case messages.MasksMessage():
            return f"{len(message.masks)} masks"
        case messages.EventMessage():
            return f"{message.name}: {message.event.get('kind', 'event')}"
        case _:
            return _places(message.detections)


def _places(detections: Sequence[Detection]) -> str:
    shown = [
        f"{found.results[0].class_id if found.results else 'thing'} {found.id} "
        f"at ({found.point.x:.0f}, {found.point.y:.0f}) {found.state}"
        for found in detections[:_MOST_NAMED]
    ]
    more = len(detections) - len(shown)
    return "; ".join([*shown, *([f"and {more} more"] if more else [])]) or "nothing"


def _rate(seen_s: Sequence[float]) -> float | None:
    """Messages a second over the last ones; None for the first."""
    span_s = seen_s[-1] - seen_s[0]
    return (len(seen_s) - 1) / span_s if span_s > 0 else None


def _log_line(stream: str, kind: Kind, log: TopicLog) -> str:
    facts = [f"{log.received} received", f"{log.lost} lost", f"{log.stale} stale"]
    facts += [f"publisher started anew {amount(log.restarts, 'time')}"] if log.restarts else []
    facts += [f"connected anew {amount(log.reconnects, 'time')}"] if log.reconnects else []
    return f"{stream}/{kind}: {', '.join(facts)}"


def _topic(text: str | None) -> tuple[str | None, tuple[Kind, ...]]:
    """(stream, kinds) of what was typed. Raises `ValueError`."""
    from molmo2_ground.messages.kinds import MODEL_OF, read_topic

    every: tuple[Kind, ...] = tuple(MODEL_OF)
    if text is None:
        return None, every
    parts = [part for part in text.removeprefix("molmo2/").split("/") if part]
    if len(parts) == 1:
        for kind in every:
            if parts[0] == kind and not text.startswith("molmo2/"):
                return None, (kind,)
        return read_topic(f"molmo2/{parts[0]}/health/")[0], every
    stream, kind = read_topic(f"molmo2/{'/'.join(parts)}/")
    return stream, (kind,)
