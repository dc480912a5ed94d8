"""Several processes of one site: caps that hold for all of them, and work that outlives its process."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from support.command_line import clean_environment
from support.lying_files import LyingServer, lying_server
from support.staging_site import BASE, StagingSite, file_element, start_stager
from support.waiting import until
from vse.app.init import init_site
from vse.app.site import Site
from vse.config.load import load
from vse.db.tables import transfers
from vse.model import FindQuery, Lfn, NewFile
from vse.staging.services import Services
from vse.staging.values import ItemState, RequestState
from vse.transfer.lifecycle import State

pytestmark = pytest.mark.slow

MB = 1_000_000
LFN = Lfn(f"{BASE}/half.dat")
STALLING = """
[StorageElements.WEB]
WriteAccess = false

[StorageElements.WEB.Web]
Protocol = "http"
PluginName = "HTTP"
Host = "127.0.0.1"
Port = {port}
Path = "/"

[monitor]
events = false
"""


# -- caps --------------------------------------------------------------------------------------------

CAP_BYTES_S, FILES, SIZE_BYTES = 4 * MB, 100, MB // 4


def test_a_cap_holds_for_all_processes_together_and_none_of_it_is_lost(tmp_path: Path) -> None:
    """Two processes, each with a source of its own, and a cap for both together."""
    site = StagingSite(
        tmp_path, elements=[file_element(name, tmp_path / name.lower()) for name in ("A", "B", "LOCAL")]
    )
    children = []
    for name in ("A", "B"):
        for number in range(FILES // 2):
            (lfn,) = site.add({f"{name}{number:03}.dat": (data := os.urandom(SIZE_BYTES))}, name, write=False)
            path = tmp_path / name.lower() / lfn[1:]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        children.append(waiting_stager(tmp_path, pattern=f"{name}*"))
    for child in children:
        assert child.stdout.readline() == b"ready\n"
    for child in children:
        child.stdin.write(b"go\n")
        child.stdin.flush()
    until(lambda: len({one.owner for one in site.queue.moving()}) == 2)
    for child in children:
        child.communicate(timeout=120)
        assert child.returncode == 0
    with site.database.read() as connection:
        columns = (sa.func.min(transfers.c.started_s), sa.func.max(transfers.c.finished_s))
        began_s, ended_s = connection.execute(sa.select(*columns)).one()
    site.close()
    assert 0.5 * CAP_BYTES_S < FILES * SIZE_BYTES / (ended_s - began_s) < 1.3 * CAP_BYTES_S


def waiting_stager(root: Path, **more: object) -> Any:
    """Return a stager that begins when it is told to."""
    settings = {"slots": 8, "slots_per_source": 4, "max_rate": CAP_BYTES_S, "sources": ["A", "B"]}
    return start_stager(
        root, {**settings, "waits": True, **more}, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


# -- daemons -----------------------------------------------------------------------------------------


@contextmanager
def daemons(root: Path, number: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Run so many stagers, each a process of the command line."""
    words = [sys.executable, "-m", "vse.cli", "serve", "stager"]
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    running = [
        subprocess.Popen(words, cwd=root, env=clean_environment(), **silent)  # type: ignore[call-overload]
        for _ in range(number)
    ]
    try:
        yield running
    finally:
        for one in running:
            one.kill()
            one.wait()


@contextmanager
def web_site(root: Path, server: LyingServer) -> Iterator[Site]:
    """A site that knows the files of a server."""
    init_site(root, name="test")
    with (root / "vse.toml").open("a") as settings:
        settings.write(STALLING.format(port=server.port))
    with Site.open(load(root / "vse.toml")) as site:
        new = [
            NewFile(Lfn(name), len(data), zlib.adler32(data), "WEB") for name, data in server.files.items()
        ]
        assert not site.catalogue.register(new).failed
        yield site


def test_when_a_daemon_is_killed_in_mid_transfer_another_reads_only_the_rest(tmp_path: Path) -> None:
    data = os.urandom(6 * MB)
    root = tmp_path / "site"
    with lying_server({LFN: data}, {LFN: "stalls"}) as server, web_site(root, server) as site:
        kept = root / "storage" / ".vse-partial"
        with daemons(root, 2) as both:
            until(lambda: len(Services(site.database, time.time).list()) == 2)
            request = site.staging.request(
                FindQuery("", base=Lfn(BASE), pattern="*"), "anna", "LOCAL-DISK"
            ).id

            def half() -> int:
                return sum(path.stat().st_size for path in kept.glob("*.kept"))

            until(lambda: half() >= 2 * MB)
            (transfer,) = site.queue.of_lfn(LFN)
            (mover,) = [one for one in both if f"/{one.pid}/" in str(transfer.lease_owner)]
            mover.kill()
            mover.wait()
            there, sent = half(), server.sent_bytes[LFN]
            server.lies.clear()
            server.let_go.set()
            until(lambda: site.staging.get([request])[0].is_over)
        assert site.staging.get([request])[0].state is RequestState.DONE
        assert (root / "storage" / LFN[1:]).read_bytes() == data
        assert server.sent_bytes[LFN] - sent == len(data) - there
        assert not list(kept.glob("*"))
        (transfer,) = site.queue.of_lfn(LFN)
        assert (transfer.state, transfer.failures, transfer.attempts) == (State.DONE, 0, 2)
        lost, won = site.queue.attempts_of(transfer.id)
        assert "ended or hung" in str(lost.error)
        assert (won.error, won.bytes_done) == (None, len(data) - there)


def test_a_listing_that_was_killed_is_gone_on_with_by_a_daemon(tmp_path: Path) -> None:
    """`vse stage` is killed while it lists; a daemon that knows of nothing lists the rest."""
    root, number = tmp_path / "site", 30_000
    with lying_server({LFN: b"x"}, {}) as server, web_site(root, server) as site:
        names = [Lfn(f"/many/d{n // 1000:02}/f{n:05}.dat") for n in range(number)]
        assert not site.catalogue.register(NewFile(name, 1, 1, "WEB") for name in names).failed
        words = [sys.executable, "-m", "vse.cli", "stage", "/many/*.dat", "--no-wait"]
        client = subprocess.Popen(words, cwd=root, env=clean_environment(), stdout=subprocess.DEVNULL)

        def listed() -> int:
            return sum(sum(one.files.values()) for one in site.progress.status(site.staging.list()))

        until(lambda: listed() >= 1000)
        client.kill()
        client.wait()
        (request,) = site.staging.list(open_only=True)
        assert request.state is RequestState.GATHERING
        assert listed() < number
        with daemons(root, 1):
            until(lambda: site.staging.get([request.id])[0].state is not RequestState.GATHERING)
        (status,) = site.progress.status(site.staging.get([request.id]))
        assert sum(status.files.values()) == number
        assert status.files[ItemState.HERE] == 0
