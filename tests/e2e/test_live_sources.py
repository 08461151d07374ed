"""Live sources against real servers on loopback."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import pytest

from molmo2_ground.sources.feeds import Capture, Ingest, Timeouts, open_feed
from molmo2_ground.sources.feeds.backoff import Backoff
from molmo2_ground.sources.feeds.failures import RefusedError
from tests.servers import PACKAGES, RtspCamera, numbered_scene, shown_number
from tests.servers.http_camera import (
    HttpCamera,
    Send,
    bit_by_bit,
    motion_jpeg,
    then_silence,
    transport_stream,
    whole,
)

NASTY_USER, NASTY_PASSWORD = "op:er@tör"[3:], "p@ss/w#rd:?% &=;ü"
SCENE = numbered_scene()
QUICK = Backoff(first_s=1e-3, cap_s=1e-3)


@pytest.fixture
def camera(tmp_path: Path) -> Iterator[RtspCamera]:
    with RtspCamera(SCENE, tmp_path, fps=20.0, user=NASTY_USER, password=NASTY_PASSWORD) as made:
        yield made


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("film") / "scene.ts"
    transport_stream(SCENE, fps=20, path=str(path))
    return path


def some(ingest: Ingest, count: int, *, within_s: float = 20.0) -> list[Capture]:
    """The next `count` captures."""
    got: list[Capture] = []
    end_s = time.monotonic() + within_s
    while len(got) < count:
        assert time.monotonic() < end_s, f"{len(got)} of {count}; {ingest.state}: {ingest.drain_events()}"
        assert not ingest.ended, ingest.failure
        capture = ingest.take(0.5)
        got += [capture] if capture else []
    return got


def stamp_errors_s(camera: RtspCamera, captures: list[Capture]) -> list[float]:
    """How far each stamp is from when the picture that it shows was taken."""
    errors = []
    for capture in captures:
        stamp_s = capture.stamp_ns / 1e9
        errors.append(stamp_s - camera.taken_s(shown_number(capture.paint()), near_s=stamp_s))
    return errors


def settled(count: int, *, within_s: float = 20.0) -> bool:
    """Whether no more than `count` threads are left before long."""
    end_s = time.monotonic() + within_s
    while threading.active_count() > count and time.monotonic() < end_s:
        time.sleep(0.02)
    return threading.active_count() <= count


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def ffmpeg() -> Iterator[Any]:
    if shutil.which("ffmpeg") is None:
        pytest.skip(f"no ffmpeg; install it with: apt-get install {PACKAGES}")
    running: list[subprocess.Popen[bytes]] = []

    def run(*words: str) -> None:
        command = ["ffmpeg", "-nostdin", "-loglevel", "error", *words]
        running.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))

    yield run
    for process in running:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_stamps_are_the_cameras_and_true(camera: RtspCamera) -> None:
    with Ingest(open_feed(camera.url), policy="every") as ingest:
        captures = some(ingest, 80)
    told = [c for c in captures if c.stamped_by == "camera"]
    assert len(told) > 40
    errors = stamp_errors_s(camera, told[20:])
    print(f"stamp error: {min(errors) * 1e3:.1f} to {max(errors) * 1e3:.1f} ms")
    assert max(abs(e) for e in errors) < 0.05
    # Until the camera told its time, pictures are stamped by their arrival, which is after they were taken.
    early = stamp_errors_s(camera, [c for c in captures if c.stamped_by == "arrival"])
    assert all(0 < e < 0.5 for e in early)
    # From the moment it was taken to our hands.
    lags = [(c.decoded_ns - c.stamp_ns) / 1e9 for c in told[20:]]
    print(f"lag: median {sorted(lags)[len(lags) // 2] * 1e3:.0f} ms at 20 pictures a second")
    assert sorted(lags)[len(lags) // 2] < 0.15


@pytest.mark.slow
@pytest.mark.parametrize(
    "user",
    [
        pytest.param("wrong:SeCrEtS", id="wrong"),
        pytest.param("SeCrEtS", id="no-password"),
        pytest.param("", id="none"),
    ],
)
def test_a_wrong_password_is_refused_in_a_line_without_it(
    camera: RtspCamera, user: str, caplog: pytest.LogCaptureFixture
) -> None:
    address = f"rtsp://{user}{'@' if user else ''}127.0.0.1:{camera.port}/camera"
    with caplog.at_level(1), Ingest(open_feed(address)) as ingest:
        while not ingest.ended:
            assert ingest.take(1) is None
    assert isinstance(ingest.failure, RefusedError)
    message = str(ingest.failure)
    assert "401" in message
    assert "\n" not in message
    assert "SeCrEtS" not in message + caplog.text + repr(ingest.drain_events())


@pytest.mark.slow
def test_a_path_that_is_not_there_is_told(camera: RtspCamera) -> None:
    with Ingest(open_feed(camera.url.replace("/camera", "/nothing")), backoff=Backoff(attempts=1)) as ingest:
        while not ingest.ended:
            assert ingest.take(1) is None
    assert "404" in str(ingest.failure)


@pytest.mark.slow
def test_a_server_that_dies_and_returns_is_found_and_the_scene_goes_on(camera: RtspCamera) -> None:
    with Ingest(open_feed(camera.url), policy="every", timeouts=Timeouts(read_s=2.0)) as ingest:
        epochs = [some(ingest, 10)[-1].epoch]
        for _ in range(3):
            camera.kill()
            while ingest.state == "connected":
                ingest.take(0.05)
            time.sleep(0.5)
            camera.start()
            returned_s = time.monotonic()
            back = some(ingest, 1)
            took_s = time.monotonic() - returned_s
            print(f"back after {took_s:.2f} s")
            assert took_s < 5
            back += some(ingest, 40)
            epochs.append(back[-1].epoch)
            errors = stamp_errors_s(camera, [c for c in back[30:] if c.stamped_by == "camera"])
            assert errors
            assert max(abs(e) for e in errors) < 0.05
        totals = ingest.totals
    assert epochs == sorted(set(epochs))
    assert ingest.connections == 4
    assert totals.received == totals.taken + totals.waiting + sum(totals.dropped.values())
    assert NASTY_PASSWORD not in repr(ingest.drain_events())


@pytest.mark.slow
def test_a_frozen_server_is_a_stall_and_is_found_when_it_thaws(camera: RtspCamera) -> None:
    before = threading.active_count()
    with Ingest(open_feed(camera.url), policy="latest", timeouts=Timeouts(read_s=2.0)) as ingest:
        first = some(ingest, 5)[-1]
        camera.freeze()
        frozen_s = time.monotonic()
        while ingest.state == "connected":
            ingest.take(0.02)
        took_s = time.monotonic() - frozen_s
        print(f"a read timeout of 2 s took {took_s:.2f} s")
        assert 1.8 < took_s < 3.5
        assert "stalled" in [event.state for event in ingest.drain_events()]
        time.sleep(2.5)
        camera.thaw()
        thawed_s = time.monotonic()
        while (back := some(ingest, 1)[0]).epoch == first.epoch:
            pass
        print(f"back after {time.monotonic() - thawed_s:.2f} s")
        assert time.monotonic() - thawed_s < 5
        camera.freeze()
        time.sleep(0.3)
        closing_s = time.monotonic()
    took_s = time.monotonic() - closing_s
    print(f"closing while the server hangs took {took_s * 1e3:.1f} ms")
    assert took_s < 1
    assert back.stamp_ns > first.stamp_ns
    # FFmpeg's own thread follows when its timeout is over.
    assert settled(before)


@pytest.mark.slow
def test_opening_a_server_that_hangs_ends_in_time_and_closing_interrupts_it(camera: RtspCamera) -> None:
    before = threading.active_count()
    camera.freeze()
    started_s = time.monotonic()
    feed = open_feed(camera.url)
    with Ingest(feed, timeouts=Timeouts(open_s=1.0, read_s=5.0), backoff=Backoff(attempts=0)) as ingest:
        while not ingest.ended:
            ingest.take(0.05)
    took_s = time.monotonic() - started_s
    print(f"an open timeout of 1 s took {took_s:.2f} s")
    assert took_s < 3
    assert "within 1 s" in str(ingest.failure)
    with Ingest(open_feed(camera.url), timeouts=Timeouts(open_s=60.0)) as ingest:
        ingest.take(0.2)
        closing_s = time.monotonic()
    assert time.monotonic() - closing_s < 1
    assert ingest.failure is None
    camera.kill()
    assert settled(before)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["http", "udp", "rtmp"])
def test_what_ffmpeg_serves(kind: str, film: Path, ffmpeg: Any) -> None:
    port = free_port(socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)
    source = ("-re", "-stream_loop", "-1", "-i", str(film), "-c", "copy")
    address = {
        "http": f"http://127.0.0.1:{port}/live.ts",
        "udp": f"udp://127.0.0.1:{port}",
        "rtmp": f"rtmp://127.0.0.1:{port}/live/scene",
    }[kind]
    if kind == "rtmp":
        ffmpeg(*source, "-f", "flv", "-listen", "1", address)
    else:
        ffmpeg(*source, "-f", "mpegts", *(("-listen", "1") if kind == "http" else ()), address)
    with Ingest(open_feed(address), policy="every", timeouts=Timeouts(read_s=3.0)) as ingest:
        captures = some(ingest, 50)
    numbers = [shown_number(c.paint()) for c in captures]
    # One after another, none twice; at the end of the film it begins again.
    steps = [(b - a) % len(SCENE) for a, b in pairwise(numbers)]
    assert steps.count(1) >= 46
    assert 0 not in steps
    assert all(c.stamped_by == "arrival" for c in captures)
    span_s = (captures[-1].stamp_ns - captures[25].stamp_ns) / 1e9
    assert span_s == pytest.approx(24 / 20, abs=0.3)


@pytest.mark.slow
def test_motion_jpeg() -> None:
    with HttpCamera(
        {"/v": ("multipart/x-mixed-replace; boundary=frame", motion_jpeg(SCENE, fps=20))}
    ) as server:
        with Ingest(open_feed(f"{server.url}/v?token=SeCrEt"), policy="every") as ingest:
            captures = some(ingest, 20)
        assert "SeCrEt" not in ingest.name
    numbers = [shown_number(c.paint()) for c in captures]
    assert {b - a for a, b in pairwise(numbers)} == {1}


@pytest.mark.slow
def test_pictures_that_are_sent_out_of_order_come_in_order(tmp_path: Path) -> None:
    data = transport_stream(SCENE, fps=20, path=str(tmp_path / "b.ts"), reordered=True)
    paths = {"/b.ts": ("video/mp2t", bit_by_bit(data, seconds=3.0))}
    with HttpCamera(paths) as server, Ingest(open_feed(f"{server.url}/b.ts"), policy="every") as ingest:
        captures = some(ingest, 30)
        assert set(ingest.totals.dropped) <= {"late"}
    numbers = [shown_number(c.paint()) for c in captures]
    assert {b - a for a, b in pairwise(numbers)} == {1}


def playlist(*lines: str) -> bytes:
    head = ("#EXTM3U", "#EXT-X-VERSION:3", "#EXT-X-TARGETDURATION:4", "#EXT-X-MEDIA-SEQUENCE:0")
    return "\n".join([*head, *lines, ""]).encode()


@pytest.mark.slow
def test_a_playlists_pictures_come_when_they_are_due(film: Path) -> None:
    text = playlist("#EXTINF:3.2,", "scene.ts")
    paths = {
        "/live.m3u8": ("application/vnd.apple.mpegurl", whole(text)),
        "/scene.ts": ("video/mp2t", whole(film.read_bytes())),
    }
    with HttpCamera(paths) as server, Ingest(open_feed(f"{server.url}/live.m3u8"), policy="every") as ingest:
        captures = some(ingest, 30)
    numbers = [shown_number(c.paint()) for c in captures]
    assert numbers == list(range(30))
    assert (captures[-1].stamp_ns - captures[0].stamp_ns) / 1e9 == pytest.approx(29 / 20, abs=0.2)


@contextmanager
def web_server(folder: Path, on_asked: Callable[[str], None] = lambda path: None) -> Iterator[str]:
    """Serves the files of a folder; gives its address. `on_asked` gets each path before it is served."""

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            on_asked(self.path)
            with suppress(
                BrokenPipeError, ConnectionResetError
            ):  # FFmpeg looks into a file before it reads it
                super().do_GET()

        def log_message(self, format: str, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.slow
@pytest.mark.parametrize("closed", ["from the beginning", "while it is shown"])
def test_a_closed_playlist_is_shown_once(film: Path, tmp_path: Path, closed: str) -> None:
    open_text = playlist("#EXTINF:3.2,", "scene.ts").replace(b"TARGETDURATION:4", b"TARGETDURATION:1")
    listed = tmp_path / "list.m3u8"
    listed.write_bytes(open_text if closed == "while it is shown" else open_text + b"#EXT-X-ENDLIST\n")
    shutil.copy(film, tmp_path / "scene.ts")

    def close(path: str) -> None:
        if path == "/scene.ts":
            listed.write_bytes(open_text + b"#EXT-X-ENDLIST\n")

    with web_server(tmp_path, close) as url:
        backoff = Backoff(first_s=1e-3, cap_s=1e-3, attempts=3)
        with Ingest(open_feed(f"{url}/list.m3u8"), policy="every", backoff=backoff) as ingest:
            while not ingest.ended:
                ingest.take(0.5)
    assert ingest.connections == 1
    assert ingest.totals.received == len(SCENE)
    assert "the playlist is closed (#EXT-X-ENDLIST)" in str(ingest.failure)


@pytest.mark.parametrize(
    "entry", ["{film}", "file://{film}", "concat:{film}", "subfile,,start,0,end,0,,:{film}"]
)
def test_a_playlist_cannot_open_files_of_this_machine(entry: str, film: Path) -> None:
    text = playlist("#EXTINF:3.2,", entry.format(film=film), "#EXT-X-ENDLIST")
    with HttpCamera({"/live.m3u8": ("application/vnd.apple.mpegurl", whole(text))}) as server:
        feed = open_feed(f"{server.url}/live.m3u8")
        with Ingest(feed, backoff=Backoff(attempts=0), timeouts=Timeouts(open_s=3, read_s=1)) as ingest:
            while not ingest.ended:
                assert ingest.take(0.2) is None
    assert ingest.totals.received == 0
    assert ingest.failure is not None


@pytest.mark.slow
def test_a_server_that_sends_everything_but_pictures_is_a_stall(film: Path) -> None:
    with HttpCamera({"/live.ts": ("video/mp2t", then_silence(film.read_bytes()))}) as server:
        timeouts = Timeouts(open_s=0.5, read_s=0.5)
        with Ingest(open_feed(f"{server.url}/live.ts"), timeouts=timeouts, backoff=QUICK) as ingest:
            states: list[str] = []
            while "stalled" not in states:
                ingest.take(0.05)
                states += [event.state for event in ingest.drain_events()]
    assert states[:3] == ["connecting", "connected", "stalled"]


@pytest.mark.slow
def test_damaged_pictures_are_counted_and_none_is_passed_on(film: Path) -> None:
    data = bytearray(film.read_bytes())
    packets = len(data) // 188
    for packet in range(packets // 3, packets * 2 // 3, 5):  # lost on the way
        data[packet * 188 : packet * 188 + 188] = b"\x47\x1f\xff\x10" + b"\xff" * 184
    with HttpCamera({"/live.ts": ("video/mp2t", bit_by_bit(bytes(data), seconds=2.5))}) as server:
        feed = open_feed(f"{server.url}/live.ts")
        with Ingest(feed, policy="every", capacity=1000, backoff=Backoff(attempts=0)) as ingest:
            captures = []
            while not ingest.ended:
                capture = ingest.take(0.5)
                captures += [capture] if capture else []
    print(ingest.totals)
    assert ingest.totals.dropped["damaged"] > 0
    assert len(captures) > 10
    # What was lost as a whole is counted too; a few at the edges nobody can tell.
    assert len(SCENE) - 6 <= ingest.totals.received <= len(SCENE)
    for capture in captures:
        rgb, number = capture.paint(), shown_number(capture.paint())
        assert abs(rgb.astype(int) - SCENE[number]).mean() < 12


@pytest.mark.slow
def test_a_film_on_a_web_server_is_told_from_a_live_stream(
    film: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with web_server(film.parent) as url:
        feed = open_feed(f"{url}/{film.name}?token=SeCrEt")
        backoff = Backoff(first_s=1e-3, cap_s=1e-3, attempts=5)
        with caplog.at_level("INFO"), Ingest(feed, backoff=backoff) as ingest:
            while not ingest.ended:
                ingest.take(0.5)
    assert ingest.connections == 6
    assert "looks like a file and not like a live stream" in str(ingest.failure)
    told = [line for line in caplog.messages if "(attempt " in line]
    assert ["looks like a file" in line for line in told] == [False, False, True]
    assert "SeCrEt" not in caplog.text + str(ingest.failure)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("growing", "told"),
    [
        pytest.param(False, "looks like a file and not like a live stream", id="the same each time"),
        pytest.param(True, "Input/output error", id="other pictures each time"),
    ],
)
def test_a_film_of_untold_length_is_told_by_its_bytes(film: Path, growing: bool, told: str) -> None:
    data, served = film.read_bytes(), 0

    def serve(send: Send, stop: threading.Event) -> None:
        nonlocal served
        served += 1
        send(data[: 188 * 60 * served] if growing else data)

    backoff = Backoff(first_s=1e-3, cap_s=1e-3, attempts=4)
    server = HttpCamera({"/film.ts": ("video/mp2t", serve)})
    with server, Ingest(open_feed(f"{server.url}/film.ts"), backoff=backoff) as ingest:
        while not ingest.ended and ingest.connections < 9:
            ingest.take(0.1)
    assert told in ingest.trouble


@pytest.mark.slow
def test_two_hundred_connections_leave_no_thread_and_no_file_behind(film: Path) -> None:
    data = film.read_bytes()
    with HttpCamera({"/live.ts": ("video/mp2t", whole(data))}) as server:

        def connected(times: int) -> None:
            with Ingest(open_feed(f"{server.url}/live.ts"), policy="latest", backoff=QUICK) as ingest:
                while ingest.connections < times:
                    ingest.take(0.01)

        connected(5)
        time.sleep(0.5)  # the server's threads and FFmpeg's of the last connection go
        threads, files = threading.active_count(), len(os.listdir("/proc/self/fd"))
        connected(200)
        assert settled(threads)
        time.sleep(0.2)
        assert len(os.listdir("/proc/self/fd")) <= files + 1
    assert av.logging.get_level() is None
