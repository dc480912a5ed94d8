"""Hosts reached by ssh: each worker is a command at the other end of a connection that stays open."""

from __future__ import annotations

import shlex
import time
from collections import Counter
from collections.abc import Sequence
from urllib.parse import urlsplit

from vse.elastic.batch.local import Local
from vse.elastic.batch.port import JobSeen, Order
from vse.errors import BadSettings

NO_CONNECTION = 255
"""What ssh ends with where it is the connection that failed."""
AVOID_S = 300.0
"""A host that could not be reached is asked for so long only if none can."""
CONNECT_S = 20


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
        self._lost_at: dict[int, float] = {}

    def submit(self, count: int) -> list[str]:
        """Take the hosts with the fewest workers first, of those that answer."""
        self._note_lost()
        return [self._submit_one() for _ in range(count)]

    def list(self) -> list[JobSeen]:
        self._note_lost()
        return super().list()

    def _submit_one(self) -> str:
        load = Counter(self._busy[job] for job in self._processes if job in self._busy)
        now = time.monotonic()
        lost = {number for number, at_s in self._lost_at.items() if now - at_s < AVOID_S}
        number = min(range(len(self._hosts)), key=lambda one: (one in lost, load[one]))
        remote = shlex.join(self._order.command("-"))
        # of each option ssh takes the first: the user's come before ours
        options = [*self._order.options, "-o", "BatchMode=yes", "-o", "ServerAliveInterval=15"]
        options += ["-o", f"ConnectTimeout={CONNECT_S}"]
        job = self._start(["ssh", *options, *self._hosts[number], "--", remote], f"ssh{number}")
        self._busy[job] = number
        return job

    def _note_lost(self) -> None:
        """Note the hosts whose connections failed; the log of the job says how."""
        self._busy = {job: number for job, number in self._busy.items() if job in self._processes}
        for job, number in self._busy.items():
            if self._processes[job].poll() == NO_CONNECTION:
                self._lost_at[number] = time.monotonic()


def _target(host: str) -> list[str]:
    """``user@host:port`` as arguments of ssh; a host that looks like an option is refused."""
    parts = urlsplit(f"//{host}")
    if not parts.hostname or host.startswith("-") or parts.hostname.startswith("-"):
        raise BadSettings(f"use the host {host}", "it is not user@host:port")
    port = ["-p", str(parts.port)] if parts.port else []
    return [*port, f"{parts.username}@{parts.hostname}" if parts.username else parts.hostname]
