"""A real Rucio server for tests and benchmarks: PyPI's ``rucio`` on SQLite, behind gunicorn.

Its packages do not agree with ours, so that it has an environment of its own in the user's cache, made by
tools/clients.sh from requirements/rucio.lock. One account (root) logs in by name and password.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import urllib3

from servers.clients import python_of

READY_S = 60.0
ACCOUNT, USERNAME, PASSWORD = "root", "tester", "a-password"
_CONFIG = """[common]
logdir = {directory}
loglevel = WARNING
[database]
default = sqlite:///{directory}/rucio.db
[bootstrap]
userpass_identity = {username}
userpass_pwd = {password}
[alembic]
cfg = {directory}/alembic.ini
[policy]
permission = generic
schema = generic
"""
_ALEMBIC = """[alembic]
script_location = rucio.db.sqla:migrate_repo
sqlalchemy.url = sqlite:///{directory}/rucio.db
[loggers]
keys = root
[handlers]
keys = none
[formatters]
keys =
[logger_root]
handlers = none
[handler_none]
class = NullHandler
args = ()
"""
_BUILD = """
import sqlite3, sys
from rucio.db.sqla.util import build_database, create_base_vo, create_root_account
build_database()
create_base_vo()
create_root_account()
sqlite3.connect(sys.argv[1]).execute("PRAGMA journal_mode=WAL")
"""
_QUIET = ("--no-control-socket", "--graceful-timeout", "1")
_APPLICATION = "rucio.web.rest.flaskapi.v1.main:application"


class RucioServer(NamedTuple):
    """A running server. The calls below are Rucio's REST interface, as an administrator uses it."""

    url: str
    directory: Path
    pid: int

    def add_element(self, rse: str, url: str, deterministic: bool = False) -> None:
        """Add an RSE whose files are below ``url`` (``root://host:port//path``)."""
        self.call("POST", f"/rses/{rse}", {"deterministic": deterministic})
        parts = urllib3.util.parse_url(url)
        domains = {
            "wan": dict.fromkeys(("read", "write", "delete"), 1)
            | dict.fromkeys(("third_party_copy_read", "third_party_copy_write"), 1),
            "lan": dict.fromkeys(("read", "write", "delete"), 1),
        }
        protocol = {
            "hostname": parts.host,
            "port": parts.port,
            "prefix": parts.path,
            "impl": "rucio.rse.protocols.gfal.Default",
            "domains": domains,
        }
        self.call("POST", f"/rses/{rse}/protocols/{parts.scheme}", protocol)

    def add_scope(self, scope: str) -> None:
        self.call("POST", f"/accounts/{ACCOUNT}/scopes/{quote(scope)}")

    def add_replicas(self, rse: str, files: Sequence[Mapping[str, Any]]) -> None:
        """Add copies; ``files`` are ``{scope, name, bytes, adler32, pfn, meta: {guid}}``."""
        self.call("POST", "/replicas/", {"rse": rse, "files": list(files), "ignore_availability": True})

    def add_dataset(self, scope: str, name: str, names: Sequence[str], kind: str = "DATASET") -> None:
        self.call("POST", f"/dids/{quote(scope)}/{quote(name)}", {"type": kind})
        members = [{"scope": scope, "name": one} for one in names]
        self.call("POST", f"/dids/{quote(scope)}/{quote(name)}/dids", {"dids": members})

    def list_replicas(self, dids: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
        """What the server tells of these files, all states, as its own client asks."""
        text = self.call("POST", "/replicas/list", {"dids": list(dids), "all_states": True})
        return [json.loads(line) for line in text.splitlines()]

    def end_tokens(self) -> None:
        """Make every token invalid, and let a new worker, which remembers none, take over."""
        with contextlib.closing(sqlite3.connect(self.directory / "rucio.db", timeout=30)) as database:
            database.execute("DELETE FROM tokens")
            database.commit()
        old = self._workers()
        os.kill(self.pid, signal.SIGHUP)
        until_s = time.monotonic() + READY_S
        while not self._workers() or self._workers() & old:
            assert time.monotonic() < until_s, "Rucio did not start anew"
            time.sleep(0.05)

    def _workers(self) -> set[str]:
        return set(Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split())

    def call(self, method: str, path: str, body: object = None) -> str:
        headers = {"X-Rucio-Account": ACCOUNT, "X-Rucio-Username": USERNAME, "X-Rucio-Password": PASSWORD}
        answer = urllib3.request("GET", f"{self.url}/auth/userpass", headers=headers, timeout=READY_S)
        assert answer.status == 200, answer.data
        token = {"X-Rucio-Auth-Token": answer.headers["X-Rucio-Auth-Token"]}
        answer = urllib3.request(
            method, self.url + path, json=body, headers=token, timeout=READY_S, retries=False
        )
        assert answer.status < 300, f"{method} {path}: {answer.status} {answer.data[:300]!r}"
        return answer.data.decode()


@contextmanager
def rucio() -> Iterator[RucioServer]:
    """Run a server with an empty catalogue; it is there after about 4 s."""
    programs = _programs()
    with tempfile.TemporaryDirectory(prefix="vse-rucio-") as place:
        directory = Path(place)
        values = {"directory": directory, "username": USERNAME, "password": PASSWORD}
        (directory / "rucio.cfg").write_text(_CONFIG.format(**values))
        (directory / "alembic.ini").write_text(_ALEMBIC.format(**values))
        environment = {
            **os.environ,
            "RUCIO_CONFIG": str(directory / "rucio.cfg"),
            "HOME": str(directory),
            "PYTHONPATH": "",
        }
        build = [programs / "python", "-c", _BUILD, directory / "rucio.db"]
        done = subprocess.run(
            build, env=environment, cwd=directory, capture_output=True, text=True, timeout=READY_S
        )
        assert done.returncode == 0, f"Rucio's database could not be built: {done.stderr[-2000:]}"
        address = f"127.0.0.1:{_free_port()}"
        with (directory / "log").open("wb") as log:
            process = subprocess.Popen(
                [programs / "gunicorn", "--bind", address, "--threads", "4", *_QUIET, _APPLICATION],
                env=environment,
                cwd=directory,
                stdout=log,
                stderr=log,
            )
        server = RucioServer(f"http://{address}", directory, process.pid)
        try:
            _wait_for(server, process)
            yield server
        finally:
            process.terminate()
            process.wait(20)


def _programs() -> Path:
    python = python_of("rucio")
    assert python is not None, "no Rucio server for the tests: run sh tools/clients.sh rucio"
    return Path(python).parent


def _wait_for(server: RucioServer, process: subprocess.Popen[bytes]) -> None:
    until_s = time.monotonic() + READY_S
    while time.monotonic() < until_s and process.poll() is None:
        try:
            if urllib3.request("GET", f"{server.url}/ping", timeout=1.0, retries=False).status == 200:
                return
        except urllib3.exceptions.HTTPError:
            time.sleep(0.05)
    log = (server.directory / "log").read_text()[-2000:]
    raise AssertionError(f"Rucio did not answer within {READY_S} s: {log}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
