"""What Prometheus may know: how the server does, and how much the platform has learnt; no customer is named."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from nni_hyperfd.platform.state.store import Store

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """Counters of one server, and gauges that are read from the store when Prometheus asks."""

    def __init__(self, store: Store) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "hyperfd_requests", "Requests by call and status.", ["call", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "hyperfd_request_seconds",
            "Time from a request's head to the end of its answer.",
            ["call"],
            buckets=_BUCKETS,
            registry=self._registry,
        )
        ProcessCollector(registry=self._registry)
        self._registry.register(_State(store))

    def count(self, call: str, status: int, seconds: float) -> None:
        """One request that is over."""
        self._requests.labels(call, str(status)).inc()
        self._seconds.labels(call).observe(seconds)

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self._registry)


class _State(Collector):
    """What is in the store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def describe(self) -> list[GaugeMetricFamily]:
        """Nothing: the store need not be read to register this."""
        return []

    def collect(self) -> Iterator[GaugeMetricFamily]:
        versions, counts, turn = self._store.versions(), self._store.counts(), self._store.turn()
        published = sum(version.published for version in versions)
        admitted = sum(customer.revoked is None for customer in self._store.customers())
        yield GaugeMetricFamily(
            "hyperfd_ranker_version", "Newest published ranker version.", self._store.newest().number
        )
        yield _by_label(
            "hyperfd_updates",
            "Ranker versions made by updates.",
            "outcome",
            {"published": published - 1, "held": len(versions) - published},
        )
        yield _by_label(
            "hyperfd_tasks",
            "Experiments.",
            "status",
            {"open": counts.open_tasks, "done": counts.done_tasks, "closed": counts.closed_tasks},
        )
        yield _by_label(
            "hyperfd_experience",
            "Results of trials.",
            "status",
            {"ok": counts.usable_trials, "failed": counts.failed_trials},
        )
        yield GaugeMetricFamily(
            "hyperfd_update_seconds",
            "For how long the update under way has been; 0 where there is none.",
            turn.seconds,
        )
        yield GaugeMetricFamily(
            "hyperfd_update_queue", "Customers who wait for an update.", len(turn.waiting)
        )
        yield GaugeMetricFamily(
            "hyperfd_update_queue_seconds",
            "For how long the first of them has waited.",
            max(turn.waiting, default=0.0),
        )
        yield GaugeMetricFamily("hyperfd_customers", "Customers who are let in.", admitted)


def _by_label(name: str, text: str, label: str, values: dict[str, int]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family
