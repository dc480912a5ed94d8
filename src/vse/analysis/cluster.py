"""Workers on this machine: a Dask cluster that starts in the background and leaves nothing behind.

As PROOF-Lite (seed 002 §4.1.6): one process a core, nothing to configure. It listens on 127.0.0.1 only,
has no dashboard, and both ends of a connection show a certificate that was made for this cluster and never
leaves memory: who can reach a Dask scheduler can run code as its user, and a machine has many users.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import tempfile
import threading
from contextlib import suppress
from typing import Any

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
    # A nanny whose worker takes longer to come back would be closed, and no other opened in its place.
    "distributed.deploy.lost-worker-timeout": "1 day",
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
REPLACE_EVERY_S = 1.0
"""So often local workers are looked after."""

_GIVEN_UP = ("closed", "failed")
_NOISY = (
    "distributed",
    "distributed.client",
    "distributed.nanny",
    "distributed.worker",
    "distributed.scheduler",
    "distributed.core",
)


class LocalWorkers(Closing):
    """``count`` worker processes (0: one a processor) and a client for them.

    They start in the background as soon as this is made; `client` waits for them. Use it as a context
    manager, or call `close`, which takes well under three seconds. ``memory_limit_bytes``: a worker that
    takes more is ended and replaced; 0: its share of the machine's.
    """

    def __init__(self, count: int = 0, memory_limit_bytes: int = 0) -> None:
        self.memory_limit_bytes = memory_limit_bytes
        self.count = count or len(os.sched_getaffinity(0))
        self._cluster: Any = None
        self._client: Any = None
        self._error: BaseException | None = None
        self._scratch = tempfile.TemporaryDirectory(prefix="vse-workers-", ignore_cleanup_errors=True)
        self._thread = threading.Thread(target=self._start, name="vse-local-workers", daemon=True)
        self._thread.start()

    @property
    def client(self) -> Any:
        """The `distributed.Client`. Raises `WorkersLost` where the workers could not be started."""
        self._thread.join()
        if self._client is None:
            reason = str(self._error or "they were closed")
            todo = "look at the memory and the processes of this machine"
            raise WorkersLost(f"start {self.count} workers", reason, todo) from self._error
        return self._client

    def _start(self) -> None:
        try:
            import dask
            from distributed import Client, LocalCluster, Security

            for name in _NOISY:
                logging.getLogger(name).setLevel(logging.CRITICAL)
            dask.config.set(_DASK)
            self._cluster = LocalCluster(
                n_workers=self.count,
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
            self._client = Client(self._cluster, set_as_default=False)
            self._cluster.loop.add_callback(self._look_after)
        except BaseException as error:  # told to whoever asks for the client
            self._error = error

    async def _look_after(self) -> None:
        """Open another worker where a nanny gave up, as it does if its worker is killed while it starts."""
        cluster = self._cluster
        while self._client is not None:
            dead = [name for name, nanny in cluster.workers.items() if nanny.status.name in _GIVEN_UP]
            for name in dead:
                del cluster.workers[name]
            if len(cluster.workers) < self.count:
                cluster.scale(self.count)
            await asyncio.sleep(REPLACE_EVERY_S)

    def close(self) -> None:
        """Stop the workers; may be called any number of times.

        They are killed: what they hold was merged or is not wanted, and a worker that takes leave of
        all its libraries needs up to a second.
        """
        self._thread.join()
        client, self._client = self._client, None
        cluster, self._cluster = self._cluster, None
        with suppress(Exception):
            if client is not None:
                client.close(timeout=1)
        for nanny in cluster.workers.values() if cluster is not None else ():
            nanny.auto_restart = False
            if nanny.pid:
                with suppress(ProcessLookupError):
                    os.kill(nanny.pid, signal.SIGKILL)
        with suppress(Exception):
            if cluster is not None:
                cluster.close(timeout=2)
        self._scratch.cleanup()


def start_local(count: int = 0) -> LocalWorkers:
    """Begin to start workers and return at once."""
    return LocalWorkers(count)
