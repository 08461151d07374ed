"""`molmo2-ground plan`: what a question looks at, needs and takes, before it is asked."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from molmo2_ground._amount import amount
from molmo2_ground._cli_output import STDOUT, check_written, say

if TYPE_CHECKING:
    from molmo2_ground.planning import Plan
    from molmo2_ground.query import Query

DONE, FAILED = 0, 1


def add_parser(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    *,
    runner: argparse.ArgumentParser,
    place: Callable[[str], tuple[float, float, float]],
) -> None:
    """Add `plan`; place reads the words of --at."""
    parser = commands.add_parser(
        "plan",
        help="frames, tokens, memory and time of a question, before it is asked",
        description="Say which frames a question looks at, how long its prompt is, and what memory and time "
        "it takes. Exit 1 when it does not fit; a line says what does.",
        parents=[runner],
    )
    parser.add_argument("media", metavar="MEDIA", nargs="+", help="a video, images or a folder of images")
    parser.add_argument("query", metavar="QUERY", help="what to look for, in words")
    parser.add_argument(
        "--task", choices=("track", "point", "count", "ask"), default="track", help="(default: track)"
    )
    parser.add_argument("--fps", metavar="N", type=float, help="track: places a second (default: 2)")
    parser.add_argument("--show-fps", metavar="N", type=float, help="track: show up to N frames a second")
    parser.add_argument(
        "--at", metavar="TIME_S,X_PX,Y_PX", type=place, help="track: follow what is under this point"
    )
    parser.add_argument("--max-objects", metavar="N", type=int, help="keep at most N objects")
    parser.add_argument("--no-calibrate", action="store_true", help="load no model and measure no time")
    parser.add_argument("--json", metavar="FILE", help="write the plan as JSON; - writes it to stdout")
    parser.set_defaults(call=run)


def run(arguments: argparse.Namespace, loader: object) -> int:
    """`plan MEDIA QUERY`: 0 when it fits, 1 when it does not."""
    from molmo2_ground.grounder import plan

    paths: list[str] = arguments.media
    check_written((None if arguments.json == STDOUT else arguments.json,), paths)
    plan_ = plan(
        paths[0] if len(paths) == 1 else paths,
        _query(arguments),
        model=arguments.model,
        device=arguments.device,
        dtype=arguments.dtype,
        calibrate=not arguments.no_calibrate,
    )
    if arguments.json == STDOUT:
        sys.stdout.buffer.write(plan_.json_text().encode() + b"\n")
    else:
        for line in lines(plan_):
            print(line)
    sys.stdout.flush()
    if arguments.json not in (None, STDOUT):
        from molmo2_ground._atomic import atomic_path

        with atomic_path(Path(arguments.json)) as unfinished:
            unfinished.write_text(plan_.json_text() + "\n", encoding="utf-8")
    if plan_.problem is not None:
        say(f"molmo2-ground: {plan_.problem}")
    if not arguments.quiet:
        for note in plan_.notes:
            say(f"note: {note}")
    return DONE if plan_.fits else FAILED


def _query(arguments: argparse.Namespace) -> Query:
    from molmo2_ground.query import DEFAULT_TRACK_FPS, Query

    only_track = {"--fps": arguments.fps, "--show-fps": arguments.show_fps, "--at": arguments.at}
    given = [name for name, value in only_track.items() if value is not None]
    if arguments.task != "track" and given:
        raise ValueError(f"{given[0]} goes with --task track; got --task {arguments.task}")
    return Query(
        task=arguments.task,
        phrase=arguments.query,
        fps=DEFAULT_TRACK_FPS if arguments.fps is None else arguments.fps,
        max_objects=arguments.max_objects,
        at=arguments.at,
        show_fps=arguments.show_fps,
    )


def lines(plan: Plan) -> Iterator[str]:
    """The plan for people: a line for each thing that it says."""
    yield f"frames   {_frames(plan)}"
    looks = len(plan.tokens.prompts)
    each = f", at most {max(plan.tokens.prompts):,} a window" if looks > 1 else ""
    about = "" if plan.tokens.exact else "about "
    yield f"prompt   {about}{amount(plan.tokens.prompt_total, 'token')}{each}"
    yield f"answer   about {amount(plan.tokens.answers, 'token')}, for {plan.tokens.answers_basis}"
    memory = plan.memory
    parts = {
        "weights": memory.weights_bytes,
        "keys and values": memory.keys_values_bytes,
        "features": memory.features_bytes,
        "pixels": memory.pixels_bytes,
        "working room": memory.working_bytes,
    }
    said = ", ".join(f"{name} {_size(count)}" for name, count in parts.items() if count)
    free = "" if memory.free_bytes is None else f"; {_size(memory.free_bytes)} free"
    yield (f"memory   about {_size(memory.peak_bytes)} on {memory.device} as {memory.dtype}: {said}{free}")
    if plan.time is not None:
        time = plan.time
        yield (
            f"time     about {_seconds(time.total_s)}: reading {_seconds(time.reading_s)}, "
            f"pictures {_seconds(time.vision_s)}, prompt {_seconds(time.prefill_s)}, "
            f"answer {_seconds(time.answer_s)}"
        )
    yield "it fits" if plan.fits else "it does not fit"


def _frames(plan: Plan) -> str:
    frames = plan.frames
    rate = "" if frames.fps is None else f", {frames.fps:g} a second"
    if frames.window_frames is None:
        return f"{frames.count:,} of {plan.source}{rate}"
    together = f", {frames.together} asked together" if frames.together > 1 else ""
    return (
        f"{frames.count:,} of {plan.source}{rate}, in {amount(frames.windows, 'window')} "
        f"of {frames.window_frames} that share {frames.overlap_frames}{together}"
    )


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _seconds(time_s: float) -> str:
    return f"{time_s / 60:.1f} min" if time_s >= 120 else f"{time_s:.1f} s"
