"""A Dask cluster as others run it: a scheduler and workers that we did not start, without nannies or TLS."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

from support.waiting import until

WORKER = ("-m", "distributed.cli.dask_worker")


class Foreign(NamedTuple):
    """A client of the cluster, and its processes, the scheduler first."""

    client: Any
    processes: list[subprocess.Popen[bytes]]

    @property
    def workers(self) -> dict[str, dict[str, Any]]:
        """What the scheduler knows of each worker, by its address."""
        return dict(self.client.scheduler_info(n_workers=-1)["workers"])


@contextmanager
def foreign_cluster(
    directory: Path, *workers: Sequence[str], hosts: Sequence[str] = ("127.0.0.1",)
) -> Iterator[Foreign]:
    """Start a cluster; ``workers``: the words of each after ``python`` (`WORKER` and its options).

    They are at ``hosts``, in turns, the scheduler is at the first. What they say is in the file ``told``.
    """
    from distributed import Client

    file = directory / "scheduler.json"
    common = ["--scheduler-file", str(file), "--no-dashboard", "--host"]
    commands = [("-m", "distributed.cli.dask_scheduler", "--port", "0", *common, hosts[0])]
    for words, host in zip(workers, cycle(hosts), strict=False):
        commands.append((*words, "--no-nanny", *common, host))
    with ExitStack() as stack:
        told = stack.enter_context((directory / "told").open("ab"))
        started = []
        for words in commands:
            process = subprocess.Popen([sys.executable, *words], cwd=directory, stderr=told)
            stack.callback(process.wait)
            stack.callback(process.kill)
            started.append(process)
        until(file.exists, 120)
        client = Client(scheduler_file=str(file), set_as_default=False, timeout=120)
        stack.callback(client.close, timeout=1)
        client.wait_for_workers(len(workers), timeout=120)
        yield Foreign(client, started)
