"""The user's facility: a Dask scheduler behind mutual TLS, and the runner of the controller's decisions.

``python -m vse.elastic.server STATE_DIRECTORY``, in the background; its orders are in the directory.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from vse.elastic import controller, credentials, environment
from vse.elastic.batch.port import Batch, Order
from vse.elastic.controller import Cancel, Limits, Looked, NotSubmitted, ShutDown, State, Submitted, Wished
from vse.elastic.orders import FacilityOrders, open_batch
from vse.elastic.pack import StateDirectory
from vse.errors import VseError, WorkersLost

_DASK = {
    "distributed.scheduler.preload": ["vse.analysis.preload_scheduler"],
    "distributed.scheduler.work-stealing": False,
    "distributed.scheduler.http.routes": [],
    "distributed.admin.log-length": 100,
    "distributed.admin.low-level-log-length": 100,
    "distributed.comm.retry.count": 0,
}


class Server:
    """Everything runs on one loop; the batch system is asked in a thread, one call at a time."""

    def __init__(self, directory: StateDirectory) -> None:
        self._directory = directory
        self._orders = FacilityOrders.from_json(directory.orders.read_text())
        self._pack = directory.read_pack()
        self._limits: Limits = self._orders.limits
        self._ended = asyncio.Event()
        self._turn = asyncio.Lock()
        self._making = asyncio.Lock()
        self._scheduler: Any = None
        self._shipped: tuple[float, str] = (0.0, "")
        self._remark = ""
        self._state = self._load()

    def _load(self) -> State:
        now = time.time()
        with suppress(FileNotFoundError):
            return State.from_dict(json.loads(self._directory.decisions.read_text()), now)
        return State(active_at=now)

    async def run(self) -> None:
        """Serve until told to stop, or idle."""
        import dask
        from distributed import Scheduler

        dask.config.set(_DASK)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._ended.set)
        scheduler = Scheduler(
            host=self._orders.host,
            port=0,
            protocol="tls://",
            security=self._pack.security(),
            dashboard=False,
            dashboard_address="127.0.0.1:0",
        )
        async with scheduler:
            self._scheduler = scheduler
            scheduler.handlers.update(
                vaf_ship=self._ship, vaf_status=self._status, vaf_request=self._request, vaf_stop=self._stop
            )
            self._pack = replace(self._pack, address=scheduler.address)
            self._directory.write(self._directory.pack, self._pack.to_json())
            self._batch: Batch = open_batch(self._orders.batch, self._order(), self._orders.hosts)
            try:
                await self._serve()
            finally:
                await self._leave()

    def _order(self) -> Order:
        return replace(
            self._orders.order,
            name=self._pack.name,
            pack=self._directory.pack,
            logs=self._directory.jobs_logs,
        )

    async def _serve(self) -> None:
        while not self._ended.is_set():
            async with self._turn:  # what is seen is what is there when it is decided upon
                await self._handle(await self._look())
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._ended.wait(), self._orders.every_s)

    async def _look(self) -> Looked:
        try:
            jobs = tuple(await asyncio.to_thread(self._batch.list))
        except VseError as error:
            self._note(str(error))
            jobs = None
        scheduler = self._scheduler
        workers = frozenset(str(one.name) for one in scheduler.workers.values())
        clients = sum(name != "fire-and-forget" for name in scheduler.clients)
        return Looked(jobs, workers, len(scheduler.tasks), clients)

    async def _handle(self, event: controller.Event) -> None:
        """Decide, record, do. Whoever calls it has the turn: one event at a time."""
        events = [event]
        while events:
            self._state, commands = controller.handle(self._state, events.pop(0), time.time(), self._limits)
            self._directory.write(self._directory.decisions, json.dumps(self._state.to_dict()))
            for command in commands:
                answer = await self._do(command)
                if answer is not None:
                    events.append(answer)

    async def _do(self, command: controller.Command) -> controller.Event | None:
        if isinstance(command, ShutDown):
            self._note(f"shut down: {command.reason}")
            self._ended.set()
            return None
        try:
            if isinstance(command, Cancel):
                await self._cancel(command.jobs)
                return None
            jobs = await asyncio.to_thread(self._batch.submit, command.count)
        except VseError as error:
            self._note(str(error))
            return None if isinstance(command, Cancel) else NotSubmitted(error.found)
        return Submitted(tuple(jobs))

    async def _cancel(self, jobs: tuple[str, ...]) -> None:
        """Workers take leave of the scheduler first, so that their tasks go to others at once."""
        names = set(jobs)
        gone = [address for address, one in self._scheduler.workers.items() if str(one.name) in names]
        if gone:
            with suppress(Exception):
                await asyncio.wait_for(self._scheduler.retire_workers(gone, close_workers=True), 10.0)
        await asyncio.to_thread(self._batch.cancel, jobs)

    async def _leave(self) -> None:
        """Give back every job; the next start begins with no wish."""
        try:
            left = [job.id for job in await asyncio.to_thread(self._batch.list)]
            if left:
                await asyncio.to_thread(self._batch.cancel, left)
        except VseError as error:
            self._note(str(error))
        for path in (self._directory.decisions, self._directory.pack):
            path.unlink(missing_ok=True)

    def _note(self, text: str) -> None:
        if text != self._remark:
            self._remark = text
            sys.stderr.write(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {text}\n")
            sys.stderr.flush()

    # What workers and commands ask, inside the TLS

    async def _ship(self, **_: Any) -> dict[str, Any]:
        """Return the environment of a worker and its credentials, as they are now."""
        script = await self._environment()
        now = time.time()
        found, refused = credentials.look(os.environ, os.getuid(), now)
        for one_refused in refused:
            self._note(str(one_refused))
        return {
            "environment": script,
            "credentials": {one.variable: one.content for one in found},
            "renew_s": credentials.renew_after_s(found, now),
        }

    async def _environment(self) -> str:
        """Return the script of a worker, made anew at most once a minute, however many workers join."""
        async with self._making:
            made_at, script = self._shipped
            if made_at and time.monotonic() - made_at < environment.PAYLOAD_S:
                return script
            try:
                script = await asyncio.to_thread(environment.remote, self._orders.directories)
            except VseError as error:
                self._note(str(error))
            self._shipped = (time.monotonic(), script)
            return script

    async def _status(self, **_: Any) -> dict[str, Any]:
        state = self._state
        return {
            "name": self._pack.name,
            "address": self._pack.address,
            "batch": self._orders.batch,
            "wish": state.wish,
            "workers": len(self._scheduler.workers),
            "jobs": {
                name: {"running": job.running_since is not None, "joined": job.joined, "reason": job.reason}
                for name, job in state.jobs.items()
            },
            "drained": state.drained,
            "remark": state.remark or self._remark,
            "pid": os.getpid(),
        }

    async def _request(self, count: int, **_: Any) -> dict[str, Any]:
        async with self._turn:
            await self._handle(Wished(count))
        return await self._status()

    async def _stop(self, **_: Any) -> str:
        self._ended.set()
        return "stopping"


def ask(pack: Any, question: str, timeout_s: float = 30.0, **arguments: Any) -> Any:
    """Ask the facility: status, request (count), stop. Raises `WorkersLost` if none is there."""
    from distributed.core import rpc

    async def call() -> Any:
        connection = pack.security().get_connection_args("client")
        async with rpc(pack.address, connection_args=connection, timeout=timeout_s) as scheduler:
            return await getattr(scheduler, f"vaf_{question}")(**arguments)

    try:
        where = urlsplit(pack.address)
        # Dask would knock at a closed port until the timeout
        socket.create_connection((where.hostname or "", where.port or 0), timeout_s).close()
        return asyncio.run(asyncio.wait_for(call(), timeout_s))
    except (OSError, TimeoutError) as error:
        found = f"it does not answer at {pack.address or 'its address'}"
        raise WorkersLost("reach your analysis facility", found, "start it: vse vaf start") from error


if __name__ == "__main__":
    asyncio.run(Server(StateDirectory(Path(sys.argv[1]))).run())
