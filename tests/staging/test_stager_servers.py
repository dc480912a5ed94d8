"""The stager with real servers at both ends: copies that the storages make, and files from tape."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from servers.certificates import Certificates, make_certificates
from servers.tape import tape
from servers.xrootd import XrootdServer, xrootd
from support.staging_site import BASE, StagingSite, file_element
from vse.config.settings import DataManagement, ElementSettings
from vse.model import Lfn, NewFile
from vse.staging.values import RequestState
from vse.storage.element import Elements, ReadSource, StorageElement
from vse.transfer.lifecycle import Attempt, State

pytestmark = pytest.mark.slow

DATA = os.urandom(5_000_000)
LFN = Lfn(f"{BASE}/file.dat")
AT_SERVER = f"/data{LFN}"


@pytest.fixture(scope="module")
def certificates() -> Certificates:
    return make_certificates()


@pytest.fixture(scope="module")
def source(certificates: Certificates) -> Iterator[XrootdServer]:
    with xrootd(certificates) as server:
        path = server.data.parent / AT_SERVER[1:]
        path.parent.mkdir(parents=True)
        path.write_bytes(DATA)
        yield server


@pytest.fixture(autouse=True)
def trust(certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ca.pem").write_bytes(certificates.ca)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))


class NotThroughHere(Elements):
    """No byte of a source may come to this process."""

    def open(self, source: ReadSource) -> Any:
        raise AssertionError(f"{source.url} was opened")


def element(name: str, protocol: str, server: XrootdServer, **options: Any) -> StorageElement:
    # XRootD's servers do not find each other as localhost for a copy by root; certificates want the name.
    host, port = ("127.0.0.1", server.port) if protocol == "root" else ("localhost", server.http_port)
    section = {"Protocol": protocol, "Host": host, "Port": port, "Path": "/data"}
    section["PluginName"] = "XROOT" if protocol == "root" else "HTTP"
    known = {"Name": name, "AccessProtocols": protocol, "WriteProtocols": protocol, "Door": section}
    return StorageElement(ElementSettings.model_validate({**known, **options}), DataManagement())


def site_of(tmp_path: Path, *elements: StorageElement, **settings: Any) -> StagingSite:
    """A site whose catalogue has one file, at the first of the elements."""
    site = StagingSite(tmp_path, elements=list(elements), settings=settings)
    new = NewFile(LFN, len(DATA), zlib.adler32(DATA), elements[0].name)
    assert not site.catalogue.register([new]).failed
    return site


def attempts(site: StagingSite) -> tuple[Attempt, ...]:
    (queued,) = site.explainer.explain(LFN).transfers
    return queued.attempts


@pytest.mark.parametrize("protocol", ["root", "davs"])
def test_two_servers_make_the_copy_themselves(
    tmp_path: Path, certificates: Certificates, source: XrootdServer, protocol: str
) -> None:
    with xrootd(certificates) as target:
        site = site_of(tmp_path, element("FAR", protocol, source), element("LOCAL", protocol, target))
        preferences = DataManagement.model_validate({"ThirdPartyProtocols": protocol})
        site.elements = NotThroughHere(list(site.elements), preferences)
        request = site.stage()
        assert site.staging.get([request])[0].state is RequestState.DONE, attempts(site)
        assert (target.data.parent / AT_SERVER[1:]).read_bytes() == DATA
        (attempt,) = attempts(site)
        assert (attempt.error, attempt.way) == (None, f"third-party pull by {protocol}")
        assert attempt.bytes_done == len(DATA)
        assert attempt.source is not None
        assert str(source.port if protocol == "root" else source.http_port) in attempt.source
        assert site.places(LFN) == ["FAR", "LOCAL"]
        left = [path for path in target.data.rglob("*") if path.is_file()]
        assert [path.name for path in left] == [LFN.name]
        site.close()


@pytest.mark.parametrize("protocol", ["root", "davs"])
def test_a_copy_at_the_source_that_is_damaged_is_not_taken(
    tmp_path: Path, certificates: Certificates, source: XrootdServer, protocol: str
) -> None:
    """The servers copy what there is; the checksum of the catalogue is not that of it."""
    with xrootd(certificates) as target:
        elements = element("FAR", protocol, source), element("LOCAL", protocol, target)
        site = StagingSite(tmp_path, elements=list(elements), settings={"max_failures": 1})
        wrong = NewFile(LFN, len(DATA), zlib.adler32(DATA) ^ 1, "FAR")
        assert not site.catalogue.register([wrong]).failed
        preferences = DataManagement.model_validate({"ThirdPartyProtocols": protocol})
        site.elements = Elements(list(site.elements), preferences)
        request = site.stage()
        assert site.staging.get([request])[0].state is RequestState.FAILED
        (attempt,) = attempts(site)
        assert attempt.error is not None
        assert attempt.error.code == "checksum-mismatch"
        assert site.places(LFN) == ["FAR"]
        assert [path for path in target.data.rglob("*") if path.is_file()] == []
        site.close()


def test_a_file_is_brought_from_a_real_tape_and_that_is_told(
    tmp_path: Path, certificates: Certificates
) -> None:
    with tape(certificates) as server:
        server.write(AT_SERVER, DATA)
        tapes = element("TAPE", "root", server.server, SEType="T1D0")
        site = site_of(tmp_path, tapes, file_element("LOCAL", tmp_path / "local"), slots=1)
        assert not server.on_disk(AT_SERVER)
        request = site.stage()
        assert site.staging.get([request])[0].state is RequestState.DONE, attempts(site)
        assert site.local(LFN).read_bytes() == DATA
        (queued,) = site.explainer.explain(LFN).transfers
        assert (queued.transfer.state, queued.transfer.failures) == (State.DONE, 0)
        (attempt,) = queued.attempts
        assert attempt.error is None
        assert attempt.way == "streamed through this machine; brought from tape before"
        site.close()
