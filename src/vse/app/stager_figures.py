"""The figures of staging, for Prometheus: what this process moved, and what the rows of the site say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from vse.app.site import Site
from vse.model import Clock
from vse.monitor.metrics import Family, Metrics, Sample
from vse.staging.services import Service, Services
from vse.transfer.lifecycle import Failed, Succeeded, Transfer
from vse.transfer.queue import Report

_BOUNDS_S = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10000.0)
_ENDS = ("source", "destination")


class MoveFigures:
    """Counts the attempts that end in this process. Safe to share between threads."""

    def __init__(self, metrics: Metrics, clock: Clock) -> None:
        self._clock = clock
        self._attempts = metrics.counter(
            "vse_transfer_attempts", "Attempts at transfers that ended here.", (*_ENDS, "outcome")
        )
        self._bytes = metrics.counter("vse_transfer_bytes", "Bytes of files that came here.", _ENDS)
        self._failures = metrics.counter(
            "vse_transfer_failures", "Attempts that failed, by the code of the error.", (*_ENDS, "code")
        )
        self._seconds = metrics.histogram(
            "vse_transfer_seconds", "How long transfers took that succeeded.", _ENDS, _BOUNDS_S
        )

    def count(self, report: Report, source_se: str, after: Transfer) -> None:
        """Count the end of an attempt that read from ``source_se`` ('' where that is not known)."""
        ends = (source_se, after.destination)
        match report.event:
            case Succeeded() as event:
                self._attempts.labels(*ends, "done").inc()
                self._bytes.labels(*ends).inc(event.bytes_done)
                if after.started_s is not None and after.finished_s is not None:
                    self._seconds.labels(*ends).observe(max(0.0, after.finished_s - after.started_s))
            case Failed() as event:
                self._attempts.labels(*ends, "failed").inc()
                self._failures.labels(*ends, event.error.code).inc()
            case _:
                self._attempts.labels(*ends, "put back").inc()


def site_figures(site: Site) -> list[Family]:
    """Return what the rows say, of all processes of the site together."""
    tallies = site.queue.tallies()
    states = [(str(state), tally) for state, tally in tallies.items()]
    running = site.queue.running_by()
    services = Services(site.database, site.clock).list()
    return [
        _gauge("vse_transfers", "Transfers.", ("state",), {(s,): t.files for s, t in states}),
        _gauge(
            "vse_transfers_size_bytes", "Their sizes.", ("state",), {(s,): t.size_bytes for s, t in states}
        ),
        _gauge("vse_transfers_running", "Transfers that run.", _ENDS, running),
        _gauge("vse_transfer_slots", "stager.slots.", (), {(): site.settings.stager.slots}),
        *_of_services(services),
    ]


def _of_services(services: list[Service]) -> list[Family]:
    columns: tuple[tuple[str, str, Callable[[Service], float]], ...] = (
        (
            "paused",
            "Whether its settings keep it from work.",
            lambda one: float(bool(one.problem)),
        ),
        ("memory_bytes", "Its resident memory.", lambda one: one.memory_bytes),
        ("memory_limit_bytes", "What it should stay below; 0: no limit.", lambda one: one.memory_limit_bytes),
        ("running", "Transfers that it moves.", lambda one: one.running),
        ("beat_timestamp_seconds", "When it last said that it lives.", lambda one: one.beat_s),
        ("settings_timestamp_seconds", "Since when it has its settings.", lambda one: one.settings_s),
    )
    labels = ("kind", "host", "pid")
    return [
        _gauge(
            f"vse_service_{name}",
            text,
            labels,
            {(one.kind, one.host, str(one.pid)): value(one) for one in services},
        )
        for name, text, value in columns
    ]


def _gauge(name: str, text: str, labels: tuple[str, ...], values: Mapping[Any, float]) -> Family:
    return Family(name, text, "gauge", labels, [Sample(key, float(value)) for key, value in values.items()])
