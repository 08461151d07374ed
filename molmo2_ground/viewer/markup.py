"""Text and pictures made safe to stand in a page."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable

import numpy as np
from PIL import Image

from molmo2_ground.clip import RgbArray

# Browsers show nothing, or something else, for control characters; the reader should see that there was one.
_CONTROLS = dict.fromkeys((*range(9), 11, 12, *range(14, 32), 127), "\N{REPLACEMENT CHARACTER}")


def escaped(text: object) -> str:
    """Text that shows as it is, between tags and in attributes."""
    return html.escape(str(text).translate(_CONTROLS), quote=True)


def data_uri(rgb: RgbArray, *, quality: int = 84) -> str:
    """uint8[h, w, 3] as a JPEG that lies in the page itself."""
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(rgb)).save(file, "JPEG", quality=quality, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table that scrolls sideways on a narrow screen; `heads` are plain text, the cells are markup."""
    head = "".join(f'<th scope="col">{escaped(text)}</th>' for text in heads)
    body = "\n".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table></div>'
