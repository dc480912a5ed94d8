"""Hosts reached by ssh: each worker is a command at the other end of a connection that stays open."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from urllib.parse import urlsplit

from vse.elastic.batch.local import Local
from vse.elastic.batch.port import Order
from vse.errors import BadSettings


class Ssh(Local):
    """The key to the scheduler travels inside the connection; nothing is written on the other host."""

    def __init__(self, order: Order, hosts: Sequence[str]) -> None:
        super().__init__(order)
        if not hosts:
            raise BadSettings(
                "use ssh for workers", "vaf.hosts names no host", "name them, as user@host:port"
            )
        self._hosts = [_target(host) for host in hosts]
        self._busy: dict[str, int] = {}

    def submit(self, count: int) -> list[str]:
        """Take the hosts with the fewest workers first."""
        jobs = []
        for _ in range(count):
            load = Counter(self._busy[job] for job in self._processes if job in self._busy)
            number = min(range(len(self._hosts)), key=lambda one: load[one])
            target = self._hosts[number]
            remote = shlex.join(self._order.command("-"))
            options = ["-o", "BatchMode=yes", "-o", "ServerAliveInterval=15", *self._order.options]
            job = self._start(["ssh", *options, *target, "--", remote], f"ssh{number}")
            self._busy[job] = number
            jobs.append(job)
        return jobs


def _target(host: str) -> list[str]:
    """``user@host:port`` as arguments of ssh; a host that looks like an option is refused."""
    parts = urlsplit(f"//{host}")
    if not parts.hostname or host.startswith("-") or parts.hostname.startswith("-"):
        raise BadSettings(f"use the host {host}", "it is not user@host:port")
    port = ["-p", str(parts.port)] if parts.port else []
    return [*port, f"{parts.username}@{parts.hostname}" if parts.username else parts.hostname]
