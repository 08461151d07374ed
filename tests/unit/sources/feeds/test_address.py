from __future__ import annotations

import logging
import string
import traceback
from pathlib import Path
from typing import Any
from urllib.parse import quote

import av
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from molmo2_ground import open_clip
from molmo2_ground.errors import SourceError
from molmo2_ground.sources.feeds import Ingest, Timeouts, open_feed
from molmo2_ground.sources.feeds.address import Address, Secret, is_address, safe_name
from molmo2_ground.sources.feeds.av_feed import AvFeed
from molmo2_ground.sources.feeds.av_words import failure_of
from molmo2_ground.sources.feeds.backoff import Backoff
from molmo2_ground.sources.feeds.failures import RefusedError

# Long enough not to be in a message by chance, with what passwords hold and addresses do not bear.
NASTY = st.text(string.ascii_letters + string.digits + "@/#:?%&=;+!é漢", min_size=1, max_size=12)
PASSWORDS = st.builds(lambda a, b: f"Qx{a}ZjK{b}vW", NASTY, NASTY)
SCHEMES = st.sampled_from(
    ["rtsp", "RTSP", "rtsps", "rtmp", "http", "Https", "udp", "srt", "zmq+tcp", "ftp", "x-y"]
)


@pytest.mark.parametrize(
    ("source", "kind", "name", "location"),
    [
        pytest.param(0, "device", "/dev/video0", "/dev/video0", id="number"),
        pytest.param("2", "device", "/dev/video2", "/dev/video2", id="number-in-words"),
        pytest.param("/dev/video1", "device", "/dev/video1", "/dev/video1", id="device"),
        pytest.param("clips/a.mp4", "file", "a.mp4", "clips/a.mp4", id="file"),
        pytest.param(Path("/x/a@home.mp4"), "file", "a@home.mp4", "/x/a@home.mp4", id="path-with-an-at"),
        pytest.param("rtsp://cam/s", "stream", "rtsp://cam/s", "rtsp://cam/s", id="bare"),
        pytest.param("RTSP://Cam:554/S", "stream", "rtsp://Cam:554/S", "rtsp://Cam:554/S", id="capitals"),
        pytest.param(
            "rtsp://u:p@cam:554/s", "stream", "rtsp://cam:554/s", "rtsp://u:p@cam:554/s", id="password"
        ),
        pytest.param("rtsp://u@cam/s", "stream", "rtsp://cam/s", "rtsp://u@cam/s", id="user-alone"),
        pytest.param(
            "rtsp://u:p%40@cam/s", "stream", "rtsp://cam/s", "rtsp://u:p%40@cam/s", id="by-the-rules"
        ),
        pytest.param("rtsp://u:p@@cam/s", "stream", "rtsp://cam/s", "rtsp://u:p%40@cam/s", id="raw-at"),
        pytest.param(
            "rtsp://u:a/b#c@cam/s", "stream", "rtsp://…@cam/s", "rtsp://u:a%2Fb%23c@cam/s", id="raw"
        ),
        pytest.param("rtsp://u:9%@cam/s", "stream", "rtsp://cam/s", "rtsp://u:9%25@cam/s", id="raw-percent"),
        pytest.param(
            "http://cam/a.ts?token=x", "stream", "http://cam/a.ts", "http://cam/a.ts?token=x", id="token"
        ),
        pytest.param(
            "rtsp://cam/user=a&password=b&x.sdp",
            "stream",
            "rtsp://cam/…",
            "rtsp://cam/user=a&password=b&x.sdp",
            id="password-in-the-path",
        ),
        pytest.param("rtsp://[::1]:554/s", "stream", "rtsp://[::1]:554/s", "rtsp://[::1]:554/s", id="ipv6"),
        pytest.param("rtsp://cam:554/s@2", "stream", "rtsp://…@2", "rtsp://cam:554/s@2", id="at-in-the-path"),
        pytest.param("zmq+tcp://h:5?camera=a", "zmq", "zmq+tcp://h:5", "tcp://h:5", id="zmq"),
    ],
)
def test_sources_are_taken_apart(source: Any, kind: str, name: str, location: str) -> None:
    address = Address.of(source)
    assert (address.kind, address.name, address.location.reveal()) == (kind, name, location)


@pytest.mark.parametrize(
    "source",
    [
        "",
        "   ",
        "a\0b",
        "ftp://h/x",
        "rtsp://",
        "rtsp://@",
        "rtsp:///",
        "rtsp:/h/x",
        "rtsp://h /x",
        True,
        1.5,
        None,
        b"x",
    ],
    ids=repr,
)
def test_what_is_no_source_is_refused(source: Any) -> None:
    with pytest.raises(RefusedError, match="expected a camera"):
        Address.of(source)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("rtsp://u:s3cret@", "there is no host"),
        ("rtsp://u:s3cret@:554/x", "there is no host"),
        ("http:///x", "there is no host"),
        ("rtsp://u:s3cret@cam:99999/x", "there is no such port"),
        ("rtmp://cam:123456/x", "there is no such port"),
        ("udp://127.0.0.1", r"port is missing; expected udp://HOST:PORT, got udp://127\.0\.0\.1$"),
        ("udp://@239.0.0.1:?ttl=1", "port is missing"),
        ("srt://u:s3cret@cam/x", "expected srt://HOST:PORT, got srt://cam/x"),
        ("zmq+tcp://[::1]?camera=a", r"expected zmq\+tcp://HOST:PORT, got zmq\+tcp://\[::1\]$"),
    ],
)
def test_what_no_attempt_can_reach_is_refused(source: str, said: str) -> None:
    with pytest.raises(RefusedError, match=said) as refused:
        Address.of(source)
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(
    "source",
    ["udp://@:5000", "udp://:5000", "udp://@?localport=5000", "rtmp://:1935/x", "rtsp://[::1]:554/x"],
)
def test_who_listens_needs_no_host(source: str) -> None:
    assert Address.of(source).kind == "stream"


def test_the_query_is_what_stands_after_the_question_mark() -> None:
    assert Address.of("zmq+tcp://h:5?camera=a&topic=b").query == Secret("camera=a&topic=b")
    assert Address.of("http://u:p?w@h/x?t=1").query == Secret("t=1")
    assert Address.of("http://h/x").query == Secret("")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("a.mp4", "a.mp4"),
        ("a@b.mp4", "a@b.mp4"),
        ("rtsp://h/a\nb", "rtsp://h/a_b"),
        ("u:p@h/x", "h/x"),
        ("rtsp:/u:p@h/x", "rtsp://h/x"),
        ("://u:p@h/x", "h/x"),
        ("rtsp://h/" + "x" * 300, "rtsp://h/" + "x" * 190 + "…"),
    ],
)
def test_names_for_what_is_not_well_written(text: str, name: str) -> None:
    assert safe_name(text) == name


def test_paths_are_no_addresses() -> None:
    assert [is_address(t) for t in ("a.mp4", "/x/y", "a:b", "rtsp:/x", "RTSP://h", "://")] == [
        False,
        False,
        False,
        True,
        True,
        True,
    ]


def everything_printed(error: BaseException) -> str:
    """A traceback with causes and contexts, and each error's own words."""
    words = traceback.format_exception(error)
    seen: BaseException | None = error
    while seen is not None:
        words += [str(seen), repr(seen), repr(seen.args)]
        seen = seen.__cause__ or seen.__context__
    return "\n".join(line for line in words if "    " not in line[:4])


def taken_apart(text: str) -> tuple[Address | None, str]:
    try:
        return Address.of(text), ""
    except SourceError as error:
        return None, everything_printed(error)


def shows(password: str, text: str) -> bool:
    forms = {password, quote(password, safe=""), quote(password)}
    return any(form in text for form in forms) or "ZjK" in text or "Qx" in text


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(scheme=SCHEMES, user=NASTY, password=PASSWORDS, quoted=st.booleans(), place=st.integers(0, 5))
@example(scheme="rtsp", user="admin", password="Qx12/34ZjKvW", quoted=False, place=0)
@example(scheme="rtsp", user="1", password="Qx1ZjK2vW", quoted=True, place=1)
def test_a_password_is_in_no_name_object_or_error(
    scheme: str, user: str, password: str, quoted: bool, place: int
) -> None:
    written = quote(password, safe="") if quoted else password
    text = [
        f"{scheme}://{user}:{written}@camera.example:554/live/1",
        f"{scheme}://{written}@camera.example/live",
        f"{scheme}://camera.example/live?token={written}",
        f"{scheme}://camera.example/live?user={user}&password={written}#x",
        f"{scheme}:/{user}:{written}@camera.example/live",
        f"{scheme}://camera.example/user=a_password={quote(password, safe='')}_x.sdp",
    ][place]
    # A raw question mark or number sign in a token ends it by every rule; what comes after is still query.
    assert not shows(password, safe_name(text))
    address, refusal = taken_apart(text)
    if address is None:
        assert not shows(password, refusal)
        return
    assert not shows(password, f"{address} {address!r} {address.name} {[address]}")
    foreign = f"could not open {text}; {address.location.reveal()}: host {written} and {password} unknown"
    assert not shows(password, address.scrubbed(foreign))
    failure = failure_of(
        av.InvalidDataError(1, "Invalid data", address.location.reveal()), name=address.name, doing="read"
    )
    assert not shows(password, everything_printed(failure))


@settings(max_examples=40, deadline=None)
@given(
    password=PASSWORDS,
    quoted=st.booleans(),
    text=st.sampled_from(["rtsp://u:{}@h/x", "rtsp:/u:{}@h/x", "u:{}@h"]),
)
def test_a_password_is_in_no_error_of_the_file_readers(password: str, quoted: bool, text: str) -> None:
    written = quote(password, safe="") if quoted else password
    assume("\0" not in written)
    with pytest.raises(SourceError) as caught:
        open_clip(text.format(written))
    assert not shows(password, everything_printed(caught.value))


@pytest.mark.parametrize("scheme", ["rtsp", "http", "rtmp"])
@pytest.mark.parametrize("level", [None, av.logging.TRACE], ids=["quiet", "trace"])
def test_a_password_is_in_no_log_and_no_event_of_a_source_that_is_not_there(
    scheme: str, level: int | None, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    password = "Qx@/#:?%ZjK é"
    # Port 1 of loopback: nobody listens there.
    feed = open_feed(f"{scheme}://Qxuser:{quote(password, safe='')}@127.0.0.1:1/x?token=QxZjK")
    before = av.logging.get_level()
    av.logging.set_level(level)
    logging.getLogger("libav").setLevel(1)
    try:
        with (
            caplog.at_level(1),
            Ingest(feed, backoff=Backoff(first_s=1e-3, cap_s=1e-3, attempts=2)) as ingest,
        ):
            ingest.take(20)
    finally:
        av.logging.set_level(before)
        logging.getLogger("libav").setLevel(logging.WARNING)
    assert ingest.failure is not None
    printed = everything_printed(ingest.failure) + caplog.text + "".join(capfd.readouterr())
    printed += repr(ingest.drain_events()) + "".join(repr(vars(record)) for record in caplog.records)
    assert "127.0.0.1:1/x" in printed
    assert not shows(password, printed)


def test_an_interrupted_feed_opens_nothing() -> None:
    feed = AvFeed(Address.of("rtsp://127.0.0.1:1/x"))
    feed.interrupt()
    with pytest.raises(SourceError, match="closed"):
        feed.connect(Timeouts())
