"""`molmo2-ground stream`: a camera goes in; lines, topics, recordings and figures come out until Ctrl-C."""

from __future__ import annotations

import argparse
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molmo2_ground._cli_output import say
from molmo2_ground._cli_stream_checks import check_outputs, check_usage
from molmo2_ground._cli_stream_options import (
    add_stream_options,
    questions_of,
    source_of,
    stream_options,
    watches_of,
    zone_file_of,
)
from molmo2_ground.errors import CheckpointError

if TYPE_CHECKING:
    from molmo2_ground.analytics import ZoneFile
    from molmo2_ground.grounder import Grounder
    from molmo2_ground.live.recording import Recorder
    from molmo2_ground.live.stream import Stream
    from molmo2_ground.live.update import Update
    from molmo2_ground.masks import Segmenter

Loader = Callable[..., "Grounder"]
Step = Callable[["Update"], None]
"""Something that is done with each update."""


def add_parser(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], *, runner: argparse.ArgumentParser
) -> None:
    """Add `stream`."""
    words = "follow things in a live camera, and tell other programs where they are"
    parser = commands.add_parser("stream", help=words, description=words.capitalize() + ".", parents=[runner])
    add_stream_options(parser)
    parser.set_defaults(call=stream)


def stream(arguments: argparse.Namespace, loader: Loader | None) -> int:
    """`stream SOURCE QUERY…`; runs until the source is over, the time given has passed, or Ctrl-C."""
    from molmo2_ground.grounder import default_model, load
    from molmo2_ground.live.opening import check_options

    # Loading a model may take minutes: all that can be wrong is told before.
    check_usage(arguments)
    feed, questions = source_of(arguments), questions_of(arguments)
    zones = zone_file_of(arguments)
    check_outputs(arguments, questions, zones=zones)
    options = stream_options(arguments, zones=zones)
    check_options(feed, options)
    if arguments.carry not in ("flow", "none"):
        options["carry"] = _carrying(arguments)
    grounder = (loader or load)(
        arguments.model or default_model(),
        device=arguments.device,
        dtype=arguments.dtype,
        vision=arguments.vision,
    )
    running = _Running(arguments, zones)
    try:
        with ExitStack() as stack:
            running.open(grounder.stream(feed, questions, **options), stack)
            running.run()
    finally:
        # Ctrl-C is how a stream usually ends: what was seen and written is told then too.
        running.say_last_events()
        running.say_totals()
    if not running.updates:
        from molmo2_ground._cli_stream_lines import nothing_line

        why = nothing_line(running.stream.totals, trouble=running.stream.trouble, name=feed.name)
        say(f"molmo2-ground: {why}")
    return 0 if running.updates and running.all_recorded else 1


def _carrying(arguments: argparse.Namespace) -> Segmenter:
    from molmo2_ground.masks.choice import segmenter_named

    try:
        return segmenter_named(arguments.carry, device=arguments.device)
    except CheckpointError as error:
        raise CheckpointError(f"--carry takes flow, none, or a segmenter; {error}") from None


class _Running:
    """One stream and everything that its updates go to."""

    def __init__(self, arguments: argparse.Namespace, zones: ZoneFile | None) -> None:
        self._arguments, self._zones, self.updates = arguments, zones, 0
        self._recorders: list[Recorder] = []
        self._health_s, self._health_seq = -1.0, 0
        self._steps: list[Step] = []
        self._stream: Stream | None = None
        self._opened = False

    @property
    def stream(self) -> Stream:
        """The stream, once it is open."""
        assert self._stream is not None
        return self._stream

    @property
    def all_recorded(self) -> bool:
        """Whether no recording stopped early and no clip is missing."""
        return not self._clips_missing and all(recorder.problem is None for recorder in self._recorders)

    @property
    def _clips_missing(self) -> int:
        clips = None if self._stream is None else self._stream.clips
        return 0 if clips is None else clips.failed + clips.refused

    def open(self, stream: Stream, stack: ExitStack) -> None:
        """Open every output, then the source; `stack` closes them, the last opened first."""
        self._stream = stream
        self._steps = list(self._outputs(stack))
        self._opened = True
        stack.enter_context(stream)

    def run(self) -> None:
        """Hand each update on until there are no more."""
        limit_s = self._arguments.seconds
        if limit_s is not None:
            # Also when no picture ever comes.
            timer = threading.Timer(limit_s, self.stream.close)
            timer.daemon = True
            timer.start()
        for update in self.stream:
            self.updates += 1
            for step in self._steps:
                step(update)
            if self.updates == 1:
                self._watch(update.size_px)
            if self.updates == self._arguments.updates:
                return

    def _watch(self, size_px: tuple[int, int]) -> None:
        """Begin to watch, now that it is known which places in the picture are meant."""
        if self._zones is not None and not self._arguments.quiet:
            for caution in self._zones.cautions(size_px):
                say(f"note: {caution}")
        for watch in watches_of(self._arguments, self.stream.questions, zones=self._zones, size_px=size_px):
            self.stream.watch(watch)

    def say_last_events(self) -> None:
        """What was certain only because nothing came any more, where lines are for people."""
        if self._opened and not self._arguments.ui and self._arguments.json != "-":
            from molmo2_ground._cli_stream_lines import event_line

            _print(f"{'at the end':>10}  {event_line(event)}" for event in self.stream.ended_with)

    def say_totals(self) -> None:
        """What came in and what became of it, on stderr, and what is wrong with the recordings."""
        if not self._opened:
            return
        for recorder in self._recorders:
            if recorder.problem is not None:
                if self._arguments.quiet:  # else the log has said so
                    say(f"molmo2-ground: {recorder.problem}")
            elif not self._arguments.quiet:
                skipped = f" ({recorder.skipped} updates left out: the disk was slower)" * bool(
                    recorder.skipped
                )
                say(f"wrote {recorder.path}{skipped}")
        if self._clips_missing:
            missing = self._clips_missing
            say(f"molmo2-ground: clips that could not be written to {self._arguments.clips}: {missing}")
        if self._arguments.quiet:
            return
        totals = self.stream.totals
        left_out = [f"{count} {reason}" for reason, count in sorted(totals.dropped.items())]
        if totals.waiting:  # when it was stopped, by Ctrl-C or --seconds
            left_out.append(f"{totals.waiting} still waiting")
        dropped = ", ".join(left_out)
        say(
            f"pictures: {totals.received} received, {totals.taken} used"
            f"{', left out: ' + dropped if dropped else ''}; tokens: {self.stream.tokens}"
        )

    def _outputs(self, stack: ExitStack) -> Iterator[Step]:
        """What is done with each update, opened; every output that fails to open fails before the camera."""
        arguments = self._arguments
        for path in arguments.record:
            yield self._recorder(path, stack).write
        if arguments.record:
            yield self._record_health
        yield from self._sockets(stack)
        if arguments.metrics is not None:
            from molmo2_ground.live.metrics_page import MetricsPage

            page = stack.enter_context(MetricsPage(self.stream.meter, port=arguments.metrics))
            self._tell("figures for Prometheus at", page.url)
        if arguments.ui:
            from molmo2_ground.live.dashboard import Dashboard

            if sys.stdout.isatty():
                # It shows the camera's changes itself; lines of the log would be written across it.
                logging.getLogger("molmo2_ground").setLevel(logging.CRITICAL)
            yield stack.enter_context(Dashboard(self.stream.meter)).take
        elif arguments.json != "-":
            from molmo2_ground._cli_stream_lines import lines_of

            yield lambda update: _print(lines_of(update))

    def _recorder(self, path: Path, stack: ExitStack) -> Recorder:
        from molmo2_ground.grounder import default_model
        from molmo2_ground.integrations.recording import recorder_for
        from molmo2_ground.live.recording import Contents

        contents = Contents(
            questions=lambda: self.stream.questions,
            pictures=self._arguments.record_pictures or "every",
            manifest={
                "source": self.stream.name,
                "questions": "; ".join(f"{name}: {q.phrase}" for name, q in self.stream.questions.items()),
                "model": self._arguments.model or default_model(),
            },
        )
        max_mb = self._arguments.record_max_mb if path.suffix.lower() == ".mcap" else None
        recorder = stack.enter_context(recorder_for(path, contents=contents, max_mb=max_mb))
        self._recorders.append(recorder)
        return recorder

    def _record_health(self, update: Update) -> None:
        """How all of it is, once a second of the stream."""
        if update.time_s - self._health_s >= 1:
            self._health_s = update.time_s
            # A row of its own: the publisher's messages have other numbers, and take other events.
            told = {"seq": self._health_seq, "events": self.stream.drain_events()}
            self._health_seq += 1
            message = self.stream.health().model_copy(update=told)
            for recorder in self._recorders:
                recorder.write_health(message)

    def _sockets(self, stack: ExitStack) -> Iterator[Step]:
        arguments = self._arguments
        said = _Messages(self.stream, as_json=arguments.json == "-")
        if arguments.publish is not None or arguments.control is not None:
            from molmo2_ground.integrations.zeromq import ControlServer, Publisher, ServerKeys

            keys = None if arguments.keys is None else ServerKeys.load(arguments.keys)
            if arguments.publish is not None:
                publisher = Publisher(
                    arguments.publish, stream_name=self.stream.name, keys=keys, insecure=arguments.insecure
                )
                said.publisher = stack.enter_context(publisher)
                publisher.start_health(self.stream.meter.message)
                self._tell("publishing at", publisher.endpoint)
            if arguments.control is not None:
                server = ControlServer(arguments.control, self.stream, keys=keys, insecure=arguments.insecure)
                stack.enter_context(server)
                self._tell("control at", server.endpoint)
        if said.publisher is not None or said.as_json:
            yield said.take

    def _tell(self, what: str, where: str) -> None:
        if not self._arguments.quiet:
            say(f"{what} {where}")


class _Messages:
    """Updates as messages: published, and written as lines of JSON where that was asked for."""

    def __init__(self, stream: Stream, *, as_json: bool) -> None:
        from molmo2_ground.live.saying import Numbering

        self._stream, self.as_json = stream, as_json
        self._numbering = Numbering()
        self.publisher: Any = None

    def take(self, update: Update) -> None:
        from molmo2_ground.live.saying import messages_of

        questions = self._stream.questions
        if self.publisher is not None:
            began = time.perf_counter()
            said = self.publisher.publish(update, questions=questions)
            self._stream.meter.published(1000 * (time.perf_counter() - began))
        else:
            made = messages_of(
                update, questions=questions, numbering=self._numbering, source=self._stream.name
            )
            said = tuple(one.handed_over(time.time_ns()) for one in made)
        if self.as_json:
            _print(one.message.model_dump_json() for one in said)


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        sys.stdout.write(line + "\n")
    sys.stdout.flush()
