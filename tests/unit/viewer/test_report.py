from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from molmo2_ground.errors import SourceError
from molmo2_ground.render import Result
from molmo2_ground.results import Answer, Count, ParseReport, Rejected, Tracks
from molmo2_ground.viewer import write_report
from molmo2_ground.viewer.words import cautions
from tests import media as shelf
from tests.found import masks, points, receipt, track, tracks
from tests.media import Shelf

LOOKED_S = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
EVIL = '<script>alert("1")</script>&amp;\'<img src=x onerror=alert(2)>'
# Elements that have no end tag.
_VOID = {"meta", "img", "link", "br"}


class _Page(HTMLParser):
    """What a browser would find in a page; stumbles over elements that are not closed in order."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(path.read_text("utf-8"))
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in ("style", "script"):
            self.text += data

    def of(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


def _car(**fields: object) -> Tracks:
    seen = track({0.0: (10.0, 60.0), 0.2: (20.0, 60.5), 1.0: (80.0, 60.0)}, size_px=shelf.SIZE_PX)
    return tracks(seen, looked_s=LOOKED_S, size_px=shelf.SIZE_PX, fps=10.0, **fields)


def test_the_page_holds_question_answer_numbers_frames_and_receipt(media: Shelf, tmp_path: Path) -> None:
    out = write_report(_car(), media(shelf.constant_rate), tmp_path / "page.html")
    page = _Page(out)
    for words in (
        "the red car",
        "One object followed, seen in 3 of the 6 frames",
        "0:00.20",
        "60.5",
        "observed",
        "Every piece of the answer was used.",
        "as written",
        "hand/1",
    ):
        assert words in page.text, words
    assert len(page.of("img")) == 6
    assert len(page.of("svg")) == 2
    assert len(page.of("details")) == 4


def test_masks_are_drawn_in_the_frames_of_the_page(media: Shelf, tmp_path: Path) -> None:
    made = masks([(1, 2, (10, 40, 60, 64))], size_px=shelf.SIZE_PX, fps=10.0)
    plain, drawn = (
        _Page(write_report(_car(), media(shelf.constant_rate), tmp_path / "page.html", masks=given)).of("img")
        for given in (None, made)
    )
    assert [a != b for a, b in zip(plain, drawn, strict=True)] == [False, True, False, False, False, False]


def test_nothing_is_fetched_from_anywhere(media: Shelf, tmp_path: Path) -> None:
    page = _Page(write_report(_car(), media(shelf.constant_rate), tmp_path / "page.html"))
    for _, attributes in page.tags:
        for name in ("src", "href", "srcset", "action", "data"):
            assert attributes.get(name, "data:").startswith("data:")
    assert page.of("link") == []
    assert "url(" not in (tmp_path / "page.html").read_text("utf-8")


def test_text_from_the_model_stays_text(media: Shelf, tmp_path: Path) -> None:
    report = ParseReport(rejected=(Rejected(text=EVIL, reason=EVIL),))
    seen = track({0.0: (10.0, 60.0)}, label=EVIL, size_px=shelf.SIZE_PX)
    result = tracks(
        seen,
        looked_s=LOOKED_S,
        size_px=shelf.SIZE_PX,
        fps=10.0,
        query=EVIL,
        raw_text=EVIL,
        report=report,
        notes=(EVIL,),
    )
    page = _Page(write_report(result, media(shelf.constant_rate), tmp_path / "page.html"))
    assert len(page.of("script")) == 1
    assert not any("onerror" in attributes for _, attributes in page.tags)
    assert page.text.count(EVIL) >= 6


def test_the_only_script_is_the_one_that_the_policy_names(media: Shelf, tmp_path: Path) -> None:
    page = _Page(write_report(_car(), media(shelf.constant_rate), tmp_path / "page.html"))
    (policy,) = [meta["content"] for meta in page.of("meta") if "http-equiv" in meta]
    assert policy.startswith("default-src 'none'")
    assert re.search(r"script-src 'sha256-[A-Za-z0-9+/]{43}='", policy)
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)


@pytest.mark.parametrize(
    ("video", "address"),
    [
        pytest.param("out/drawn.mp4", "drawn.mp4", id="beside the page"),
        pytest.param("films/a b #1.mp4", "../films/a%20b%20%231.mp4", id="elsewhere, with letters to quote"),
        pytest.param("out/javascript:x.mp4", "javascript%3Ax.mp4", id="a name that looks like a scheme"),
    ],
)
def test_the_video_is_named_relative_to_the_page(
    video: str, address: str, media: Shelf, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    out = write_report(
        _car(), media(shelf.constant_rate), tmp_path / "out" / "page.html", video=tmp_path / video
    )
    assert [film["src"] for film in _Page(out).of("video")] == [address]


@pytest.mark.parametrize(
    ("result", "words"),
    [
        pytest.param(points([(30.0, 20.0)], size_px=(96, 64)), "Found 1.", id="points"),
        pytest.param(points([], size_px=(96, 64)), "Found none.", id="nothing"),
        pytest.param(
            Count(value=1, stated=2, points=points([(30.0, 20.0)], size_px=(96, 64))),
            "The text says 2",
            id="count",
        ),
        pytest.param(
            Answer(text="A cup.", points=points([(30.0, 20.0)], size_px=(96, 64)), receipt=receipt()),
            "A cup.",
            id="answer",
        ),
        pytest.param(Answer(text="\ud800 half", receipt=receipt()), "half", id="half a surrogate pair"),
    ],
)
def test_every_kind_of_result_of_an_image_has_a_page(result: Result, words: str, tmp_path: Path) -> None:
    page = _Page(write_report(result, np.zeros((64, 96, 3), dtype=np.uint8), tmp_path / "page.html"))
    assert words in page.text
    assert len(page.of("img")) == 1


def test_without_media_the_page_has_numbers_and_drawings(tmp_path: Path) -> None:
    page = _Page(write_report(_car(), None, tmp_path / "page.html"))
    assert page.of("img") == []
    assert len(page.of("svg")) == 2


def test_long_tables_end_with_what_is_left_out(tmp_path: Path) -> None:
    long = track({i / 2: (1.0, 2.0) for i in range(1234)})
    out = write_report(tracks(long, looked_s=[i / 2 for i in range(1234)]), None, tmp_path / "page.html")
    assert "734 more in the result file." in _Page(out).text


def test_how_windows_were_joined_is_folded_up_and_no_caution(tmp_path: Path) -> None:
    joins = tuple(f"window {n}: its object 1 is object 1; {EVIL}" for n in range(2, 602))
    page = _Page(write_report(_car(joins=joins), None, tmp_path / "page.html"))
    assert page.text.count(f"its object 1 is object 1; {EVIL}") >= 500
    assert "100 more in the result file." in page.text
    assert cautions(_car(joins=joins)) == cautions(_car())


def test_a_page_that_cannot_be_made_leaves_nothing(media: Shelf, tmp_path: Path) -> None:
    with pytest.raises(SourceError):
        write_report(_car(), media(shelf.renamed_text), tmp_path / "page.html")
    with pytest.raises(FileNotFoundError):
        write_report(_car(), None, tmp_path / "nowhere" / "page.html")
    assert list(tmp_path.iterdir()) == []
