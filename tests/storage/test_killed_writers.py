"""Writers that are killed at random moments of a put: every final name holds a whole file.

What they leave under hidden names is another matter: the sweep clears it on mounted storage, S3 and nginx
drop it, an XRootD server drops what was not closed; the rest lies in the directory of partial files.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from servers.certificates import make_certificates
from servers.s3 import ceph
from servers.sftp import sftp
from servers.webdav import nginx
from servers.xrootd import xrootd
from vse.config.settings import ProtocolSettings
from vse.storage.contract import Driver
from vse.storage.drivers import build
from vse.testing.drivers import fetch, is_there, store

pytestmark = pytest.mark.slow

SIZE_BYTES = 5_000_000
TURNS = int(os.environ.get("VSE_KILLS", "2"))
"""How many writers are killed over each server; set VSE_KILLS for more."""
_WRITER = """
import json, sys
from vse.config.settings import ProtocolSettings
from vse.model import Checksum
from vse.storage.drivers import build
import zlib
driver = build(ProtocolSettings.model_validate(json.loads(sys.argv[1])), 10.0)
for number in range(1000):
    data = bytes([number % 256]) * int(sys.argv[3])
    checksum = Checksum.parse(f"adler32:{zlib.adler32(data):08x}")
    with driver.put(f"{sys.argv[2]}/{number}.bin", len(data), checksum) as upload:
        for start in range(0, len(data), 1 << 20):
            upload.write(data[start : start + (1 << 20)])
        upload.commit()
    print(number, flush=True)
"""


@dataclass
class Site:
    """A server, by the section that leads to it."""

    section: dict[str, object]

    def driver(self) -> Driver:
        return build(ProtocolSettings.model_validate(self.section), 20.0)


def _started(kind: str, where: Path, running: ExitStack) -> Site:
    start = running.enter_context
    section: dict[str, object] = {"Section": "X", "Host": "127.0.0.1", "Path": "/data"}
    if kind in ("xroot", "gfal-root", "http-xrootd"):
        server = start(xrootd(make_certificates(), "ofs.persist auto hold 1"))
        more: dict[str, dict[str, object]] = {
            "xroot": {"PluginName": "XROOT", "Protocol": "root", "Port": server.port},
            "gfal-root": {"PluginName": "GFAL2", "Protocol": "root", "Port": server.port},
            "http-xrootd": {"PluginName": "HTTP", "Protocol": "http", "Port": server.http_port},
        }
        return Site(section | more[kind])
    if kind == "http-nginx":
        web = start(nginx())
        return Site(section | {"PluginName": "HTTP", "Protocol": "http", "Port": web.port})
    if kind == "s3":
        s3 = start(ceph())
        keys = {"Aws_access_key_id": s3.access_key, "Aws_secret_access_key": s3.secret_key}
        given = {"PluginName": "S3", "Protocol": "s3", "Port": s3.port, "Path": f"/{s3.bucket}/data"}
        return Site(section | given | keys | {"SecureConnection": False})
    if kind == "sftp":
        ssh = start(sftp())
        options = {"username": ssh.user, "key_filename": str(ssh.key_file), "look_for_keys": False}
        given = {"PluginName": "FSSPEC", "Protocol": "sftp", "Port": ssh.port, "Path": str(ssh.directory)}
        return Site(section | given | {"Options": options})
    plugin = "FSSPEC" if kind == "fsspec-file" else "GFAL2"
    given = {"PluginName": plugin, "Protocol": "file", "Host": "", "Path": str(where)}
    return Site(section | given)


KINDS = (
    "xroot",
    "gfal-root",
    "gfal-file",
    "http-xrootd",
    "http-nginx",
    "s3",
    "sftp",
    "fsspec-file",
)


@pytest.fixture(params=KINDS)
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as running:
        yield _started(request.param, tmp_path, running)


def killed_at_random(site: Site, base: str, delays: random.Random) -> int:
    """Run a writer and kill it in the middle of some put; return how many files it said were whole."""
    command = [sys.executable, "-c", _WRITER, json.dumps(site.section), base, str(SIZE_BYTES)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        said = [int(writer.stdout.readline())]
        time.sleep(delays.uniform(0, 0.15))  # any moment is as good as any other
        writer.send_signal(signal.SIGKILL)
        writer.wait(30)
        said += [int(line) for line in writer.stdout if line.endswith("\n")]
    return said[-1] + 1


def test_whenever_a_writer_is_killed_every_final_name_is_a_whole_file(site: Site) -> None:
    driver, delays = site.driver(), random.Random(3)
    top = str(site.section["Path"])
    for turn in range(TURNS):
        base = f"{top}/turn{turn}"
        whole = killed_at_random(site, base, delays)
        found = {Path(file.path).stem: file for file in driver.list(base)}
        assert set(map(str, range(whole))) <= set(found)
        assert len(found) <= whole + 1
        for stem, file in found.items():
            assert fetch(driver, file.path) == bytes([int(stem) % 256]) * SIZE_BYTES
        # The name that was being written is free, or whole.
        if not is_there(driver, f"{base}/{whole}.bin"):
            store(driver, f"{base}/{whole}.bin", b"again")
            assert fetch(driver, f"{base}/{whole}.bin") == b"again"
    driver.close()
