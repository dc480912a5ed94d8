"""What failed verification is kept with the evidence, shown, released and deleted."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from servers.disk import small_disk
from support.command_line import InProcess
from support.two_elements import KeptReaders, TwoElements, readers
from vse.app.pool import Upkeep
from vse.app.site import Site
from vse.app.stage import stage_dataset
from vse.errors import (
    AlreadyExists,
    BadRequest,
    ChecksumMismatch,
    NoSuchFile,
    QuotaExceeded,
    Unreadable,
)
from vse.model import DatasetQuery, Lfn, NewFile
from vse.staging.accounts import Account, used_by
from vse.staging.quarantine import Quarantine
from vse.staging.quotas import Quota

BASE = Lfn("/lhc/data")
DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
__all__ = ["readers"]


class Place(TwoElements):
    """A site with broken files at a remote element."""

    def __init__(self, root: Path, readers: KeptReaders) -> None:
        super().__init__(root, readers)
        self.vse = InProcess(root)
        self.now_s = 1e9

    def open(self, stager: str = "", quarantine: str = "") -> Site:
        return self.open_with(f"[quarantine]\n{quarantine}", stager, lambda: self.now_s)

    def add(self, name: str, data: bytes, told: bytes | None = None) -> Lfn:
        """Put a file there; the catalogue is told of ``told`` where that is another."""
        lfn, told = BASE.child(name), data if told is None else told
        path = self.root / "remote" / lfn[1:]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        new = NewFile(lfn, len(told), zlib.adler32(told), "REMOTE")
        assert not self.site.catalogue.register([new]).failed
        return lfn

    def stage(self, glob: str = "*") -> None:
        self.now_s += 1
        query = DatasetQuery.parse(f"Find;BasePath={BASE};FileName={glob}")
        stage_dataset(self.site, query).run(lambda _: None)

    @property
    def quarantine(self) -> Quarantine:
        return self.site.quarantine

    def kept(self) -> dict[str, bytes]:
        files = (self.root / "local" / ".vse-partial" / "quarantine").glob("*")
        return {path.name: path.read_bytes() for path in files}


@pytest.fixture
def place(tmp_path: Path, readers: KeptReaders) -> Iterator[Place]:
    one = Place(tmp_path, readers)
    yield one
    one.site.close()


BROKEN = b"<html>404</html>" * 100


def test_a_file_that_cannot_be_read_is_kept_with_all_that_is_known(place: Place) -> None:
    place.open()
    lfn = place.add("a.root", BROKEN)
    place.stage()
    (one,) = place.quarantine.of(lfn)
    assert isinstance(one.error, Unreadable)
    assert "does not begin like a ROOT file" in one.error.found
    assert (one.element, one.attempt, one.when_s) == ("LOCAL", 1, place.now_s)
    assert one.source == f"file://{place.root}/remote{lfn}"
    assert (one.size_bytes, one.adler32) == (len(BROKEN), zlib.adler32(BROKEN))
    assert one.path is not None
    assert one.path.read_bytes() == BROKEN
    assert not place.local(lfn).exists()
    assert [stored.path for stored in place.site.elements.get("LOCAL").list(Lfn("/"))] == []


def test_a_file_with_a_wrong_checksum_is_kept_as_it_came(place: Place) -> None:
    place.open('verify = "checksum"')
    lfn = place.add("a.txt", b"what came", told=b"what is!!")
    place.stage()
    (one,) = place.quarantine.of(lfn)
    assert isinstance(one.error, ChecksumMismatch)
    assert list(place.kept().values()) == [b"what came"]
    with pytest.raises(ChecksumMismatch, match="Another file has the name"):
        place.quarantine.release(one)
    assert list(place.kept().values()) == [b"what came"]


@pytest.mark.slow
def test_the_command_lists_shows_releases_and_deletes(place: Place) -> None:
    site = place.open()
    a, b = place.add("a.root", BROKEN), place.add("b.root", BROKEN + b"b")
    place.stage()
    site.close()
    listed = [json.loads(line) for line in place.vse("quarantine", "list", "--json").lines]
    numbers = {one["lfn"]: str(one["id"]) for one in listed}
    assert set(numbers) == {a, b}
    shown = place.vse("quarantine", "show", numbers[a]).out
    assert "does not begin like a ROOT file" in shown
    assert f"file://{place.root}/remote{a}" in shown
    assert "in quarantine" in place.vse("why", a).out
    refused = place.vse("quarantine", "release", numbers[a])  # nobody says yes
    assert refused.code != 0
    assert not place.local(a).exists()
    assert place.vse("quarantine", "release", numbers[a], "--yes").code == 0
    assert place.local(a).read_bytes() == BROKEN
    assert (place.root / "vse" / a[1:]).read_bytes() == BROKEN
    assert place.vse("quarantine", "delete", numbers[b], "--yes").code == 0
    assert place.kept() == {}
    assert place.vse("quarantine", "list").out == ""
    site = place.open()
    assert [one.se for one in site.catalogue.resolve([a]).one(a).replicas] == ["LOCAL", "REMOTE"]
    gone = place.vse("quarantine", "show", numbers[b])
    assert (gone.code, "there is none" in gone.err) == (2, True)


def test_a_release_that_was_killed_before_it_was_recorded_is_done_again(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = place.open()
    lfn = place.add("a.root", BROKEN)
    place.stage()
    (one,) = place.quarantine.of(lfn)

    def killed(new: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(site.catalogue, "add_replicas", killed)
        place.quarantine.release(one)
    assert place.local(lfn).read_bytes() == BROKEN
    place.quarantine.release(one)
    assert [copy.se for copy in site.catalogue.resolve([lfn]).one(lfn).replicas] == ["LOCAL", "REMOTE"]
    assert place.kept() == {}
    assert place.quarantine.of(lfn) == []


def test_a_release_over_another_file_is_refused(place: Place) -> None:
    place.open()
    lfn = place.add("a.root", BROKEN)
    place.stage()
    (one,) = place.quarantine.of(lfn)
    place.local(lfn).parent.mkdir(parents=True, exist_ok=True)
    place.local(lfn).write_bytes(b"x" * len(BROKEN))
    with pytest.raises(AlreadyExists):
        place.quarantine.release(one)
    assert place.local(lfn).read_bytes() == b"x" * len(BROKEN)
    assert [kept.id for kept in place.quarantine.of(lfn)] == [one.id]


def test_what_is_released_counts_for_its_owner_and_passes_no_limit(place: Place) -> None:
    site = place.open()
    lfn = place.add("a.root", BROKEN)
    place.stage()
    (one,) = place.quarantine.of(lfn)
    owner = site.catalogue.stat([lfn]).one(lfn).owner
    account = Account("user", owner)
    site.quotas.set(Quota("LOCAL", "user", owner, len(BROKEN) - 1))
    with pytest.raises(QuotaExceeded):
        place.quarantine.release(one)
    assert not place.local(lfn).exists()
    site.quotas.set(Quota("LOCAL", "user", owner, len(BROKEN)))
    place.quarantine.release(one)
    with site.database.read() as connection:
        assert used_by(connection, "LOCAL", account) == (1, len(BROKEN), 0)


def test_what_is_too_much_goes_the_oldest_first(place: Place) -> None:
    place.open(quarantine=f"max_bytes = {2 * len(BROKEN)}")
    names = []
    for name in ("a.root", "b.root", "c.root"):
        names.append(place.add(name, BROKEN))
        place.stage(name)
    assert [one.lfn for one in place.quarantine.newest()] == [names[2], names[1]]
    assert sum(map(len, place.kept().values())) == 2 * len(BROKEN)


def test_a_file_larger_than_all_that_may_be_kept_is_told_of_without_its_bytes(place: Place) -> None:
    place.open(quarantine=f"max_bytes = {len(BROKEN) - 1}")
    lfn = place.add("a.root", BROKEN)
    place.stage()
    (one,) = place.quarantine.of(lfn)
    assert (one.path, one.size_bytes) == (None, len(BROKEN))
    assert place.kept() == {}
    with pytest.raises(NoSuchFile, match="its bytes were not kept"):
        place.quarantine.release(one)


def test_what_is_too_old_goes(place: Place) -> None:
    place.open(quarantine="max_age_s = 100")
    first = place.add("a.root", BROKEN)
    place.stage()
    place.now_s += 101
    place.quarantine.trim("LOCAL")
    assert place.quarantine.of(first) == []
    assert place.kept() == {}


def test_what_is_too_old_goes_by_itself(place: Place) -> None:
    place.open(quarantine="max_age_s = 100")
    first = place.add("a.root", BROKEN)
    place.stage()
    place.now_s += 101
    upkeep = Upkeep(place.site, lambda _: None, lambda: place.now_s)
    upkeep.round()
    assert (place.quarantine.of(first), place.kept()) == ([], {})


def test_evidence_does_not_crowd_out_files(place: Place) -> None:
    """Found by an hour of soaking: 622 damaged files filled the disk, and nothing came any more."""
    disk_bytes = 2_000_000
    with small_disk(place.root / "local", disk_bytes):
        place.open()
        for number in range(30):
            place.add(f"bad{number:02}.root", BROKEN * 60)  # together more than the disk holds
        place.stage("bad*")
        assert 0 < sum(map(len, place.kept().values())) <= disk_bytes / 20
        assert len(place.quarantine.newest()) == len(place.kept())
        good = place.add("good.dat", bytes(disk_bytes * 9 // 10))
        place.stage("good*")
        assert (place.root / "local" / good[1:]).stat().st_size == disk_bytes * 9 // 10
        place.site.close()


def test_evidence_that_is_trimmed_before_its_bytes_are_there_leaves_none(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its row goes first: another slot of the stager may find that too old, or too much, at once."""
    place.open(quarantine="max_age_s = 100")
    lfn, link = place.add("a.root", BROKEN), os.link

    def late(source: Path, target: Path) -> None:
        if target.parent.name == "quarantine":
            place.now_s += 101
            assert [one.lfn for one in place.quarantine.trim("LOCAL")] == [lfn]
        link(source, target)

    monkeypatch.setattr("vse.staging.quarantine.os.link", late)
    place.stage()
    assert (place.quarantine.of(lfn), place.kept()) == ([], {})


def test_evidence_whose_bytes_come_while_it_is_trimmed_leaves_none(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.open(quarantine="max_age_s = 100")
    lfn, unlink = place.add("a.root", BROKEN), Path.unlink
    place.stage()
    (held,) = place.kept()
    (place.root / "local" / ".vse-partial" / "quarantine" / held).rename(place.root / "not yet")

    def unlink_and_come(path: Path, missing_ok: bool = False) -> None:
        unlink(path, missing_ok)
        if path.name == held and (place.root / "not yet").exists():
            (place.root / "not yet").rename(path)

    monkeypatch.setattr(Path, "unlink", unlink_and_come)
    place.now_s += 101
    place.quarantine.trim("LOCAL")
    assert not (place.root / "not yet").exists(), "nothing came meanwhile"
    assert (place.quarantine.of(lfn), place.kept()) == ([], {})


def test_it_may_be_off(place: Place) -> None:
    place.open(quarantine="keep = false")
    lfn = place.add("a.root", BROKEN)
    place.stage()
    assert place.quarantine.of(lfn) == []
    assert place.kept() == {}


def test_evidence_that_cannot_be_kept_harms_nothing(place: Place) -> None:
    place.open()
    partials = place.root / "local" / ".vse-partial"
    partials.mkdir()
    (partials / "quarantine").write_text("in the way")
    lfn = place.add("a.root", BROKEN)
    good = place.add("b.txt", b"good")
    place.stage()
    assert place.local(good).read_bytes() == b"good"
    assert not place.local(lfn).exists()
    (attempt,) = place.site.queue.attempts_of(place.site.queue.of_lfn(lfn)[0].id)
    assert isinstance(attempt.error, Unreadable)


def test_a_number_that_there_is_not_is_named(place: Place) -> None:
    with pytest.raises(BadRequest, match="number 7 in quarantine"):
        place.open().quarantine.delete([7])


@pytest.mark.slow
def test_an_anchor_asks_for_a_member_that_has_to_be_there(place: Place) -> None:
    """``FileName=root_archive.zip#AliAOD.root``, down to the reader."""
    import io
    import zipfile

    site = place.open()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr("AliAOD.root", (DATA / "uproot-Zmumu.root").read_bytes())
    lfn = place.add("root_archive.zip", packed.getvalue())
    for member, there in (("AliESDs.root", False), ("AliAOD.root", True)):
        query = DatasetQuery.parse(f"Find;BasePath={BASE};FileName=*.zip#{member};Tree=events")
        place.now_s += 10
        stage_dataset(site, query).run(lambda _: None)
        assert place.local(lfn).exists() == there
    assert "no 'AliESDs.root'" in place.quarantine.of(lfn)[0].error.found
    assert site.catalogue.resolve([lfn]).one(lfn).contents == ("events", 2304)
