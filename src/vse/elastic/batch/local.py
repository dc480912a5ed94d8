"""Processes that this one starts: workers on this machine, and the base of those reached by ssh.

They read the pack from their input and end when it is closed, so that none outlives its facility.
"""

from __future__ import annotations

import os
import signal
import subprocess
import uuid
from collections.abc import Sequence
from contextlib import suppress

from vse.elastic.batch.port import JobSeen, Order, clean_environment
from vse.errors import SourceUnavailable


class Local:
    def __init__(self, order: Order) -> None:
        self._order = order
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def submit(self, count: int) -> list[str]:
        return [self._start(self._order.command("-"), "local") for _ in range(count)]

    def _start(self, command: Sequence[str], where: str) -> str:
        job = f"{where}-{uuid.uuid4().hex[:8]}"
        log = self._order.logs / f"{job.replace('/', '_')}.log"
        try:
            with log.open("wb") as told:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=told,
                    stderr=told,
                    env=clean_environment(),
                    start_new_session=True,
                )
        except OSError as error:
            raise SourceUnavailable(f"start {command[0]}", str(error)) from error
        if process.stdin is not None:
            with suppress(BrokenPipeError):  # it has ended already; the list will tell
                process.stdin.write(self._order.pack.read_bytes().strip() + b"\n" + job.encode() + b"\n")
                process.stdin.flush()
        self._processes[job] = process
        return job

    def list(self) -> list[JobSeen]:
        self._processes = {job: one for job, one in self._processes.items() if one.poll() is None}
        return [JobSeen(job, running=True) for job in self._processes]

    def cancel(self, jobs: Sequence[str]) -> None:
        for job in jobs:
            process = self._processes.pop(job, None)
            if process is None:
                continue
            with suppress(OSError):
                if process.stdin is not None:
                    process.stdin.close()
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait(5)
