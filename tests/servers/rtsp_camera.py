#!/usr/bin/python3
"""An RTSP camera for tests: it films a scene that goes on by the wall clock, also while nobody serves it.

Run by the system's Python, which has GStreamer (Debian: gir1.2-gst-rtsp-server-1.0, python3-gst-1.0 and the
plugins); it has no NumPy, so the pictures are read from the .npy file by hand. At unix time t the scene shows
picture floor((t - t0) * fps) mod T of the file (uint8[T, H, W, 3] RGB), so whoever has a picture and its
stamp knows whether the stamp is right. RTCP sender reports tell the unix time at which each was taken.

Prints the port when it serves. Ends after --seconds, and when the process that started it is gone.
"""

from __future__ import annotations

import argparse
import ast
import ctypes
import mmap
import os
import signal
import struct
import sys
import threading
import time

import gi  # type: ignore[import-not-found]

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import (  # type: ignore[import-not-found] # noqa: E402
    GLib,
    Gst,
    GstRtsp,
    GstRtspServer,
)

_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG


class Scene:
    """The pictures of a .npy file, and which of them is seen when."""

    def __init__(self, path: str, *, fps: float, start_s: float) -> None:
        self._file = open(path, "rb")  # noqa: SIM115 - open as long as the process
        assert self._file.read(8) == b"\x93NUMPY\x01\x00", "expected a .npy file, version 1.0"
        (length,) = struct.unpack("<H", self._file.read(2))
        header = ast.literal_eval(self._file.read(length).decode("latin1"))
        assert (header["descr"], header["fortran_order"]) == ("|u1", False), "expected uint8 in C order"
        self.count, self.height, self.width, channels = header["shape"]
        assert channels == 3, "expected RGB"
        self._at = self._file.tell()
        self._bytes = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        self.fps, self.start_s = fps, start_s

    def number_at(self, unix_s: float) -> int:
        return int((unix_s - self.start_s) * self.fps)

    def taken_s(self, number: int) -> float:
        """Unix seconds at which picture `number` of the endless scene begins to be seen."""
        return self.start_s + number / self.fps

    def picture(self, number: int) -> bytes:
        size = self.height * self.width * 3
        at = self._at + (number % self.count) * size
        return self._bytes[at : at + size]


def film(source: Gst.Element, media: GstRtspServer.RTSPMedia, scene: Scene) -> None:
    """Push pictures at their moments until nobody wants any more."""
    # Nobody films before the pipeline runs: only then does it have a running time.
    element = media.get_element()
    while (clock := element.get_clock()) is None or element.get_base_time() == 0:
        time.sleep(0.005)
    number = scene.number_at(time.time()) + 1
    while True:
        taken_s = scene.taken_s(number)
        time.sleep(max(0.0, taken_s - time.time()))
        running_ns = clock.get_time() - element.get_base_time()
        late_ns = int((time.time() - taken_s) * 1e9)
        buffer = Gst.Buffer.new_wrapped(scene.picture(number))
        buffer.pts = max(0, running_ns - late_ns)
        buffer.duration = int(1e9 / scene.fps)
        if source.emit("push-buffer", buffer) != Gst.FlowReturn.OK:
            return
        number = max(number + 1, scene.number_at(time.time()))


def report_often(media: GstRtspServer.RTSPMedia) -> None:
    """Tell the clock about twice a second; every five seconds is usual, which tests do not wait for."""
    for number in range(media.n_streams()):
        media.get_stream(number).get_rtpsession().set_property("rtcp-min-interval", 500_000_000)


def factory_of(scene: Scene) -> GstRtspServer.RTSPMediaFactory:
    factory = GstRtspServer.RTSPMediaFactory()
    every, rate = max(1, round(scene.fps)), f"{round(scene.fps * 1000)}/1000"
    factory.set_launch(
        "( appsrc name=scene is-live=true format=time max-buffers=4 leaky-type=downstream "
        f"caps=video/x-raw,format=RGB,width={scene.width},height={scene.height},framerate={rate} "
        "! videoconvert ! video/x-raw,format=I420 "
        f"! x264enc tune=zerolatency speed-preset=ultrafast threads=1 bitrate=4000 key-int-max={every} "
        "! rtph264pay name=pay0 pt=96 config-interval=-1 )"
    )
    factory.set_shared(True)

    def configure(_factory: GstRtspServer.RTSPMediaFactory, media: GstRtspServer.RTSPMedia) -> None:
        source = media.get_element().get_by_name_recurse_up("scene")
        media.connect("prepared", report_often)
        threading.Thread(target=film, args=(source, media, scene), daemon=True).start()

    factory.connect("media-configure", configure)
    return factory


def guard(
    server: GstRtspServer.RTSPServer, factory: GstRtspServer.RTSPMediaFactory, user: str, password: str
) -> None:
    """Ask for a user and password, by digest."""
    auth, token = GstRtspServer.RTSPAuth(), GstRtspServer.RTSPToken()
    auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
    token.set_string("media.factory.role", "viewer")
    auth.add_digest(user, password, token)
    server.set_auth(auth)
    allowed = GstRtspServer.RTSPPermissions()
    for what in ("media.factory.access", "media.factory.construct"):
        allowed.add_permission_for_role("viewer", what, True)
    factory.set_permissions(allowed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pictures")
    parser.add_argument("--port", default="0")
    parser.add_argument("--fps", type=float, default=10.0)
    parser.add_argument("--t0", type=float, required=True, help="unix seconds")
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--path", default="/camera")
    options = parser.parse_args()
    ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    Gst.init(None)
    scene = Scene(options.pictures, fps=options.fps, start_s=options.t0)
    server, factory = GstRtspServer.RTSPServer(), factory_of(scene)
    server.set_address("127.0.0.1")
    server.set_service(options.port)
    # By the environment: a command line can be read by everybody.
    if "CAMERA_PASSWORD" in os.environ:
        guard(server, factory, os.environ["CAMERA_USER"], os.environ["CAMERA_PASSWORD"])
    server.get_mount_points().add_factory(options.path, factory)
    if not server.attach(None):
        sys.exit("the port is taken")
    loop = GLib.MainLoop()
    GLib.timeout_add_seconds(options.seconds, loop.quit)
    print(server.get_bound_port(), flush=True)
    loop.run()


if __name__ == "__main__":
    main()
