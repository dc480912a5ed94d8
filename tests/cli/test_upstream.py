"""A site behind a real Rucio: found, staged, and the new copies told, by the command line."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from servers.rucio import ACCOUNT, PASSWORD, USERNAME, RucioServer, rucio
from support.command_line import Command
from support.databases import ensure_sqlite

pytestmark = pytest.mark.slow

COUNT = 12
SETTINGS = """
[StorageElements.FAR-DISK]
WriteAccess = "Banned"
RemoveAccess = "Banned"
[StorageElements.FAR-DISK.File]
Protocol = "file"
Path = "{far}"

[StorageElements.HERE.File]
Protocol = "file"
Path = "{here}"

[StorageElements.HERE.Door]
PluginName = "GFAL2_XROOT"
Protocol = "root"
Host = "here.example.org"
Port = 1094
Path = "/vse"

[DataManagement]
RegistrationProtocols = ["root"]

[stager]
destination = "HERE"
verify = "checksum"

[upstreams.far]
type = "rucio"
url = "{url}"
account = "{account}"
username = "{username}"
password = "{password}"
elements = {{FAR_RSE = "FAR-DISK", HERE_RSE = "HERE"}}
map = [{{upstream = "{{scope}}:{{rest...}}", lfn = "/rucio/{{scope}}/{{rest...}}"}}]
register_replicas = true
timeout_s = 20
"""


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RucioServer, Path]]:
    """A Rucio that knows `COUNT` files below a directory, and an RSE for copies here."""
    place = tmp_path_factory.mktemp("far")
    with rucio() as server:
        server.add_element("FAR_RSE", f"file://localhost:0{place}")
        server.add_element("HERE_RSE", "root://here.example.org:1094//vse")
        server.add_scope("lhc")
        files = []
        for number in range(COUNT):
            data = b"%d\n" % number * 1000
            path = place / f"rucio/lhc/run/f{number}.dat"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            files.append(
                {
                    "scope": "lhc",
                    "name": f"run/f{number}.dat",
                    "bytes": len(data),
                    "adler32": f"{zlib.adler32(data):08x}",
                    "pfn": f"file://localhost:0{path}",
                }
            )
        server.add_replicas("FAR_RSE", files)
        yield server, place


@pytest.fixture
def vse(far: tuple[RucioServer, Path], tmp_path: Path) -> Command:
    server, place = far
    values = {"far": place, "here": tmp_path / "storage", "url": server.url}
    login = {"account": ACCOUNT, "username": USERNAME, "password": PASSWORD}
    (tmp_path / "storage").mkdir()
    ensure_sqlite(tmp_path / "var/vse.db")
    (tmp_path / "vse.toml").write_text(SETTINGS.format(**values, **login))
    return Command(tmp_path)


def rses(server: RucioServer, number: int) -> set[str]:
    (row,) = server.list_replicas([{"scope": "lhc", "name": f"run/f{number}.dat"}])
    return set(row["rses"])


def test_found_staged_and_told(vse: Command, far: tuple[RucioServer, Path]) -> None:
    server, place = far
    examined = vse("doctor")
    assert "upstream far" in examined.out and "answers in" in examined.out
    assert len(vse("find", "/rucio/lhc/run/*.dat").lines) == COUNT
    done = vse("stage", "Find;BasePath=/rucio/lhc;FileName=f?.dat")
    assert done.code == 0, done.err
    assert (vse.directory / "vse/rucio/lhc/run/f3.dat").read_bytes() == (
        place / "rucio/lhc/run/f3.dat"
    ).read_bytes()
    told = [json.loads(line) for line in vse("upstream", "registrations", "--all", "--json").lines]
    assert {(one["upstream"], one["se"], one["state"]) for one in told} == {("far", "HERE", "done")}
    assert len(told) == 10
    assert rses(server, 3) == {"FAR_RSE", "HERE_RSE"}
    assert rses(server, 11) == {"FAR_RSE"}
    assert vse("upstream", "registrations").lines == []
    (listed,) = [json.loads(line) for line in vse("upstream", "list", "--json").lines]
    assert listed["type"] == "rucio" and listed["registrations"] == {"done": 10}


def test_what_could_not_be_told_is_shown_and_told_later(vse: Command, far: tuple[RucioServer, Path]) -> None:
    server, _ = far
    assert vse("find", "/rucio/lhc/run/*.dat").code == 0
    away = ("--set", "upstreams.far.url=http://127.0.0.1:9")
    assert vse(*away, "stage", "Find;BasePath=/rucio/lhc;FileName=f11.dat").code == 0
    (line,) = vse("upstream", "registrations", "--json").lines
    waiting = json.loads(line)
    assert (waiting["state"], waiting["lfn"]) == ("queued", "/rucio/lhc/run/f11.dat")
    assert "cannot be reached" in waiting["error"]["found"]
    assert "cannot be reached" in vse("upstream", "registrations").out
    still = vse(*away, "upstream", "retry")
    assert still.code == 9 and "0 of 1" in still.out and "vse upstream registrations" in still.err
    done = vse("upstream", "retry", "far")
    assert (done.code, done.out.strip()) == (0, "1 of 1 copy told")
    assert rses(server, 11) == {"FAR_RSE", "HERE_RSE"}


def test_an_upstream_that_is_not_there_is_named(vse: Command) -> None:
    wrong = vse("upstream", "retry", "nowhere")
    assert wrong.code == 2 and "far" in wrong.err
    assert "no placeholder" in vse("--set", 'upstreams.far.map=[{upstream="{a", lfn="/{a"}]', "ls", "/").err
