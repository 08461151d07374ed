"""`molmo2-ground batch`: one question about many clips, a result file for each."""

from __future__ import annotations

import argparse
import glob
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from molmo2_ground._amount import amount
from molmo2_ground._cli_origins import Origin, Origins, check_receipt
from molmo2_ground._cli_output import Bar, check_folder, named_path, one_line, say
from molmo2_ground.errors import GroundError, SourceError

if TYPE_CHECKING:
    from molmo2_ground.grounder import Grounder
    from molmo2_ground.query import Query
    from molmo2_ground.replay import Result
    from molmo2_ground.results import Receipt

Loader = Callable[..., "Grounder"]

TASKS = ("track", "point", "count", "ask")
_LIST_SUFFIXES = (".txt", ".list", ".lst")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One clip of a batch, and where its result goes."""

    media: Path
    result: Path


def add_parser(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], *, runner: argparse.ArgumentParser
) -> None:
    """Add `batch`."""
    words = "ask one question about many clips; a result file for each"
    parser = commands.add_parser("batch", help=words, description=words.capitalize() + ".", parents=[runner])
    parser.add_argument(
        "media",
        metavar="LIST",
        nargs="+",
        help="a text file (.txt, .list, .lst) with a path a line, or the clips themselves: files, patterns "
        "such as 'videos/*.mp4', folders of videos, folders of images",
    )
    parser.add_argument("query", metavar="QUERY", help="what to look for, in words")
    parser.add_argument("--task", choices=TASKS, default="track", help="what to do (default: track)")
    parser.add_argument(
        "--out",
        metavar="DIR",
        type=named_path,
        default=Path("molmo2-ground-batch"),
        help="where the result files go; a clip whose result is there is not asked again, whatever options "
        "it was made with (default: %(default)s)",
    )
    parser.add_argument("--max-new-tokens", metavar="N", type=int, help="longest answer, in tokens")
    parser.add_argument(
        "--keep-repeats", action="store_true", help="keep places that the model writes in circles"
    )
    parser.add_argument("--max-objects", metavar="N", type=int, help="keep at most N objects (track, point)")
    parser.add_argument(
        "--fps", metavar="N", type=float, default=2.0, help="places a second to track (default: 2)"
    )
    parser.add_argument("--show-fps", metavar="N", type=float, help="as for `track`")
    parser.set_defaults(call=run_batch)


def run_batch(arguments: argparse.Namespace, loader: Loader | None) -> int:
    """`batch`: 0 when every clip has its result, 1 when one has none."""
    query = _query(arguments)
    check_folder("--out", arguments.out)
    listed, origins = _listed(arguments.media), Origins(arguments.out)
    jobs = jobs_of(listed, arguments.out, kept=origins.names())
    arguments.out.mkdir(parents=True, exist_ok=True)
    left, there = _looked_through(jobs, query, origins, quiet=arguments.quiet)
    failures = len(jobs) - len(left) - there
    done = 0
    try:
        if left:
            asked = _asked(left, query, arguments, loader, origins, of=len(jobs), before=there + failures)
            for found in asked:
                done, failures = done + found, failures + (not found)
    except KeyboardInterrupt:
        say(f"\nresults in {arguments.out}: {done + there} of {len(jobs)}; the same command goes on")
        raise
    if not arguments.quiet:
        clips = amount(len(jobs), "clip")
        say(f"{clips}: {done} done, {there} there before, {failures} failed; {arguments.out}")
    return 1 if failures else 0


def _looked_through(
    jobs: Sequence[Job], query: Query, origins: Origins, *, quiet: bool
) -> tuple[list[Job], int]:
    """The clips that are still to be asked about, and how many have their result; the others are told."""
    left, there, bar = [], 0, Bar(quiet=quiet)
    for number, job in enumerate(jobs):
        # A folder of an earlier version has its videos read through, which takes a while.
        bar.tell("comparing", number / len(jobs), f"{number} of {len(jobs)}")
        try:
            done_by = _done_by(job, query, origins)
        except (SourceError, OSError) as error:
            bar.clear()
            say(f"{job.media}: {one_line(error)}")
            continue
        if done_by is None:
            left.append(job)
            continue
        there += 1
        if not quiet:
            bar.clear()
            say(f"{job.media}: {job.result} is there, by {done_by}; not asked again")
    bar.clear()
    return left, there


def _asked(
    jobs: Sequence[Job],
    query: Query,
    arguments: argparse.Namespace,
    loader: Loader | None,
    origins: Origins,
    *,
    of: int,
    before: int,
) -> Iterable[bool]:
    """Ask, write and print clip by clip; True for each that has its result now."""
    from molmo2_ground.batches import Failed
    from molmo2_ground.export import write_result
    from molmo2_ground.grounder import default_model, load
    from molmo2_ground.query import Decoding

    model = arguments.model or default_model()
    grounder = (loader or load)(model, device=arguments.device, dtype=arguments.dtype)
    decoding = Decoding(max_new_tokens=arguments.max_new_tokens, cut_runaways=not arguments.keep_repeats)
    bar = Bar(quiet=arguments.quiet)
    now: deque[Origin | None] = deque()
    results = grounder.batch(_opened(jobs, now), query, decoding=decoding)
    try:
        for number, job in enumerate(jobs, start=before):
            bar.tell("asking", number / of, f"{number} of {of}")
            found = next(results)
            bar.clear()
            origin = now.popleft()
            if isinstance(found, Failed):
                say(f"{job.media}: {one_line(found.error)}")
            else:
                # First, so that no result stands there of which nobody knows what it is about.
                if origin is not None:
                    origins.add(origin)
                write_result(found, job.result)
                print(f"{job.media}: {_found_words(found)}, {job.result}", flush=True)
            yield not isinstance(found, Failed)
    finally:
        bar.clear()


def _opened(jobs: Iterable[Job], now: deque[Origin | None]) -> Iterator[Path]:
    """The clips as their turn comes, with what each was then put into `now`; None when it cannot be read."""
    for job in jobs:
        try:
            now.append(Origin.of(job.media, job.result))
        except OSError:  # whoever asks about the clip tells it
            now.append(None)
        yield job.media


def _query(arguments: argparse.Namespace) -> Query:
    from molmo2_ground.query import Query

    if arguments.task == "track":
        return Query.track(
            arguments.query, fps=arguments.fps, max_objects=arguments.max_objects, show_fps=arguments.show_fps
        )
    if arguments.task == "point":
        return Query.point(arguments.query, max_objects=arguments.max_objects)
    return Query.count(arguments.query) if arguments.task == "count" else Query.ask(arguments.query)


def _found_words(result: Result) -> str:
    from molmo2_ground.results import Answer, Count

    if isinstance(result, Count):
        return f"{result.value} counted"
    if isinstance(result, Answer):
        return amount(len(result.text), "letter")
    return f"{len(result)} found"


def _done_by(job: Job, query: Query, origins: Origins) -> str | None:
    """The model that gave the result that is there; None without one.

    Raises `SourceError` when the file is something else, or about other media: it is neither kept for a
    result nor written over.
    """
    from molmo2_ground.export import read_result

    if not job.result.exists():
        return None
    try:
        receipt = read_result(job.result).receipt
    except (GroundError, OSError, ValueError) as error:
        raise SourceError(
            f"{job.result} is there and is no result ({one_line(error)}); move it away, or choose another "
            "--out"
        ) from error
    if (receipt.task, receipt.query) != (query.task, query.phrase):
        raise SourceError(
            f"{job.result} is there and answers another question ({receipt.task} {receipt.query!r}); move it "
            "away, or choose another --out"
        )
    _check_media(job, receipt, origins)
    return receipt.model_id


def _check_media(job: Job, receipt: Receipt, origins: Origins) -> None:
    """Raises `SourceError` when the result that is there was made from something else than this clip."""
    known = origins.of(job.result)
    if known is not None and not job.media.exists() and known.media == str(job.media.absolute()):
        return  # it was asked about and has gone since
    if known is None:
        check_receipt(receipt, job.media, job.result)
    now = Origin.of(job.media, job.result)
    if known is None:
        origins.add(now)
    else:
        known.check(now, job.result)


def jobs_of(media: Sequence[Path], folder: Path, *, kept: Mapping[Path, str] | None = None) -> list[Job]:
    """A result file for each clip, each clip once.

    The file is named for the clip; where two clips share a name, as much of their paths is put before it as
    tells them apart. kept: the names of clips that have a result, by their whole path; they keep them.
    """
    clips = {path.absolute(): path for path in media}
    names_of = {full: [full.stem, full.name, *_longer_names(full)] for full in clips}
    chosen = {full: name for full, name in (kept or {}).items() if full in clips}
    left = {full: names for full, names in names_of.items() if full not in chosen}
    for level in range(max((len(names) for names in left.values()), default=0)):
        # Those that have their name count too: of two clips called alike each gets its folder's name.
        now = {full: names[min(level, len(names) - 1)] for full, names in names_of.items()}
        alike = Counter([*now.values(), *(name for full, name in chosen.items() if now[full] != name)])
        chosen |= {full: now[full] for full in left if alike[now[full]] == 1}
        left = {full: names for full, names in left.items() if full not in chosen}
    # Names of files that hold the sign which stands between folders can still be alike.
    chosen |= {full: f"{names[-1]}__{number}" for number, (full, names) in enumerate(left.items(), start=1)}
    return [Job(media=path, result=folder / f"{chosen[full]}.json") for full, path in clips.items()]


def _longer_names(path: Path) -> list[str]:
    """`b__clip.mp4`, `a__b__clip.mp4`, … up to the whole path."""
    parts = path.parts[1:]
    return ["__".join(parts[-count:]) for count in range(2, len(parts) + 1)]


def _listed(words: Sequence[str]) -> list[Path]:
    """The clips that the command line names: in a list, by a pattern, or one by one. Raises `ValueError`."""
    found: list[Path] = []
    for word in words:
        path = Path(word)
        if path.suffix.lower() in _LIST_SUFFIXES:
            found += _lines_of(path)
        elif not path.exists() and glob.has_magic(word):
            matches = sorted(glob.glob(word, recursive=True))
            if not matches:
                raise ValueError(f"no file matches {word}")
            found += [Path(match) for match in matches]
        else:
            found.append(path)
    if not found:
        raise ValueError(f"{' '.join(words)} names no clip; expected a path a line")
    return [clip for path in found for clip in _clips_of(path.expanduser())]


def _clips_of(path: Path) -> list[Path]:
    """The videos in a folder of videos, else the path itself. Raises `ValueError` for a mixed folder."""
    from molmo2_ground.sources.container import film_files
    from molmo2_ground.sources.images import picture_files

    films = film_files(path) if path.is_dir() else []
    if films and picture_files(path):
        raise ValueError(
            f"the folder {path} holds videos and pictures; name the videos, such as "
            f"'{path}/*{films[0].suffix}', or a folder of the pictures alone"
        )
    return films or [path]


def _lines_of(path: Path) -> list[Path]:
    """The paths in a list: as from here, else as from the list's own folder; lines after # are left out."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except FileNotFoundError as error:
        raise ValueError(f"there is no list {path}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8; expected a path a line") from error
    wanted = [Path(line) for line in lines if line and not line.startswith("#")]
    return [one if one.exists() or not (path.parent / one).exists() else path.parent / one for one in wanted]
