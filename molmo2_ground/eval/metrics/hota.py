"""HOTA, higher order tracking accuracy, in all its parts and for every threshold.

After J. Luiten et al., "HOTA: A Higher Order Metric for Evaluating Multi-Object Tracking" (IJCV 2021).
Detection and association are scored for each threshold of similarity; with point-in-mask similarity, which
is 0 or 1, all thresholds agree.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

Floats = npt.NDArray[np.float64]

ALPHAS: Floats = np.arange(0.05, 0.99, 0.05)
_EPSILON = float(np.finfo(np.float64).eps)
# A similarity summed over no match is no bad localisation: 1 (tiny over tiny).
_TINY = 1e-10


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FrameSimilarity:
    """Who is in one frame, and how alike.

    truth_ids, predicted_ids  int[n] and int[m], any sequence: the true objects and the predicted ones.
    similarity                float64[n, m] from 0 to 1; what is empty may have any shape.
    """

    truth_ids: tuple[int, ...]
    predicted_ids: tuple[int, ...]
    similarity: Floats

    def __post_init__(self) -> None:
        for name in ("truth_ids", "predicted_ids"):
            object.__setattr__(self, name, tuple(int(one) for one in getattr(self, name)))
        similarity = np.asarray(self.similarity, dtype=np.float64)
        if not similarity.size and not (self.truth_ids and self.predicted_ids):
            similarity = similarity.reshape(len(self.truth_ids), len(self.predicted_ids))
        object.__setattr__(self, "similarity", similarity)
        if self.similarity.shape != (len(self.truth_ids), len(self.predicted_ids)):
            raise ValueError(
                f"similarity is [truth, predicted] = [{len(self.truth_ids)}, {len(self.predicted_ids)}]; "
                f"got {list(self.similarity.shape)}"
            )
        for ids in (self.truth_ids, self.predicted_ids):
            if len(set(ids)) != len(ids):
                raise ValueError(f"an id occurs once in a frame; got {ids}")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Hota:
    """HOTA and its parts, float64[19] each: one value for every threshold in `ALPHAS`.

    tp, fn, fp      matched pairs, truth without a match, predictions without one.
    deta, assa      accuracy of detection and of association; hota is the root of their product.
    detre, detpr    recall and precision of detection; assre, asspr of association.
    loca            mean similarity of the matched pairs, 1 without any.
    owta            root of detre x assa: HOTA for sets that do not annotate everything.
    """

    tp: Floats
    fn: Floats
    fp: Floats
    hota: Floats
    deta: Floats
    assa: Floats
    detre: Floats
    detpr: Floats
    assre: Floats
    asspr: Floats
    loca: Floats
    owta: Floats

    def scores(self) -> dict[str, float]:
        """The mean over all thresholds of each part, by name."""
        return {name: float(getattr(self, name).mean()) for name in _PARTS}

    def at(self, alpha: float) -> dict[str, float]:
        """Each part at one threshold, which is one of `ALPHAS`."""
        place = int(np.abs(ALPHAS - alpha).argmin())
        if abs(ALPHAS[place] - alpha) > 1e-6:
            raise ValueError(f"HOTA is computed at 0.05, 0.10, ... 0.95; got {alpha}")
        return {name: float(getattr(self, name)[place]) for name in _PARTS}

    def lowest(self) -> dict[str, float]:
        """What TrackEval writes with (0): hota and loca at the lowest threshold, and their product."""
        hota, loca = float(self.hota[0]), float(self.loca[0])
        return {"hota_0": hota, "loca_0": loca, "hotaloca_0": hota * loca}

    def counts(self) -> dict[str, float]:
        """Matched, missed and wrong as means over the thresholds, for `pooled_hota`.

        Exact when the similarity is 0 or 1, as for points in masks: then the thresholds agree.
        """
        return {f"hota_{name}": float(getattr(self, name).mean()) for name in ("tp", "fn", "fp")}


_PARTS = ("hota", "deta", "assa", "detre", "detpr", "assre", "asspr", "loca", "owta")


def hota(frames: Sequence[FrameSimilarity], *, reference_compat: bool = False) -> Hota:
    """HOTA of one query's frames, in the order of time, frames with nobody in them included.

    frames: `track_frames(truth, placed)` makes them of masks and places; a `FrameSimilarity` a frame holds
    any other similarity. `hota(frames).scores()["hota"]` is the number most people mean.

    Nothing there and nothing predicted is 1. `reference_compat` adds the released evaluator's epsilon where
    identities are aligned.
    """
    truth_index = _numbering(frame.truth_ids for frame in frames)
    predicted_index = _numbering(frame.predicted_ids for frame in frames)
    wanted = sum(len(frame.truth_ids) for frame in frames)
    predicted = sum(len(frame.predicted_ids) for frame in frames)
    if not wanted and not predicted:
        return _all_right()
    none: Floats = np.zeros(len(ALPHAS))
    if not wanted or not predicted:
        return _finish(tp=none, fn=none + wanted, fp=none + predicted, loca_sum=none, ass=(none, none, none))
    numbered = [
        (
            np.array([truth_index[i] for i in frame.truth_ids], dtype=np.intp),
            np.array([predicted_index[i] for i in frame.predicted_ids], dtype=np.intp),
            np.asarray(frame.similarity, dtype=np.float64),
        )
        for frame in frames
    ]
    shape = len(truth_index), len(predicted_index)
    alignment, truth_frames, predicted_frames = _align(numbered, shape, reference_compat)
    tp, loca_sum, matches = _match(numbered, alignment, shape)
    ass_re, ass_pr, ass_a = none.copy(), none.copy(), none.copy()
    for place, count in enumerate(matches):
        total = max(1.0, tp[place])
        union = truth_frames + predicted_frames - count
        ass_a[place] = (count * (count / np.maximum(1, union))).sum() / total
        ass_re[place] = (count * (count / np.maximum(1, truth_frames))).sum() / total
        ass_pr[place] = (count * (count / np.maximum(1, predicted_frames))).sum() / total
    return _finish(tp=tp, fn=wanted - tp, fp=predicted - tp, loca_sum=loca_sum, ass=(ass_a, ass_re, ass_pr))


def pool_hota(parts: Sequence[Hota]) -> Hota:
    """HOTA of many queries as one: counts added, association weighted by matched pairs."""
    if not parts or not any((part.tp + part.fn + part.fp).any() for part in parts):
        return _all_right()
    tp, fn, fp = (np.sum([getattr(part, name) for part in parts], axis=0) for name in ("tp", "fn", "fp"))
    total = np.maximum(1, tp)
    ass = tuple(
        np.sum([getattr(part, name) * part.tp for part in parts], axis=0) / total
        for name in ("assa", "assre", "asspr")
    )
    loca_sum = np.sum([part.loca * part.tp for part in parts], axis=0)
    return _finish(tp=tp, fn=fn, fp=fp, loca_sum=loca_sum, ass=(ass[0], ass[1], ass[2]))


def pooled_hota(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """`pool_hota` from the rows of examples that hold `Hota.scores()` and `Hota.counts()`.

    Exact for point-in-mask similarity. Rows without these are left out; no row gives no score.
    """
    held = [row for row in rows if "hota_tp" in row]
    if not held:
        return {}
    one: Floats = np.ones(len(ALPHAS))
    parts = [
        Hota(
            tp=one * row["hota_tp"],
            fn=one * row["hota_fn"],
            fp=one * row["hota_fp"],
            **{name: one * row[name] for name in _PARTS},
        )
        for row in held
    ]
    return {f"pooled_{name}": value for name, value in pool_hota(parts).scores().items()}


def _numbering(ids: Iterable[tuple[int, ...]]) -> dict[int, int]:
    found = sorted({one for frame in ids for one in frame})
    return {one: place for place, one in enumerate(found)}


_Numbered = tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], Floats]


def _align(
    frames: Sequence[_Numbered], shape: tuple[int, int], reference_compat: bool
) -> tuple[Floats, Floats, Floats]:
    """How alike each truth and each predicted identity are over all frames, and how many frames each has."""
    potential: Floats = np.zeros(shape)
    truth_frames: Floats = np.zeros((shape[0], 1))
    predicted_frames: Floats = np.zeros((1, shape[1]))
    for truth, predicted, similarity in frames:
        union = similarity.sum(0)[None, :] + similarity.sum(1)[:, None] - similarity
        share = np.divide(similarity, union, out=np.zeros_like(similarity), where=union > _EPSILON)
        potential[truth[:, None], predicted[None, :]] += share
        truth_frames[truth] += 1
        predicted_frames[0, predicted] += 1
    below = truth_frames + predicted_frames - potential + (_EPSILON if reference_compat else 0.0)
    return potential / below, truth_frames, predicted_frames


def _match(
    frames: Sequence[_Numbered], alignment: Floats, shape: tuple[int, int]
) -> tuple[Floats, Floats, Floats]:
    """One matching a frame for all thresholds: pairs, their similarity, and who met whom how often."""
    tp: Floats = np.zeros(len(ALPHAS))
    loca_sum: Floats = np.zeros(len(ALPHAS))
    matches: Floats = np.zeros((len(ALPHAS), *shape))
    for truth, predicted, similarity in frames:
        if not truth.size or not predicted.size:
            continue
        score = alignment[truth[:, None], predicted[None, :]] * similarity
        rows, columns = linear_sum_assignment(-score)
        found = similarity[rows, columns]
        for place, alpha in enumerate(ALPHAS):
            close = found >= alpha - _EPSILON
            tp[place] += close.sum()
            loca_sum[place] += found[close].sum()
            matches[place, truth[rows[close]], predicted[columns[close]]] += 1
    return tp, loca_sum, matches


def _finish(*, tp: Floats, fn: Floats, fp: Floats, loca_sum: Floats, ass: tuple[Floats, ...]) -> Hota:
    assa, assre, asspr = ass
    detre = tp / np.maximum(1, tp + fn)
    deta = tp / np.maximum(1, tp + fn + fp)
    return Hota(
        tp=tp,
        fn=fn,
        fp=fp,
        hota=np.sqrt(deta * assa),
        deta=deta,
        assa=assa,
        detre=detre,
        detpr=tp / np.maximum(1, tp + fp),
        assre=assre,
        asspr=asspr,
        loca=np.maximum(_TINY, loca_sum) / np.maximum(_TINY, tp),
        owta=np.sqrt(detre * assa),
    )


def _all_right() -> Hota:
    none: Floats = np.zeros(len(ALPHAS))
    return Hota(tp=none, fn=none, fp=none, **dict.fromkeys(_PARTS, none + 1))
