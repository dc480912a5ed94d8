"""The user's analysis facility: started, asked for workers, waited for, entered, stopped."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from vse.config.vaf import VafSettings
from vse.elastic import credentials, environment
from vse.elastic.batch.port import Order
from vse.elastic.controller import Limits
from vse.elastic.orders import FacilityOrders, open_batch
from vse.elastic.pack import Pack, StateDirectory, make_pack
from vse.elastic.server import ask
from vse.errors import BadRequest, Denied, VseError, WorkersLost
from vse.model import Closing
from vse.model.words import counted

READY_S = 30.0
TELL_EVERY_S = 60.0
_POLL_S = 0.2


class Facility:
    """One user's facility; its state is in ``directory``, so that any process of the user reaches it."""

    def __init__(self, settings: VafSettings, directory: StateDirectory) -> None:
        self._settings = settings
        self._directory = directory

    @classmethod
    def of(cls, settings: VafSettings, variables: Mapping[str, str] | None = None) -> Facility:
        return cls(settings, StateDirectory.of(os.environ if variables is None else variables))

    @property
    def scripts(self) -> tuple[Path, ...]:
        """The directories of environment scripts, system-wide first."""
        asked = self._settings.environment
        return (Path(asked) if asked else environment.system_directory(), environment.user_directory())

    def start(self) -> dict[str, Any]:
        """Start the scheduler in the background; return its status. Does nothing where it runs already.

        After a crash it is the same facility, with the same wish. Raises `Denied` for a credential that
        cannot be shipped and `BadSettings` for an environment that fails.
        """
        self._directory.ensure()
        with suppress(VseError):
            return self.status()
        credentials.find(os.environ, os.getuid(), time.time())
        environment.remote(self.scripts)
        orders = self._orders()
        open_batch(orders.batch, orders.order, orders.hosts)
        try:
            pack = self._directory.read_pack()
        except WorkersLost:
            pack = make_pack(f"vaf-{uuid.uuid4().hex[:12]}")
        self._directory.write(self._directory.pack, replace(pack, address="").to_json())
        self._directory.write(self._directory.orders, orders.to_json())
        return self._wait_until_up(self._spawn())

    def _orders(self) -> FacilityOrders:
        settings = self._settings
        order = Order(
            name="",
            python=settings.python or sys.executable,
            pack=self._directory.pack,
            logs=self._directory.jobs_logs,
            cores=settings.cores,
            memory_bytes=settings.memory_bytes,
            walltime_s=settings.walltime_s,
            queue=settings.queue,
            options=settings.options,
        )
        names = Limits.__dataclass_fields__.keys() & VafSettings.model_fields.keys()
        limits = Limits(**{name: getattr(settings, name) for name in names})
        return FacilityOrders(
            settings.batch, order, self._host(), settings.hosts, limits, self.scripts, settings.every_s
        )

    def _host(self) -> str:
        if self._settings.host:
            return self._settings.host
        if self._settings.batch == "local":
            return "127.0.0.1"
        from distributed.utils import get_ip

        return str(get_ip())

    def _spawn(self) -> subprocess.Popen[bytes]:
        descriptor = os.open(self._directory.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "wb") as told:
            return subprocess.Popen(
                [sys.executable, "-m", "vse.elastic.server", str(self._directory.path)],
                stdin=subprocess.DEVNULL,
                stdout=told,
                stderr=told,
                start_new_session=True,
            )

    def _wait_until_up(self, process: subprocess.Popen[bytes]) -> dict[str, Any]:
        until_s = time.monotonic() + READY_S
        while time.monotonic() < until_s:
            if process.poll() is not None:
                last = self._directory.log.read_text(errors="replace").strip().rsplit("\n", 1)[-1]
                todo = f"see {self._directory.log}"
                raise WorkersLost("start your analysis facility", f"it ended at once: {last}", todo)
            if self._directory.read_pack().address:
                return self.status()
            time.sleep(_POLL_S)
        process.kill()
        raise WorkersLost("start your analysis facility", f"it was not up within {READY_S:.0f} s")

    def pack(self) -> Pack:
        """Return what reaches the scheduler. Raises `WorkersLost` where there is none."""
        pack = self._directory.read_pack()
        if not pack.address:
            found = "it has not come up"
            raise WorkersLost("reach your analysis facility", found, "start it: vse vaf start")
        return pack

    def status(self) -> dict[str, Any]:
        """Return ``{name, address, batch, wish, workers, jobs, drained, remark, pid, logs}``."""
        return {**ask(self.pack(), "status"), "logs": str(self._directory.path)}

    def request(self, count: int) -> dict[str, Any]:
        """Wish for ``count`` workers in all; fewer than there are gives some back."""
        if count < 0:
            raise BadRequest(f"request {count} workers", "the number is negative")
        return dict(ask(self.pack(), "request", timeout_s=300.0, count=count))

    def wait(self, count: int, timeout_s: float | None, tell: Callable[[str], None] = lambda _: None) -> int:
        """Wait for ``count`` workers; return how many there are.

        ``tell`` is called with what is waited for and why, when that changes and every `TELL_EVERY_S`.
        Raises `WorkersLost` at the timeout, and at once where no more will come; it says why.
        """
        until_s = None if timeout_s is None else time.monotonic() + timeout_s
        told, told_at = "", 0.0
        while True:
            status = self.status()
            workers = int(status["workers"])
            if workers >= count:
                return workers
            late = until_s is not None and time.monotonic() >= until_s
            if late or status["drained"] or status["wish"] < count:
                waited = f"{workers} came within {timeout_s:.0f} s" if late else f"{workers} are there"
                found = f"{waited}; {why(status, count)}"
                raise WorkersLost(f"wait for {counted(count, 'worker')}", found, _todo(status, count))
            waiting = f"{workers} of {counted(count, 'worker')}; {why(status, count)}"
            if waiting != told or time.monotonic() - told_at > TELL_EVERY_S:
                told, told_at = waiting, time.monotonic()
                tell(waiting)
            time.sleep(_POLL_S)

    def stop(self) -> None:
        """Give back all workers and end the scheduler; one that is not there is no error."""
        try:
            pid = int(self.status()["pid"])
            ask(self.pack(), "stop")
        except WorkersLost:
            self._forget()
            return
        until_s = time.monotonic() + READY_S
        while time.monotonic() < until_s:
            if not self._directory.pack.exists() and not _alive(pid):
                return
            time.sleep(_POLL_S)
        raise WorkersLost("stop your analysis facility", f"process {pid} did not end within {READY_S:.0f} s")

    def _forget(self) -> None:
        """The scheduler is gone without leave: cancel the jobs it had."""
        try:
            pack = self._directory.read_pack()
            orders = FacilityOrders.from_json(self._directory.orders.read_text())
        except (WorkersLost, FileNotFoundError):
            return
        batch = open_batch(orders.batch, replace(orders.order, name=pack.name), orders.hosts)
        left = [job.id for job in batch.list()]
        if left:
            batch.cancel(left)
        for path in (self._directory.pack, self._directory.decisions):
            path.unlink(missing_ok=True)

    def enter(self, command: Sequence[str]) -> None:
        """Become ``command``, or the user's shell, in the local environment. Returns never."""
        script = environment.local(self.scripts)
        os.environ["VAF_STATE"] = str(self._directory.path)
        shell = [*command] or [os.environ.get("SHELL", "/bin/bash")]
        argv = environment.enter(script, shell)
        sys.stdout.flush()
        os.execv(argv[0], argv)  # noqa: S606 - an argument list


class ClusterWorkers(Closing):
    """Workers of a cluster that runs already: ``vaf``, or ``tls://`` or ``tcp://host:port``.

    `count` is 0: they come and go. To close it leaves the cluster as it is. A ``tls://`` address that is not
    the facility's takes certificates where Dask's own settings say (distributed.comm.tls).
    """

    count = 0

    def __init__(self, cluster: str, settings: VafSettings) -> None:
        self._cluster = cluster
        self._settings = settings
        self._client: Any = None

    @property
    def client(self) -> Any:
        """The `distributed.Client`. Raises `WorkersLost` where nothing answers."""
        if self._client is None:
            self._client = self._connect()
        return self._client

    def _connect(self) -> Any:
        from distributed import Client, Security

        from vse.analysis.cluster import hush

        hush()
        address, security = self._cluster, None
        if self._cluster == "vaf":
            pack = Facility.of(self._settings).pack()
            address, security = pack.address, pack.security()
        elif not self._cluster.startswith(("tcp://", "tls://")):
            found = "it is vaf, tls://host:port or tcp://host:port"
            raise BadRequest(f"use the cluster {self._cluster}", found)
        elif address.startswith("tls://") and not Security().tls_client_cert:
            # a client that finds this out by itself waits at its end for threads that it never started
            todo = "name it vaf if it is yours, or set distributed.comm.tls in Dask's settings"
            raise Denied(f"use the cluster {address}", "there is no certificate for it", todo)
        try:
            return Client(address, security=security, set_as_default=False, timeout=READY_S)
        except (OSError, TimeoutError) as error:
            todo = "start it: vse vaf start" if self._cluster == "vaf" else "look whether it runs"
            raise WorkersLost(f"use the cluster {address}", "it does not answer", todo) from error

    def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close(timeout=2)


def why(status: Mapping[str, Any], count: int) -> str:
    """Say why there are fewer than ``count`` workers."""
    if status["drained"]:
        return str(status["drained"])
    if status["wish"] < count:
        return f"{status['wish']} were asked for"
    waiting = {name: job for name, job in status["jobs"].items() if not job["running"]}
    if waiting:
        reasons = sorted({job["reason"] for job in waiting.values()} - {"", "None"})
        begun = counted(len(waiting), "job has not begun", "jobs have not begun")
        return f"{begun} ({', '.join(reasons) or 'no reason told yet'})"
    starting = sum(not job["joined"] for job in status["jobs"].values())
    if starting:
        return counted(
            starting,
            "job runs and its worker has not joined yet",
            "jobs run and their workers have not joined yet",
        )
    return str(status["remark"] or "their jobs are about to be submitted")


def _todo(status: Mapping[str, Any], count: int) -> str:
    if status["drained"]:
        return f"see {status['logs']}/jobs, then ask anew: vse vaf request {count}"
    if status["wish"] < count:
        return f"ask for them: vse vaf request {count}"
    return "wait longer, or begin with those that are there"


def _alive(pid: int) -> bool:
    with suppress(ChildProcessError):  # it may be a child of this process
        os.waitpid(pid, os.WNOHANG)
    return Path(f"/proc/{pid}").exists()
