from __future__ import annotations

import logging
import threading
from pathlib import Path

import pytest

from molmo2_ground.live.recording import Contents, Entry, Recorder
from molmo2_ground.messages import HealthMessage
from molmo2_ground.query import Query
from molmo2_ground.sources.feeds.address import without_credentials
from tests.live_updates import START_NS, health, ticking, toy_updates


class ListTape:
    """A tape that keeps what it is given; it can be told to fail and to wait."""

    def __init__(self, *, fails_at: int | None = None, gate: threading.Event | None = None) -> None:
        self.entries: list[Entry] = []
        self.healths: list[HealthMessage] = []
        self.ended, self.was_let_go, self.threads = 0, 0, {threading.current_thread()}
        self.left = Path("list.part")
        self._fails_at, self._gate = fails_at, gate

    def write(self, entry: Entry) -> None:
        self.threads.add(threading.current_thread())
        if self._gate is not None:
            assert self._gate.wait(10)
        if self._fails_at == len(self.entries):
            raise OSError(28, "No space left on device")
        self.entries.append(entry)

    def write_health(self, message: HealthMessage) -> None:
        self.healths.append(message)

    def end(self) -> None:
        self.threads.add(threading.current_thread())
        self.ended += 1

    def let_go(self) -> None:
        self.was_let_go += 1


def recorder(tape: ListTape, **options: object) -> Recorder:
    return Recorder(Path("list"), lambda: tape, contents=Contents(clocks=ticking()), **options)  # type: ignore[arg-type]


def test_all_is_written_in_order_by_one_thread_of_its_own() -> None:
    made: list[ListTape] = []

    def load() -> ListTape:
        made.append(ListTape())
        return made[0]

    updates = [*toy_updates(5)]
    asked = {"people": Query(task="track", phrase="people")}
    contents = Contents(clocks=ticking(), questions=lambda: asked)
    with Recorder(Path("list"), load, contents=contents, when_full="wait") as record:
        for update in updates:
            record.write(update)
        record.write_health(health(START_NS))
    (tape,) = made
    assert [entry.update for entry in tape.entries] == updates
    assert all(entry.questions == asked for entry in tape.entries)
    times = [entry.pub_ns for entry in tape.entries]
    assert times == sorted(set(times))
    assert (tape.healths, tape.ended, tape.was_let_go) == ([health(START_NS)], 1, 0)
    assert len(tape.threads) == 1
    assert threading.current_thread() not in tape.threads
    assert (record.problem, record.skipped) == (None, 0)


def test_a_failure_is_one_line_and_the_stream_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    tape = ListTape(fails_at=2)
    record = recorder(tape, when_full="wait")
    with caplog.at_level(logging.WARNING):
        for update in toy_updates(6):
            record.write(update)
        record.close()
    assert (
        record.problem
        == "recording to list stopped: No space left on device; what there is so far is in list.part"
    )
    assert [entry.message for entry in caplog.records] == [record.problem]
    assert (len(tape.entries), tape.ended, tape.was_let_go) == (2, 0, 1)


def test_a_folder_that_is_gone_is_told_and_no_file_in_it_is_named() -> None:
    tape = ListTape(fails_at=0)
    tape.left = Path("nowhere/list.part")
    record = recorder(tape, when_full="wait")
    record.write(next(iter(toy_updates(1))))
    record.close()
    assert record.problem == (
        "recording to list stopped: the folder nowhere is gone, and what was recorded with it"
    )


def test_a_panic_of_a_library_ends_the_recording_and_closing_it_does_not_hang() -> None:
    class Panic(BaseException):
        """As PyO3 raises it for a panic in Rust."""

    class PanickingTape(ListTape):
        def write(self, entry: Entry) -> None:
            raise Panic("index out of bounds")

    record = recorder(PanickingTape(), capacity=1, when_full="wait")
    for update in toy_updates(3):
        record.write(update)
    record.close()
    assert record.problem is not None
    assert "index out of bounds" in record.problem

    def load() -> ListTape:
        raise Panic("not initialised")

    with pytest.raises(Panic, match="not initialised"):
        Recorder(Path("list"), load, contents=Contents())


def test_what_a_slow_disk_has_no_room_for_is_left_out_and_counted() -> None:
    gate = threading.Event()
    tape = ListTape(gate=gate)
    record = recorder(tape, capacity=2)
    for update in toy_updates(10):
        record.write(update)
    gate.set()
    record.close()
    assert len(tape.entries) + record.skipped == 10
    assert 2 <= len(tape.entries) <= 3


def test_what_opening_raises_is_raised_to_the_caller() -> None:
    def load() -> ListTape:
        raise FileExistsError("it exists")

    with pytest.raises(FileExistsError, match="it exists"):
        Recorder(Path("list"), load, contents=Contents())


def test_closing_twice_does_nothing_and_writing_after_it_is_refused() -> None:
    tape = ListTape()
    record = recorder(tape)
    record.close()
    record.close()
    assert tape.ended == 1
    with pytest.raises(ValueError, match="closed"):
        record.write(next(iter(toy_updates(1))))


def test_a_block_that_ends_by_ctrl_c_finishes_the_file() -> None:
    tape = ListTape()

    def run() -> None:
        with recorder(tape) as record:
            record.write(next(iter(toy_updates(1))))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()
    assert (len(tape.entries), tape.ended) == (1, 1)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param("rtsp://me:p4ss@host/door", "rtsp://host/door", id="plain"),
        pytest.param("rtsp://me:p@/s#s?w@host:554/a", "rtsp://…", id="signs-in-the-password"),
        pytest.param("http://host/a.m3u8?token=x&y=1", "http://host/a.m3u8", id="parameters"),
        pytest.param("from rtsp://a:b@h/1 to b@c", "from rtsp://h/1 to b@c", id="within-a-sentence"),
        pytest.param("street.mp4", "street.mp4", id="a-file"),
    ],
)
def test_no_credentials_are_told(text: str, told: str) -> None:
    assert without_credentials(text) == told
    assert Contents(manifest={"source": text}).told() == {"source": told}
