"""One question on a video: where the thing is over time, and the video with it marked.

make demo && .venv/bin/python examples/01_track.py
.venv/bin/python examples/01_track.py street.mp4 "the red car" tracked.mp4
"""

from __future__ import annotations

import sys

import molmo2_ground as mg


def main(
    video: str = "out/demo/street.mp4",
    phrase: str = "the red car",
    out: str = "out/tracked.mp4",
    *,
    model: mg.Grounder | None = None,
) -> None:
    """Track, print each object's first and last place, and write the annotated video."""
    tracks = mg.track(video, phrase, model=model)
    if not tracks:
        print(f"the model found no {phrase}")
    for track in tracks:
        for word, sample in (("first", track.first), ("last", track.last)):
            print(
                f"object {track.object_id} {word} seen at {sample.time_s:.2f} s, "
                f"x {sample.x_px:.0f} px, y {sample.y_px:.0f} px (frame {sample.source_index})"
            )
    mg.render(video, tracks, out)
    print(f"wrote {out}")


if __name__ == "__main__":
    main(*sys.argv[1:])
