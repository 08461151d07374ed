"""The options of `molmo2-ground stream`, and what they mean."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from molmo2_ground.analytics import ZoneFile
    from molmo2_ground.live.opening import StreamOptions
    from molmo2_ground.live.watch import Watch
    from molmo2_ground.query import Query


def add_stream_options(parser: argparse.ArgumentParser) -> None:
    """Everything that `stream` takes beside the model."""
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="rtsp://…, rtmp://, http(s)://, udp://, srt://, zmq+tcp://…, a camera's number or /dev/video0, "
        "or a video file, which is played at its own speed; @FILE reads the address from a file, so that its "
        "password stands in no list of processes",
    )
    parser.add_argument("query", metavar="QUERY", nargs="*", help="what to follow, in words")
    asked = parser.add_argument_group("questions")
    asked.add_argument("--count", metavar="WORDS", action="append", default=[], help="count these too")
    asked.add_argument("--point", metavar="WORDS", action="append", default=[], help="point to these too")
    _add_outputs(parser.add_argument_group("outputs"))
    _add_rules(parser.add_argument_group("how it is followed"))
    _add_watches(parser.add_argument_group("events"))
    source = parser.add_argument_group("source")
    source.add_argument("--loop", action="store_true", help="begin a file again at its end")
    source.add_argument("--speed", metavar="X", type=float, help="play a file X times as fast (default: 1)")
    source.add_argument(
        "--open-timeout", metavar="S", type=float, default=10.0, help="for connecting (default: 10)"
    )
    source.add_argument(
        "--read-timeout", metavar="S", type=float, default=5.0, help="without a picture (default: 5)"
    )
    parser.add_argument(
        "--seconds", metavar="S", type=float, help="end so many seconds after the source was first tried"
    )
    parser.add_argument("--updates", metavar="N", type=int, help="end after N updates")


def path(text: str) -> Path:
    """A path as it is typed. An empty one is a mistake: `Path` takes it for the folder that one is in."""
    if not text:
        raise argparse.ArgumentTypeError("expected a path; got an empty one")
    return Path(text)


def _add_outputs(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--publish", metavar="ENDPOINT", help="publish over ZeroMQ, such as tcp://127.0.0.1:5556"
    )
    group.add_argument(
        "--control", metavar="ENDPOINT", help="take questions and give status there, over ZeroMQ"
    )
    group.add_argument(
        "--keys", metavar="DIR", type=path, help="the server's keys and who may connect (molmo2-ground keys)"
    )
    group.add_argument(
        "--insecure", action="store_true", help="without keys, bind an address that other machines can reach"
    )
    group.add_argument(
        "--record",
        metavar="FILE",
        type=path,
        action="append",
        default=[],
        help="record: .mcap for Foxglove, .db3 or no suffix for a ROS 2 bag, .rrd for Rerun; may be repeated",
    )
    group.add_argument(
        "--record-pictures",
        choices=("every", "sampled", "none"),
        help="which pictures are recorded (default: every)",
    )
    group.add_argument(
        "--record-max-mb", metavar="MB", type=float, help="begin another .mcap file after so many megabytes"
    )
    group.add_argument(
        "--json", metavar="-", choices=("-",), help="write every message as a line of JSON to stdout"
    )
    group.add_argument("--metrics", metavar="PORT", type=int, help="figures for Prometheus on 127.0.0.1:PORT")
    group.add_argument("--ui", action="store_true", help="a dashboard in the terminal")
    group.add_argument("--name", help="of the stream, in topics and messages (default: from the address)")


def _add_rules(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--fps", metavar="N", type=float, default=2.0, help="pictures a second the model may see (default: 2)"
    )
    group.add_argument(
        "--policy",
        choices=("latest", "every", "block"),
        default="latest",
        help="when pictures come faster than they are used: the newest counts; some wait and all sampled "
        "ones are looked at; or the source waits (default: latest)",
    )
    group.add_argument(
        "--buffer", metavar="N", type=int, help="pictures that may wait under every (default: 64)"
    )
    group.add_argument(
        "--carry",
        metavar="HOW",
        default="flow",
        help="what carries places between answers: flow, none, or a segmenter: region, sam2.1-hiera-tiny, … "
        "(default: flow)",
    )
    group.add_argument("--carry-fps", metavar="N", type=float, help="use at most N pictures a second")
    group.add_argument(
        "--max-age", metavar="S", type=float, default=5.0, help="leave older pictures out (default: 5)"
    )
    group.add_argument(
        "--valid", metavar="S", type=float, default=1.0, help="a place may be acted on so long (default: 1)"
    )
    group.add_argument(
        "--grace", metavar="S", type=float, default=10.0, help="out of sight so long, same id (default: 10)"
    )
    group.add_argument(
        "--look-every",
        metavar="S",
        type=float,
        help="ask the model at least this often; 0 at every sampled picture (default: 2)",
    )
    group.add_argument(
        "--tokens-per-minute", metavar="N", type=float, help="read and written by the model at most"
    )


def _add_watches(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--watch",
        metavar="SENTENCE",
        action="append",
        default=[],
        help="tell when it happens: 'someone enters the red zone', 'a car crosses the kerb', "
        "'at least 3 people', … (docs/watching.md); may be repeated",
    )
    group.add_argument(
        "--zones", metavar="FILE", type=path, help="the zones and lines that sentences name, and rules"
    )
    group.add_argument("--debounce", metavar="S", type=float, help="it has to hold so long (default: 0)")
    group.add_argument("--cooldown", metavar="S", type=float, help="silent so long after it (default: 0)")
    group.add_argument(
        "--clips", metavar="DIR", type=path, help="keep a video of what came before and after each event"
    )


def source_of(arguments: argparse.Namespace) -> Any:
    """The feed that SOURCE names. Raises `SourceError` and `ValueError`, never with a password in it."""
    from molmo2_ground.sources.feeds.feed import Timeouts
    from molmo2_ground.sources.feeds.file_feed import FileFeed
    from molmo2_ground.sources.feeds.live_source import open_feed

    speed = 1.0 if arguments.speed is None else arguments.speed
    feed = open_feed(_address(arguments.source), loop=arguments.loop, speed=speed)
    if isinstance(feed, FileFeed):
        feed.connect(Timeouts()).close()  # a camera may come yet, a file is there or not
    elif arguments.loop or arguments.speed is not None:
        option = "--loop" if arguments.loop else "--speed"
        raise ValueError(f"{option} is for files; {feed.name} comes as it comes, so leave it out")
    return feed


def _address(text: str) -> str:
    if not text.startswith("@"):
        return text
    from molmo2_ground.errors import SourceError

    path, expected = Path(text[1:]), "expected a text file with one line, the camera's address"
    try:
        written = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise SourceError(f"{text} cannot be read ({error.strerror}); {expected}") from error
    except UnicodeDecodeError:
        # Without the cause: what could not be read may be a password.
        raise SourceError(f"{text} is not in UTF-8; {expected}") from None
    named = [line.strip() for line in written.split("\n") if line.strip()]
    if len(named) != 1:
        raise SourceError(f"{text} holds {len(named)} lines; {expected}")
    return named[0]


def questions_of(arguments: argparse.Namespace) -> dict[str, Query]:
    """Everything that is asked, by its words. Raises `ValueError` when nothing is, or twice the same."""
    from molmo2_ground.query import Query

    asked = [(words, Query.track(words, fps=arguments.fps)) for words in arguments.query]
    asked += [(f"count of {words}", Query.count(words)) for words in arguments.count]
    asked += [(f"points at {words}", Query.point(words)) for words in arguments.point]
    if not asked:
        raise ValueError("say what to look for: QUERY, --count WORDS or --point WORDS")
    questions = dict(asked)
    if len(questions) < len(asked):
        raise ValueError("the same was asked twice; ask it once")
    return questions


def stream_options(arguments: argparse.Namespace, *, zones: ZoneFile | None) -> StreamOptions:
    """How the stream is followed, as `Grounder.stream` takes it."""
    from molmo2_ground.sources.feeds.feed import Timeouts

    options: StreamOptions = {
        "fps": arguments.fps,
        "policy": arguments.policy,
        "carry": arguments.carry,
        "carry_fps": arguments.carry_fps,
        "max_age_s": arguments.max_age,
        "valid_s": arguments.valid,
        "grace_s": arguments.grace,
        "tokens_per_minute": arguments.tokens_per_minute,
        "name": arguments.name,
        "clips": arguments.clips,
        "watch_rules": None if zones is None else zones.rules,
        "device": arguments.device,
        "timeouts": Timeouts(open_s=arguments.open_timeout, read_s=arguments.read_timeout),
    }
    if arguments.buffer is not None:
        options["capacity"] = arguments.buffer
    if arguments.look_every is not None:
        options["look_every_s"] = arguments.look_every
    return options


def zone_file_of(arguments: argparse.Namespace) -> ZoneFile | None:
    """The file that `--zones` names, read. Raises `SourceError`."""
    if arguments.zones is None:
        return None
    from molmo2_ground.analytics import read_zone_file

    return read_zone_file(arguments.zones)


def watches_of(
    arguments: argparse.Namespace,
    questions: Iterable[str],
    *,
    zones: ZoneFile | None,
    size_px: tuple[int, int],
) -> list[Watch]:
    """The watches that sentences ask for, in a picture of (width, height) pixels.

    Raises `ValueError` for a sentence that is not understood.
    """
    if not arguments.watch:
        return []
    from molmo2_ground.live.watch import Watch

    return [
        Watch.read(
            sentence,
            zones=() if zones is None else zones.zones_px(size_px),
            lines=() if zones is None else zones.lines_px(size_px),
            questions=tuple(questions),
            debounce_s=arguments.debounce or 0.0,
            cooldown_s=arguments.cooldown or 0.0,
        )
        for sentence in arguments.watch
    ]
