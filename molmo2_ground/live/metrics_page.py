"""`MetricsPage`: the figures of a stream for Prometheus, as a page on loopback."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import accumulate
from types import TracebackType
from typing import TYPE_CHECKING, Self, get_args

from molmo2_ground._loopback import is_loopback
from molmo2_ground._optional import require
from molmo2_ground.live.health import HealthMeter
from molmo2_ground.live.latency import BOUNDS_MS
from molmo2_ground.messages.health import FeedState

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

_LOG = logging.getLogger(__name__)

_TIMEOUT_S = 5.0  # a client that says nothing, or takes nothing, for so long is let go


def prometheus_text(meter: HealthMeter) -> str:
    """All figures in Prometheus' text format; takes nothing from `meter.message`.

    Raises `MissingExtraError` without prometheus-client (`molmo2-ground[live]`).
    """
    client = require("prometheus_client", extra="live")
    registry = client.CollectorRegistry()
    registry.register(_Figures(meter))
    text: bytes = client.generate_latest(registry)
    return text.decode("utf-8")


class _Figures:
    """Makes the metrics from the meter when they are asked for; the meter knows nothing of Prometheus."""

    def __init__(self, meter: HealthMeter) -> None:
        self._meter = meter

    def describe(self) -> list[Metric]:
        """Nothing: the registry would collect once to learn the names otherwise."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Every metric, each with the stream's name."""
        core = require("prometheus_client.core", extra="live")
        health = self._meter.peek()
        source = health.source

        def counter(name: str, says: str, label: str, counts: dict[str, float]) -> Metric:
            family = core.CounterMetricFamily(name, says, labels=["source", *([label] if label else [])])
            for key, count in counts.items():
                family.add_metric([source, *([key] if label else [])], count)
            made: Metric = family
            return made

        yield counter("ground_frames_in", "Pictures that arrived.", "", {"": health.received})
        yield counter("ground_frames_used", "Pictures that an update is about.", "", {"": health.taken})
        yield counter("ground_frames_dropped", "Pictures left out.", "reason", dict(health.dropped))
        yield counter("ground_looks", "Why the model was asked; a look may have several reasons.", "reason",
                      dict(health.looks))  # fmt: skip
        yield counter("ground_tokens", "Tokens that the model read and wrote.", "", {"": health.tokens})
        yield counter("ground_parse_errors", "What could not be read of answers.", "kind",
                      dict(health.extra["parse_errors"]))  # fmt: skip
        yield counter("ground_connections", "Times that the camera was connected.", "",
                      {"": health.connections})  # fmt: skip
        yield counter("ground_updates", "Updates made.", "", {"": health.extra["updates"]})
        yield counter("ground_updates_stale", "Updates too old to act on.", "", {"": health.extra["stale"]})
        yield counter("ground_watch_events", "Events of watches.", "", {"": health.extra["watch_events"]})
        followed = core.GaugeMetricFamily("ground_followed", "Things that are followed.", labels=["source"])
        followed.add_metric([source], health.extra["followed"])
        yield followed
        age = core.GaugeMetricFamily(
            "ground_frame_age_seconds", "Since the newest picture arrived.", labels=["source"]
        )
        if health.frame_age_ms is not None:
            age.add_metric([source], health.frame_age_ms / 1e3)
        yield age
        state = core.GaugeMetricFamily(
            "ground_feed_state", "1 for the state of the camera.", labels=["source", "state"]
        )
        for name in get_args(FeedState):
            state.add_metric([source, name], float(name == health.state))
        yield state
        yield self._stages(source)

    def _stages(self, source: str) -> Metric:
        core = require("prometheus_client.core", extra="live")
        family: Metric = core.HistogramMetricFamily(
            "ground_stage_seconds", "How long each stage took.", labels=["source", "stage"]
        )
        bounds = [str(bound / 1e3) for bound in BOUNDS_MS] + ["+Inf"]
        for stage, histogram in self._meter.histograms().items():
            sums = list(zip(bounds, map(float, accumulate(histogram.counts)), strict=True))
            family.add_metric([source, stage], sums, histogram.total_ms / 1e3)  # type: ignore[attr-defined]
        return family


class MetricsPage:
    """Serves `prometheus_text` at `/metrics` until it is closed; use it in a `with` block.

    host  an address of this machine: `127.0.0.1` and `::1` are reached from here alone. Any other needs
          `wide=True`, since the page has no password. port: 0 takes a free one; see `port`.

    Raises `ValueError` for a wide address that was not asked for and for what is no port, and `OSError` when
    the port is taken.
    """

    def __init__(
        self, meter: HealthMeter, *, host: str = "127.0.0.1", port: int = 9464, wide: bool = False
    ) -> None:
        if not wide and not is_loopback(host):
            raise ValueError(
                f"the page of figures has no password and is served on loopback; got the host {host!r}. "
                "Say wide=True to serve it to others"
            )
        if not 0 <= port <= 65535:
            raise ValueError(f"a port is 0 to 65535; got {port}")
        prometheus_text(meter)  # what is missing is told here, and not to the first who asks
        try:
            self._server = _Server((host, port), _handler(meter))
        except OSError as error:
            raise OSError(
                error.errno, f"{error.strerror}: the page of figures cannot be served at {host}:{port}"
            ) from error
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, name="metrics", daemon=True
        )
        self._thread.start()

    @property
    def port(self) -> int:
        """The port that it is served at."""
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """Where it is."""
        host = str(self._server.server_address[0])
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/metrics"

    def close(self) -> None:
        """Serve no more and give the port back; closing again does nothing."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # a client that hangs must not hold up the end of the stream

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        if ":" in address[0]:
            import socket

            self.address_family = socket.AF_INET6
        super().__init__(address, handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that breaks off is no trouble of ours; the log keeps it for who looks."""
        _LOG.debug("a request for the figures broke off", exc_info=True)


def _handler(meter: HealthMeter) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = _TIMEOUT_S
        server_version = "molmo2-ground"
        sys_version = ""

        def do_GET(self) -> None:
            if self.path.split("?")[0] not in ("/metrics", "/"):
                self.send_error(404, "the figures are at /metrics")
                return
            body = prometheus_text(meter).encode("utf-8")
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            _LOG.debug(format, *args)

    return Handler
