"""Conformance of catalogues beyond plain files: links, collections, access, checksums, trash, audit.

`vse.testing.names.CatalogueConformance` takes in `KindsConformance`; `TrashConformance` is for catalogues
that keep removed names, and is subclassed on its own.
"""

from __future__ import annotations

import math
import unicodedata
from typing import Any

import pytest

from vse.catalogue.port import NewReplica
from vse.errors import (
    AlreadyExists,
    BadLfn,
    BadRequest,
    LinkLoop,
    NoSuchEntry,
    NoSuchReplica,
    NotEmpty,
)
from vse.model import AccessEntry, Checksum, Lfn, NewAccess, NewFile, NewLink, ReplicaState

A, B, C = Lfn("/data/a.root"), Lfn("/data/sub/b.root"), Lfn("/other/c.root")
FILES = (
    NewFile(A, 10, 0x00040001, "Torino", owner="alice", group="lhc"),
    NewFile(B, 11, 2, "Bari"),
    NewFile(C, 12, 3, "Torino"),
)


def link(names: Any, lfn: str, target: str) -> Lfn:
    result = names.make_links([NewLink(Lfn(lfn), target, "alice", "lhc")])
    assert not result.failed
    return Lfn(lfn)


class KindsConformance:
    """``names`` is a fixture that gives an empty catalogue."""

    @pytest.fixture
    def kinds(self, names: Any) -> Any:
        assert not names.register(FILES).failed
        return names

    # -- links ------------------------------------------------------------------------------------

    @pytest.mark.parametrize("target", ["/data/a.root", "../data/a.root", "../data/./sub/../a.root"])
    def test_a_link_is_described_itself_and_resolved_to_its_file(self, kinds: Any, target: str) -> None:
        lfn = link(kinds, "/links/a", target)
        entry = kinds.stat([lfn]).one(lfn)
        assert (entry.lfn, entry.kind, entry.target) == (lfn, "link", target)
        assert (entry.size_bytes, entry.owner, entry.group) == (None, "alice", "lhc")
        assert kinds.resolve([lfn, A]).ok == {lfn: kinds.resolve([A]).one(A), A: kinds.resolve([A]).one(A)}
        assert [one.entry.lfn for one in kinds.find(lfn, "*.root")] == [A]

    def test_links_to_directories_are_followed_on_the_way(self, kinds: Any) -> None:
        link(kinds, "/way", "data")
        link(kinds, "/data/down", "sub")
        through = Lfn("/way/down/b.root")
        assert kinds.stat([through]).one(through).lfn == B
        assert kinds.resolve([through]).one(through).entry.lfn == B
        assert [entry.lfn for entry in kinds.list(Lfn("/way/down"))] == [B]
        assert [one.entry.lfn for one in kinds.find(Lfn("/way"), "*")] == [A, B]
        assert kinds.stat([Lfn("/way/down")]).one("/way/down").lfn == "/data/down"

    def test_names_are_made_and_removed_through_links(self, kinds: Any) -> None:
        link(kinds, "/way", "/data")
        new, real = Lfn("/way/new/x"), Lfn("/data/new/x")
        assert kinds.register([NewFile(new, 1, se="Bari"), NewFile(Lfn("/way/a.root"), 10)]).ok.keys() == {
            new, "/way/a.root",
        }  # fmt: skip
        assert kinds.stat([real]).one(real).lfn == real
        assert kinds.add_replicas([NewReplica(new, "Zagreb")]).ok.keys() == {new}
        assert kinds.make_directories([Lfn("/way/made")], "o", "g").ok
        kinds.rename(Lfn("/way/new/x"), Lfn("/way/made/y"))
        found = kinds.resolve([Lfn("/data/made/y")]).one("/data/made/y")
        assert [copy.se for copy in found.replicas] == ["Bari", "Zagreb"]
        assert kinds.remove([Lfn("/way/made/y")], forever=True).ok
        assert kinds.remove([Lfn("/way")], forever=True).ok
        assert kinds.stat([Lfn("/way")]).failed
        assert kinds.stat([A]).ok, "only the link went"

    @pytest.mark.parametrize("targets", [["/l0"], ["/l1", "/l0"], ["l1/x", "/l2/y", "l0/z"]])
    def test_links_that_lead_around_are_an_error_that_ends(self, kinds: Any, targets: list[str]) -> None:
        for number, target in enumerate(targets):
            link(kinds, f"/l{number}", target)
        lfn, below = Lfn("/l0"), Lfn("/l0/x")
        result = kinds.resolve([lfn, below, A])
        assert isinstance(result.failed[lfn], LinkLoop)
        assert isinstance(result.failed[below], LinkLoop)
        assert result.ok.keys() == {A}
        assert kinds.stat([lfn]).one(lfn).kind == "link"
        with pytest.raises(LinkLoop):
            list(kinds.find(lfn, "*"))

    def test_forty_links_are_followed_and_no_more(self, kinds: Any) -> None:
        link(kinds, "/l/0", str(A))
        for number in range(1, 41):
            link(kinds, f"/l/{number}", str(number - 1))
        result = kinds.resolve([Lfn("/l/39"), Lfn("/l/40")])
        assert result.ok.keys() == {"/l/39"}
        assert isinstance(result.failed["/l/40"], LinkLoop)

    def test_a_link_to_nothing_is_there_and_leads_nowhere(self, kinds: Any) -> None:
        lfn = link(kinds, "/nowhere", "/none")
        assert kinds.stat([lfn]).one(lfn).target == "/none"
        error = kinds.resolve([lfn]).failed[lfn]
        assert isinstance(error, NoSuchEntry)
        assert "/none" in str(error)
        assert list(kinds.find(lfn, "*")) == []
        assert [entry.lfn for entry in kinds.list(lfn)] == [lfn]

    def test_a_find_meets_links_below_but_does_not_follow_them(self, kinds: Any) -> None:
        link(kinds, "/data/up", "/data")
        link(kinds, "/data/c", str(C))
        assert [one.entry.lfn for one in kinds.find(Lfn("/data"), "*")] == [A, B]

    def test_list_gives_directories_files_then_special_names(self, kinds: Any) -> None:
        link(kinds, "/data/Z", "/none")
        link(kinds, "/data/A", "/none")
        kinds.put_collection(Lfn("/data/M"), [A], "alice", "lhc")
        found = [(entry.lfn.name, entry.kind) for entry in kinds.list(Lfn("/data"))]
        assert found == [
            ("sub", "directory"), ("a.root", "file"), ("A", "link"), ("M", "collection"), ("Z", "link"),
        ]  # fmt: skip

    def test_no_name_is_of_two_kinds(self, kinds: Any) -> None:
        lfn, collection = link(kinds, "/x", "/data"), Lfn("/c")
        kinds.put_collection(collection, [], "o", "g")
        for name in (lfn, collection, A, Lfn("/data")):
            assert isinstance(kinds.make_links([NewLink(name, "/y")]).failed[name], AlreadyExists)
            with pytest.raises(AlreadyExists):
                kinds.rename(C, name)
        for name in (lfn, collection):
            assert isinstance(kinds.register([NewFile(name, 1)]).failed[name], AlreadyExists)
            assert isinstance(kinds.make_directories([name], "o", "g").failed[name], AlreadyExists)
        below = Lfn("/c/below")
        assert isinstance(kinds.register([NewFile(below, 1)]).failed[below], AlreadyExists)
        with pytest.raises(AlreadyExists):
            kinds.put_collection(A, [], "o", "g")
        assert isinstance(kinds.remove([Lfn("/data")], forever=True).failed["/data"], NotEmpty)

    def test_a_directory_with_only_a_link_is_not_empty(self, kinds: Any) -> None:
        link(kinds, "/only/link", "/none")
        assert isinstance(kinds.remove([Lfn("/only")], forever=True).failed["/only"], NotEmpty)
        assert kinds.remove([Lfn("/only"), Lfn("/only/link")], forever=True).ok.keys() == {
            "/only",
            "/only/link",
        }

    def test_links_move_and_are_moved_with_their_directory(self, kinds: Any) -> None:
        link(kinds, "/data/sub/l", "b.root")
        kinds.rename(Lfn("/data"), Lfn("/moved"))
        lfn = Lfn("/moved/sub/l")
        assert kinds.resolve([lfn]).one(lfn).entry.lfn == "/moved/sub/b.root"
        kinds.rename(lfn, Lfn("/elsewhere/l"))
        assert isinstance(kinds.resolve([Lfn("/elsewhere/l")]).failed["/elsewhere/l"], NoSuchEntry)

    # -- collections ------------------------------------------------------------------------------

    def test_a_collection_keeps_its_members_in_order(self, kinds: Any) -> None:
        lfn, gone, led = Lfn("/sets/mine"), Lfn("/data/gone.root"), link(kinds, "/l", str(B))
        kinds.put_collection(lfn, [C, gone, A, led, A], "alice", "lhc")
        entry = kinds.stat([lfn]).one(lfn)
        assert (entry.kind, entry.owner, entry.size_bytes) == ("collection", "alice", None)
        assert list(kinds.members(lfn)) == [C, gone, A, led]
        assert [one.entry.lfn for one in kinds.find(lfn, "*")] == [C, A, B]
        assert [one.entry.lfn for one in kinds.find(lfn, "c*")] == [C]
        assert [one.lfn for one in kinds.list(lfn)] == [C, A, led]
        error = kinds.resolve([lfn]).failed[lfn]
        assert isinstance(error, NoSuchEntry)
        assert "it is a collection" in str(error)
        kinds.put_collection(lfn, [A], "bob", "cms")
        assert list(kinds.members(lfn)) == [A]
        assert kinds.stat([lfn]).one(lfn).owner == "alice"
        with pytest.raises(BadRequest):
            kinds.members(A)
        with pytest.raises(NoSuchEntry):
            kinds.members(gone)

    # -- access -----------------------------------------------------------------------------------

    def test_owner_mode_and_lists_are_changed_and_told(self, kinds: Any) -> None:
        data, entries = Lfn("/data"), (AccessEntry("user", "bob", 6), AccessEntry("group", "cms", 5))
        changes = [
            NewAccess(data, owner="eve", group="cms", mode=0o1750, entries=entries, defaults=entries[:1]),
            NewAccess(A, mode=0o600),
            NewAccess(Lfn("/none"), mode=0o600),
        ]
        result = kinds.change_access(changes)
        assert (set(result.ok), set(result.failed)) == ({data, A}, {"/none"})
        held = kinds.access([data]).one(data)
        assert (held.owner, held.group, held.mode) == ("eve", "cms", 0o1750)
        assert held.entries == (*entries, AccessEntry("mask", "", 7))
        assert held.defaults == (entries[0], AccessEntry("mask", "", 7))
        entry = kinds.stat([A]).one(A)
        assert (entry.owner, entry.mode) == ("alice", 0o600)
        kinds.change_access([NewAccess(data, mode=0o740)])
        assert kinds.access([data]).one(data).entries[-1] == AccessEntry("mask", "", 4), "as chmod does"
        kinds.change_access([NewAccess(data, entries=(), defaults=())])
        assert kinds.access([data]).one(data)[5:] == ((), ())

    def test_what_cannot_be_an_access_is_refused(self, kinds: Any) -> None:
        entries = (AccessEntry("user", "bob", 6),)
        for new in (NewAccess(A, mode=0o7777), NewAccess(A, mode=-1), NewAccess(A, defaults=entries)):
            assert isinstance(kinds.change_access([new]).failed[A], BadRequest)

    def test_default_entries_are_handed_down(self, kinds: Any) -> None:
        entries = (AccessEntry("user", "bob", 6), AccessEntry("mask", "", 7))
        kinds.change_access([NewAccess(Lfn("/data"), defaults=entries)])
        made = Lfn("/data/x/y/file")
        kinds.register([NewFile(made, 1)])
        kinds.make_directories([Lfn("/data/x/z")], "o", "g")
        kinds.put_collection(Lfn("/data/x/set"), [], "o", "g")
        asked = [made, made.parent, Lfn("/data/x/z"), Lfn("/data/x/set"), A]
        held = kinds.access(asked).ok
        assert [held[lfn].entries for lfn in asked] == [entries, entries, entries, entries, ()]
        assert [held[lfn].defaults for lfn in asked] == [(), entries, entries, (), ()]

    def test_what_is_beside_a_name_goes_with_it(self, kinds: Any) -> None:
        kinds.change_access([NewAccess(C, entries=(AccessEntry("user", "bob", 6),))])
        kinds.register([NewFile(C, 12, checksums=(Checksum("md5", "0" * 32),))])
        kinds.remove([C, C.parent], forever=True)
        kinds.register([NewFile(C, 99)])
        assert kinds.access([C, C.parent]).one(C).entries == ()
        assert kinds.details([C]).one(C).checksums == ()

    # -- checksums, GUIDs and copies --------------------------------------------------------------

    def test_several_checksums_are_kept_and_compared(self, kinds: Any) -> None:
        md5, sha, wrong = Checksum("md5", "1" * 32), Checksum("sha256", "2" * 64), Checksum("md5", "3" * 32)
        assert kinds.register([NewFile(A, 10, checksums=(md5,)), NewFile(B, 11, checksums=(md5, sha))]).ok
        error = kinds.register([NewFile(A, 10, checksums=(wrong,))]).failed[A]
        assert isinstance(error, AlreadyExists)
        assert str(md5) in str(error)
        assert kinds.register([NewFile(A, 10, checksums=(md5, sha))]).ok
        assert kinds.register([NewFile(A, 10, checksums=(Checksum.adler32(7),))]).failed
        assert kinds.details([A]).one(A).checksums == (Checksum.adler32(0x00040001), md5, sha)
        assert kinds.stat([A]).one(A).checksum == Checksum.adler32(0x00040001)
        twice = [NewFile(Lfn("/n"), 1, checksums=(md5,)), NewFile(Lfn("/n"), 1, checksums=(wrong,))]
        assert kinds.register(twice).failed.keys() == {"/n"}
        assert isinstance(kinds.details([Lfn("/data")]).failed["/data"], NoSuchEntry)

    def test_one_content_may_have_several_names(self, kinds: Any) -> None:
        guid, none = b"\x00\xff" * 8, bytes(16)
        kinds.register([NewFile(Lfn(path), 1, guid=guid) for path in ("/z/2", "/z/1", "/a/3")])
        assert kinds.by_guid([guid, none]) == {guid: ("/a/3", "/z/1", "/z/2"), none: ()}
        kinds.rename(Lfn("/z"), Lfn("/y"))
        kinds.remove([Lfn("/a/3")])
        assert kinds.by_guid([guid])[guid] == ("/y/1", "/y/2")
        assert kinds.by_guid([]) == {}

    @pytest.mark.parametrize("state", list(ReplicaState))
    def test_every_state_of_a_copy_is_kept(self, kinds: Any, state: ReplicaState) -> None:
        kinds.add_replicas([NewReplica(A, "Torino", "root://x//a")])
        result = kinds.mark_replicas([A, B, Lfn("/none")], "Torino", state)
        assert result.ok.keys() == {A}
        assert {type(error) for error in result.failed.values()} == {NoSuchReplica}
        (copy,) = kinds.resolve([A]).one(A).replicas
        assert (copy.state, copy.url) == (state, "root://x//a")
        assert kinds.mark_replicas([A], "Nowhere", state).failed

    def test_copies_tell_where_they_came_from_and_one_is_the_master(self, kinds: Any) -> None:
        source = "root://torino//data/a.root"
        kinds.add_replicas([NewReplica(A, "Torino", master=True), NewReplica(A, "Bari", source=source)])
        torino, bari = sorted(kinds.details([A]).one(A).origins, key=lambda one: one.se, reverse=True)
        assert (torino.se, torino.master, torino.source) == ("Torino", True, None)
        assert (bari.se, bari.master, bari.source) == ("Bari", False, source)
        assert bari.made_s is not None
        assert kinds.mark_replicas([A], "Bari", master=True).ok
        assert [(one.se, one.master, one.source) for one in kinds.details([A]).one(A).origins] == [
            ("Bari", True, source), ("Torino", False, None),
        ]  # fmt: skip
        kinds.remove_replicas([A], "Bari")
        assert [one.se for one in kinds.details([A]).one(A).origins] == ["Torino"]
        assert kinds.details([B]).one(B).origins == ()

    # -- names and history ------------------------------------------------------------------------

    def test_names_differ_by_bytes_after_normalisation_only(self, names: Any) -> None:
        composed, apart = "/é/file.", unicodedata.normalize("NFD", "/é/file.")
        assert composed != apart
        spellings = [
            Lfn.parse(text) for text in (composed, apart, "/É/file.", "/é/file", "/é/file..", "/é/ file")
        ]
        assert len(set(spellings)) == 5
        assert not names.register([NewFile(lfn, 1) for lfn in spellings]).failed
        assert sum(1 for _ in names.find(Lfn("/"), "*")) == 5
        for text in ("/a\nb", "/a\u2028b", "/a\x85b", "/" + "é" * 128):
            with pytest.raises(BadLfn):
                Lfn.parse(text)

    def test_changes_are_told_in_order(self, kinds: Any) -> None:
        kinds.mark_replicas([A], "Torino", ReplicaState.SUSPECT)
        kinds.change_access([NewAccess(A, mode=0o600)])
        kinds.rename(A, Lfn("/data/z"))
        kinds.remove([Lfn("/data/z")], forever=True)
        told = [(one.action, one.lfn) for one in kinds.history(A)]
        assert told == [("register", "/"), ("mark replica", A), ("access", A), ("rename", A)]
        whole = list(kinds.history(A))
        assert whole[0].detail["count"] == 3
        assert (whole[1].detail["se"], whole[1].detail["state"]) == ("Torino", "suspect")
        assert whole[3].detail["to"] == "/data/z"
        assert [one.action for one in kinds.history(Lfn("/data/z"))][-2:] == ["rename", "remove"]


class TrashConformance:
    """``keeping`` is a fixture that gives an empty catalogue that keeps removed names for a while."""

    @pytest.fixture
    def kept(self, keeping: Any) -> Any:
        assert not keeping.register(FILES).failed
        return keeping

    def test_a_removed_name_is_out_of_sight_and_comes_back_whole(self, kept: Any) -> None:
        kept.change_access([NewAccess(A, entries=(AccessEntry("user", "bob", 6),))])
        before = (kept.resolve([A]).one(A), kept.access([A]).one(A))
        assert kept.remove([A]).ok
        assert isinstance(kept.stat([A]).failed[A], NoSuchEntry)
        assert [one.entry.lfn for one in kept.find(Lfn("/"), "*")] == [B, C]
        assert [one.lfn for one in kept.list(Lfn("/data"))] == ["/data/sub"]
        assert [one.lfn for one in kept.list(Lfn("/"))] == ["/data", "/other"]
        (trashed,) = kept.trash()
        assert (trashed.lfn, trashed.kind) == (A, "file")
        assert trashed.expires_s > trashed.removed_s
        assert kept.undelete([trashed.id]).ok == {str(trashed.id): A}
        assert (kept.resolve([A]).one(A), kept.access([A]).one(A)) == before
        assert list(kept.trash()) == []
        assert isinstance(kept.undelete([trashed.id]).failed[str(trashed.id)], NoSuchEntry)

    def test_every_kind_comes_back_in_any_order(self, kept: Any) -> None:
        kept.make_links([NewLink(Lfn("/data/sub/l"), "b.root")])
        kept.put_collection(Lfn("/data/sub/c"), [A, B], "o", "g")
        wanted = [Lfn("/data/sub"), B, Lfn("/data/sub/l"), Lfn("/data/sub/c"), A, Lfn("/data")]
        assert kept.remove(wanted).ok.keys() == set(wanted)
        ids = [one.id for one in kept.trash()]
        assert kept.undelete(ids[::-1]).ok.keys() == set(map(str, ids))
        assert kept.resolve([Lfn("/data/sub/l")]).one("/data/sub/l").entry.lfn == B
        assert list(kept.members(Lfn("/data/sub/c"))) == [A, B]
        assert [one.lfn for one in kept.list(Lfn("/data"))] == ["/data/sub", A]

    def test_a_name_used_again_stays_and_its_forerunner_in_the_trash(self, kept: Any) -> None:
        kept.remove([A])
        kept.register([NewFile(A, 99)])
        (trashed,) = kept.trash()
        assert isinstance(kept.undelete([trashed.id]).failed[str(trashed.id)], AlreadyExists)
        kept.remove([A])
        assert [one.lfn for one in kept.trash()] == [A, A]
        assert kept.undelete([trashed.id]).ok
        assert kept.stat([A]).one(A).size_bytes == 10

    def test_directories_above_are_made_again(self, kept: Any) -> None:
        kept.remove([B, B.parent])
        file = next(one for one in kept.trash() if one.kind == "file")
        assert kept.undelete([file.id]).ok
        assert kept.resolve([B]).ok
        rest = next(iter(kept.trash()))
        assert isinstance(kept.undelete([rest.id]).failed[str(rest.id)], AlreadyExists)

    def test_what_has_expired_is_told_with_its_copies_and_then_forgotten(self, kept: Any) -> None:
        kept.remove([A, B])
        first = next(iter(kept.trash()))
        assert list(kept.expired(first.expires_s - 1)) == []
        found = {one.trashed.lfn: one for one in kept.expired(first.expires_s)}
        assert found.keys() == {A, B}
        (copy,) = found[A].replicas
        assert (copy.lfn, copy.se, found[A].size_bytes) == (A, "Torino", 10)
        assert [one.trashed.id for one in kept.expired(math.inf, [first.id])] == [first.id]
        kept.forget_trash([one.trashed.id for one in found.values()])
        assert list(kept.trash()) == []
        kept.forget_trash([first.id])
        assert kept.register([NewFile(A, 99)]).ok

    def test_for_ever_is_at_once(self, kept: Any) -> None:
        assert kept.remove([A], forever=True).ok
        assert list(kept.trash()) == []
        assert [one.action for one in kept.history(A)][-1] == "remove"

    def test_a_guid_in_the_trash_is_no_name(self, kept: Any) -> None:
        kept.register([NewFile(Lfn("/g"), 1, guid=b"g" * 16)])
        kept.remove([Lfn("/g")])
        assert kept.by_guid([b"g" * 16]) == {b"g" * 16: ()}

    def test_thousands_go_and_come_in_two_calls(self, kept: Any) -> None:
        lfns = [Lfn(f"/many/{number % 7}/{number}") for number in range(3000)]
        kept.register([NewFile(lfn, 1, se="Bari") for lfn in lfns])
        assert len(kept.remove(lfns).ok) == 3000
        ids = [one.id for one in kept.trash()]
        assert sum(1 for _ in kept.expired(math.inf)) == 3000
        assert len(kept.undelete(ids).ok) == 3000
        assert len(kept.resolve(lfns).ok) == 3000
