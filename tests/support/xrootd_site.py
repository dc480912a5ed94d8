"""A site behind root://: its redirector, and a real xrootd configured by `vse xrootd config`."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sa

from servers.xrootd import free_port
from support.command_line import clean_environment
from support.other_user import with_our_python
from support.waiting import until
from vse.app.site import Site
from vse.app.xrootd import XrootdOpening
from vse.app.xrootd_setup import setup_for, write_setup
from vse.config.load import load
from vse.db.tables import attempts, requests, transfers
from vse.doors.xrootd.configuration import Mode
from vse.doors.xrootd.redirector import Redirector
from vse.model import Lfn, NewFile
from vse.staging.stager import Stager

BASE = "/lhc/data"
USER = "xrootd"
READY_S = 20.0
CLIENT = {
    "XRD_CPUSEPGWRTRD": "0",
    "XRD_CONNECTIONWINDOW": "3",
    "XRD_CONNECTIONRETRY": "20",
    "XRD_LOGLEVEL": "Error",
    "XRD_PARALLELEVTLOOP": "1",
}

_SETTINGS = """\
[database]
url = "sqlite:///var/vse.db"
[StorageElements.LOCAL.File]
Protocol = "file"
Path = "{root}/storage"
[StorageElements.REMOTE]
WriteAccess = false
[StorageElements.REMOTE.File]
Protocol = "file"
Path = "{root}/remote"
[stager]
destination = "LOCAL"
verify = "checksum"
max_failures = 2
backoff_s = 0.01
backoff_max_s = 0.05
[linktree]
path = "vse"
[doors.xrootd]
port = {redirector}
data = "127.0.0.1:{data}"
deny_s = 2.0
"""


@dataclass
class XrootdSite:
    """A site in a directory that xrootd's user may read; ``directory`` beside it holds xrootd's own files."""

    root: Path
    directory: Path
    redirector_port: int
    data_port: int
    site: Site
    ahead_s: float = 0.0
    _processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def now_s(self) -> float:
        """The clock of the site: ``ahead_s`` in front of the real one."""
        return time.time() + self.ahead_s

    def deny_for(self, deny_s: float) -> None:
        """Refuse for so long what has failed; to be said before anything is opened."""
        doors = self.site.settings.doors
        changed = doors.model_copy(update={"xrootd": doors.xrootd.model_copy(update={"deny_s": deny_s})})
        self.site.settings = self.site.settings.model_copy(update={"doors": changed})

    def url(self, lfn: str, *, direct: bool = False) -> str:
        """The URL of a file at xrootd, or (``direct``) at the redirector."""
        return f"root://127.0.0.1:{self.redirector_port if direct else self.data_port}//vse{lfn}"

    def remote(self, lfn: str) -> Path:
        return self.root / "remote" / lfn.lstrip("/")

    def add(self, name: str, data: bytes, *, write: bool = True) -> Lfn:
        """Register a file at the remote element, and put it there."""
        lfn = Lfn(f"{BASE}/{name}")
        if write:
            self.put(lfn, data)
        registered = self.site.catalogue.register([NewFile(lfn, len(data), zlib.adler32(data), "REMOTE")])
        assert not registered.failed
        self.give_away()
        return lfn

    def put(self, lfn: Lfn, data: bytes) -> None:
        self.remote(lfn).parent.mkdir(parents=True, exist_ok=True)
        self.remote(lfn).write_bytes(data)

    def give_away(self) -> None:
        """Let xrootd's user work on the site, as an administrator would who runs both as one user."""
        if os.geteuid() == 0:
            account = pwd.getpwnam(USER)
            for path in (self.root, *self.root.rglob("*")):
                os.chown(path, account.pw_uid, account.pw_gid, follow_symlinks=False)

    # -- what runs -------------------------------------------------------------------------------

    def start_xrootd(self, mode: Mode) -> None:
        setup = setup_for(self.site, mode, self.directory, self.data_port)
        write_setup(setup, USER)
        command = with_our_python(setup.command(USER)) if os.geteuid() == 0 else setup.command("")
        environment = {**clean_environment(), "HOME": "/tmp"}
        self._processes.append(
            subprocess.Popen(
                command, cwd="/", env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT
            )
        )
        self.await_(lambda: "initialization completed" in self.xrootd_log, self.xrootd_log)
        self.await_(lambda: listens(self.data_port), "xrootd does not listen")

    @property
    def xrootd_log(self) -> str:
        path = self.directory / "run" / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    @contextmanager
    def redirecting(self, *, moving: bool = True, hold_s: float = 25.0) -> Iterator[Redirector]:
        """Run the redirector, and a stager, in threads of this process."""
        stager = self.site.stager()
        redirector = Redirector(
            XrootdOpening(self.site, stager.wake), "127.0.0.1", self.redirector_port, hold_s=hold_s
        )
        ready = threading.Event()
        thread = threading.Thread(target=redirector.run, args=(lambda _: ready.set(),), daemon=True)
        thread.start()
        assert ready.wait(READY_S)
        try:
            if moving:
                with self.moving(stager):
                    yield redirector
            else:
                yield redirector
        finally:
            redirector.stop()
            thread.join(READY_S)
            assert not thread.is_alive(), "the redirector did not stop"

    @contextmanager
    def moving(self, stager: Stager | None = None) -> Iterator[None]:
        stop, one = threading.Event(), stager or self.site.stager()
        thread = threading.Thread(target=one.run, args=(stop,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            one.wake()
            thread.join(READY_S)

    def serve(self, *words: str) -> subprocess.Popen[bytes]:
        """Start ``vse serve xrootd`` as a process, and wait until it listens."""
        process = subprocess.Popen(
            [sys.executable, "-m", "vse.cli", "--site", str(self.root), "serve", "xrootd", *words],
            env=clean_environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._processes.append(process)
        self.await_(lambda: listens(self.redirector_port), "vse serve xrootd does not listen")
        return process

    def await_(self, condition: Callable[[], bool], what: str, within_s: float = READY_S) -> None:
        until(condition, within_s, what=what, told=lambda: self.xrootd_log[-2000:])

    # -- what came of it -------------------------------------------------------------------------

    def rows(self) -> tuple[int, int, int]:
        """How many transfers, attempts and requests there are."""
        with self.site.database.read() as connection:
            counts = [
                connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
                for table in (transfers, attempts, requests)
            ]
        return counts[0], counts[1], counts[2]

    def accessed_s(self, lfn: Lfn) -> float | None:
        located = self.site.catalogue.resolve([lfn]).one(lfn)
        return next((one.accessed_s for one in located.replicas if one.se == "LOCAL"), None)

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait(10)
        self.site.close()


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1.0).close()
    except OSError:
        return False
    return True


@contextmanager
def xrootd_site() -> Iterator[XrootdSite]:
    """Make a site, with nothing running yet."""
    top = Path(tempfile.mkdtemp(prefix="vse-root-"))  # pytest's own are closed to other users
    top.chmod(0o755)
    one: XrootdSite | None = None
    try:
        root = top / "site"
        for name in ("storage", "remote", "vse", "var"):
            (root / name).mkdir(parents=True)
        redirector, data = free_port(), free_port()
        (root / "vse.toml").write_text(_SETTINGS.format(root=root, redirector=redirector, data=data))
        one = XrootdSite(root, top / "xrootd", redirector, data, Site.open(load(root / "vse.toml")))
        one.site.clock = one.now_s
        yield one
    finally:
        if one is not None:
            one.close()
        shutil.rmtree(top, ignore_errors=True)


def xrdcp(source: str, target: Path | str, *options: str, timeout_s: float = 60.0) -> tuple[int, str]:
    """Copy with Debian's client; return its exit code and what it said."""
    done = subprocess.run(
        ["xrdcp", "-f", "-s", *options, source, str(target)],
        env={**clean_environment(), **CLIENT},
        capture_output=True,
        timeout=timeout_s,
        check=False,
    )
    return done.returncode, (done.stdout + done.stderr).decode(errors="replace")


def xrdfs(port: int, *words: str, timeout_s: float = 60.0) -> tuple[int, str]:
    done = subprocess.run(
        ["xrdfs", f"127.0.0.1:{port}", *words],
        env={**clean_environment(), **CLIENT},
        capture_output=True,
        timeout=timeout_s,
        check=False,
    )
    return done.returncode, re.sub(r"\x00", "", (done.stdout + done.stderr).decode(errors="replace"))
