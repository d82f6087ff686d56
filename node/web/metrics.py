"""`/metrics`: what a node does, for Prometheus.

Figures are read off the node when they are asked for; only the times of the gateway's
answers are collected as they come. Labels name kinds and sources, never digests, names
or addresses: these are many, and other people's business.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

from aiohttp import web
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from node.commands import StatusCommand
from node.errors import NodeError
from node.version import VERSION
from node.web.guard import Refusal
from node.web.headers import SOURCE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.core import Metric

    from node.results import StatusResult
    from node.web.api import Runs

CONTENT_TYPE = CONTENT_TYPE_LATEST
_OWNERS_PATHS = ("/api/", "/static/", "/login/", "/metrics", "/ready", "/health")
_BUCKETS = (0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0)


class Metrics:
    """The metrics of one node."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._answers = Histogram(
            "caravan_gateway_answer_seconds",
            "Time to the end of an answer to a package manager, by source of the file; "
            "pages and errors have their own.",
            ["source"],
            buckets=_BUCKETS,
            registry=self._registry,
        )

    def observe(self, source: str, seconds: float) -> None:
        """Count one answer of the gateway."""
        self._answers.labels(source).observe(seconds)

    def render(self, status: StatusResult) -> bytes:
        """Return the text that Prometheus reads."""
        registry = CollectorRegistry()
        registry.register(_StatusCollector(status))
        return generate_latest(registry) + generate_latest(self._registry)


class _StatusCollector:
    """Reads the figures of a status."""

    def __init__(self, status: StatusResult) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        """Yield every family."""
        yield from self._node()
        yield from self._transfer()
        yield from self._dht()
        yield from self._gateway()

    def _node(self) -> Iterator[Metric]:
        status = self._status
        info = GaugeMetricFamily(
            "caravan_build_info", "The version that runs.", labels=["version"]
        )
        info.add_metric([VERSION], 1)
        yield info
        yield _gauge("contacts", "Contacts in the routing table.", status.contacts)
        yield _gauge("store_artifacts", "Artifacts held.", status.artifacts)
        yield _gauge("store_bytes", "Bytes held.", status.bytes_held)
        failing = len(status.failing)
        yield _gauge("failing_loops", "Background loops that fail.", failing)

    def _transfer(self) -> Iterator[Metric]:
        status, seeder = self._status, self._status.transfer.seeder
        received = status.transfer.leecher.bytes_received
        yield _gauge("downloads", "Downloads under way.", status.downloads)
        yield _gauge("uploads", "Uploads under way.", status.uploads)
        yield _gauge("peer_connections", "Connections of leechers.", seeder.connections)
        yield _counter("received_bytes", "Bytes from peers.", received)
        yield _counter("sent_bytes", "Bytes to peers.", seeder.bytes_sent)
        yield _labelled(
            "refused_connections",
            "Connections refused.",
            label="why",
            values=seeder.refused,
        )

    def _dht(self) -> Iterator[Metric]:
        yield _labelled(
            "dht_events",
            "Events in the DHT, and of origin leases.",
            label="event",
            values=self._status.dht,
        )
        keys = self._status.placement
        if keys is None:
            return
        yield _gauge("offered_keys", "Keys on offer.", keys.offered)
        yield _gauge("placed_keys", "Keys that enough nodes keep.", keys.placed)
        yield _gauge("unplaced_keys", "Keys that no node keeps.", keys.unplaced)
        yield _gauge(
            "announcing_behind_seconds",
            "For how long not all keys were placed.",
            keys.behind_seconds or 0,
        )

    def _gateway(self) -> Iterator[Metric]:
        traffic = self._status.gateway
        yield _labelled(
            "gateway_files",
            "Files for package managers.",
            label="source",
            values={source: one.files for source, one in traffic.items()},
        )
        yield _labelled(
            "gateway_bytes",
            "Bytes for package managers; what is not of the origin was saved.",
            label="source",
            values={source: one.bytes for source, one in traffic.items()},
        )


def _gauge(name: str, help_text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"caravan_{name}", help_text, value=value)


def _counter(name: str, help_text: str, value: float) -> Metric:
    return CounterMetricFamily(f"caravan_{name}", help_text, value=value)


def _labelled(
    name: str, help_text: str, *, label: str, values: dict[str, int]
) -> Metric:
    family = CounterMetricFamily(f"caravan_{name}", help_text, labels=[label])
    for text, value in values.items():
        family.add_metric([text], value)
    return family


async def metrics_response(metrics: Metrics, node: Runs) -> web.Response:
    """Return the answer of `/metrics`; Refusal where the node cannot say."""
    try:
        status = await node.run(StatusCommand(), lambda _: None)
    except NodeError as error:
        raise Refusal(503, str(error), error.exit_code) from error
    body = await asyncio.to_thread(metrics.render, status)
    return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE})


@contextlib.contextmanager
def timed(request: web.Request, metrics: Metrics) -> Iterator[None]:
    """Observe how long an answer of the gateway takes."""
    began = time.monotonic()
    try:
        yield
    finally:
        if not request.path.startswith(_OWNERS_PATHS) and request.path != "/":
            source = request.get(SOURCE, "page")
            metrics.observe(source, time.monotonic() - began)
