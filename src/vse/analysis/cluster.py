"""Workers on this machine: a Dask cluster that starts in the background and leaves nothing behind.

As PROOF-Lite (seed 002 §4.1.6): one process a core, nothing to configure. It listens on 127.0.0.1 only,
has no dashboard, and both ends of a connection show a certificate that was made for this cluster and never
leaves memory: who can reach a Dask scheduler can run code as its user, and a machine has many users.
"""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from contextlib import suppress
from multiprocessing import resource_tracker
from typing import Any

from vse.analysis.nannies import END_S, Nannies
from vse.errors import WorkersLost
from vse.model import Closing

_DASK = {
    "distributed.worker.multiprocessing-method": "spawn",
    # Packets are allocated and freed all the time. Dask makes malloc give every 64 kB back to the kernel;
    # to keep up to 64 MB instead takes a fifth off the processor time (page faults).
    "distributed.nanny.pre-spawn-environ": {
        "MALLOC_TRIM_THRESHOLD_": 64 * 1024 * 1024,
        "MALLOC_MMAP_THRESHOLD_": 64 * 1024 * 1024,
        "OMP_NUM_THREADS": 1,
        "MKL_NUM_THREADS": 1,
        "OPENBLAS_NUM_THREADS": 1,
    },
    "distributed.scheduler.preload": ["vse.analysis.preload_scheduler"],
    "distributed.scheduler.work-stealing": False,
    # A worker that leaks is ended at its limit and replaced; one that only waits for memory waits for ever.
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": 0.95,
    "distributed.worker.profile.enabled": False,
    "distributed.admin.low-level-log-length": 100,
    "distributed.admin.log-length": 100,
    "distributed.comm.retry.count": 0,
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
}
NOISY = (
    "distributed",
    "distributed.client",
    "distributed.nanny",
    "distributed.worker",
    "distributed.scheduler",
    "distributed.core",
)
"""Loggers of Dask that tell on a terminal, in tracebacks, what is told in words by whom it befalls."""


def hush() -> None:
    """Keep Dask from telling on a terminal what only looks like an error."""
    for name in NOISY:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)  # a line closed at the end is critical to it


class LocalWorkers(Closing):
    """``count`` worker processes (0: one a processor) and a client for them.

    They start in the background as soon as this is made; `client` waits for the first, and a moment for
    the others: one that starts slowly, or never, joins later, or is replaced. Use it as a context
    manager, or call `close`, which takes well under three seconds. ``memory_limit_bytes``: a worker that
    takes more is ended and replaced; 0: its share of the machine's.
    """

    def __init__(self, count: int = 0, memory_limit_bytes: int = 0) -> None:
        self.memory_limit_bytes = memory_limit_bytes
        self.count = count or len(os.sched_getaffinity(0))
        self._cluster: Any = None
        self._nannies: Nannies | None = None
        self._client: Any = None
        self._error: BaseException | None = None
        self._closing = False
        self._wake = threading.Event()
        self._scratch = tempfile.TemporaryDirectory(prefix="vse-workers-", ignore_cleanup_errors=True)
        self._thread = threading.Thread(target=self._start, name="vse-local-workers", daemon=True)
        self._thread.start()

    @property
    def client(self) -> Any:
        """The `distributed.Client`. Raises `WorkersLost` where no worker could be started."""
        self._thread.join()
        failure = self._nannies.failure if self._nannies is not None else ""
        if self._client is None or failure:
            reason = (failure or str(self._error or "they were closed")).rstrip(".")
            todo = "look at the memory and the processes of this machine"
            workers = "1 worker" if self.count == 1 else f"{self.count} workers"
            raise WorkersLost(f"start {workers}", reason, todo) from self._error
        return self._client

    def _start(self) -> None:
        try:
            import dask
            from distributed import Client, LocalCluster, Security

            hush()
            dask.config.set(_DASK)
            resource_tracker.ensure_running()  # it would undo that Ctrl-C is blocked where it is started
            if self._closing:
                return
            self._cluster = LocalCluster(
                n_workers=0,
                threads_per_worker=1,
                processes=True,
                host="127.0.0.1",
                protocol="tls://",
                security=Security.temporary(),
                dashboard_address=None,
                memory_limit=self.memory_limit_bytes or "auto",
                scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
                silence_logs=logging.CRITICAL,
                preload=["vse.analysis.preload"],
                local_directory=self._scratch.name,
            )
            self._nannies = Nannies(self._cluster, self.count, self._wake.set)
            self._in_loop(self._nannies.begin())
            self._client = Client(self._cluster, set_as_default=False)
            self._wake.wait()
        except BaseException as error:  # told to whoever asks for the client
            self._error = error

    def _in_loop(self, work: Coroutine[Any, Any, None]) -> Future[None]:
        return asyncio.run_coroutine_threadsafe(work, self._cluster.loop.asyncio_loop)

    def close(self) -> None:
        """Stop the workers, or their start; may be called any number of times.

        They are killed: what they hold was merged or is not wanted, and a worker that takes leave of
        all its libraries needs up to a second.
        """
        self._closing = True
        self._wake.set()
        self._thread.join()
        client, self._client = self._client, None
        nannies, self._nannies = self._nannies, None
        with suppress(Exception):
            if client is not None:
                client.close(timeout=1)
        with suppress(Exception):
            if nannies is not None:
                self._in_loop(nannies.end()).result(2 * END_S)
        cluster, self._cluster = self._cluster, None
        with suppress(Exception):
            if cluster is not None:
                cluster.close(timeout=2)
        self._scratch.cleanup()


def start_local(count: int = 0) -> LocalWorkers:
    """Begin to start workers and return at once."""
    return LocalWorkers(count)
