"""How long a message is on its way: publish in one process, receive in another, over loopback.

`python benchmarks/zeromq.py [--messages 600] [--things 24] [--crowd 50]`. Four rows: plain and with CURVE
keys, to one subscriber and to one of a crowd. Milliseconds from handing it to the socket (`pub_ns`) to
holding it read and checked; and the whole of `publish`, from an update to the socket. Ratios compare with the
first row.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import zmq

from molmo2_ground.integrations.zeromq import ClientKeys, Publisher, ServerKeys, Subscriber
from molmo2_ground.integrations.zeromq.keys import make_client_keys, make_server_keys
from molmo2_ground.live.update import LiveTrack, Update
from molmo2_ground.messages import HealthMessage
from molmo2_ground.query import Query
from molmo2_ground.sources.feeds.capture import Capture

ASKED = {"people": Query.track("people")}
PERIOD_S = 0.01


def update_of(number: int, things: int) -> Update:
    """A picture taken now, with so many things in it."""
    now_ns = time.time_ns()
    capture = Capture(
        index=number,
        epoch=1,
        stamp_ns=now_ns,
        recv_ns=now_ns,
        decoded_ns=now_ns,
        monotonic_ns=time.monotonic_ns(),
        width_px=1280,
        height_px=720,
        paint=lambda: np.zeros((720, 1280, 3), np.uint8),
    )
    tracks = tuple(
        LiveTrack(
            object_id=thing,
            question="people",
            label="person",
            x_px=10.0 * thing,
            y_px=5.0 * thing,
            x_norm=thing / 128,
            y_norm=thing / 144,
            state="propagated",
            observed_ns=now_ns,
            born_ns=now_ns,
        )
        for thing in range(1, things + 1)
    )
    return Update(
        source="bench",
        seq=number,
        capture=capture,
        time_s=number * PERIOD_S,
        sampled=True,
        tracks=tracks,
        made_ns=now_ns,
        age_ms=0.0,
        valid_until_ns=now_ns + 10**9,
    )


def health() -> HealthMessage:
    """The heartbeat that tells a subscriber that it has got through."""
    return HealthMessage(
        source="",
        seq=0,
        epoch=1,
        pub_ns=0,
        state="connected",
        uptime_s=0.0,
        frame_age_ms=None,
        received=0,
        taken=0,
    )


def listen(pipe: Connection, endpoint: str, keys: ClientKeys | None, messages: int) -> None:
    """In a process of its own: say when connected, then send the latencies of so many messages (ms)."""
    with Subscriber(endpoint, keys=keys, kinds=("tracks",), keep="every") as subscriber:
        pipe.send(subscriber.wait_alive(30))
        taken: list[float] = []
        while len(taken) < messages and (received := subscriber.receive(10, stale_too=True)) is not None:
            taken.append((time.time_ns() - received.message.header.pub_ns) / 1e6)  # type: ignore[union-attr]
        pipe.send((taken, subscriber.lost))


def crowd_around(pipe: Connection, endpoint: str, keys: ClientKeys | None, size: int) -> None:
    """In a process of its own: so many more subscribers, which read and do no more."""
    context = zmq.Context()
    poller = zmq.Poller()
    sockets = []
    for _ in range(size):
        socket = context.socket(zmq.SUB)
        socket.linger = 0
        if keys is not None:
            socket.curve_publickey, socket.curve_secretkey = keys.public, keys.secret
            socket.curve_serverkey = keys.server
        socket.subscribe(b"molmo2/")
        socket.connect(endpoint)
        poller.register(socket, zmq.POLLIN)
        sockets.append(socket)
    waiting, told = set(sockets), False
    while not pipe.poll():
        for socket, _ in poller.poll(50):
            socket.recv()
            waiting.discard(socket)
        if not waiting and not told:
            told = True
            pipe.send(True)
    for socket in sockets:
        socket.close(0)
    context.term()


def measure(
    messages: int, things: int, crowd: int, server: ServerKeys | None, client: ClientKeys | None
) -> tuple[Sequence[float], Sequence[float], int]:
    """(latencies, times of publish, lost), milliseconds, with a crowd of so many beside the one measured."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    around, crowds = spawn.Pipe()
    with Publisher("tcp://127.0.0.1:*", stream_name="bench", keys=server) as publisher:
        publisher.start_health(health, period_s=0.05)
        processes = [spawn.Process(target=listen, args=(theirs, publisher.endpoint, client, messages))]
        if crowd:
            processes.append(
                spawn.Process(target=crowd_around, args=(crowds, publisher.endpoint, client, crowd))
            )
        for process in processes:
            process.start()
        assert ours.recv(), "the subscriber did not get through"
        if crowd:
            around.recv()
        spent = []
        for number in range(messages):
            given = update_of(number, things)
            start_s = time.perf_counter()
            publisher.publish(given, questions=ASKED)
            spent.append((time.perf_counter() - start_s) * 1e3)
            time.sleep(PERIOD_S)
        taken, lost = ours.recv()
        around.send("enough")
        for process in processes:
            process.join()
    return taken, spent, lost


def quantiles(values: Sequence[float]) -> tuple[float, float]:
    """(p50, p99)."""
    ordered = sorted(values)
    return statistics.median(ordered), ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]


def main() -> int:
    """Measure the four ways and print a row each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--messages", type=int, default=600)
    parser.add_argument("--things", type=int, default=24)
    parser.add_argument("--crowd", type=int, default=50)
    options = parser.parse_args()
    first: tuple[float, float] | None = None
    print("                      on its way, ms            publish, ms")
    print("                    p50    p99  ratio of p50    p50    p99   lost")
    with tempfile.TemporaryDirectory() as folder:
        keys = Path(folder) / "keys"
        make_server_keys(keys)
        client = ClientKeys.load(make_client_keys(keys, "bench"), keys / "server.key")
        server = ServerKeys.load(keys)
        for name, crowd, with_keys in (
            ("plain, 1", 0, False),
            (f"plain, {options.crowd + 1}", options.crowd, False),
            ("CURVE, 1", 0, True),
            (f"CURVE, {options.crowd + 1}", options.crowd, True),
        ):
            pair = (server, client) if with_keys else (None, None)
            taken, spent, lost = measure(options.messages, options.things, crowd, *pair)
            way, work = quantiles(taken), quantiles(spent)
            first = first or way
            ratio = way[0] / first[0]
            print(
                f"{name:15} {way[0]:7.3f} {way[1]:6.2f} {ratio:13.2f} {work[0]:6.2f} {work[1]:6.2f} {lost:6}"
            )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
