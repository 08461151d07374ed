"""An annotated video in a real browser: it plays, seeks, and shows the dot where the object is."""

from __future__ import annotations

import json
import queue
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from molmo2_ground.render import colour_of, render
from tests import media as shelf
from tests.browser import BROWSER, browser_command
from tests.found import track, tracks

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no chromium or chrome is installed"),
]

SIZE_PX, FPS = (320, 180), 20
DOT_PX, SEEN_S = (120, 90), 1.0
PAGE = f"""<!doctype html><video muted></video><script>
const video = document.querySelector("video"), told = {{}};
const tell = () => fetch("/told", {{method: "POST", body: JSON.stringify(told)}});
video.onerror = () => {{ told.error = video.error.message; tell(); }};
video.ontimeupdate = () => {{
  if (video.currentTime < 0.2 || video.onseeked) return;
  Object.assign(told, {{played_s: video.currentTime, ready: video.readyState, duration_s: video.duration}});
  Object.assign(told, {{width_px: video.videoWidth, height_px: video.videoHeight}});
  video.pause();
  video.onseeked = () => {{
    const canvas = new OffscreenCanvas(video.videoWidth, video.videoHeight).getContext("2d");
    canvas.drawImage(video, 0, 0);
    told.dot = [...canvas.getImageData({DOT_PX[0]}, {DOT_PX[1]}, 1, 1).data];
    told.beside = [...canvas.getImageData(280, 150, 1, 1).data];
    tell();
  }};
  video.currentTime = {SEEN_S} + 0.5 / {FPS};
}};
// As a blob, in which a browser can seek; Python's small server does not send parts of a file.
fetch("out.mp4").then((file) => file.blob()).then((blob) => {{
  video.src = URL.createObjectURL(blob);
  video.play();
}});
</script>"""


class _Handler(SimpleHTTPRequestHandler):
    """The folder's files, and an ear for what the page tells."""

    def __init__(self, *args: Any, told: queue.Queue[dict[str, Any]], **kwargs: Any) -> None:
        self._told = told
        super().__init__(*args, **kwargs)

    def do_POST(self) -> None:
        self._told.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet."""


@contextmanager
def _served(folder: Path) -> Iterator[tuple[str, queue.Queue[dict[str, Any]]]]:
    told: queue.Queue[dict[str, Any]] = queue.Queue()
    handler = partial(_Handler, told=told, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/page.html", told
        finally:
            server.shutdown()
            thread.join()


def _what_the_browser_tells(folder: Path, profile: Path) -> dict[str, Any]:
    (folder / "page.html").write_text(PAGE)
    with _served(folder) as (address, told):
        command = browser_command(
            address,
            "--autoplay-policy=no-user-gesture-required",
            "--remote-debugging-port=0",
            profile=profile,
        )
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                return told.get(timeout=120)
            finally:
                process.terminate()


@pytest.mark.parametrize("sound", [False, True], ids=["silent", "with-sound"])
def test_a_browser_plays_what_render_writes(sound: bool, tmp_path: Path) -> None:
    grey = np.full((SIZE_PX[1], SIZE_PX[0], 3), 128, dtype=np.uint8)
    source, folder = tmp_path / "street.mp4", tmp_path / "served"
    folder.mkdir()
    shelf.write_video(source, frame_count=40, fps=FPS, size_px=SIZE_PX, draw=lambda _: grey, sound=sound)
    seen = track({SEEN_S: DOT_PX}, size_px=SIZE_PX)
    result = tracks(seen, looked_s=[0.0, SEEN_S], size_px=SIZE_PX, fps=float(FPS))
    render(source, result, folder / "out.mp4")
    told = _what_the_browser_tells(folder, tmp_path / "profile")
    assert "error" not in told, told
    assert told["played_s"] >= 0.2
    assert told["ready"] >= 2  # HAVE_CURRENT_DATA: a picture is decoded
    assert (told["width_px"], told["height_px"]) == SIZE_PX
    assert told["duration_s"] == pytest.approx(2.0, abs=0.1)
    assert np.abs(np.array(told["dot"][:3]) - colour_of(1)).max() <= 40, told
    assert np.abs(np.array(told["beside"][:3]) - 128).max() <= 12, told
