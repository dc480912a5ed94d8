"""Hosts that are down, environment scripts that hang or print, and a batch system slow to answer."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from servers.sftp import sftp
from support.elastic import environment_of
from vse.app.vaf import ClusterWorkers
from vse.config.vaf import VafSettings
from vse.elastic import environment
from vse.elastic.batch.port import JobSeen, Order
from vse.elastic.orders import FacilityOrders
from vse.elastic.pack import StateDirectory, make_pack
from vse.elastic.server import Server
from vse.errors import BadSettings


def _payload(directory: Path, text: str) -> Path:
    path = directory / "payload"
    path.write_text(text)
    return path


def test_a_payload_that_hangs_is_ended_with_all_it_began(tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "PAYLOAD_S", 0.5)
    _payload(tmp_path, f"sleep 1000 & echo $! >{tmp_path}/child\nwait\n")
    with pytest.raises(BadSettings, match=r"did not end within 0 s\. Run it by hand"):
        environment.run_payload([tmp_path])
    child = int((tmp_path / "child").read_text())
    try:
        state = Path(f"/proc/{child}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return
    assert state == "Z"


@pytest.mark.parametrize(
    ("text", "mode", "found"),
    [("printf '\\377\\376'\n", 0o600, "not UTF-8"), ("#!/no/such/shell\n", 0o700, "No such file")],
)
def test_a_payload_that_cannot_be_used_says_why(tmp_path, text, mode, found):
    _payload(tmp_path, text).chmod(mode)
    with pytest.raises(BadSettings, match=found):
        environment.run_payload([tmp_path])


def test_a_script_finds_nothing_on_the_input_that_is_meant_for_the_worker():
    argv = environment.enter(
        "cat; export SEEN=1", ["/bin/bash", "-c", "read x; echo $SEEN$x"], keeps_input=False
    )
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[int(argv[4].split("/")[3].split()[0])]
    ) as process:
        told, _ = process.communicate(b"for the worker\n", timeout=10)
    assert told == b"1for the worker\n"


class _Batch:
    """A batch system that lists what was there before it was asked to cancel."""

    def __init__(self) -> None:
        self.jobs: list[str] = []
        self.count = 0

    def submit(self, count: int) -> list[str]:
        new = [f"job{self.count + number}" for number in range(count)]
        self.count += count
        self.jobs += new
        return new

    def list(self) -> list[JobSeen]:
        there = [JobSeen(job, running=True) for job in self.jobs]
        time.sleep(0.1)
        return there

    def cancel(self, jobs: object) -> None:
        self.jobs = [job for job in self.jobs if job not in set(jobs)]  # type: ignore[call-overload]


async def _wishes(server: Server, wishes: list[tuple[float, int]]) -> None:
    """Wishes come while the batch system is being asked, each after so many seconds."""
    serving = asyncio.create_task(server._serve())
    for after_s, count in wishes:
        await asyncio.sleep(after_s)
        await server._request(count)
    await asyncio.sleep(0.4)
    server._ended.set()
    await serving


def test_wishes_that_come_while_the_batch_system_is_asked_are_no_deaths(tmp_path):
    directory = StateDirectory(tmp_path / "state")
    directory.ensure()
    order = Order("test", sys.executable, directory.pack, directory.jobs_logs)
    directory.write(directory.orders, FacilityOrders("local", order, every_s=0.01).to_json())
    directory.write(directory.pack, make_pack("test").to_json())
    server = Server(directory)
    server._batch = _Batch()

    server._scheduler = SimpleNamespace(workers={}, clients={}, tasks={})
    asyncio.run(_wishes(server, [(0.03, 3), (0.1, 0), (0.02, 3)]))
    status = asyncio.run(server._status())
    assert (server._state.deaths, status["drained"], status["remark"]) == (0, "", "")
    assert set(status["jobs"]) == set(server._batch.jobs)
    assert len(status["jobs"]) == 3


@pytest.mark.slow
def test_a_host_that_is_down_leaves_its_share_to_the_others(make_facility, tmp_path, monkeypatch):
    monkeypatch.setenv("VAF_STATE", str(tmp_path / "state"))
    with socket.socket() as taken, sftp() as server:
        taken.bind(("127.0.0.1", 0))  # nobody listens
        down = f"{server.user}@127.0.0.1:{taken.getsockname()[1]}"
        up = f"{server.user}@127.0.0.1:{server.port}"
        options = ("-i", str(server.key_file), "-o", "StrictHostKeyChecking=no")
        facility = make_facility(
            batch="ssh",
            hosts=f"{down},{up}",
            options=(*options, "-o", "UserKnownHostsFile=/dev/null"),
            python=sys.executable,
            backoff_s=0.1,
            max_deaths=3,
        )
        facility.start()
        facility.request(2)
        assert facility.wait(2, 40) == 2
        assert not facility.status()["drained"]
        with ClusterWorkers("vaf", VafSettings()) as workers:
            assert "SSH_CONNECTION" in environment_of(workers.client)


@pytest.mark.slow
def test_a_script_that_reads_and_prints_keeps_no_worker_from_joining(make_facility, tmp_path, home):
    (home / ".vaf" / "remote.before").write_text("read answer\necho hello; echo trouble >&2\nfalse\n")
    facility = make_facility()
    facility.start()
    facility.request(1)
    assert facility.wait(1, 30) == 1


def test_payloads_are_run_once_for_all_workers_that_join_together(tmp_path):
    directory = StateDirectory(tmp_path / "state")
    directory.ensure()
    scripts = tmp_path / "etc"
    scripts.mkdir()
    _payload(scripts, f"echo run >>{tmp_path}/runs; sleep 0.1; echo export SEEN=1\n")
    order = Order("test", sys.executable, directory.pack, directory.jobs_logs)
    directory.write(directory.orders, FacilityOrders("local", order, directories=(scripts,)).to_json())
    directory.write(directory.pack, make_pack("test").to_json())
    server = Server(directory)

    async def join() -> list[dict[str, object]]:
        return await asyncio.gather(*(server._ship() for _ in range(8)))

    shipped = asyncio.run(join())
    assert {str(one["environment"]).strip() for one in shipped} == {"export SEEN=1"}
    assert (tmp_path / "runs").read_text() == "run\n"
