"""The command `molmo2-ground`: arguments in, one call, results out.

Exit 0: done. 1: the input or the model failed, one line says why. 2: bad usage. 130: interrupted; what was
found of a long video by then is written all the same.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from molmo2_ground import (
    __version__,
    _cli_batch,
    _cli_echo,
    _cli_eval,
    _cli_events,
    _cli_export,
    _cli_import,
    _cli_keys,
    _cli_plan,
    _cli_stream,
    _cli_train,
)
from molmo2_ground._amount import amount
from molmo2_ground._cli_drawn import add_drawn_options, masks_of, segmenter_of, zones_of
from molmo2_ground._cli_output import STDOUT, Bar, check_folder, check_written, named_path, one_line, say
from molmo2_ground._parser import BAD_USAGE, Parser
from molmo2_ground.errors import GroundError, Interrupted, SourceError

if TYPE_CHECKING:
    from molmo2_ground.analytics import Line, Zone
    from molmo2_ground.grounder import Grounder
    from molmo2_ground.masks import Segmenter
    from molmo2_ground.query import Query
    from molmo2_ground.replay import Result
    from molmo2_ground.sources import MediaLike

Loader = Callable[..., "Grounder"]

DONE, FAILED, INTERRUPTED = 0, 1, 130

_MOST_SAID = 10

_TASKS = {
    "track": "follow objects through a video",
    "point": "point to objects in an image, several images or a video",
    "count": "count objects, with the places that were counted",
    "ask": "ask freely; points and tracks in the answer are read",
}


def main(argv: Sequence[str] | None = None, *, loader: Loader | None = None) -> int:
    """Run one command and return its exit code.

    argv: the arguments after the program's name; without it, those of this process.
    loader: makes the model, called as loader(model, device=…, dtype=…, vision=…); without it,
    `molmo2_ground.load`.
    """
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a letter shows a mark for it; that must not end the run.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        arguments = _parser().parse_args(argv)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else BAD_USAGE
    logging.basicConfig(format="%(message)s")
    logging.getLogger("molmo2_ground").setLevel(logging.ERROR if arguments.quiet else logging.INFO)
    try:
        with _terminated_like_interrupted():
            code = _run(arguments, loader)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # Whoever reads our output has seen enough; Python would complain again when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


def _run(arguments: argparse.Namespace, loader: Loader | None) -> int:
    """Call the command; turn what it raises into one line and an exit code."""
    try:
        code: int = arguments.call(arguments, loader)
        return code
    except KeyboardInterrupt:
        say("\nmolmo2-ground: interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        raise
    except Exception as error:
        if arguments.debug:
            raise
        if type(error) is ValueError:  # not its children: a damaged file raises those, deep in a library
            say(f"molmo2-ground: {one_line(error)}")
            return BAD_USAGE
        if isinstance(error, GroundError | OSError):
            say(f"molmo2-ground: {one_line(error)}")
            return FAILED
        say(f"molmo2-ground: unexpected {type(error).__name__}: {one_line(error)} (--debug shows where)")
        return FAILED


@contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """Let a polite kill unwind the stack, so that half-written files go, as Ctrl-C does."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield  # Python lets only the main thread handle signals
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _parser() -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = Parser(
        prog="molmo2-ground",
        description="Ask a video or a picture where things are, in words.",
        epilog="Results go to stdout, everything else to stderr. "
        "Exit 0: done; 1: the input or the model failed; 2: bad usage.",
    )
    parser.add_argument("--version", action="version", version=f"molmo2-ground {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--quiet", action="store_true", help="say nothing on stderr but errors")
    common.add_argument("--debug", action="store_true", help="show the traceback of an error")
    runner = _runner(common)
    for task, words in _TASKS.items():
        _add_task(commands.add_parser(task, help=words, description=words, parents=[runner]), task)
    _cli_batch.add_parser(commands, runner=runner)
    demo = commands.add_parser(
        "demo", help="make a toy street clip and track the red car in it", parents=[runner]
    )
    demo.add_argument("--out", metavar="DIR", type=named_path, default=Path("molmo2-ground-demo"))
    demo.set_defaults(call=_demo)
    replay = commands.add_parser(
        "replay",
        help="derive a result file's objects again from its receipt, without a model",
        parents=[common],
    )
    replay.add_argument("result", metavar="RESULT.json", type=Path)
    replay.set_defaults(call=_replay)
    view = commands.add_parser("view", help="show a result file as a page in the browser", parents=[common])
    view.add_argument("result", metavar="RESULT.json", type=Path)
    view.add_argument("media", metavar="MEDIA", nargs="?", help="default: the source that the result names")
    view.add_argument(
        "--out", metavar="FILE", type=named_path, help="write the page there and open no browser"
    )
    view.set_defaults(call=_view)
    _cli_plan.add_parser(commands, runner=runner, place=_place)
    _cli_eval.add_parser(commands, runner=runner, common=common)
    _cli_train.add_parser(commands, common=common)
    _cli_export.add_parser(commands, common=common)
    _cli_import.add_parser(commands, common=common)
    _cli_events.add_parser(commands, common=common)
    _cli_stream.add_parser(commands, runner=runner)
    _cli_echo.add_parser(commands, common=common)
    _cli_keys.add_parser(commands, common=common)
    doctor = commands.add_parser(
        "doctor", help="what is installed, what is missing and how to get it", parents=[runner]
    )
    doctor.set_defaults(call=_doctor)
    return parser


def _runner(common: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """The options of every command that runs a model."""
    runner = argparse.ArgumentParser(add_help=False, parents=[common])
    runner.add_argument(
        "--model",
        help="tiny, a folder or a hub id (default: MOLMO2_GROUND_MODEL in the environment, else tiny)",
    )
    runner.add_argument("--device", default="auto", help="as torch names it (default: auto)")
    runner.add_argument("--dtype", default="auto", help="as torch names it (default: auto)")
    runner.add_argument(
        "--vision",
        metavar="onnx[-PROVIDER][:FOLDER]",
        default="torch",
        help="what runs the vision tower: torch, or onnxruntime as onnx, onnx-cpu, onnx-cuda, …, which makes "
        "an export on first use, in FOLDER or the user's cache (default: torch)",
    )
    return runner


def _add_task(parser: argparse.ArgumentParser, task: str) -> None:
    several = None if task == "track" else "+"
    words = "a video" if task == "track" else "a video, images or a folder of images"
    parser.add_argument("media", metavar="MEDIA", nargs=several, help=words)
    parser.add_argument("query", metavar="QUERY", help="what to look for, in words")
    parser.add_argument(
        "-o", "--out", metavar="FILE", type=named_path, help="write the annotated video or picture"
    )
    parser.add_argument("--json", metavar="FILE", help="write the result file; - writes it to stdout")
    parser.add_argument("--html", metavar="FILE", type=named_path, help="write the result as a page")
    add_drawn_options(parser)
    parser.add_argument("--max-new-tokens", metavar="N", type=int, help="longest answer, in tokens")
    parser.add_argument(
        "--keep-repeats", action="store_true", help="keep places that the model writes in circles"
    )
    if task in ("track", "point"):
        parser.add_argument("--max-objects", metavar="N", type=int, help="keep at most N objects")
    if task == "track":
        parser.add_argument(
            "--fps", metavar="N", type=float, default=2.0, help="places a second (default: 2)"
        )
        parser.add_argument(
            "--show-fps",
            metavar="N",
            type=float,
            help="show the model up to N frames a second (default: just the places asked for)",
        )
        parser.add_argument(
            "--at", metavar="TIME_S,X_PX,Y_PX", type=_place, help="follow what is under this point"
        )
        parser.add_argument(
            "--deadline",
            metavar="SECONDS",
            type=float,
            help="of a long video, look at no further part once so many seconds have passed since the start, "
            "and give what was found by then",
        )
    parser.set_defaults(call=_ask, task=task)


def _place(text: str) -> tuple[float, float, float]:
    try:
        time_s, x_px, y_px = (float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected seconds,x,y such as 1.5,320,180; got {text!r}") from None
    return time_s, x_px, y_px


def _ask(arguments: argparse.Namespace, loader: Loader | None) -> int:
    """`track`, `point`, `count` and `ask`."""
    from molmo2_ground.deadline import Deadline
    from molmo2_ground.query import Decoding
    from molmo2_ground.sources import probe

    seconds = arguments.deadline if arguments.task == "track" else None
    deadline = None if seconds is None else Deadline.after(seconds)
    query = _query(arguments)
    decoding = Decoding(max_new_tokens=arguments.max_new_tokens, cut_runaways=not arguments.keep_repeats)
    paths: list[str] = [arguments.media] if isinstance(arguments.media, str) else arguments.media
    media: MediaLike = paths[0] if len(paths) == 1 else paths
    _check_outputs(arguments, paths)
    segmenter = segmenter_of(arguments)
    info = probe(media)  # a bad file is told before seconds go into loading the model
    zones = zones_of(arguments, (info.width_px, info.height_px))
    grounder = _load(arguments, loader)
    bar = Bar(quiet=arguments.quiet)
    code = DONE
    try:
        try:
            with grounder.open(media, on_progress=bar.tell) as session:
                result = session.answer(query, decoding=decoding, deadline=deadline)
        except Interrupted as stop:
            result, code = stop.partial, INTERRUPTED
            bar.clear()
            say(f"\nmolmo2-ground: {stop}; objects kept: {len(result)} (Ctrl-C again drops them)")
        bar.clear()
        _print_result(result, as_json=arguments.json == STDOUT, quiet=arguments.quiet)
        _write_outputs(result, media, arguments, bar, segmenter=segmenter, zones=zones)
    finally:
        bar.clear()
    return code


def _query(arguments: argparse.Namespace) -> Query:
    from molmo2_ground.query import Query

    if arguments.task == "track":
        return Query.track(
            arguments.query,
            fps=arguments.fps,
            max_objects=arguments.max_objects,
            at=arguments.at,
            show_fps=arguments.show_fps,
        )
    if arguments.task == "point":
        return Query.point(arguments.query, max_objects=arguments.max_objects)
    return Query.count(arguments.query) if arguments.task == "count" else Query.ask(arguments.query)


def _load(arguments: argparse.Namespace, loader: Loader | None) -> Grounder:
    from molmo2_ground.grounder import default_model, load

    return (loader or load)(
        arguments.model or default_model(),
        device=arguments.device,
        dtype=arguments.dtype,
        vision=arguments.vision,
    )


def _check_outputs(arguments: argparse.Namespace, media: Sequence[str]) -> None:
    """Find out before the work that a file cannot be written. Raises `ValueError`."""
    json_file = None if arguments.json == STDOUT else arguments.json
    check_written((arguments.out, json_file, arguments.html, arguments.masks_json), media)
    if arguments.out is not None:
        from molmo2_ground.render.picture import PICTURE_SUFFIXES
        from molmo2_ground.render.video import VIDEO_SUFFIXES

        suffixes = (*VIDEO_SUFFIXES, *PICTURE_SUFFIXES)
        if arguments.out.suffix.lower() not in suffixes:
            raise ValueError(f"-o takes a name that ends in {', '.join(suffixes)}; got {arguments.out.name}")


def _print_result(result: Result, *, as_json: bool, quiet: bool) -> None:
    from molmo2_ground._cli_lines import lines, remarks
    from molmo2_ground.export import dumps

    if as_json:
        # Bytes, because the terminal's own encoding may not hold every label.
        sys.stdout.buffer.write(dumps(result).encode() + b"\n")
    else:
        for line in lines(result):
            print(line)
    sys.stdout.flush()
    if not quiet:
        for line in remarks(result):
            say(line)


def _write_outputs(
    result: Result,
    media: MediaLike,
    arguments: argparse.Namespace,
    bar: Bar,
    *,
    segmenter: Segmenter | None,
    zones: Sequence[Zone | Line],
) -> None:
    def wrote(path: Path) -> None:
        bar.clear()
        if not arguments.quiet:
            say(f"wrote {path}")

    if arguments.json not in (None, STDOUT):
        from molmo2_ground.export import write_result

        write_result(result, arguments.json)
        wrote(Path(arguments.json))
    masks = None
    if segmenter is not None:  # after the result itself is safe: this may take long
        masks = masks_of(result, media, segmenter, bar, quiet=arguments.quiet)
    if masks is not None and arguments.masks_json is not None:
        from molmo2_ground.export import write_result

        write_result(masks, arguments.masks_json)
        wrote(arguments.masks_json)
    if arguments.out is not None:
        from molmo2_ground.render import render

        render(
            media,
            result,
            arguments.out,
            masks=masks,
            hidden=arguments.hidden,
            zones=zones,
            on_progress=lambda share: bar.tell("drawing", share),
        )
        wrote(arguments.out)
    if arguments.html is not None:
        from molmo2_ground.viewer import write_report

        write_report(result, media, arguments.html, masks=masks, video=_video(arguments.out))
        wrote(arguments.html)


def _video(path: Path | None) -> Path | None:
    """The annotated file when a page can play it."""
    from molmo2_ground.render.video import VIDEO_SUFFIXES

    return path if path is not None and path.suffix.lower() in VIDEO_SUFFIXES else None


def _replay(arguments: argparse.Namespace, loader: Loader | None) -> int:
    from molmo2_ground.export import read_result
    from molmo2_ground.replay import derive, differences

    result = read_result(arguments.result)
    try:
        derived = derive(result.receipt)
    except ValueError as error:
        raise SourceError(f"{arguments.result} cannot be replayed: {error}") from error
    except LookupError as error:
        raise SourceError(
            f"{arguments.result} cannot be replayed: its receipt's lists do not fit each other; expected "
            "a file as molmo2-ground wrote it"
        ) from error
    _print_result(derived, as_json=False, quiet=True)
    different = differences(result, derived)
    for line in different[:_MOST_SAID]:
        say(f"differs: {line}")
    if len(different) > _MOST_SAID:
        more = amount(len(different) - _MOST_SAID, "more difference")
        say(f"differs: {more} like these")
    if not different and not arguments.quiet:
        say("the receipt gives the same objects as the file")
    return FAILED if different else DONE


def _view(arguments: argparse.Namespace, loader: Loader | None) -> int:
    import tempfile
    import webbrowser

    from molmo2_ground.export import read_result
    from molmo2_ground.viewer import write_report

    result = read_result(arguments.result)
    named: Path | None = arguments.media
    found = [] if named else _sources_of(result, beside=arguments.result)
    check_written((arguments.out,), (arguments.result, named, *found))
    page = arguments.out or Path(tempfile.mkdtemp(prefix="molmo2-ground-")) / f"{arguments.result.stem}.html"
    if named is not None:
        write_report(result, named, page)
    elif (note := _write_found(result, found, page)) is not None and not arguments.quiet:
        say(note)
    print(page)
    if arguments.out is None and not webbrowser.open(page.absolute().as_uri()) and not arguments.quiet:
        say("no browser could be started; open the page by hand")
    return DONE


def _sources_of(result: Result, *, beside: Path) -> list[Path]:
    """The files that are called as the receipt says: here, and in the folder of the result file."""
    source = Path(result.receipt.source)
    return [path for path in dict.fromkeys((source, beside.parent / source)) if path.exists()]


def _write_found(result: Result, found: Sequence[Path], page: Path) -> str | None:
    """Write the page with the first file that is the result's; where none is, without pictures, and say why.

    Nobody named these files: another video may well have the same name.
    """
    from molmo2_ground.viewer import write_report

    why = f"{result.receipt.source} is not here, so the page has no pictures; name the file to have them"
    for path in found:
        try:
            write_report(result, path, page)
        except (SourceError, ValueError) as error:
            why = f"the page has no pictures: {one_line(error)}"
        else:
            return None
    write_report(result, None, page)
    return why


def _demo(arguments: argparse.Namespace, loader: Loader | None) -> int:
    from molmo2_ground._cli_demo import make_demo

    check_folder("--out", arguments.out)
    return (
        DONE if make_demo(arguments.out, lambda: _load(arguments, loader), quiet=arguments.quiet) else FAILED
    )


def _doctor(arguments: argparse.Namespace, loader: Loader | None) -> int:
    from molmo2_ground._cli_doctor import examine

    healthy = examine(
        arguments.model, device=arguments.device, dtype=arguments.dtype, vision=arguments.vision
    )
    return DONE if healthy else FAILED
