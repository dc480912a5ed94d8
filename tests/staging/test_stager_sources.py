"""Files read from several sources, gone on with after a kill, copied by storages, brought from tape."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from servers.certificates import make_certificates
from servers.xrootd import xrootd
from support.lying_files import lying_server
from support.staging_site import BASE, StagingSite, file_element, http_element, start_stager
from support.waiting import until
from vse.config.settings import DataManagement, ElementSettings
from vse.errors import BadRequest, ChecksumMismatch, OnTape, SourceUnavailable, StorageFault, VseError
from vse.model import Lfn, NewFile
from vse.staging.values import RequestState
from vse.storage.contract import Locality
from vse.storage.drivers.memory_store import MemoryFile, forget_stores, store_at
from vse.storage.element import Elements, ReadSource, StorageElement
from vse.transfer.lifecycle import State

MB = 1_000_000
GOOD = os.urandom(3 * MB)
LFN = Lfn(f"{BASE}/file.dat")
FIRST_WRONG = bytes([GOOD[0] ^ 1]) + GOOD[1:]
LAST_WRONG = GOOD[:-1] + bytes([GOOD[-1] ^ 1])


class Faulty(Elements):
    """Sources that die at an offset; counts the bytes that each one gave."""

    def __init__(self, real: Elements, dies_at: dict[str, int]) -> None:
        super().__init__(list(real))
        self.dies_at = dies_at
        self.given: Counter[str] = Counter()

    def open(self, source: ReadSource) -> Any:
        reader = super().open(source)
        whole = type(reader).stream

        def stream(offset: int = 0) -> Iterator[memoryview]:
            for piece in whole(reader, offset):
                rest = self.dies_at.get(source.se, sys.maxsize) - offset
                self.given[source.se] += max(0, min(len(piece), rest))
                offset += len(piece)
                if rest >= len(piece):
                    yield piece
                    continue
                if rest > 0:
                    yield piece[:rest]
                raise SourceUnavailable(f"read {source.url}", "the connection was closed")

        reader.stream = stream
        return reader


def copies_site(
    tmp_path: Path, copies: dict[str, bytes], dies_at: dict[str, int], **settings: Any
) -> StagingSite:
    """A site with one file, registered as `GOOD`, and the bytes that each element has of it."""
    elements = [file_element(se, tmp_path / se.lower(), WriteAccess=False) for se in copies]
    site = StagingSite(
        tmp_path, elements=[*elements, file_element("LOCAL", tmp_path / "local")], settings=settings
    )
    site.elements = Faulty(site.elements, dies_at)
    for se, data in copies.items():
        path = tmp_path / se.lower() / LFN.lstrip("/")
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
        site.add_replica(LFN, GOOD, se)
    return site


def kept(site: StagingSite) -> list[Path]:
    return list((site.root / "local" / ".vse-partial").glob("*.kept"))


def errors_of(site: StagingSite) -> list[VseError]:
    (transfer,) = site.queue.of_lfn(LFN)
    return [one.error for one in site.queue.attempts_of(transfer.id) if one.error]


# -- one file, several sources -----------------------------------------------------------------------


def test_the_next_source_goes_on_where_the_first_one_died(tmp_path: Path) -> None:
    site = copies_site(tmp_path, {"A": GOOD, "B": GOOD}, {"A": 2 * MB})
    request = site.stage()
    assert site.staging.get([request])[0].state is RequestState.DONE
    assert site.local(LFN).read_bytes() == GOOD
    assert site.elements.given == {"A": 2 * MB, "B": 1 * MB}
    (transfer,) = site.queue.of_lfn(LFN)
    assert (transfer.attempts, transfer.failures) == (1, 0)
    (attempt,) = site.queue.attempts_of(transfer.id)
    assert attempt.source is not None
    assert "/b/" in attempt.source
    from_a = f"file://{tmp_path}/a{LFN} gave bytes 0 to {2 * MB}, then failed: the connection was closed"
    assert from_a in str(attempt.way)
    assert kept(site) == []
    site.close()


def test_a_patchwork_that_is_wrong_is_read_once_more_from_each_source_alone(tmp_path: Path) -> None:
    site = copies_site(tmp_path, {"A": GOOD, "B": LAST_WRONG, "C": GOOD}, {"A": 2 * MB})
    request = site.stage()
    assert site.staging.get([request])[0].state is RequestState.DONE
    assert site.local(LFN).read_bytes() == GOOD
    assert site.elements.given == {"A": 4 * MB, "B": 4 * MB, "C": 3 * MB}
    (transfer,) = site.queue.of_lfn(LFN)
    assert transfer.source is not None
    assert "/c/" in transfer.source
    site.close()


def test_where_no_source_is_good_each_is_told_of_and_nothing_remains(tmp_path: Path) -> None:
    site = copies_site(tmp_path, {"A": LAST_WRONG, "B": FIRST_WRONG}, {}, max_failures=1)
    site.stage()
    (error,) = errors_of(site)
    assert isinstance(error, ChecksumMismatch)
    assert "/a/" in error.found
    assert "/b/" in error.found
    assert not site.local(LFN).exists()
    assert kept(site) == []
    site.close()


def test_without_a_checksum_the_next_source_begins_at_the_start(tmp_path: Path) -> None:
    site = copies_site(tmp_path, {}, {"A": 2 * MB})
    elements = [file_element(se, tmp_path / se.lower()) for se in "AB"]
    site.elements = Faulty(Elements([*elements, file_element("LOCAL", tmp_path / "local")]), {"A": 2 * MB})
    site.staging._elements = site.staging._gatherer._elements = site.elements
    for se in "AB":
        path = tmp_path / se.lower() / LFN.lstrip("/")
        path.parent.mkdir(parents=True)
        path.write_bytes(GOOD)
        assert not site.catalogue.register([NewFile(LFN, len(GOOD), None, se)]).failed
    site.stage()
    assert site.local(LFN).read_bytes() == GOOD
    assert site.elements.given == {"A": 2 * MB, "B": 3 * MB}
    site.close()


# -- going on after a break --------------------------------------------------------------------------


def test_the_next_attempt_goes_on_at_the_byte_where_the_last_one_broke_off(tmp_path: Path) -> None:
    site = copies_site(tmp_path, {"A": GOOD}, {"A": 2 * MB}, max_failures=2)
    request = site.ask()
    failed = threading.Event()

    class Heal(list):  # type: ignore[type-arg]
        def append(self, news: object) -> None:
            super().append(news)
            if type(news).__name__ == "FileFailed":
                assert [path.stat().st_size for path in kept(site)] == [2 * MB]
                site.elements.dies_at.clear()
                failed.set()

    site.news = Heal()
    site.work([request])
    assert failed.is_set()
    assert site.local(LFN).read_bytes() == GOOD
    assert site.elements.given == {"A": 3 * MB}
    assert kept(site) == []
    (transfer,) = site.queue.of_lfn(LFN)
    assert [one.bytes_done for one in site.queue.attempts_of(transfer.id)] == [2 * MB, 1 * MB]
    site.close()


def test_half_a_file_that_was_damaged_on_disk_is_read_anew(tmp_path: Path) -> None:
    site = copies_site(tmp_path, {"A": GOOD}, {"A": 2 * MB}, max_failures=2)
    request = site.ask()

    class Damage(list):  # type: ignore[type-arg]
        def append(self, news: object) -> None:
            super().append(news)
            for path in kept(site) if type(news).__name__ == "FileFailed" else ():
                path.write_bytes(bytes(2 * MB))
                site.elements.dies_at.clear()

    site.news = Damage()
    site.work([request])
    assert site.local(LFN).read_bytes() == GOOD
    assert site.elements.given == {"A": 2 * MB + 1 * MB + 3 * MB}
    site.close()


def test_half_a_file_goes_when_its_transfer_is_given_up(tmp_path: Path) -> None:
    site = copies_site(tmp_path, {"A": GOOD}, {"A": 2 * MB}, max_failures=2)
    site.stage()
    assert len(errors_of(site)) == 2
    assert kept(site) == []
    site.close()


def test_half_files_of_ended_or_other_transfers_are_dropped_when_a_stager_starts(tmp_path: Path) -> None:
    site = copies_site(tmp_path, {"A": GOOD}, {})
    site.ask()
    (transfer,) = site.queue.of_lfn(LFN)
    directory = tmp_path / "local" / ".vse-partial"
    directory.mkdir(parents=True)
    adler32 = zlib.adler32(GOOD)
    stale = [f"{transfer.id}-{len(GOOD)}-{adler32 ^ 1:08x}", f"99-{len(GOOD)}-{adler32:08x}", "what-is-this"]
    for name in stale:
        (directory / f"{name}.kept").write_bytes(b"?" * 2 * MB)
    wanted = directory / f"{transfer.id}-{len(GOOD)}-{adler32:08x}.kept"
    wanted.write_bytes(GOOD[: 2 * MB])
    site.work([1])
    assert site.elements.given == {"A": 1 * MB}
    assert kept(site) == []
    assert site.local(LFN).read_bytes() == GOOD
    site.close()


@pytest.mark.slow
def test_kill_9_in_the_middle_and_the_next_stager_reads_only_the_rest(tmp_path: Path) -> None:
    lfn = f"{BASE}/half.dat"
    with lying_server({lfn: GOOD}, {lfn: "stalls"}) as server:
        elements = [http_element("WEB", server.port), file_element("LOCAL", tmp_path / "local")]
        site = StagingSite(tmp_path, elements=elements)
        site.add({"half.dat": GOOD}, "WEB", write=False)
        child = start_stager(tmp_path, {"web_port": server.port}, stdout=subprocess.PIPE)
        until(lambda: sum(path.stat().st_size for path in kept(site)) >= MB, process=child)
        child.kill()
        child.wait()
        assert child.stdout is not None
        child.stdout.close()
        (half,) = (path.stat().st_size for path in kept(site))
        server.lies.clear()
        server.let_go.set()
        before = server.sent_bytes[lfn]
        site.stage()
        assert site.local(lfn).read_bytes() == GOOD
        assert server.sent_bytes[lfn] - before == len(GOOD) - half
        assert kept(site) == []
        site.close()


@pytest.mark.slow
def test_half_by_root_and_half_by_http_is_one_file(tmp_path: Path) -> None:
    """A real XRootD server that breaks off in the middle, and its HTTP door that goes on there."""
    with xrootd(make_certificates()) as server:
        path = server.data / LFN.lstrip("/")
        path.parent.mkdir(parents=True)
        path.write_bytes(GOOD)
        common = {"Host": "127.0.0.1", "Path": "/data"}
        root = {"PluginName": "XROOT", "Protocol": "root", "Port": server.port, **common}
        web = {"PluginName": "HTTP", "Protocol": "http", "Port": server.http_port, **common}
        elements = [
            StorageElement(
                ElementSettings.model_validate(
                    {"Name": name, "AccessProtocols": section["Protocol"], name: section}
                ),
                DataManagement(),
            )
            for name, section in (("AROOT", root), ("BWEB", web))
        ]
        site = StagingSite(tmp_path, elements=[*elements, file_element("LOCAL", tmp_path / "local")])
        site.elements = Faulty(site.elements, {"AROOT": 2 * MB})
        for se in ("AROOT", "BWEB"):
            site.add_replica(LFN, GOOD, se)
        request = site.stage()
        assert site.staging.get([request])[0].state is RequestState.DONE, errors_of(site)
        assert site.local(LFN).read_bytes() == GOOD
        assert site.elements.given == {"AROOT": 2 * MB, "BWEB": 1 * MB}
        site.close()


# -- caps --------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_cap_slows_a_file_down_and_is_no_lack_of_progress(tmp_path: Path) -> None:
    site = copies_site(
        tmp_path, {"A": GOOD}, {}, source_rates={"A": "4MB/s"}, no_progress_s=0.2, max_failures=1
    )
    began_s = time.monotonic()
    site.stage()
    assert time.monotonic() - began_s > 0.4
    assert site.local(LFN).read_bytes() == GOOD
    site.close()


# -- storages that copy, and tapes -------------------------------------------------------------------


@pytest.fixture
def memory() -> Iterator[None]:
    forget_stores()
    yield
    forget_stores()


def memory_element(name: str, **options: Any) -> StorageElement:
    section = {"Protocol": "mem", "PluginName": "Memory", "Host": name.lower(), "Path": "/"}
    known = {"AccessProtocols": "mem", "WriteProtocols": "mem", "Mem": section}
    return StorageElement(
        ElementSettings.model_validate({"Name": name, **known, **options}), DataManagement()
    )


def remote_site(tmp_path: Path, *elements: StorageElement, **settings: Any) -> StagingSite:
    site = StagingSite(tmp_path, elements=[*elements, memory_element("LOCAL")], settings=settings)
    preferences = DataManagement.model_validate({"ThirdPartyProtocols": "mem"})
    site.elements = Elements(list(site.elements), preferences)
    site.staging._elements = site.staging._gatherer._elements = site.elements
    for element in elements:
        store_at(element.name.lower()).add(LFN, MemoryFile(GOOD, 0.0), "")
        site.add_replica(LFN, GOOD, element.name)
    return site


def ways(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that will hold how each file was moved."""
    from vse.transfer.mover import Mover

    seen: list[str] = []
    real = Mover.move

    def move(self: Mover, *arguments: Any) -> Any:
        moved = real(self, *arguments)
        seen.append(moved.way if moved else "")
        return moved

    monkeypatch.setattr(Mover, "move", move)
    return seen


def test_storages_that_can_make_the_copy_do(
    tmp_path: Path, memory: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = ways(monkeypatch)
    site = remote_site(tmp_path, memory_element("A"))
    site.stage()
    assert store_at("local").files[LFN].data == GOOD
    assert seen == ["third-party pull by mem"]
    assert site.places(LFN) == ["A", "LOCAL"]
    site.close()


@pytest.mark.parametrize("refusal", [StorageFault, BadRequest])
def test_a_copy_that_the_storages_refuse_goes_through_here(
    tmp_path: Path, memory: None, monkeypatch: pytest.MonkeyPatch, refusal: type[VseError]
) -> None:
    seen = ways(monkeypatch)
    site = remote_site(tmp_path, memory_element("A"))

    def refuse(operation: str, path: str) -> None:
        if operation == "pull":
            raise refusal(f"pull {path}", "no third party here")

    store_at("local").fault = refuse
    site.stage()
    assert store_at("local").files[LFN].data == GOOD
    assert "streamed" in seen[0]
    assert "no third party here" in seen[0]
    site.close()


def test_a_file_on_tape_is_asked_for_holds_no_slot_and_comes(tmp_path: Path, memory: None) -> None:
    now_s = 1000.0
    site = remote_site(tmp_path, memory_element("TAPE", SEType="T1D0"), slots=1)
    site.queue._clock = site.clock = clock = lambda: now_s
    store_at("tape").files[LFN].locality = Locality.TAPE
    store_at("tape").tape_polls = 3
    request = site.ask()
    stager = site.stager()
    stager._clock = stager._recorder._clock = stager._tapes._clock = clock
    worker = threading.Thread(target=stager.run, args=(threading.Event(), [request]))
    worker.start()
    seen: list[str] = []

    def waits() -> bool:
        (transfer,) = site.queue.of_lfn(LFN)
        return transfer.state is State.WAITING

    while worker.is_alive():
        until(lambda: waits() or not worker.is_alive())
        (transfer,) = site.queue.of_lfn(LFN)
        if transfer.state is State.WAITING:
            assert isinstance(transfer.error, OnTape)
            assert (transfer.failures, transfer.lease_owner) == (0, None)
            seen.append(str(transfer.error))
            now_s = transfer.not_before_s
            stager.wake()
        worker.join(0.05)
    assert len(seen) >= 1
    assert "it is on tape" in seen[0]
    assert store_at("local").files[LFN].data == GOOD
    assert site.staging.get([request])[0].state is RequestState.DONE
    site.close()


def test_a_copy_on_disk_is_read_before_one_on_tape(tmp_path: Path, memory: None) -> None:
    site = remote_site(tmp_path, memory_element("ATAPE", SEType="T1D0"), memory_element("DISK"))
    store_at("atape").files[LFN].locality = Locality.TAPE
    site.stage()
    (transfer,) = site.queue.of_lfn(LFN)
    assert transfer.source == f"mem://disk{LFN}"
    assert store_at("atape").files[LFN].locality is Locality.TAPE
    site.close()
