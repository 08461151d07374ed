"""What cameras and web servers send over HTTP, from a thread of the test."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

import av
import numpy as np
import numpy.typing as npt
from PIL import Image

Send = Callable[[bytes], None]
# A packet of MPEG-TS that says nothing.
SILENCE = b"\x47\x1f\xff\x10" + b"\xff" * 184


class HttpCamera:
    """Serves each path by a function that is given `send`; how often each was asked for is in `asked`."""

    def __init__(self, paths: dict[str, tuple[str, Callable[[Send, threading.Event], None]]]) -> None:
        self.asked: dict[str, int] = {}
        self._stop = stop = threading.Event()
        asked = self.asked

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                asked[path] = asked.get(path, 0) + 1
                if path not in paths:
                    self.send_error(404)
                    return
                kind, serve = paths[path]
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Connection", "close")
                self.end_headers()
                try:
                    serve(self._send, stop)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True

            def _send(self, data: bytes) -> None:
                self.wfile.write(data)
                self.wfile.flush()

            def log_message(self, format: str, *args: object) -> None:
                return

        class Server(ThreadingHTTPServer):
            daemon_threads = True

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def whole(data: bytes) -> Callable[[Send, threading.Event], None]:
    """All at once, and the end."""
    return lambda send, stop: send(data)


def bit_by_bit(data: bytes, *, seconds: float) -> Callable[[Send, threading.Event], None]:
    """Over some time, as it is filmed, and the end."""

    def serve(send: Send, stop: threading.Event) -> None:
        step = max(188, len(data) // round(seconds * 50) // 188 * 188)
        for at in range(0, len(data), step):
            send(data[at : at + step])
            if stop.wait(0.02):
                return

    return serve


def then_silence(data: bytes) -> Callable[[Send, threading.Event], None]:
    """Pictures, and then bytes that hold none, for ever."""

    def serve(send: Send, stop: threading.Event) -> None:
        send(data)
        while not stop.wait(0.02):
            send(SILENCE * 7)

    return serve


def motion_jpeg(pictures: npt.NDArray[np.uint8], *, fps: float) -> Callable[[Send, threading.Event], None]:
    """Pictures as web cameras send them: one JPEG after another, at their moments."""

    def serve(send: Send, stop: threading.Event) -> None:
        start_s, number = time.monotonic(), 0
        while not stop.wait(max(0.0, start_s + number / fps - time.monotonic())):
            written = io.BytesIO()
            Image.fromarray(pictures[number % len(pictures)]).save(written, "JPEG", quality=90)
            data = written.getvalue()
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
            send(head.encode() + data + b"\r\n")
            number += 1

    return serve


def transport_stream(
    pictures: npt.NDArray[np.uint8], *, fps: int, path: str, reordered: bool = False
) -> bytes:
    """H.264 in MPEG-TS, a picture that stands by itself every ten; written to `path` and returned.

    reordered: some pictures build on later ones, which are sent before them.
    """
    options = {"bf": "3"} if reordered else {"tune": "zerolatency"}
    with av.open(path, "w", format="mpegts") as container:
        stream = container.add_stream("libx264", rate=fps, options=options | {"g": "10"})
        stream.width, stream.height, stream.pix_fmt = pictures.shape[2], pictures.shape[1], "yuv420p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    with open(path, "rb") as file:
        return file.read()
