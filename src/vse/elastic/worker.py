"""The worker of a batch job: a Dask nanny that restarts its process where user code kills it.

``python -m vse.elastic.worker PACK_DESCRIPTOR DIRECTORY JOB attached|detached``, from `vse.elastic.join`.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from vse.elastic import credentials
from vse.elastic.join import fetch
from vse.elastic.pack import Pack

DEATH_S = 60.0
_ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def main(descriptor: int, directory: Path, job: str, attached: bool) -> None:
    """Work until the facility says it is enough, or is gone; leave nothing behind."""
    with os.fdopen(descriptor, "rb") as file:
        file.seek(0)
        pack = Pack.from_json(file.read())
    try:
        asyncio.run(_work(pack, directory, job, attached))
    finally:
        shutil.rmtree(directory, ignore_errors=True)


async def _work(pack: Pack, directory: Path, job: str, attached: bool) -> None:
    import dask
    from distributed import Nanny

    dask.config.set(
        {
            "distributed.worker.multiprocessing-method": "spawn",
            "distributed.worker.http.routes": [],
            "distributed.comm.retry.count": 0,
            "distributed.nanny.pre-spawn-environ": dict.fromkeys(_ONE_THREAD, 1),
        }
    )
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    if attached:
        loop.add_reader(0, _hear, loop, ended)
    nanny = Nanny(
        pack.address,
        nthreads=1,
        host="127.0.0.1" if urlsplit(pack.address).hostname == "127.0.0.1" else None,
        name=job,
        security=pack.security(),
        protocol="tls://",
        local_directory=str(directory),
        death_timeout=DEATH_S,
        dashboard=False,
        preload=["vse.analysis.preload"],
    )
    renewing = asyncio.create_task(_renew(pack, directory))
    try:
        async with nanny:
            waits = [asyncio.create_task(one) for one in (nanny.finished(), ended.wait())]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for one in waits:
                one.cancel()
    finally:
        renewing.cancel()
        with suppress(asyncio.CancelledError):
            await renewing


def _hear(loop: asyncio.AbstractEventLoop, ended: asyncio.Event) -> None:
    """The end of the input is the end of the job."""
    if not os.read(0, 4096):
        loop.remove_reader(0)
        ended.set()


async def _renew(pack: Pack, directory: Path) -> Any:
    """Bring a renewed proxy or token to the paths the worker was told of.

    The scheduler says when to ask again: it knows when they expire, by the clock of where they were made.
    """
    while True:
        wait_s = credentials.RENEW_S
        with suppress(OSError, asyncio.TimeoutError):
            shipped = await fetch(pack)
            credentials.write(shipped["credentials"], directory)
            wait_s = shipped["renew_s"]
        await asyncio.sleep(wait_s)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4] == "attached")
