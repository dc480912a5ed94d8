"""DIRAC's FileCatalog as an upstream: a real service, asked through DIRAC's own client."""

from __future__ import annotations

import os
import signal

import pytest

from servers import dirac as servers
from vse.catalogue.lookup import Believed, Lookup
from vse.catalogue.upstream import build
from vse.config.upstreams import UpstreamSettings
from vse.errors import BadSettings, Denied, NoSuchEntry, UpstreamUnavailable
from vse.model import Lfn

pytestmark = pytest.mark.slow
GUID = "09F43427-E02E-11E3-BDE3-{:012X}"


def file_of(directory, number):
    return {
        "PFN": f"root://far//x/{directory}/{number}",
        "SE": "CERN-DISK",
        "Size": 100 + number,
        "GUID": GUID.format(1000 * directory + number),
        "Checksum": f"{number:08x}",
    }


FILES = {
    f"/testvo/data/{directory}/f{number}.root": file_of(directory, number)
    for directory in range(30)
    for number in range(10)
}


@pytest.fixture(scope="module")
def server():
    with servers.dirac_server() as server:
        server.add_files(FILES)
        server.add_files({"/testvo/data/3/notes.txt": file_of(99, 1)})
        server.add_replicas({"/testvo/data/3/f4.root": {"PFN": "root://near//4", "SE": "PIC-DISK"}})
        yield server


def settings(server, **more):
    given = {"python": server.python, "environment": server.environment, "url": server.url, "timeout_s": 120}
    return UpstreamSettings(name="grid", type="dirac", **(given | more))


@pytest.fixture
def asked(server):
    upstream = build(settings(server))
    yield upstream
    upstream.close()


def names(files):
    return [file.entry.lfn for file in files]


def test_a_find_tells_every_file_whole_and_in_order(asked):
    found = list(asked.find(Lfn("/testvo"), "*.root"))
    assert names(found) == sorted(FILES)
    by_name = {file.entry.lfn: file for file in found}
    file = by_name[Lfn("/testvo/data/3/f4.root")]
    assert (file.entry.size_bytes, file.entry.adler32) == (104, 4)
    assert str(file.entry.uuid) == GUID.format(3004).lower()
    assert (file.entry.owner, file.entry.group) == ("tester", "dirac_user")
    assert [(copy.se, copy.url, copy.origin) for copy in file.replicas] == [
        ("CERN-DISK", "root://far//x/3/4", "grid"),
        ("PIC-DISK", "root://near//4", "grid"),
    ]
    assert asked.resolve([file.entry.lfn]).ok[file.entry.lfn] == file, "both ways tell the same"


def test_a_find_below_a_pattern_of_a_file_and_of_nothing(asked):
    assert names(asked.find(Lfn("/testvo/data/3"), "*.txt")) == ["/testvo/data/3/notes.txt"]
    assert names(asked.find(Lfn("/testvo/data/3/notes.txt"), "*")) == ["/testvo/data/3/notes.txt"]
    assert names(asked.find(Lfn("/testvo/data/3/notes.txt"), "*.root")) == []
    assert names(asked.find(Lfn("/testvo/nothing"), "*")) == []


def test_names_are_resolved_in_bulk(asked):
    answer = asked.resolve([*map(Lfn, FILES), Lfn("/testvo/none"), Lfn("/testvo/data")])
    assert answer.ok.keys() == FILES.keys()
    assert {name: type(error) for name, error in answer.failed.items()} == {
        "/testvo/none": NoSuchEntry,
        "/testvo/data": NoSuchEntry,
    }


def test_a_frozen_service_is_not_waited_for(server, catalogue, clock):
    upstream = build(settings(server, timeout_s=3))
    with Lookup(catalogue, [upstream], clock, {"grid": Believed(1000, 100, backoff_s=5)}) as lookup:
        assert len(names(lookup.find(Lfn("/testvo/data/1"), "*"))) == 10
        clock.now_s += 1001
        server.stop()
        try:
            answer, report = lookup.find_with_report(Lfn("/testvo/data/1"), "*")
            assert len(names(answer)) == 10, "what it told before"
            assert "silent for 3 s" in str(report.failed["grid"])
            assert 2 < report.waited_s < 10
            assert lookup.find_with_report(Lfn("/testvo/data/1"), "*")[1].waited_s == 0
        finally:
            server.go_on()
        clock.now_s += 6
        assert lookup.find_with_report(Lfn("/testvo/data/1"), "*")[1].failed == {}


def test_a_helper_that_is_killed_is_replaced(asked):
    assert len(names(asked.find(Lfn("/testvo/data/1"), "*"))) == 10
    (process,) = asked.driver._idle
    os.kill(process._process.pid, signal.SIGKILL)
    with pytest.raises(UpstreamUnavailable, match="helper ended"):
        list(asked.find(Lfn("/testvo/data/1"), "*"))
    assert len(names(asked.find(Lfn("/testvo/data/1"), "*"))) == 10


def test_without_credentials_it_says_so(server):
    environment = {**server.environment, "X509_USER_PROXY": "/nonexistent"}
    upstream = build(settings(server, environment=environment))
    with pytest.raises(Denied, match=r"'grid': DIRAC says: No proxy found.*Check the credentials"):
        list(upstream.find(Lfn("/testvo"), "*"))


def test_nobody_there(server):
    upstream = build(settings(server, url="dips://localhost:9/DataManagement/FileCatalog"))
    with pytest.raises(UpstreamUnavailable, match=r"DIRAC says: .*refused"):
        upstream.resolve([Lfn("/testvo/a")])


def test_a_python_without_dirac_is_named(server):
    upstream = build(settings(server, python=""))
    with pytest.raises(
        BadSettings, match=r"DIRAC cannot be imported by .*No module named .*upstreams\.grid\.python"
    ):
        upstream.resolve([Lfn("/testvo/a")])
    with pytest.raises(BadSettings, match="/no/python cannot be run"):
        build(settings(server, python="/no/python")).resolve([Lfn("/a")])
