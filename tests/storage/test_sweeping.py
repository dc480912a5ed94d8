"""What killed writers leave under hidden names is swept by its age, on servers of every kind."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from servers.certificates import make_certificates
from servers.sftp import sftp
from servers.xrootd import xrootd
from vse.config.settings import ProtocolSettings, Settings
from vse.model import Lfn
from vse.storage.drivers import build
from vse.storage.drivers.file_upload import PARTIAL_DIRECTORY
from vse.storage.element import Elements
from vse.testing.drivers import is_there

pytestmark = pytest.mark.slow

KINDS = ("fsspec-file", "sftp", "gfal-file", "xroot", "gfal-root", "http-xrootd")
_WRITER = """
import json, signal, sys
from vse.config.settings import ProtocolSettings
from vse.storage.drivers import build
section = ProtocolSettings.model_validate(json.loads(sys.argv[1]))
upload = build(section, 10.0).put(section.path + "/half.bin", 20_000_000)
for _ in range(10):
    upload.write(bytes(1_000_000))
print("half", flush=True)
signal.pause()
"""


def _section(kind: str, where: Path, running: ExitStack) -> dict[str, object]:
    section: dict[str, object] = {"Host": "127.0.0.1", "Path": "/data", "Access": "remote"}
    if kind in ("xroot", "gfal-root", "http-xrootd"):
        # A server that keeps what was not closed until somebody comes.
        server = running.enter_context(xrootd(make_certificates(), "ofs.persist manual hold 86400"))
        plugin, protocol, port = {
            "xroot": ("XROOT", "root", server.port),
            "gfal-root": ("GFAL2", "root", server.port),
            "http-xrootd": ("HTTP", "http", server.http_port),
        }[kind]
        return section | {"PluginName": plugin, "Protocol": protocol, "Port": port}
    if kind == "sftp":
        ssh = running.enter_context(sftp())
        options = {"username": ssh.user, "key_filename": str(ssh.key_file), "look_for_keys": False}
        more = {"PluginName": "FSSPEC", "Protocol": "sftp", "Port": ssh.port, "Path": str(ssh.directory)}
        return section | more | {"Options": options}
    plugin = "FSSPEC" if kind == "fsspec-file" else "GFAL2"
    return {"PluginName": plugin, "Protocol": "file", "Path": str(where)}


@pytest.fixture(params=KINDS)
def section(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, object]]:
    with ExitStack() as running:
        yield _section(request.param, tmp_path, running)


def test_what_a_killed_writer_left_goes_by_its_age(section: dict[str, object]) -> None:
    command = [sys.executable, "-c", _WRITER, json.dumps({"Section": "S"} | section)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "half\n"
        writer.send_signal(signal.SIGKILL)
    described = {"S": section, "WriteProtocols": ["sftp", "root", "http", "file"]}
    settings = Settings.model_validate({"StorageElements": {"SE": described}})
    element = Elements.from_settings(settings).get("SE")
    (one,) = element.settings.protocols
    driver, hidden = build(one, 20.0), f"{one.path}/{PARTIAL_DIRECTORY}"

    def left() -> int:
        return len(list(driver.list(hidden))) if is_there(driver, hidden) else 0

    now_s, before = time.time(), left()
    assert element.sweep_partials(3600.0, now_s) == 0, "servers were swept without being told to"
    assert element.sweep_partials(3600.0, now_s, servers_older_than_s=3600.0) == 0, "what is new was removed"
    assert left() == before
    assert element.sweep_partials(0.0, now_s + 7200.0, servers_older_than_s=3600.0) == before
    assert left() == 0
    with element.put(Lfn("/half.bin"), 3) as upload:  # the name was never taken
        upload.write(b"new")
        upload.commit()
    driver.close()
    element.close()


def test_an_upload_by_gfal_keeps_no_name_in_the_temporary_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "spool"))
    (tmp_path / "spool").mkdir()
    driver = build(
        ProtocolSettings(Section="S", PluginName="GFAL2", Protocol="file", Path=str(tmp_path)), 10.0
    )
    with driver.put(f"{tmp_path}/a.bin", 5) as upload:
        upload.write(b"12345")
        assert upload.partial_path().read_bytes() == b"12345"
        assert list((tmp_path / "spool").iterdir()) == []
        upload.commit()
    assert (tmp_path / "a.bin").read_bytes() == b"12345"
    driver.close()
