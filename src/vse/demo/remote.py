"""The demo's other end: a site that holds the files, in a process of its own behind real HTTP."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from vse.app.init import RemoteSite, init_site
from vse.app.register import register_stored
from vse.app.site import Site
from vse.config.load import FILE_NAME, load
from vse.errors import NothingToAnalyse, SourceUnavailable
from vse.model import Lfn

ELEMENT = "REMOTE-DISK"
GENERATED_BASE = Lfn("/lhc/sim/2026/dimuon")
REAL_BASE = Lfn("/lhc/data/2026/dimuon")
_READY_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class WideAreaLink:
    """What lies between the sites: the time of one catalogue query, and the rate of all data together."""

    query_latency_s: float = 0.1
    bandwidth_bytes_per_s: float = 12.5 * 1024 * 1024


def make_remote(directory: Path) -> None:
    """Make ``directory`` a site that `RemoteProcess` can serve, on a port that stays its own."""
    if not (directory / FILE_NAME).exists():
        init_site(directory, name="remote", element=ELEMENT, door_port=_free_port())


def take_in(directory: Path, data: Path) -> Lfn:
    """Put every ROOT file below ``data`` on the remote storage (linked where possible); return the base.

    Raises `NothingToAnalyse` where there is none.
    """
    found = sorted(path for path in data.rglob("*.root") if path.is_file())
    if not found:
        raise NothingToAnalyse(f"use the data in {data}", "it holds no *.root file", "give another --data")
    for path in found:
        target = directory / "storage" / REAL_BASE[1:] / path.relative_to(data)
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            _link_or_copy(path, target)
    return REAL_BASE


def generate(directory: Path, files: int, events: int, seed: int, progress: Callable[[], None]) -> Lfn:
    """Write generated files to the remote storage, unless the same ones are there; return the base."""
    from vse.demo.generate import generate as write

    target = directory / "storage" / GENERATED_BASE[1:]
    note = directory / "var" / "generated.json"
    wanted = {"files": files, "events": events, "seed": seed}
    if not (note.exists() and json.loads(note.read_text()) == wanted):
        shutil.rmtree(target, ignore_errors=True)
        write(target, files, events, seed, lambda _: progress())
        note.write_text(json.dumps(wanted))
    return GENERATED_BASE


def register_all(directory: Path, base: Lfn) -> dict[Lfn, int]:
    """Make the remote catalogue know exactly what its storage holds below ``base``; return the sizes.

    Files that are no readable ROOT files are known too: it is for the local site to find that out.
    """

    for suffix in ("", "-wal", "-shm"):
        (directory / "var" / f"vse.db{suffix}").unlink(missing_ok=True)
    with Site.open(load(directory / FILE_NAME)) as site:
        result = register_stored(site, site.elements.get(ELEMENT), base, contents=False)
        for error in result.failed.values():
            raise error
        known = site.catalogue.resolve(list(result.ok.values()))
        return {lfn: known.ok[lfn].entry.size_bytes or 0 for lfn in result.ok.values()}


class RemoteProcess:
    """The remote site's door, running as a child process until the ``with`` block ends."""

    def __init__(self, directory: Path, link: WideAreaLink) -> None:
        self._directory = directory
        self._link = link
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        command = [
            *(sys.executable, "-m", "vse.demo.remote_process", str(self._directory / FILE_NAME)),
            *("--query-latency-s", str(self._link.query_latency_s)),
            *("--bandwidth-bytes-per-s", str(self._link.bandwidth_bytes_per_s)),
        ]
        log = (self._directory / "var" / "door.log").open("w")
        with log:
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        assert self._process.stdout is not None  # noqa: S101 (a pipe was asked for)
        if not self._process.stdout.readline().startswith("ready "):
            self.__exit__(None, None, None)
            raise SourceUnavailable(
                "start the remote site", "its process ended", f"see {self._directory / 'var' / 'door.log'}"
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(_READY_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


def as_remote(directory: Path) -> RemoteSite:
    """Return how the local site reaches the remote one."""
    loaded = load(directory / FILE_NAME)
    door = loaded.settings.doors.http
    return RemoteSite("remote", ELEMENT, door.host, door.port, door.token_file)


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or not the owner
        shutil.copyfile(source, target)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
