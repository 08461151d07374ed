"""Published numbers about grounding, as data, to be read beside a run's own.

PAPER is the Molmo2 technical report (arXiv 2601.10611), MOLMO_POINT the abstract of the MolmoPoint report
(arXiv 2603.28069). Only the 8B model's grounding figures are in the sources at hand; those of the 4B and
O-7B models and the close accuracies are not. docs/suites.md says where a published number was measured
differently from ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

PAPER = "Molmo2 (arXiv 2601.10611)"
MOLMO_POINT = "MolmoPoint (arXiv 2603.28069)"

_MOLMO2 = "Molmo2-8B"
_QWEN = "Qwen3-VL-8B"
_GEMINI = "Gemini 3 Pro"

Kind = Literal["score", "difference", "preference"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperRow:
    """One published number.

    kind     `score`: a score, which a run's own may stand beside. `difference`: the model's score minus
             another model's. `preference`: the share of pairs of answers in which people preferred the
             model's to another model's. The last two say nothing about how well either does.
    against  the other model of a difference or a preference, empty for a score.
    suite    name of the suite that it belongs to.
    model    whose number it is.
    score    what was measured, by the name that the suite's own scores have; `j_and_f` needs masks, which
             points alone do not give, and no suite here has it. `overall` where the source does not say.
    value    a share from 0 to 1; of a difference a part of such a share: +6.3 points are 0.063.
    source   the report.   where  the table or part of it.
    note     what differs from a plain run of the suite, empty when nothing does.
    """

    suite: str
    model: str
    score: str
    value: float
    source: str = PAPER
    where: str = ""
    note: str = ""
    kind: Kind = "score"
    against: str = ""

    def __post_init__(self) -> None:
        if (self.kind == "score") != (not self.against):
            raise ValueError(
                f"a difference or a preference is against another model, a score against none; got "
                f"kind={self.kind!r}, against={self.against!r}"
            )


def paper_rows(suite: str, *, score: str | None = None) -> tuple[PaperRow, ...]:
    """The published numbers for a suite, or for one of its scores, in the order of the sources."""
    return tuple(row for row in PAPER_ROWS if row.suite == suite and score in (None, row.score))


def _rows(
    suite: str,
    model: str,
    where: str,
    note: str = "",
    source: str = PAPER,
    kind: Kind = "score",
    against: str = "",
    **percent: float,
) -> tuple[PaperRow, ...]:
    return tuple(
        PaperRow(
            suite=suite,
            model=model,
            score=score,
            value=round(value / 100, 4),
            source=source,
            where=where,
            note=note,
            kind=kind,
            against=against,
        )
        for score, value in percent.items()
    )


_RELEASED = "by the released evaluator: compare with the scores reference_..."
_BY_TEXT = "by the released evaluator, which reads the number in the text: compare with reference_accuracy"
_FROM_POINTS = "of masks that SAM 2 made from the points"
_TEXT_MOLMO2 = "Molmo2, which writes coordinates as text"
_ABLATION = "a smaller model trained for an ablation, not the released one"


def _tracked(
    suite: str, where: str, split: str, *, j_and_f: float, f1: float, hota: float
) -> tuple[PaperRow, ...]:
    """Molmo2's own figures of a tracking set: the released evaluator gives F1 and HOTA, but no J&F."""
    return (
        *_rows(suite, _MOLMO2, where, f"{split}; {_FROM_POINTS}", j_and_f=j_and_f),
        *_rows(suite, _MOLMO2, where, f"{split}; {_RELEASED}", f1=f1, hota=hota),
    )


PAPER_ROWS: tuple[PaperRow, ...] = (
    *_rows("video-count", _MOLMO2, "Table 3", _BY_TEXT, accuracy=35.5),
    *_rows("video-count", _QWEN, "Table 2", _BY_TEXT, accuracy=29.6),
    *_rows("video-count", "count only", "Table 9a", _ABLATION, accuracy=28.1),
    *_rows("video-count", "point, then count", "Table 9a", _ABLATION, accuracy=34.5),
    *_rows(
        "burst-count",
        _MOLMO2,
        "Table 3",
        "2.2k questions made of BURST's tracks, not released: the suite's questions are others",
        accuracy=60.8,
    ),
    *_rows("video-point", _MOLMO2, "Table 3", _RELEASED, f1=38.4, recall=39.3, precision=38.7),
    *_rows("video-point", _QWEN, "Table 3", _RELEASED, f1=1.5),
    *_rows("video-point", _GEMINI, "Table 3", _RELEASED, f1=20.0),
    *_tracked(
        "mevis", "Table 4", "split valid, whose masks are not public", j_and_f=62.3, f1=75.9, hota=72.6
    ),
    *_tracked("ref-yt-vos", "Table 4", "split valid", j_and_f=70.2, f1=78.7, hota=77.3),
    *_tracked("ref-davis", "Table 4", "split test", j_and_f=81.3, f1=78.7, hota=72.7),
    *_tracked("reason-vos", "Table 4", "split test", j_and_f=65.8, f1=70.8, hota=68.6),
    *_tracked("video-track", "Table 5", "overall", j_and_f=56.2, f1=57.1, hota=57.5),
    *_rows("video-track", _GEMINI, "abstract", "overall", j_and_f=41.1),
    *_rows("point-bench", _MOLMO2, "Table 7", accuracy=72.7),
    *_rows(
        "point-bench",
        "MolmoPoint",
        "abstract",
        "called the best there, below the other report's 72.7: the protocols differ",
        MOLMO_POINT,
        accuracy=70.7,
    ),
    *_rows(
        "video-track",
        "MolmoPoint",
        "abstract",
        "which score went up is not said",
        MOLMO_POINT,
        kind="difference",
        against=_TEXT_MOLMO2,
        overall=6.3,
    ),
    *_rows(
        "video-point",
        "MolmoPoint",
        "abstract",
        "people were shown two answers; which videos is not said",
        MOLMO_POINT,
        kind="preference",
        against=_TEXT_MOLMO2,
        overall=59.1,
    ),
)
