from __future__ import annotations

import json
import logging
import resource
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from mcap.reader import make_reader

from molmo2_ground._cli_stream_lines import nothing_line
from molmo2_ground.cli import main
from molmo2_ground.grounder import Grounder
from molmo2_ground.sources.feeds import Totals
from tests.live_scenes import Places, TruthBackend
from tests.media import Shelf, constant_rate

WORDS = "the red car"


def moving(time_s: float) -> Places:
    return {1: (0.2 + 0.2 * time_s, 0.5)}


def loader(model: str, *, device: str, dtype: str, vision: str) -> Grounder:
    return Grounder(TruthBackend(moving))


def never(model: str, *, device: str, dtype: str, vision: str) -> Grounder:
    raise AssertionError("a bad command is told before the model loads")


@pytest.fixture
def film(media: Shelf) -> str:
    return str(media(constant_rate))


@pytest.fixture(autouse=True)
def _logged_like_before() -> Iterator[None]:
    yield
    logging.getLogger("molmo2_ground").setLevel(logging.NOTSET)


def test_a_file_is_followed_to_its_end(film: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stream", film, WORDS, "--policy", "block", "--speed", "50"], loader=loader) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert any("the red car: #1 (" in line for line in lines)
    assert any("birth of #1" in line for line in lines)
    assert "pictures: " in err
    assert " received, " in err


def test_messages_come_as_lines_of_json(film: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["stream", film, WORDS, "--count", "cars", "--policy", "block", "--speed", "50", "--json", "-"]
    assert main([*command, "--name", "hall", "--quiet"], loader=loader) == 0
    out, err = capsys.readouterr()
    messages = [json.loads(line) for line in out.splitlines()]
    schemas = {message["header"]["schema"] for message in messages}
    assert schemas == {"molmo2-ground/live-tracks/1", "molmo2-ground/live-count/1"}
    assert {message["header"]["source"] for message in messages} == {"hall"}
    assert err == ""


@pytest.mark.slow
def test_what_happens_is_recorded_and_told(
    film: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    zones = tmp_path / "zones.json"
    line = {"name": "the kerb", "start": [0.35, 0.0], "end": [0.35, 1.0], "in_side": "right"}
    zones.write_text(json.dumps({"units": "norm", "lines": [line]}))
    recording = tmp_path / "run.mcap"
    command = ["stream", film, WORDS, "--policy", "block", "--record", str(recording)]
    command += [
        "--zones",
        str(zones),
        "--watch",
        "someone crosses the kerb",
        "--clips",
        str(tmp_path / "clips"),
    ]
    assert main(command, loader=loader) == 0
    out, err = capsys.readouterr()
    assert "someone crosses the kerb: #1 the red car crossed the kerb" in out
    assert f"wrote {recording}" in err
    assert list((tmp_path / "clips").glob("*.mp4"))
    with recording.open("rb") as file:
        summary = make_reader(file).get_summary()
        found = [(c.topic, message.data) for _, c, message in make_reader(file).iter_messages()]
    health = [json.loads(data) for topic, data in found if topic.endswith("/health")]
    assert [one["seq"] for one in health] == list(range(len(health)))
    assert [event["state"] for one in health for event in one["events"]][:2] == ["connecting", "connected"]
    assert sum(event["state"] == "connected" for one in health for event in one["events"]) == 1
    assert summary is not None
    topics = {channel.topic for channel in summary.channels.values()}
    assert any(topic.endswith("/tracks/") or topic.endswith("/tracks") for topic in topics)
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.slow
def test_it_publishes_takes_questions_and_serves_figures(
    film: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["stream", film, WORDS, "--updates", "3", "--metrics", "0"]
    command += ["--publish", "tcp://127.0.0.1:*", "--control", "tcp://127.0.0.1:*"]
    assert main(command, loader=loader) == 0
    err = capsys.readouterr().err
    assert "publishing at tcp://127.0.0.1:" in err
    assert "control at tcp://127.0.0.1:" in err
    assert "figures for Prometheus at http://127.0.0.1:" in err


@pytest.mark.slow
def test_a_camera_that_never_comes_ends_with_the_time_given(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    # Nothing listens on the discard port of loopback.
    command = ["stream", "rtsp://someone:s3cret@127.0.0.1:9/door", WORDS, "--seconds", "1"]
    assert main(command, loader=loader) == 1
    out, err = capsys.readouterr()
    assert "no picture came from rtsp://127.0.0.1:9/door: cannot be opened (Connection refused)" in err
    assert "s3cret" not in out + err + caplog.text
    assert "rtsp://127.0.0.1:9/door: reconnecting" in caplog.text


@pytest.mark.parametrize(
    ("received", "dropped", "trouble", "said"),
    [
        (0, {}, "", "no picture came from cam"),
        (0, {}, "nothing (404)", "no picture came from cam: nothing (404)"),
        (3, {"late": 1, "damaged": 2}, "", "3 pictures came from cam, none could be used: 2 damaged, 1 late"),
        (1, {"late": 1}, "a file", "1 picture came from cam, none could be used: 1 late; a file"),
        (1, {}, "", "1 picture came from cam, none was used"),
    ],
)
def test_why_there_was_no_update_is_told(
    received: int, dropped: dict[str, int], trouble: str, said: str
) -> None:
    totals = Totals(received=received, taken=0, waiting=0, dropped=dropped)
    assert nothing_line(totals, trouble=trouble, name="cam") == said


@pytest.mark.slow
def test_the_address_may_stand_in_a_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    address = tmp_path / "camera.url"
    address.write_text("rtsp://someone:s3cret@127.0.0.1:9/door\n")
    assert main(["stream", f"@{address}", WORDS, "--seconds", "1"], loader=loader) == 1
    assert "s3cret" not in caplog.text
    assert "rtsp://127.0.0.1:9/door" in caplog.text


@pytest.mark.parametrize(
    ("options", "said", "code"),
    [
        pytest.param([], "say what to look for", 2, id="no question"),
        pytest.param([WORDS, WORDS], "asked twice", 2, id="the same question twice"),
        pytest.param([WORDS, "--ui", "--json", "-"], "choose one", 2, id="two things on one terminal"),
        pytest.param([WORDS, "--clips", "x"], "--watch", 2, id="clips of no event"),
        pytest.param([WORDS, "--speed", "0"], "--speed is a finite number, above 0", 2, id="no speed"),
        pytest.param([WORDS, "--updates", "0"], "--updates is at least 1", 2, id="no updates"),
        pytest.param([WORDS, "--record", "no/such/run.mcap"], "does not exist", 2, id="no such folder"),
        pytest.param([WORDS, "--record", "run.avi"], ".mcap", 2, id="a recording of another kind"),
        pytest.param(
            [WORDS, "--record", "a.mcap", "--record", "a.mcap"], "same name", 2, id="one name twice"
        ),
        pytest.param([WORDS, "--watch", "dance"], "dance", 2, id="a sentence that is none"),
        pytest.param([WORDS, "--watch", "someone enters the lawn"], "lawn", 2, id="a zone nobody drew"),
        pytest.param(
            [WORDS, "--publish", "tcp://0.0.0.0:5556"], "without keys", 2, id="open to all machines"
        ),
        pytest.param([WORDS, "--carry", "no-such"], "no-such", 1, id="a segmenter that is none"),
        pytest.param([WORDS, "--fps", "0"], "fps", 2, id="no pictures"),
        pytest.param([WORDS, "--zones", "z.json"], "--watch", 2, id="zones of no event"),
        pytest.param([WORDS, "--keys", "k"], "--publish or --control", 2, id="keys of no socket"),
        pytest.param([WORDS, "--insecure"], "--publish or --control", 2, id="no socket to be insecure"),
        pytest.param([WORDS, "--record-max-mb", "5"], "--record", 2, id="a size of no recording"),
        pytest.param(
            [WORDS, "--record", "run", "--record-max-mb", "5"], "only .mcap", 2, id="a bag that is cut"
        ),
        pytest.param([WORDS, "--record", "a", "--record", "a.db3"], "same name", 2, id="one bag twice"),
        pytest.param(
            [WORDS, "--watch", "a car appears", "--watch", "a car appears"], "twice", 2, id="one watch twice"
        ),
        pytest.param(
            [WORDS, "--watch", "a car appears", "--zones", "z.json"], "z.json", 1, id="no zone file"
        ),
        pytest.param([WORDS, "--publish", "5556"], "tcp://HOST:PORT", 2, id="a port is no address"),
        pytest.param([WORDS, "--publish", "tcp://127.0.0.1:1", "--keys", "k"], "key file", 1, id="no keys"),
        pytest.param(
            [WORDS, "--publish", "tcp://127.0.0.1:1", "--control", "tcp://127.0.0.1:1"],
            "two addresses",
            2,
            id="two sockets at one address",
        ),
        pytest.param([WORDS, "--metrics", "99999"], "0 to 65535", 2, id="a port that is none"),
        pytest.param([WORDS, "--max-age", "0"], "--max-age", 2, id="no age"),
        pytest.param(
            [WORDS, "--carry-fps", "1"],
            "--carry-fps is at least --fps, 2; got 1",
            2,
            id="carried less often than seen",
        ),
        pytest.param(
            [WORDS, "--policy", "every", "--buffer", "0"], "--buffer is at least 1", 2, id="no buffer"
        ),
        pytest.param([WORDS, "--tokens-per-minute", "0"], "--tokens-per-minute", 2, id="no tokens"),
        pytest.param([WORDS, "--speed", "inf"], "--speed is a finite number", 2, id="endless speed"),
        pytest.param([WORDS, "--look-every", "-1"], "--look-every", 2, id="looks before they are due"),
        pytest.param([WORDS, "--debounce", "1"], "--watch", 2, id="nothing watched that has to hold"),
        pytest.param([WORDS, "--debounce", "0"], "--watch", 2, id="nothing watched, with the default"),
        pytest.param([WORDS, "--cooldown", "1"], "--watch", 2, id="nothing watched that is to rest"),
        pytest.param([WORDS, "--record-pictures", "none"], "--record FILE", 2, id="pictures of no recording"),
        pytest.param([WORDS, "--buffer", "8"], "--policy every", 2, id="nothing waits"),
        pytest.param(
            [WORDS, "--carry", "none", "--look-every", "1"], "--carry none", 2, id="all is looked at anyway"
        ),
        pytest.param([WORDS, "--carry", "none", "--carry-fps", "9"], "--carry none", 2, id="nothing carried"),
    ],
)
def test_bad_usage_is_one_line_before_the_model_loads(
    film: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    said: str,
    code: int,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["stream", film, *options], loader=never) == code
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert line.startswith("molmo2-ground: ")
    assert said in line
    assert out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", ["--publish", "--control", "--metrics"])
def test_a_port_in_use_is_told_before_the_model_loads(
    film: str, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        address = str(port) if option == "--metrics" else f"tcp://127.0.0.1:{port}"
        assert main(["stream", film, WORDS, option, address], loader=never) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "Address already in use" in line
    assert str(port) in line
    assert "choose another" in line


@pytest.mark.parametrize(
    ("written", "said"),
    [
        pytest.param(None, "No such file", id="missing"),
        pytest.param(b"", "0 lines", id="empty"),
        pytest.param(b"rtsp://u:s3cret@a/x\nrtsp://u:s3cret@b/x\n", "2 lines", id="two addresses"),
        pytest.param(b"rtsp://u:s3cret\xff@a/x", "not in UTF-8", id="not text"),
    ],
)
def test_an_address_file_that_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], written: bytes | None, said: str
) -> None:
    path = tmp_path / "camera.url"
    if written is not None:
        path.write_bytes(written)
    assert main(["stream", f"@{path}", WORDS], loader=never) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert "expected a text file with one line" in line
    assert "s3cret" not in line


@pytest.mark.slow
def test_zones_of_another_size_and_their_rules_are_heeded(
    film: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    zones = tmp_path / "zones.json"
    far = {"name": "far", "polygon": [[4000, 4000], [4100, 4000], [4100, 4100]]}
    kerb = {"name": "kerb", "start": [0.35, 0.0], "end": [0.35, 1.0]}
    zones.write_text(json.dumps({"zones": [far]}))
    command = ["stream", film, WORDS, "--policy", "block", "--speed", "50", "--zones", str(zones)]
    assert main([*command, "--watch", "someone enters far"], loader=loader) == 0
    assert "note: zone 'far' lies outside the picture" in capsys.readouterr().err
    # Nothing moves so far from the line that by these rules it would have crossed it.
    zones.write_text(json.dumps({"units": "norm", "lines": [kerb], "rules": {"min_step_px": 10000}}))
    assert main([*command, "--watch", "someone crosses kerb"], loader=loader) == 0
    assert "crossed kerb" not in capsys.readouterr().out


@pytest.mark.slow
def test_clips_that_could_not_be_written_are_counted_at_the_end(
    film: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    zones = tmp_path / "zones.json"
    zones.write_text(
        json.dumps({"units": "norm", "lines": [{"name": "kerb", "start": [0.35, 0], "end": [0.35, 1]}]})
    )
    command = ["stream", film, WORDS, "--policy", "block", "--zones", str(zones)]
    command += ["--watch", "someone crosses kerb"]
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        code = main([*command, "--clips", str(tmp_path / "clips")], loader=loader)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert code == 1
    assert f"clips that could not be written to {tmp_path / 'clips'}: 1" in capsys.readouterr().err
    assert not [*(tmp_path / "clips").glob("*.mp4")]


@pytest.mark.parametrize("option", ["--record", "--clips", "--zones", "--keys"])
def test_an_empty_path_is_no_path(film: str, capsys: pytest.CaptureFixture[str], option: str) -> None:
    assert main(["stream", film, WORDS, option, ""], loader=never) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{option}: expected a path; got an empty one" in line


@pytest.mark.parametrize(("options", "said"), [(["--loop"], "--loop"), (["--speed", "2"], "--speed")])
def test_a_camera_is_not_played(capsys: pytest.CaptureFixture[str], options: list[str], said: str) -> None:
    assert main(["stream", "rtsp://127.0.0.1:9/door", WORDS, *options], loader=never) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{said} is for files; rtsp://127.0.0.1:9/door" in line


def test_a_source_that_is_none_is_told_before_the_model_loads(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stream", "no-such-film.mp4", WORDS], loader=never) == 1
    assert "no-such-film.mp4" in capsys.readouterr().err
