"""`ToyMasks`: the toy street's suite, with masks of what was tracked against the exact ones.

What is scored beside the scores of `ToySuite`, of questions to track that have an answer, over all frames of
a film of `FILM_FPS` in which an object asked for counts as visible (shares, means over objects, each the mean
over its frames):

j, f, j_and_f              masks that the segmenter makes of the model's answer. Answered objects are paired
                           with those asked for, one to one, by their mean J; an object without an answer is
                           compared with empty masks. Answers beyond those asked for cost nothing here:
                           the scores of the tracks tell of them.
true_point_j, true_point_f, true_point_j_and_f
                           the same from the true place of each object every half second, so that the
                           segmenter is seen apart from the model's mistakes. It is the same for every model.

The answers are those of `ToySuite`, about the same files: kept ones are used, and masks are made when a
question is scored. They are made in a film of the same clip with more frames, for how well a mask is carried
from a sighting to the next frame is what is measured, and cameras deliver no four frames a second.
"""

from __future__ import annotations

import dataclasses
import functools
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy.optimize import linear_sum_assignment

from molmo2_ground.clip import Frame
from molmo2_ground.eval.example import Example, Result
from molmo2_ground.eval.metrics import boundary_f, jaccard
from molmo2_ground.masks.choice import segmenter_named
from molmo2_ground.masks.prompts import PointPrompt, Prompts
from molmo2_ground.masks.propagation import Propagation
from molmo2_ground.masks.segmenter import Segmenter
from molmo2_ground.results import Receipt, Tracks
from molmo2_ground.rle import Rle
from molmo2_ground.sources import iter_frames
from molmo2_ground.train.toy.clip_file import frame_count, write_clip
from molmo2_ground.train.toy.layout import FRAME_HEIGHT_PX, FRAME_WIDTH_PX
from molmo2_ground.train.toy_held_out import HeldOut
from molmo2_ground.train.toy_suite import ToySuite

FILM_FPS = 10.0
"""Frames a second of the films that masks are made in; a half second is a frame of its own."""

# By object, then by number of the frame.
Films = dict[int, dict[int, Rle]]
_SCORES = ("j", "f", "j_and_f")
_TRUE_POINT = "true_point_"


class ToyMasks(ToySuite):
    """`ToySuite` with scores of masks; see the module's text for what is scored.

    segmenter: `region`, or SAM 2 by name, hub id or folder (`masks.choice.segmenter_named`).
    device: for segmenters that run on torch.   clips, first_seed: as for `ToySuite`.
    """

    def __init__(
        self, clips: int = 500, *, first_seed: int = 0, segmenter: str = "region", device: str = "auto"
    ) -> None:
        super().__init__(clips, first_seed=first_seed)
        self.segmenter, self.device = segmenter, device
        self.headline = (*ToySuite.headline, "j_and_f", f"{_TRUE_POINT}j_and_f")
        note = f"{ToySuite.settings.note}; masks by {segmenter}"
        self.settings = dataclasses.replace(ToySuite.settings, note=note)

    def score(self, example: Example, result: Result | None) -> dict[str, float]:
        """Scores of one answer, with those of its masks where something is to be tracked."""
        scores = super().score(example, result)
        held_out, asked = self.asked(example.key)
        if asked.ask != "track" or not example.truth.objects:
            return scores
        film = held_out.filmed_at(FILM_FPS)
        truth = _true_masks(film, asked.question.object_ids)
        if not truth:
            return scores
        segmenter = _segmenter(self.segmenter, self.device)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "film.mp4"
            write_clip(film.scene, path, fps=film.fps, quick=True)
            found: Films = {}
            if isinstance(result, Tracks):
                found = _masks(segmenter, path, moved_to(film, Prompts.of(result), asked=held_out))
            ideal = _masks(segmenter, path, _true_points(film, asked.question.object_ids))
        scores |= mask_marks(paired(found, truth), truth)
        return scores | {f"{_TRUE_POINT}{name}": value for name, value in mask_marks(ideal, truth).items()}


@functools.lru_cache(maxsize=1)
def _segmenter(name: str, device: str) -> Segmenter:
    return segmenter_named(name, device=device)


def _masks(segmenter: Segmenter, path: Path, prompts: Prompts) -> Films:
    """The masks that a segmenter makes of these points in a clip's file."""
    films: Films = {}
    frames: Iterable[Frame] = iter_frames(path)
    for _, masks in Propagation(segmenter, prompts).run(frames):
        for mask in masks:
            films.setdefault(mask.object_id, {})[mask.source_index] = mask.rle
    return films


def moved_to(film: HeldOut, prompts: Prompts, *, asked: HeldOut) -> Prompts:
    """Prompts about the file that was asked about, in another film of it: at the same times, or nearest."""

    def moved(source_index: int) -> int:
        return round(asked.time_s(source_index) * film.fps)

    return dataclasses.replace(
        prompts,
        points=tuple(dataclasses.replace(p, source_index=moved(p.source_index)) for p in prompts.points),
        looked=tuple(sorted({moved(index) for index in prompts.looked})),
    )


def _true_masks(held_out: HeldOut, object_ids: Sequence[int]) -> Films:
    """The exact masks of every frame in which an object counts as visible."""
    films: Films = {}
    for index in range(frame_count(held_out.scene, fps=held_out.fps)):
        ids = held_out.id_map(index)
        for state in held_out.scene.truth(held_out.time_s(index), ids):
            if state.visible and state.object_id in object_ids:
                films.setdefault(state.object_id, {})[index] = Rle.encode(ids == state.object_id)
    return films


def _true_points(held_out: HeldOut, object_ids: Sequence[int]) -> Prompts:
    """Where the objects really are every half second."""
    looked = tuple(held_out.source_index(number) for number in range(len(held_out.states)))
    times_s = tuple(held_out.time_s(index) for index in looked)
    points = tuple(
        PointPrompt(object_id=s.object_id, source_index=index, x_px=s.x_px, y_px=s.y_px)
        for index, states in zip(looked, held_out.states, strict=True)
        for s in states
        if s.visible and s.object_id in object_ids
    )
    receipt = Receipt(
        task="track",
        query="",
        model_id="truth",
        backend="truth",
        recipe="truth",
        prompt="",
        raw_text="",
        stop_reason="",
        source="toy street",
        frame_times_s=times_s,
        shown_times_s=times_s,
        frame_source_indices=looked,
        size_px=(FRAME_WIDTH_PX, FRAME_HEIGHT_PX),
    )
    return Prompts(points=points, labels={p.object_id: "" for p in points}, looked=looked, receipt=receipt)


def paired(found: Films, truth: Films) -> Films:
    """What was found under the ids of the objects that it overlaps most, one to one."""
    ours, theirs = list(found), list(truth)
    if not ours:
        return {}
    mean_j = np.array([[_mean_iou(found[one], truth[other]) for other in theirs] for one in ours])
    rows, columns = linear_sum_assignment(-mean_j)
    return {theirs[column]: found[ours[row]] for row, column in zip(rows, columns, strict=True)}


def _mean_iou(found: Mapping[int, Rle], truth: Mapping[int, Rle]) -> float:
    return float(np.mean([found[i].iou(mask) if i in found else 0.0 for i, mask in truth.items()]))


def mask_marks(found: Films, truth: Films) -> dict[str, float]:
    """j, f and j_and_f: means over the true objects of the means over their frames."""
    j, f = [], []
    for object_id, masks in truth.items():
        mine = found.get(object_id, {})
        pairs = [(_or_empty(mine.get(index)), mask.decode()) for index, mask in masks.items()]
        j.append(np.mean([jaccard(*pair) for pair in pairs]))
        f.append(np.mean([boundary_f(*pair) for pair in pairs]))
    mean_j, mean_f = float(np.mean(j)), float(np.mean(f))
    return dict(zip(_SCORES, (mean_j, mean_f, (mean_j + mean_f) / 2), strict=True))


def _or_empty(mask: Rle | None) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    return np.zeros((FRAME_HEIGHT_PX, FRAME_WIDTH_PX), dtype=bool) if mask is None else mask.decode()
