from __future__ import annotations

import base64
import io
from html.parser import HTMLParser

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from molmo2_ground.viewer.markup import data_uri, escaped, table


class _Reader(HTMLParser):
    """Collects what a browser would take for text and for tags."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""
        self.tags: list[tuple[str, list[tuple[str, str | None]]]] = []

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, attrs))


@given(st.text())
def test_any_text_stays_text_between_tags_and_in_attributes(text: str) -> None:
    reader = _Reader()
    reader.feed(f'<p title="{escaped(text)}">{escaped(text)}</p>')
    reader.close()
    shown = (
        escaped(text).replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", '"').replace("&#x27;", "'")
    )
    shown = shown.replace("&amp;", "&")
    assert reader.tags == [("p", [("title", shown)])]
    assert reader.text == shown


def test_control_characters_are_shown_as_such() -> None:
    assert escaped("a\x00b\x1b[31m\tc\n") == "a\ufffdb\ufffd[31m\tc\n"


def test_a_picture_lies_in_its_address() -> None:
    rgb = np.full((6, 9, 3), (200, 100, 50), dtype=np.uint8)
    kind, _, data = data_uri(rgb).partition(",")
    assert kind == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        assert np.abs(np.asarray(image).astype(int) - rgb).max() < 8


def test_a_table_has_a_head_and_a_row_each() -> None:
    made = table(("<A>", "B"), [("1", "<b>2</b>"), ("3", "4")])
    assert made.count("<tr>") == 3
    assert '<th scope="col">&lt;A&gt;</th>' in made
    assert "<td><b>2</b></td>" in made
