"""What the pages of an evaluation have in common: one file each, no script, nothing fetched."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path

from molmo2_ground._atomic import atomic_path
from molmo2_ground.eval.pictures import Picture
from molmo2_ground.viewer.markup import data_uri, escaped

# Nothing may run and nothing may be fetched, whatever a model or a dataset wrote.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def write_page(out: Path, *, title: str, sections: Iterable[str]) -> Path:
    """Write an HTML file whole or not at all, and return where."""
    style = files("molmo2_ground.viewer").joinpath("page.css").read_text("utf-8")
    style += files("molmo2_ground.eval").joinpath("page.css").read_text("utf-8")
    body = "\n".join(sections)
    page = (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escaped(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )
    with atomic_path(out) as unfinished:
        # What is no character (half of a surrogate pair from a broken answer) shows as "?".
        unfinished.write_text(page, encoding="utf-8", errors="replace", newline="\n")
    return out


def film(pictures: Iterable[Picture]) -> str:
    """Frames side by side, each with its caption."""
    figures = "".join(
        f'<figure><img src="{data_uri(picture.rgb, quality=78)}" width="{picture.rgb.shape[1]}" '
        f'height="{picture.rgb.shape[0]}" alt="{escaped(picture.caption)}">'
        f"<figcaption>{escaped(picture.caption)}</figcaption></figure>"
        for picture in pictures
    )
    return f'<div class="film">{figures}</div>' if figures else ""


def key_to_pictures() -> str:
    """What the lines and dots on the pictures mean."""
    signs = (
        ('<rect x="3" y="3" width="26" height="16" rx="4" class="there"/>', "really there, and found"),
        ('<rect x="3" y="3" width="26" height="16" rx="4" class="missed"/>', "really there, and missed"),
        ('<circle cx="16" cy="11" r="6.5" class="answer"/>', "the model's answer, with its number"),
        (
            '<circle cx="16" cy="11" r="6.5" class="answer"/><path d="M6 1 26 21M26 1 6 21" class="cross"/>',
            "an answer that lies on nothing asked for",
        ),
    )
    items = "".join(
        f'<li><svg viewBox="0 0 32 22" aria-hidden="true">{sign}</svg>{words}</li>' for sign, words in signs
    )
    return f'<ul class="key">{items}</ul>'


def unbroken(text: str) -> str:
    """Text that stays on one line in a narrow cell."""
    return f'<span class="unbroken">{escaped(text)}</span>'


def foldable(summary: str, body: str) -> str:
    """Something that opens when it is clicked; `summary` is plain text."""
    return f"<details><summary>{escaped(summary)}</summary>{body}</details>"
