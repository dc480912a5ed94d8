"""OpenSSH's server, for SFTP with a key made for the test. Debian package: openssh-server."""

from __future__ import annotations

import getpass
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

READY_S = 10.0
_PROGRAM = Path("/usr/sbin/sshd")
_CONFIG = """Port {port}
ListenAddress 127.0.0.1
HostKey {directory}/host
PidFile {directory}/pid
AuthorizedKeysFile {directory}/key.pub
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin yes
Subsystem sftp internal-sftp
MaxStartups 100
"""


class SftpServer(NamedTuple):
    """A running server; ``directory`` is an empty one, seen at the same path through SFTP."""

    port: int
    user: str
    key_file: Path
    directory: Path


@contextmanager
def sftp() -> Iterator[SftpServer]:
    """Run sshd for the user that runs the tests."""
    assert _PROGRAM.exists(), "sshd is missing: install Debian's openssh-server"
    with tempfile.TemporaryDirectory(prefix="vse-sftp-") as name:
        directory = Path(name)
        for key in ("host", "key"):
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(directory / key)]
            subprocess.run(command, check=True, timeout=READY_S)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        (directory / "config").write_text(_CONFIG.format(port=port, directory=directory))
        (directory / "files").mkdir()
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # sshd wants it where it runs as root
        process = subprocess.Popen(
            [_PROGRAM, "-D", "-e", "-f", str(directory / "config")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            _wait_for(port, process)
            yield SftpServer(port, getpass.getuser(), directory / "key", directory / "files")
        finally:
            process.kill()
            process.wait(10)


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    until_s = time.monotonic() + READY_S
    while time.monotonic() < until_s and process.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), 1.0):
                return
        except OSError:
            time.sleep(0.02)
    raise AssertionError(f"sshd did not listen within {READY_S} s")
