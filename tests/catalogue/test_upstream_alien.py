"""JAliEn as an upstream: the real client (alienpy) against a double of the central services."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from servers.certificates import make_certificates
from servers.clients import python_of
from support.waiting import until
from vse.catalogue.lookup import Believed, Lookup
from vse.catalogue.upstream import build
from vse.config.upstreams import UpstreamSettings
from vse.errors import Denied, NoSuchEntry, UpstreamGarbage, UpstreamUnavailable
from vse.model import Lfn

PYTHON = python_of("alien")
pytestmark = pytest.mark.slow
BASE = "/alice/data/2012/LHC12b/000178209"


def entry(lfn, size):
    return {
        "lfn": lfn,
        "perm": "755",
        "owner": "alidaq",
        "gowner": "z2",
        "size": str(size),
        "ctime": "1333000000000",
        "guid": f"09f43427-e02e-11e3-bde3-{size:012x}",
        "md5": "",
    }


class Services:
    """The double, and what it knows."""

    def __init__(self, place):
        certificates = make_certificates(with_rsa=True)
        certificates.write(place)
        self.file = place / "catalogue.json"
        self.known = {"files": {}, "whereis": {}, "mood": ""}
        for number in range(450):
            lfn = f"{BASE}/ESDs/pass1/{number:03d}/AliESDs.root"
            self.known["files"][lfn] = entry(lfn, 1000 + number)
            self.known["whereis"][lfn] = [["ALICE::Torino::SE", f"root://far//09/{number}"]]
        odd = f"{BASE}/ESDs/pass1/000/root_archive.zip"
        self.known["files"][odd] = entry(odd, 7)
        self.write()
        port = place / "port"
        double = Path(__file__).parents[1] / "servers" / "alien.py"
        self.process = subprocess.Popen([PYTHON, str(double), str(self.file), str(place), str(port)])
        until(port.exists, process=self.process)
        self.url = f"wss://localhost:{port.read_text()}"
        self.environment = {
            "JALIEN_TOKEN_CERT": f"{place}/host.pem",
            "JALIEN_TOKEN_KEY": f"{place}/host.key",
            "X509_CERT_FILE": f"{place}/ca.pem",
            "X509_CERT_DIR": "",
            "HOME": str(place),
            "TMPDIR": str(place),
        }

    def write(self, mood=""):
        self.known["mood"] = mood
        new = self.file.with_suffix(".new")
        new.write_text(json.dumps(self.known))
        new.rename(self.file)


@pytest.fixture(scope="module")
def services(tmp_path_factory):
    services = Services(tmp_path_factory.mktemp("alien"))
    yield services
    services.process.kill()
    services.process.wait()


@pytest.fixture
def asked(services):
    services.write()
    upstream = build(settings(services))
    yield upstream
    upstream.close()


def settings(services, **more):
    given = {
        "python": PYTHON,
        "environment": services.environment,
        "url": services.url,
        "timeout_s": 10,
        "elements": {"ALICE::Torino::SE": "TORINO"},
    }
    return UpstreamSettings(name="alice", type="alien", **(given | more))


def names(files):
    return [file.entry.lfn for file in files]


def test_a_find_tells_files_with_their_copies(asked, services):
    found = list(asked.find(Lfn(BASE), "*.root"))
    assert names(found) == sorted(lfn for lfn in services.known["files"] if lfn.endswith(".root"))
    file = found[3]
    assert (file.entry.size_bytes, file.entry.owner, file.entry.group, file.entry.mode) == (
        1003,
        "alidaq",
        "z2",
        0o755,
    )
    assert str(file.entry.uuid) == "09f43427-e02e-11e3-bde3-0000000003eb"
    assert (file.entry.created_s, file.entry.adler32) == (1333000000.0, None)
    assert [(copy.se, copy.url) for copy in file.replicas] == [("TORINO", "root://far//09/3")]
    assert asked.resolve([file.entry.lfn]).ok[file.entry.lfn] == file, "both ways tell the same"


def test_only_the_last_part_counts_and_a_base_may_be_a_file(asked):
    archive = f"{BASE}/ESDs/pass1/000/root_archive.zip"
    assert names(asked.find(Lfn(BASE), "root_archive.zip")) == [archive]
    assert names(asked.find(Lfn(BASE), "r??t_*.zip")) == [archive]
    assert names(asked.find(Lfn(BASE), "archive.zip")) == []
    assert names(asked.find(Lfn(archive), "*.zip")) == [archive]
    assert names(asked.find(Lfn(archive), "*.root")) == []
    assert names(asked.find(Lfn("/alice/none"), "*")) == []


def test_names_are_resolved_in_bulk(asked, services):
    wanted = [*map(Lfn, services.known["files"])]
    answer = asked.resolve([*wanted, Lfn("/alice/none"), Lfn(BASE)])
    assert answer.ok.keys() == set(wanted)
    assert {name: type(error) for name, error in answer.failed.items()} == {
        "/alice/none": NoSuchEntry,
        BASE: NoSuchEntry,
    }


@pytest.mark.parametrize(
    ("mood", "kind", "found"),
    [
        ("garbage", UpstreamGarbage, "alienpy says: .*json"),
        ("half", UpstreamGarbage, "alienpy says: .*json"),
        ("denied", Denied, "not allowed"),
        ("refused", Denied, "alienpy says: it cannot connect, and ended with 129"),
        ("broken", UpstreamUnavailable, "alienpy says"),
        ("silent", UpstreamUnavailable, "silent for 3 s"),
    ],
)
def test_what_goes_wrong_is_told_and_the_old_answer_served(services, catalogue, clock, mood, kind, found):
    services.write()
    upstream = build(settings(services, timeout_s=3))
    with Lookup(catalogue, [upstream], clock, {"alice": Believed(1000, 100)}) as lookup:
        assert len(names(lookup.find(Lfn(BASE), "*.zip"))) == 1
        upstream.close()
        clock.now_s += 1001
        services.write(mood)
        answer, report = lookup.find_with_report(Lfn(BASE), "*.zip")
        assert len(names(answer)) == 1
        assert isinstance(report.failed["alice"], kind)
        assert re.search(found, str(report.failed["alice"]), re.IGNORECASE), report.failed["alice"]
        services.write()
        assert lookup.find_with_report(Lfn(BASE), "*.zip")[1].failed == {}


def test_nobody_there(services):
    with pytest.raises(UpstreamUnavailable, match="alienpy says"):
        build(settings(services, url="wss://localhost:9")).resolve([Lfn("/alice/a")])
