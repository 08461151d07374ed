"""Cameras for tests: real servers on loopback, in processes of their own, and scenes whose truth is known."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

import numpy as np
import numpy.typing as npt
import pytest

SYSTEM_PYTHON = "/usr/bin/python3"
PACKAGES = (
    "ffmpeg gir1.2-gst-rtsp-server-1.0 python3-gst-1.0 gstreamer1.0-plugins-base gstreamer1.0-plugins-good "
    "gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly gstreamer1.0-rtsp"
)
_PROBE = (
    "import gi; gi.require_version('Gst', '1.0'); gi.require_version('GstRtspServer', '1.0'); "
    "from gi.repository import Gst, GstRtspServer; Gst.init(None); "
    "assert all(Gst.ElementFactory.find(n) for n in ('appsrc', 'videoconvert', 'x264enc', 'rtph264pay'))"
)


@functools.cache
def has_gstreamer() -> bool:
    """Whether the system's Python can serve RTSP."""
    if not Path(SYSTEM_PYTHON).exists():
        return False
    return subprocess.run([SYSTEM_PYTHON, "-c", _PROBE], capture_output=True, timeout=60).returncode == 0


def need_gstreamer() -> None:
    """Skip the test where there is no RTSP server."""
    if not has_gstreamer():
        pytest.skip(f"no RTSP server; install it with: apt-get install {PACKAGES}")


class RtspCamera:
    """GStreamer's RTSP server with a scene that goes on by the wall clock; see rtsp_camera.py.

    pictures  uint8[T, H, W, 3] RGB; saved in `folder` for the server.
    t0_s      unix seconds at which picture 0 was shown first; of the start of this object when not given.

    The port stays the same over `kill` and `start`.
    """

    def __init__(
        self,
        pictures: npt.NDArray[np.uint8],
        folder: Path,
        *,
        fps: float = 10.0,
        t0_s: float | None = None,
        user: str = "",
        password: str = "",
        seconds: int = 900,
    ) -> None:
        need_gstreamer()
        self.count, self.height_px, self.width_px = (int(n) for n in pictures.shape[:3])
        self.fps, self.t0_s = fps, time.time() if t0_s is None else t0_s
        self._user, self._password, self._seconds = user, password, seconds
        self._file, self._errors = folder / f"scene{id(self)}.npy", folder / f"server{id(self)}.log"
        np.save(self._file, pictures)
        self.port = 0
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        """Its address, with user and password where it asks for them, as a user has to write it."""
        who = f"{quote(self._user, safe='')}:{quote(self._password, safe='')}@" if self._user else ""
        return f"rtsp://{who}127.0.0.1:{self.port}/camera"

    def number_at(self, unix_s: float) -> int:
        """Which picture of the array is shown at a time."""
        return int((unix_s - self.t0_s) * self.fps) % self.count

    def taken_s(self, number: int, *, near_s: float) -> float:
        """Unix seconds at which picture `number` of the array was taken, of all its turns the nearest."""
        turn_s = self.count / self.fps
        first_s = self.t0_s + number / self.fps
        return first_s + round((near_s - first_s) / turn_s) * turn_s

    def start(self) -> Self:
        """Begin to serve, on the port it had before; returns when it does."""
        command = [SYSTEM_PYTHON, str(Path(__file__).with_name("rtsp_camera.py")), str(self._file)]
        command += ["--port", str(self.port), "--fps", str(self.fps), "--t0", repr(self.t0_s)]
        command += ["--seconds", str(self._seconds)]
        secret = {"CAMERA_USER": self._user, "CAMERA_PASSWORD": self._password} if self._user else {}
        with self._errors.open("ab") as errors:
            self._process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=errors, text=True, env={**os.environ, **secret}
            )
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        assert line.isdigit(), f"the server did not start: {self._errors.read_text()}"
        self.port = int(line)
        return self

    def kill(self) -> None:
        """End it as a power cut does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None

    def freeze(self) -> None:
        """Stop it in mid-sentence; its connections stay open."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, which: signal.Signals) -> None:
        assert self._process is not None, "the server does not run"
        self._process.send_signal(which)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()


def numbered_scene(
    count: int = 64, *, size_px: tuple[int, int] = (320, 192), seed: int = 7
) -> npt.NDArray[np.uint8]:
    """uint8[count, height, width, 3]: pictures that show their own number in big blocks (`shown_number`)."""
    width, height = size_px
    rng = np.random.default_rng(seed)
    pictures = np.full((count, height, width, 3), 90, np.uint8)
    pictures[:, height // 2 :] = rng.integers(60, 120, (height - height // 2, width, 3), dtype=np.uint8)
    for number in range(count):
        for bit in range(8):
            left, right = bit * width // 8, (bit + 1) * width // 8
            pictures[number, : height // 2, left:right] = 235 if number >> bit & 1 else 20
    return pictures


def shown_number(rgb: npt.NDArray[np.uint8]) -> int:
    """The number that a picture of `numbered_scene` shows, read through lossy coding."""
    height, width = rgb.shape[:2]
    number = 0
    for bit in range(8):
        middle = (2 * bit + 1) * width // 16
        block = rgb[height // 8 : height * 3 // 8, middle - width // 40 : middle + width // 40]
        number |= int(block.mean() > 128) << bit
    return number
