"""Writes a scene as an H.264 file, and what is true in each of its frames as a JSON file beside it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import numpy.typing as npt

from molmo2_ground._atomic import atomic_path
from molmo2_ground.train.toy.actors import Actor, ActorState
from molmo2_ground.train.toy.layout import FRAME_HEIGHT_PX, FRAME_WIDTH_PX
from molmo2_ground.train.toy.scene import Scene
from molmo2_ground.train.toy.stamp import Bytes

Bools = npt.NDArray[np.bool_]

TRUTH_VERSION = 1
_SOUND_RATE_HZ = 48_000
_SOUND_BLOCK = 1024
# Blue minus brightness and red minus brightness, 16 to 240 around 128, from (R, G, B, 1): ITU-R BT.601. The
# third row is not used: OpenCV is ten times as fast when as many channels come out as go in.
_COLOUR_PLANES = np.array(
    [
        [-0.148223, -0.290993, 0.439216, 128.0],
        [0.439216, -0.367788, -0.071427, 128.0],
        [0.0, 0.0, 0.0, 0.0],
    ],
    dtype=np.float32,
)


def frame_count(scene: Scene, *, fps: float) -> int:
    """Number of frames of a scene at this rate, at least one. Frame i shows time i / fps."""
    if not fps > 0:
        raise ValueError(f"fps must be above 0; got {fps}")
    return max(1, round(scene.duration_s * fps))


def write_clip(
    scene: Scene, path: str | Path, *, fps: float = 30, audio: bool = False, quick: bool = False
) -> None:
    """Write an mp4 that browsers play: H.264, yuv420p, index first; `audio` adds a quiet hum as AAC.

    quick: at the same quality a file three times as large, in a third of the time.
    The file appears under its name when it is complete, never half written.
    """
    rate = Fraction(fps).limit_denominator(1001)
    count = frame_count(scene, fps=fps)
    with (
        atomic_path(path) as unfinished,
        av.open(str(unfinished), "w", format="mp4", options={"movflags": "faststart"}) as container,
    ):
        # One thread and no B-frame guesses from the clock: the same scene gives the same bytes.
        preset = "ultrafast" if quick else "veryfast"
        video = container.add_stream("libx264", rate=rate, options={"crf": "20", "preset": preset})
        video.width, video.height, video.pix_fmt = FRAME_WIDTH_PX, FRAME_HEIGHT_PX, "yuv420p"
        video.codec_context.thread_count = 1
        sound = container.add_stream("aac", rate=_SOUND_RATE_HZ, layout="mono") if audio else None
        for index in range(count):
            rgb = scene.picture(index / fps)
            frame = _quickly(rgb) if quick else av.VideoFrame.from_ndarray(rgb, format="rgb24")
            frame.pts, frame.time_base = index, 1 / rate
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if sound is not None:
            for block in _hum(count / fps):
                container.mux(sound.encode(block))
            container.mux(sound.encode(None))


def write_truth(scene: Scene, path: str | Path, *, fps: float = 30) -> None:
    """Write what every frame of `write_clip` with the same rate shows, as JSON.

    Per frame and actor: its point, whether it counts as visible, the share that shows and its visible
    mask as run lengths (see `run_lengths`).
    """
    frames = []
    for index in range(frame_count(scene, fps=fps)):
        ids = scene.id_map(index / fps)
        states = scene.truth(index / fps, ids)
        frames.append(
            {
                "frame_index": index,
                "time_s": round(index / fps, 6),
                "objects": [_state_row(state, ids) for state in states if state.visible_share > 0],
            }
        )
    truth = {
        "truth_version": TRUTH_VERSION,
        "seed": scene.seed,
        "fps": fps,
        "width_px": FRAME_WIDTH_PX,
        "height_px": FRAME_HEIGHT_PX,
        "actors": [_actor_row(actor) for actor in scene.actors],
        "frames": frames,
    }
    with atomic_path(path) as unfinished:
        unfinished.write_text(json.dumps(truth, separators=(",", ":")) + "\n", encoding="utf-8")


def run_lengths(mask: Bools | Bytes) -> list[int]:
    """Lengths of the runs of a mask [h, w] read row by row, off and on in turn, off first (may be 0)."""
    flat = np.asarray(mask).reshape(-1) != 0
    turns = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    lengths = np.diff(np.concatenate([[0], turns, [flat.size]]))
    return [*([0] if flat.size and flat[0] else []), *(int(length) for length in lengths)]


def mask_from_runs(runs: list[int], *, width_px: int, height_px: int) -> Bools:
    """The mask bool[height, width] of these run lengths; ValueError when they do not add up to its size."""
    if sum(runs) != width_px * height_px or min(runs, default=0) < 0:
        raise ValueError(f"runs must add up to {width_px} x {height_px} pixels; they add up to {sum(runs)}")
    values = np.arange(len(runs)) % 2 == 1
    return np.asarray(np.repeat(values, runs).reshape(height_px, width_px), dtype=np.bool_)


def _quickly(rgb: Bytes) -> av.VideoFrame:
    """A picture uint8[h, w, 3] in the encoder's own form, h divisible by 4 and w by 2.

    As FFmpeg makes it in four times the time: ITU-R BT.601 in its limited range, the brightness of every
    pixel, then the two colour planes of half the width and height, of the mean of two by two pixels.
    """
    height, width, _ = rgb.shape
    planes = np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV_I420), dtype=np.uint8)
    # OpenCV takes the colour of one pixel of four, which frays edges and small things.
    half = cv2.resize(rgb, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    colour = cv2.transform(half, _COLOUR_PLANES)
    for channel, plane in enumerate(planes[height:].reshape(2, height // 2, width // 2)):
        cv2.extractChannel(colour, channel, dst=plane)
    return av.VideoFrame.from_numpy_buffer(planes, format="yuv420p")


def _state_row(state: ActorState, ids: Bytes) -> dict[str, object]:
    return {
        "object_id": state.object_id,
        "x_px": state.x_px,
        "y_px": state.y_px,
        "visible": state.visible,
        "visible_share": round(state.visible_share, 4),
        "runs": run_lengths(ids == state.object_id),
    }


def _actor_row(actor: Actor) -> dict[str, object]:
    return {
        "object_id": actor.object_id,
        "kind": actor.kind,
        "colour": actor.colour,
        "size": actor.size,
        "moving": actor.moving,
    }


def _hum(duration_s: float) -> Iterator[av.AudioFrame]:
    """A quiet low tone in blocks."""
    total = round(duration_s * _SOUND_RATE_HZ)
    for start in range(0, total, _SOUND_BLOCK):
        places = np.arange(start, min(start + _SOUND_BLOCK, total))
        wave = 0.05 * np.sin(2 * np.pi * 110 * places / _SOUND_RATE_HZ).astype(np.float32)
        block = av.AudioFrame.from_ndarray(wave.reshape(1, -1), format="fltp", layout="mono")
        block.sample_rate, block.pts, block.time_base = _SOUND_RATE_HZ, start, Fraction(1, _SOUND_RATE_HZ)
        yield block
