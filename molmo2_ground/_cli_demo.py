"""`molmo2-ground demo`: a street clip made here, the red car tracked in it, and everything written down."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from molmo2_ground._cli_lines import lines, remarks
from molmo2_ground._cli_output import Bar, say
from molmo2_ground.export import write_result
from molmo2_ground.render import contact_sheet, render
from molmo2_ground.train.toy.clip_file import write_clip
from molmo2_ground.train.toy.street import demo_scene
from molmo2_ground.viewer import write_report

if TYPE_CHECKING:
    from molmo2_ground.grounder import Grounder

PHRASE = "the red car"


def make_demo(folder: Path, load: Callable[[], Grounder], *, quiet: bool = False) -> bool:
    """Write the demo into `folder` and say where; False when the car was not found.

    Raises what tracking and drawing raise.
    """
    folder.mkdir(parents=True, exist_ok=True)
    clip, video = folder / "street.mp4", folder / "tracked.mp4"
    result, sheet, page = folder / "tracks.json", folder / "frames.png", folder / "report.html"
    bar = Bar(quiet=quiet)
    try:
        bar.tell("filming", 0.0)
        write_clip(demo_scene(), clip)
        tracks = load().track(clip, PHRASE, on_progress=bar.tell)
        write_result(tracks, result)
        render(clip, tracks, video, on_progress=lambda share: bar.tell("drawing", share))
        contact_sheet(clip, tracks, sheet)
        write_report(tracks, clip, page, video=video)
    finally:
        bar.clear()
    for line in lines(tracks):
        print(line)
    if not quiet:
        for line in remarks(tracks):
            say(line)
    about = {
        clip: "the clip",
        video: f"{PHRASE}, marked in it",
        result: "the places as numbers, with the receipt",
        sheet: "the frames that the model saw, for those without a player",
        page: "all of it as one page for a browser",
    }
    for path, words in about.items():
        print(f"{path}: {words}")
    if not tracks:
        say(f"molmo2-ground: the model did not find {PHRASE} in the demo clip")
    return len(tracks) > 0
