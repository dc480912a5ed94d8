"""The Globus GridFTP server, for gsiftp. Debian packages: globus-gridftp-server-progs, gfal2-plugin-gridftp.

It and its clients trust the authority of the test only. Who comes with the host's own certificate is mapped
to the user that runs the tests: no proxy certificate needs to be made.
"""

from __future__ import annotations

import getpass
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from servers.certificates import Certificates

READY_S = 10.0
_PROGRAM = Path("/usr/sbin/globus-gridftp-server")
_POLICY = """\
access_id_CA X509 '/CN=Test CA'
pos_rights globus CA:sign
cond_subjects globus '"*"'
"""


class GridftpServer(NamedTuple):
    """A running server; ``directory`` is an empty one, seen at the same path through gsiftp.

    ``environment`` is what a client needs to trust it and to be let in.
    """

    port: int
    directory: Path
    environment: dict[str, str]


@contextmanager
def gridftp(certificates: Certificates) -> Iterator[GridftpServer]:
    """Run a server for the user that runs the tests."""
    assert _PROGRAM.exists(), f"{_PROGRAM} is missing: install Debian's globus-gridftp-server-progs"
    with tempfile.TemporaryDirectory(prefix="vse-gridftp-") as name:
        directory = Path(name)
        environment = _credentials(certificates, directory)
        (directory / "files").mkdir()
        host = {
            "X509_CERT_DIR": environment["X509_CERT_DIR"],
            "X509_USER_CERT": str(directory / "host.pem"),
            "X509_USER_KEY": str(directory / "host.key"),
            "GRIDMAP": str(directory / "gridmap"),
        }
        local = ["-control-interface", "127.0.0.1", "-data-interface", "127.0.0.1", "-hostname", "localhost"]
        command = [str(_PROGRAM), "-p", "0", *local, "-allow-root", "-no-detach", "-c", "none"]
        log = directory / "log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                command,
                cwd=directory,
                env={**os.environ, **host},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        try:
            yield GridftpServer(_port(log, process), directory / "files", environment)
        finally:
            process.kill()
            process.wait(10)


def _credentials(certificates: Certificates, directory: Path) -> dict[str, str]:
    """Leave the certificates as Globus wants them; return the environment of a client."""
    certificates.write(directory)
    proxy = directory / "user.pem"
    proxy.touch(0o600)
    proxy.write_bytes(certificates.host + certificates.key)
    (directory / "gridmap").write_text(f'"/CN=localhost" {getpass.getuser()}\n')
    certificates.write_directory(directory / "trusted", _POLICY)
    return {"X509_CERT_DIR": str(directory / "trusted"), "X509_USER_PROXY": str(proxy)}


def _port(log: Path, process: subprocess.Popen[bytes]) -> int:
    """Wait until the server says where it listens."""
    until_s = time.monotonic() + READY_S
    while time.monotonic() < until_s and process.poll() is None:
        found = re.search(r"listening at localhost:(\d+)", log.read_text(errors="replace"))
        if found:
            return int(found[1])
        time.sleep(0.02)
    raise AssertionError(f"the GridFTP server did not start:\n{log.read_text(errors='replace')[-2000:]}")
