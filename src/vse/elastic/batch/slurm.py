"""Slurm: arrays of one-worker jobs. The script goes in on the input, everything else as arguments."""

from __future__ import annotations

from collections.abc import Sequence

from vse.elastic.batch.port import JobSeen, Order, run_program

_SCRIPT = '#!/bin/sh\nexec "$@"\n'
_ARRAY = 1000
_RUNNING = {"R", "CF", "SO", "S", "ST"}
_ENDING = "CG"
"""It has ended, and its node is tidied up: no worker of it will come, and another can be asked for."""


class Slurm:
    """Needs a home directory that the nodes share: workers read the pack there."""

    def __init__(self, order: Order) -> None:
        self._order = order

    def submit(self, count: int) -> list[str]:
        jobs: list[str] = []
        while count > len(jobs):
            size = min(count - len(jobs), _ARRAY)
            told = run_program(self._sbatch(size), _SCRIPT)
            array = told.strip().split(";")[0]
            jobs += [f"{array}_{number}" for number in range(size)]
        return jobs

    def _sbatch(self, size: int) -> list[str]:
        order = self._order
        command = [
            "sbatch",
            "--parsable",
            f"--job-name={order.name}",
            f"--array=0-{size - 1}",
            f"--output={str(order.logs).replace('%', '%%')}/%A_%a.log",
            "--ntasks=1",
            f"--cpus-per-task={order.cores}",
            "--no-requeue",
            "--export=ALL",  # of the clean environment that sbatch itself is given
        ]
        if order.memory_bytes:
            command.append(f"--mem={-(-order.memory_bytes // 2**20)}M")
        if order.walltime_s:
            command.append(f"--time={-(-order.walltime_s // 60)}")
        if order.queue:
            command.append(f"--partition={order.queue}")
        return [*command, *order.options, "/dev/stdin", *order.command(str(order.pack))]

    def list(self) -> list[JobSeen]:
        columns = "%i|%t|%r"
        told = run_program(["squeue", "--me", "-r", "-h", f"--name={self._order.name}", "-o", columns])
        seen = []
        for line in told.splitlines():
            job, state, reason = line.strip().split("|", 2)
            if state == _ENDING:
                continue
            seen.append(JobSeen(job, state in _RUNNING, "" if state in _RUNNING else reason))
        return seen

    def cancel(self, jobs: Sequence[str]) -> None:
        for begin in range(0, len(jobs), _ARRAY):
            run_program(["scancel", "--quiet", *jobs[begin : begin + _ARRAY]])
