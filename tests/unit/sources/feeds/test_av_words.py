from __future__ import annotations

import errno
import socket

import av
import pytest

from molmo2_ground.sources.feeds.av_words import failure_of
from molmo2_ground.sources.feeds.failures import RefusedError, StalledError


def told(number: int) -> Exception:
    with pytest.raises(av.FFmpegError) as caught:
        av.error.err_check(-number, "rtsp://u:SeCrEt@cam/door")
    return caught.value


HTTP = {name: av.error.tag_to_code(tag) for name, tag in {"403": b"\xf8403", "404": b"\xf8404"}.items()}


@pytest.mark.parametrize(
    ("number", "doing", "kind", "words"),
    [
        pytest.param(HTTP["403"], "opened", RefusedError, "access is refused (403)", id="forbidden"),
        pytest.param(
            HTTP["404"], "opened", None, "there is nothing under this path (404)", id="not-there-yet"
        ),
        pytest.param(errno.ETIMEDOUT, "read", StalledError, "no data came in time", id="silent"),
        pytest.param(errno.EIO, "read", None, "cannot be read (Input/output error)", id="broken"),
        pytest.param(
            errno.EIO, "opened", None, "its host cannot be found (nobody knows it)", id="no-such-host"
        ),
        pytest.param(
            errno.ECONNREFUSED, "opened", None, "cannot be opened (Connection refused)", id="nobody-listens"
        ),
    ],
)
def test_errors_of_ffmpeg_in_our_words(
    number: int, doing: str, kind: type | None, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", _knows_nobody)
    failure = failure_of(told(number), name="rtsp://cam/door", doing=doing, host="cam")
    assert str(failure).startswith(f"rtsp://cam/door: {words}")
    assert "SeCrEt" not in str(failure)
    if kind is None:  # it may come yet
        assert not isinstance(failure, RefusedError)
    else:
        assert isinstance(failure, kind)


@pytest.mark.parametrize("host", ["127.0.0.1", None], ids=["there-is-one", "nobody"])
def test_another_failure_of_a_host_that_is_known_keeps_its_words(host: str | None) -> None:
    failure = failure_of(told(errno.EIO), name="cam", doing="opened", host=host)
    assert str(failure) == "cam: cannot be opened (Input/output error)"


def test_a_name_that_no_host_can_have_is_told_too() -> None:
    failure = failure_of(told(errno.EIO), name="cam", doing="opened", host="a" * 70 + ".example")
    assert "its host cannot be found" in str(failure)


def _knows_nobody(*asked: object) -> None:
    raise socket.gaierror(socket.EAI_NONAME, "nobody knows it")
