"""Debian's XRootD as a server for tests: root:// and an HTTP door, both with TLS and third-party copies.

Debian packages: xrootd-server, xrootd-client (which the server runs to pull a third-party copy).
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from servers.certificates import Certificates

READY_S = 20.0
UNSTEADY = "the HTTP door of XRootD 5.5 now and then crashes, goes silent or breaks its TLS"
_USER = "xrootd"
# Where more checksums than 'max' are asked for at a time, XRootD 5.5 has its HTTP clients wait, and now and
# then crashes or goes silent when it takes them up again (xrootd/xrootd#2503): no test asks for so many.
_CONFIG = """\
all.export /data
oss.localroot {directory}/root
all.adminpath {directory}/adm
all.pidpath {directory}/run
xrd.port {port}
xrd.protocol http:{http_port} libXrdHttp.so
xrd.tls {directory}/host.pem {directory}/host.key
xrd.tlsca certfile {directory}/ca.pem
xrootd.tls capable none
xrootd.chksum max 64 adler32 md5 crc32c
ofs.tpc ttl 60 60 xfr 9 autorm pgm /usr/bin/xrdcp --server
http.selfhttps2http no
http.listingdeny no
http.header2cgi Authorization authz
http.exthandler xrdtpc libXrdHttpTPC.so
{extra}
"""


@dataclass
class XrootdServer:
    """A running server. ``data`` is the directory of this machine that it exports as ``/data``."""

    directory: Path
    port: int
    http_port: int
    certificates: Certificates
    extra: str = ""
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def data(self) -> Path:
        return self.directory / "root" / "data"

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")

    def start(self) -> None:
        """Start, and wait until it serves."""
        assert self._process is None
        config = self.directory / "xrootd.cfg"
        config.write_text(
            _CONFIG.format(
                directory=self.directory, port=self.port, http_port=self.http_port, extra=self.extra
            )
        )
        config.chmod(0o644)
        as_user = ["-R", _USER] if os.geteuid() == 0 else []
        self._process = subprocess.Popen(
            ["xrootd", *as_user, "-l", str(self.directory / "run" / "log"), "-c", str(config)],
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
            env={**os.environ, "X509_CERT_FILE": str(self.directory / "ca.pem")},
        )
        log = self.directory / "run" / "log"
        until_s = time.monotonic() + READY_S
        while not (log.exists() and re.search(r"initialization (completed|failed)", log.read_text())):
            if self._process.poll() is not None or time.monotonic() > until_s:
                break
            time.sleep(0.01)
        text = log.read_text() if log.exists() else "it wrote no log"
        if "initialization completed" not in text:
            self.stop()
            raise AssertionError(f"xrootd did not start:\n{text[-3000:]}")
        for port in (self.port, self.http_port):  # it says so a moment before it listens
            self._await(port, until_s)

    def _await(self, port: int, until_s: float) -> None:
        assert self._process is not None
        while self._process.poll() is None and time.monotonic() < until_s:
            try:
                socket.create_connection(("127.0.0.1", port), 1.0).close()
            except OSError:
                time.sleep(0.01)
            else:
                return
        self.stop()
        raise AssertionError(f"xrootd does not listen at its port {port}")

    def stop(self) -> None:
        """End it at once, like a machine that dies."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(10)
            (self.directory / "run" / "log").unlink(missing_ok=True)

    def pause(self, signal_number: int) -> None:
        """Send it a signal: SIGSTOP makes it silent, SIGCONT lets it go on."""
        assert self._process is not None
        self._process.send_signal(signal_number)


@contextmanager
def xrootd(certificates: Certificates, extra: str = "") -> Iterator[XrootdServer]:
    """Run a server in a temporary directory; ``extra`` are lines for its configuration."""
    for program, package in (("xrootd", "xrootd-server"), ("xrdcp", "xrootd-client")):
        assert shutil.which(program), f"{program} is missing: install Debian's {package}"
    # xrootd gives directories of its own above adminpath mode 0700: this one belongs to who runs the tests.
    directory = Path(tempfile.mkdtemp(prefix="vse-xrootd-"))
    directory.chmod(0o755)
    try:
        for name in ("root/data", "adm", "run"):
            (directory / name).mkdir(parents=True)
        certificates.write(directory)
        if os.geteuid() == 0:
            user = pwd.getpwnam(_USER)
            for name in ("root", "root/data", "adm", "run", "host.key"):
                os.chown(directory / name, user.pw_uid, user.pw_gid)
        server = _started(directory, certificates, extra)
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _started(directory: Path, certificates: Certificates, extra: str) -> XrootdServer:
    """Start a server; again, with other ports, where one is taken meanwhile or it ends without a word."""
    for attempt in range(3):
        server = XrootdServer(directory, free_port(), free_port(), certificates, extra)
        try:
            server.start()
        except AssertionError:
            if attempt == 2:
                raise
        else:
            break
    return server


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
        return number
