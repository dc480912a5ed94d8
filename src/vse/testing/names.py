"""The conformance suites of catalogues: what `vse.catalogue.port` promises, proved.

To prove an implementation of your own, subclass in a test module and give one pytest fixture; every
test of the suite then runs over it::

    class TestMyCatalogue(CatalogueConformance):
        @pytest.fixture
        def names(self): ...      # empty

For one that can only read, subclass `NamesConformance` and override `fill` as well, which brings files
to it by other means.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from typing import Any

import pytest

from vse.catalogue.port import NewReplica
from vse.errors import (
    AlreadyExists,
    BadRequest,
    NoSuchEntry,
    NoSuchReplica,
    NotEmpty,
    VseError,
)
from vse.model import Contents, Lfn, Located, NewFile, ReplicaState
from vse.testing.names_kinds import KindsConformance

_GUID = bytes(range(16))

TREE = (
    NewFile(Lfn("/lhc/data/2013/a.root"), 10, 0x00040001, "Torino", guid=_GUID, modified_s=1e9),
    NewFile(Lfn("/lhc/data/2013/b.root"), 0, None, "Torino", "root://x//b", owner="alice", group="lhc"),
    NewFile(Lfn("/lhc/data/2013/B.root"), 2**40, 0xFFFFFFFF, "CERN", mode=0o600),
    NewFile(Lfn("/lhc/data/2013/notes.txt"), 3),
    NewFile(Lfn("/lhc/data/2013/LHC13d/c.root"), 12, 1, "Torino", contents=Contents("Events", 2304)),
    NewFile(Lfn("/lhc/data/2013!/d.root"), 13, 2, "Torino"),
    NewFile(Lfn("/lhc/data/2013-old/e.root"), 14, 3, "Torino"),
    NewFile(Lfn("/lhc/data/20130/f.root"), 15, 4, "Torino"),
    NewFile(Lfn("/lhc/data/2013*/g[1].root"), 16, 5, "Torino"),
    NewFile(Lfn("/lhc/data/[2013]/h^.root"), 17, 6, "Torino"),
    NewFile(Lfn("/lhc/data/with blanks/Größe-日本語 Ω😀.root"), 18, 7, "Torino"),
    NewFile(Lfn("/lhc/data/" + "/".join("deep" * 30 for _ in range(8)) + "/i.root"), 19, 8, "Torino"),
    NewFile(Lfn("/lhc/data/" + "ü" * 127 + "/" + "x" * 255), 20, 9, "Torino"),
    NewFile(Lfn("/lhc/data/back\\slash/100%_j.root"), 21, 10, "Torino"),
    NewFile(Lfn("/at-the-root.root"), 22, 11, "Torino"),
)
"""Files whose names are hard: cases, siblings that sort around ``/``, globs in names, unicode, lengths."""

PATTERNS = (
    *("*", "*.root", "?.root", "[ab].root", "[!a].root", "[^a].root", "[b-d].root", "g[[]1].root"),
    *("g[1].root", "[", "*[", "*[]*", "[!]a]*", "a.root", "A.ROOT", "*.*.*", "", "**", "?", "x" * 255),
    *("*Größe*", "*日本?*", "???[\\]*", "*%_*", "*\\*", "h^.root", "h[^].root", "*o*o*o*o*o*t", "[z-a]*"),
)


def by_directory(lfn: str) -> tuple[bytes, bytes]:
    """The order of a find: directory, then name, byte by byte."""
    path, _, name = lfn.rpartition("/")
    return (path or "/").encode(), name.encode()


class NamesConformance:
    """What any `vse.catalogue.port.Names` does. ``names`` is a fixture that gives an empty one."""

    def fill(self, names: Any, files: Sequence[NewFile]) -> None:
        """Make ``files`` known to ``names``."""
        result = names.register(files)
        assert not result.failed

    @pytest.fixture
    def filled(self, names: Any) -> Any:
        self.fill(names, TREE)
        return names

    def test_stat_describes_files(self, filled: Any) -> None:
        result = filled.stat([file.lfn for file in TREE])
        assert not result.failed
        assert len(result.ok) == len(TREE)
        for file in TREE:
            entry = result.ok[file.lfn]
            assert (entry.lfn, entry.kind) == (file.lfn, "file")
            assert (entry.size_bytes, entry.adler32, entry.guid) == (file.size_bytes, file.adler32, file.guid)
            assert (entry.owner, entry.group, entry.mode) == (file.owner, file.group, file.mode)
        assert filled.stat([TREE[0].lfn]).one(TREE[0].lfn).modified_s == 1e9
        assert str(filled.stat([TREE[0].lfn]).one(TREE[0].lfn).checksum) == "adler32:00040001"

    def test_stat_describes_directories_made_on_the_way(self, filled: Any) -> None:
        paths = [Lfn("/"), Lfn("/lhc"), Lfn("/lhc/data/2013"), Lfn("/lhc/data/[2013]")]
        for path in paths:
            entry = filled.stat([path]).one(path)
            assert (entry.lfn, entry.kind, entry.size_bytes) == (path, "directory", None)
        assert filled.stat(paths).ok.keys() == set(paths)

    @pytest.mark.parametrize(
        "text", ["/lhc/data/2013/A.root", "/lhc/data/201", "/lhc/data/2013/*.root", "/lhc/data/2013/a.root/x"]
    )
    def test_what_is_not_there_is_under_failed(self, filled: Any, text: str) -> None:
        lfn = Lfn(text)
        for result in (filled.stat([lfn, TREE[0].lfn]), filled.resolve([TREE[0].lfn, lfn])):
            assert set(result.ok) == {TREE[0].lfn}
            assert isinstance(result.failed[lfn], NoSuchEntry)
            assert lfn in str(result.failed[lfn])

    def test_nothing_asked_nothing_answered(self, filled: Any) -> None:
        for result in (filled.stat([]), filled.resolve([])):
            assert (result.ok, result.failed) == ({}, {})

    def test_a_name_asked_twice_is_answered_once(self, filled: Any) -> None:
        located = filled.resolve([TREE[0].lfn, TREE[0].lfn]).one(TREE[0].lfn)
        assert [replica.se for replica in located.replicas] == ["Torino"]

    def test_resolve_gives_replicas_and_contents(self, filled: Any) -> None:
        result = filled.resolve([file.lfn for file in TREE])
        assert not result.failed
        for file in TREE:
            located = result.ok[file.lfn]
            copies = [(copy.lfn, copy.se, copy.url, copy.state) for copy in located.replicas]
            wanted = [] if file.se is None else [(file.lfn, file.se, file.url, ReplicaState.AVAILABLE)]
            assert copies == wanted
            assert located.contents == file.contents
            assert filled.resolve([file.lfn]).one(file.lfn) == located

    def test_resolve_of_a_directory_fails(self, filled: Any) -> None:
        assert isinstance(filled.resolve([Lfn("/lhc")]).failed["/lhc"], NoSuchEntry)

    def test_list_gives_directories_then_files_in_byte_order(self, filled: Any) -> None:
        entries = list(filled.list(Lfn("/lhc/data/2013")))
        assert [(entry.lfn.name, entry.kind) for entry in entries] == [
            ("LHC13d", "directory"),
            ("B.root", "file"),
            ("a.root", "file"),
            ("b.root", "file"),
            ("notes.txt", "file"),
        ]
        names = [entry.lfn.name for entry in filled.list(Lfn("/lhc/data"))]
        assert names == sorted(names, key=str.encode)
        assert len(names) == 10

    def test_list_of_the_root_of_a_file_and_of_nothing(self, filled: Any) -> None:
        assert [entry.lfn for entry in filled.list(Lfn("/"))] == ["/lhc", "/at-the-root.root"]
        (entry,) = filled.list(TREE[0].lfn)
        assert (entry.lfn, entry.size_bytes) == (TREE[0].lfn, 10)
        with pytest.raises(NoSuchEntry):
            list(filled.list(Lfn("/lhc/nothing")))

    @pytest.mark.parametrize("glob", PATTERNS)
    def test_find_is_fnmatch_on_the_last_part(self, filled: Any, glob: str) -> None:
        for base in ("/", "/lhc/data/2013", "/lhc/data", "/lhc/data/2013*"):
            wanted = [
                file.lfn
                for file in TREE
                if file.lfn.is_below(base) and fnmatch.fnmatchcase(file.lfn.name, glob)
            ]
            found = [located.entry.lfn for located in filled.find(Lfn(base), glob)]
            assert found == sorted(wanted, key=by_directory)

    def test_find_tells_all_that_resolve_tells(self, filled: Any) -> None:
        found: list[Located] = list(filled.find(Lfn("/"), "*"))
        assert {located.entry.lfn: located for located in found} == filled.resolve(
            [file.lfn for file in TREE]
        ).ok

    def test_find_at_a_file_and_at_nothing(self, filled: Any) -> None:
        assert [located.entry.lfn for located in filled.find(TREE[0].lfn, "*.root")] == [TREE[0].lfn]
        assert list(filled.find(TREE[0].lfn, "*.txt")) == []
        assert list(filled.find(Lfn("/lhc/nothing"), "*")) == []
        assert list(filled.find(Lfn("/lhc/data/201"), "*")) == []


class CatalogueConformance(KindsConformance, NamesConformance):
    """What any `vse.catalogue.port.Catalogue` does, over and above `NamesConformance`."""

    def test_registering_again_changes_nothing(self, filled: Any) -> None:
        before = list(filled.find(Lfn("/"), "*"))
        assert not filled.register(TREE).failed
        assert list(filled.find(Lfn("/"), "*")) == before

    def test_registering_elsewhere_adds_a_replica(self, filled: Any) -> None:
        lfn = TREE[0].lfn
        filled.register([NewFile(lfn, 10, 0x00040001, "Bari")])
        filled.register([NewFile(lfn, 10, 0x00040001, "Zagreb", "file:///z")])
        located = filled.resolve([lfn]).one(lfn)
        assert [copy.se for copy in located.replicas] == ["Bari", "Torino", "Zagreb"]
        assert list(filled.find(lfn.parent, "a.root")) == [located]

    @pytest.mark.parametrize(("size_bytes", "adler32"), [(11, 0x00040001), (10, 0x00040002)])
    def test_files_are_write_once(self, filled: Any, size_bytes: int, adler32: int) -> None:
        lfn, other = TREE[0].lfn, Lfn("/lhc/new.root")
        result = filled.register([NewFile(lfn, size_bytes, adler32, "Bari"), NewFile(other, 1)])
        assert isinstance(result.failed[lfn], AlreadyExists)
        assert set(result.ok) == {other}
        located = filled.resolve([lfn]).one(lfn)
        assert (located.entry.size_bytes, located.entry.adler32) == (10, 0x00040001)
        assert [copy.se for copy in located.replicas] == ["Torino"]

    def test_a_checksum_learnt_later_is_kept(self, filled: Any) -> None:
        lfn = TREE[1].lfn
        assert filled.register([NewFile(lfn, 0, 1, guid=_GUID)]).ok
        entry = filled.stat([lfn]).one(lfn)
        assert (entry.adler32, entry.guid) == (1, _GUID)
        assert isinstance(filled.register([NewFile(lfn, 0, 2)]).failed[lfn], AlreadyExists)
        assert filled.register([NewFile(lfn, 0)]).ok

    @pytest.mark.parametrize("together", [True, False])
    def test_no_name_is_both_a_file_and_a_directory(self, names: Any, together: bool) -> None:
        files = [NewFile(Lfn(text), 1) for text in ("/a/b", "/a", "/a/b/c/d", "/a/x/y", "/a/x")]
        failed: dict[str, VseError] = {}
        for call in [files] if together else [[file] for file in files]:
            failed.update(names.register(call).failed)
        assert {lfn: type(error) for lfn, error in failed.items()} == dict.fromkeys(
            ("/a", "/a/b/c/d", "/a/x"), AlreadyExists
        )
        assert [entry.kind for entry in names.list(Lfn("/a"))] == ["directory", "file"]
        assert isinstance(names.register([NewFile(Lfn("/"), 1)]).failed["/"], AlreadyExists)

    def test_missing_directories_belong_to_who_needed_them(self, names: Any) -> None:
        names.register([NewFile(Lfn("/home/alice/x"), 1, owner="alice", group="lhc")])
        entry = names.stat([Lfn("/home/alice")]).one("/home/alice")
        assert (entry.owner, entry.group, entry.mode) == ("alice", "lhc", 0o755)

    def test_replicas_are_added_updated_and_forgotten(self, filled: Any) -> None:
        lfn, unknown = TREE[0].lfn, Lfn("/lhc/none")
        new = [NewReplica(lfn, "Bari", contents=Contents("T", 7)), NewReplica(unknown, "Bari")]
        result = filled.add_replicas(new)
        assert set(result.ok) == {lfn}
        assert isinstance(result.failed[unknown], NoSuchEntry)
        filled.note_access([lfn, unknown], "Bari", 1000.0)
        filled.note_access([lfn], "Nowhere", 1000.0)
        filled.note_access([lfn], "Bari", 999.0)
        filled.add_replicas([NewReplica(lfn, "Bari", "u", ReplicaState.SUSPECT)])
        located = filled.resolve([lfn]).one(lfn)
        (bari, _) = located.replicas
        assert (bari.url, bari.state, bari.accessed_s) == ("u", ReplicaState.SUSPECT, 1000.0)
        assert located.contents == Contents("T", 7)
        result = filled.remove_replicas([lfn, TREE[3].lfn, unknown], "Bari")
        assert set(result.ok) == {lfn}
        assert {type(error) for error in result.failed.values()} == {NoSuchReplica}
        assert [copy.se for copy in filled.resolve([lfn]).one(lfn).replicas] == ["Torino"]
        assert isinstance(filled.remove_replicas([lfn], "Nowhere").failed[lfn], NoSuchReplica)

    def test_remove_takes_files_and_empty_directories(self, filled: Any) -> None:
        lfn, directory = TREE[4].lfn, TREE[4].lfn.parent
        full, unknown = Lfn("/lhc/data/2013"), Lfn("/lhc/none")
        assert isinstance(filled.remove([directory]).failed[directory], NotEmpty)
        result = filled.remove([directory, lfn, full, unknown])
        assert set(result.ok) == {directory, lfn}
        assert isinstance(result.failed[full], NotEmpty)
        assert isinstance(result.failed[unknown], NoSuchEntry)
        assert filled.stat([lfn, directory]).ok == {}
        assert isinstance(filled.remove([Lfn("/")]).failed["/"], VseError)

    def test_a_removed_name_can_be_used_again(self, filled: Any) -> None:
        lfn = TREE[4].lfn
        filled.remove([lfn])
        assert filled.register([NewFile(lfn, 99)]).ok
        located = filled.resolve([lfn]).one(lfn)
        assert (located.entry.size_bytes, located.replicas, located.contents) == (99, (), None)

    def test_rename_moves_a_file(self, filled: Any) -> None:
        source, target = TREE[0].lfn, Lfn("/new/place/a.root")
        before = filled.resolve([source]).one(source)
        filled.rename(source, target)
        after = filled.resolve([target]).one(target)
        assert after.entry == before.entry._replace(lfn=target)
        assert [copy.se for copy in after.replicas] == ["Torino"]
        assert isinstance(filled.stat([source]).failed[source], NoSuchEntry)

    def test_rename_moves_a_directory_with_all_below(self, filled: Any) -> None:
        before = [located.entry.lfn for located in filled.find(Lfn("/lhc/data/2013"), "*")]
        outside = {located.entry.lfn for located in filled.find(Lfn("/"), "*")} - set(before)
        filled.rename(Lfn("/lhc/data/2013"), Lfn("/Ω/moved"))
        after = [located.entry.lfn for located in filled.find(Lfn("/Ω/moved"), "*")]
        assert after == [lfn.replace("/lhc/data/2013/", "/Ω/moved/") for lfn in before]
        assert {located.entry.lfn for located in filled.find(Lfn("/"), "*")} == outside | set(after)
        assert [entry.lfn for entry in filled.list(Lfn("/Ω"))] == ["/Ω/moved"]
        assert Lfn("/lhc/data/2013") not in [entry.lfn for entry in filled.list(Lfn("/lhc/data"))]

    @pytest.mark.parametrize(
        ("source", "target", "error"),
        [
            ("/lhc/none", "/x", NoSuchEntry),
            ("/lhc/data/2013/a.root", "/lhc/data/2013/b.root", AlreadyExists),
            ("/lhc/data/2013/a.root", "/lhc/data/20130", AlreadyExists),
            ("/lhc/data/2013", "/at-the-root.root", AlreadyExists),
            ("/lhc/data/2013", "/at-the-root.root/x", AlreadyExists),
            ("/lhc", "/lhc/data/x", BadRequest),
            ("/", "/x", BadRequest),
        ],
    )
    def test_a_rename_that_cannot_be_changes_nothing(
        self, filled: Any, source: str, target: str, error: type[VseError]
    ) -> None:
        before = list(filled.find(Lfn("/"), "*"))
        with pytest.raises(error):
            filled.rename(Lfn(source), Lfn(target))
        assert list(filled.find(Lfn("/"), "*")) == before

    def test_a_rename_never_makes_a_name_too_long(self, filled: Any) -> None:
        deep = "/" + "/".join("d" * 200 for _ in range(9))
        with pytest.raises(VseError, match="at most 2048"):
            filled.rename(Lfn("/lhc/data/" + "ü" * 127), Lfn(deep))
        filled.rename(Lfn("/lhc/data/20130"), Lfn(deep))
        assert len(list(filled.find(Lfn(deep), "f.root"))) == 1
