"""What one person may see and change, over a real catalogue."""

from __future__ import annotations

import pytest

from vse.catalogue.guarded import Guarded
from vse.catalogue.lookup import Lookup
from vse.catalogue.port import NewReplica
from vse.catalogue.sql import SqlCatalogue
from vse.errors import Denied, NoSuchEntry
from vse.model import AccessEntry, Identity, Lfn, NewAccess, NewFile, NewLink, ReplicaState
from vse.testing.names import CatalogueConformance

ALICE, BOB = Identity("alice", ("lhc",)), Identity("bob", ("cms",))
FILES = ("/pub/a", "/pub/deep/er/b", "/home/alice/x", "/home/alice/secret/y", "/home/alice/secret/in/z")


def chmod(catalogue, path, mode, **more):
    assert not catalogue.change_access([NewAccess(Lfn(path), mode=mode, **more)]).failed


@pytest.fixture
def tree(catalogue):
    files = [NewFile(Lfn(path), 1, 1, "SE", owner="alice", group="lhc") for path in FILES]
    assert not catalogue.register(files).failed
    chmod(catalogue, "/home/alice/secret", 0o700)
    return catalogue


@pytest.fixture
def bob(tree):
    return Guarded(tree, BOB)


@pytest.fixture
def alice(tree):
    return Guarded(tree.acting("alice"), ALICE)


@pytest.mark.slow
class TestRootSeesAll(CatalogueConformance):
    @pytest.fixture
    def names(self, catalogue):
        return Guarded(catalogue, Identity("root"))


def denied(result, path):
    error = result.failed[path]
    assert isinstance(error, Denied), error
    return str(error)


def test_a_name_is_reached_only_through_directories_that_may_be_entered(bob, alice):
    wanted = [Lfn(path) for path in FILES] + [Lfn("/home/alice/secret"), Lfn("/home/alice/secret/none")]
    for call in (bob.stat, bob.resolve, bob.access, bob.details):
        result = call(wanted)
        assert {lfn for lfn in result.ok if "x" not in lfn and "secret/" in lfn} == set()
        said = denied(result, "/home/alice/secret/in/z")
        assert "/home/alice/secret has mode 0700, owner alice, group lhc: bob may not enter it" in said
        denied(result, "/home/alice/secret/none")
    assert not alice.stat(wanted[:-1]).failed
    assert isinstance(alice.stat(wanted).failed[wanted[-1]], NoSuchEntry)


def test_listing_needs_read(tree, bob):
    with pytest.raises(Denied, match="list /home/alice/secret: /home/alice/secret has mode 0700"):
        bob.list(Lfn("/home/alice/secret"))
    chmod(tree, "/home/alice", 0o711)
    with pytest.raises(Denied, match="may not read"):
        bob.list(Lfn("/home/alice"))
    assert bob.stat([Lfn("/home/alice/x")]).ok


def test_find_tells_which_directories_it_could_not_read(tree, bob, alice):
    found, refused = bob.find_with_report(Lfn("/"), "*")
    assert [one.entry.lfn for one in found] == ["/home/alice/x", "/pub/a", "/pub/deep/er/b"]
    assert len(refused) == 1
    assert "find files in /home/alice/secret" in str(refused[0])
    plain = bob.find(Lfn("/"), "*")
    assert [next(plain).entry.lfn for _ in range(3)][-1] == "/pub/deep/er/b"
    with pytest.raises(Denied):
        next(plain)
    with pytest.raises(Denied):
        bob.find_with_report(Lfn("/home/alice/secret/in"), "*")
    assert len(list(alice.find(Lfn("/"), "*"))) == 5


def test_the_lookup_is_guarded_likewise(tree, clock):
    names = Guarded(tree, BOB, names=Lookup(tree, [], clock))
    assert names.resolve([Lfn("/pub/a")]).ok
    denied(names.resolve([Lfn("/home/alice/secret/y")]), "/home/alice/secret/y")


def test_no_link_leads_around_a_closed_directory(tree, bob):
    links = [
        NewLink(Lfn("/pub/way"), "/home/alice/secret/in"),
        NewLink(Lfn("/pub/y"), "/home/alice/secret/y"),
    ]
    assert not tree.make_links(links).failed
    assert bob.stat([Lfn("/pub/y")]).one("/pub/y").kind == "link"
    denied(bob.resolve([Lfn("/pub/y")]), "/pub/y")
    denied(bob.stat([Lfn("/pub/way/z")]), "/pub/way/z")
    with pytest.raises(Denied):
        bob.list(Lfn("/pub/way"))
    with pytest.raises(Denied):
        bob.find_with_report(Lfn("/pub/way"), "*")
    chmod(tree, "/home/alice/secret/in", 0o777)
    denied(bob.register([NewFile(Lfn("/pub/way/new"), 1)]), "/pub/way/new")
    tree.put_collection(Lfn("/pub/both"), [Lfn("/pub/a"), Lfn("/pub/y")], "alice", "lhc")
    found, refused = bob.find_with_report(Lfn("/pub/both"), "*")
    assert [one.entry.lfn for one in found] == ["/pub/a"]
    assert "/home/alice/secret" in str(refused[0])


def test_names_are_made_and_taken_only_where_one_may_write(tree, bob, alice):
    lfn = Lfn("/pub/a")
    for result in (
        bob.register([NewFile(Lfn("/pub/a"), 1)]),
        bob.remove([lfn]),
        bob.make_links([NewLink(lfn, "/x")]),
    ):
        said = denied(result, lfn)
        assert "/pub has mode 0755, owner alice, group lhc: bob may not write in and enter it" in said
    denied(bob.make_directories([Lfn("/pub/deep/new/er")], "bob", "cms"), "/pub/deep/new/er")
    assert bob.make_directories([Lfn("/pub/deep")], "bob", "cms").ok, "it is there"
    for source, target in (("/pub/a", "/home/x"), ("/home/alice/x", "/pub/x")):
        with pytest.raises(Denied, match=f"rename {source} to {target}"):
            bob.rename(Lfn(source), Lfn(target))
    with pytest.raises(Denied):
        bob.put_collection(Lfn("/pub/c"), [], "bob", "cms")
    denied(bob.add_replicas([NewReplica(lfn, "OTHER")]), lfn)
    denied(bob.mark_replicas([lfn], "SE", ReplicaState.LOST), lfn)
    denied(bob.remove_replicas([lfn], "SE"), lfn)
    assert len(tree.resolve([lfn]).one(lfn).replicas) == 1
    assert alice.add_replicas([NewReplica(lfn, "OTHER")]).ok
    alice.rename(lfn, Lfn("/pub/new/a"))
    assert alice.remove([Lfn("/pub/new/a")]).ok


def test_what_is_made_is_ones_own(tree, bob):
    chmod(tree, "/pub", 0o777)
    bob.register([NewFile(Lfn("/pub/bobs/file"), 1, owner="alice", group="lhc")])
    for path in ("/pub/bobs", "/pub/bobs/file"):
        entry = tree.stat([Lfn(path)]).one(path)
        assert (entry.owner, entry.group) == ("bob", "cms")


def test_a_sticky_directory_keeps_what_others_own(tree, bob, alice):
    chmod(tree, "/pub", 0o1777)
    assert "sticky" in denied(bob.remove([Lfn("/pub/a")]), "/pub/a")
    with pytest.raises(Denied, match="sticky"):
        bob.rename(Lfn("/pub/a"), Lfn("/pub/b"))
    bob.register([NewFile(Lfn("/pub/mine"), 1), NewFile(Lfn("/pub/mine2"), 1)])
    assert bob.remove([Lfn("/pub/mine")]).ok
    assert alice.remove([Lfn("/pub/mine2")]).ok, "the directory is hers"


def test_only_the_owner_changes_access_and_only_administrators_owners(tree, bob, alice):
    lfn = Lfn("/pub/a")
    assert "owner alice, not bob" in denied(bob.change_access([NewAccess(lfn, mode=0o777)]), lfn)
    assert alice.change_access([NewAccess(lfn, mode=0o640)]).ok
    assert "another owner" in denied(alice.change_access([NewAccess(lfn, owner="bob")]), lfn)
    assert "not in the group cms" in denied(alice.change_access([NewAccess(lfn, group="cms")]), lfn)
    boss = Guarded(tree, BOB, administrators=["bob"])
    assert boss.change_access([NewAccess(lfn, owner="bob", group="cms")]).ok


def test_access_lists_open_and_default_lists_are_handed_down(tree, bob):
    secret, entry = Lfn("/home/alice/secret"), (AccessEntry("user", "bob", 7),)
    tree.change_access([NewAccess(secret, entries=entry, defaults=entry)])
    assert {one.entry.lfn for one in bob.find_with_report(secret, "*")[0]} == set(FILES[3:])
    assert bob.register([NewFile(secret.child("new").child("er").child("file"), 1)]).ok
    for path in ("new", "new/er", "new/er/file"):
        held = tree.access([Lfn(f"{secret}/{path}")]).one(f"{secret}/{path}")
        assert [str(one) for one in held.entries] == ["user:bob:rwx", "mask::rwx"]
        assert held.defaults == (held.entries if held.kind == "directory" else ())
    chmod(tree, secret, 0o700)
    denied(bob.stat([secret.child("y")]), secret.child("y"))


def test_the_trash_is_each_ones_own(database, clock, tree):
    catalogue = SqlCatalogue(database, clock, trash_s=100)
    chmod(catalogue, "/pub", 0o777)
    bob, alice = Guarded(catalogue.acting("bob"), BOB), Guarded(catalogue.acting("alice"), ALICE)
    assert bob.remove([Lfn("/pub/a")]).ok
    (trashed,) = bob.trash()
    assert trashed.removed_by == "bob"
    assert list(alice.trash()) == []
    assert isinstance(alice.undelete([trashed.id]).failed[str(trashed.id)], Denied)
    with pytest.raises(Denied):
        alice.forget_trash([trashed.id])
    with pytest.raises(Denied):
        list(alice.expired(clock.now_s + 1000))
    assert list(alice.expired(0, [trashed.id])) == []
    chmod(catalogue, "/pub", 0o755)
    assert isinstance(bob.undelete([trashed.id]).failed[str(trashed.id)], Denied)
    chmod(catalogue, "/pub", 0o777)
    assert bob.undelete([trashed.id]).ok == {str(trashed.id): "/pub/a"}


def test_by_guid_tells_only_names_that_can_be_reached(tree, bob, alice):
    guid = b"g" * 16
    tree.register([NewFile(Lfn(path), 1, guid=guid) for path in ("/pub/g", "/home/alice/secret/g")])
    assert bob.by_guid([guid]) == {guid: ("/pub/g",)}
    assert alice.by_guid([guid]) == {guid: ("/home/alice/secret/g", "/pub/g")}


def test_a_directory_is_asked_about_once_a_call(tree, monkeypatch):
    calls = []
    asked = tree.access

    def counting(lfns):
        calls.append(len(lfns))
        return asked(lfns)

    tree.register(
        [NewFile(Lfn(f"/many/{d}/{f}"), 1, owner="alice", group="lhc") for d in range(30) for f in range(100)]
    )
    monkeypatch.setattr(tree, "access", counting)
    lfns = [Lfn(f"/many/{d}/{f}") for d in range(30) for f in range(100)]
    assert len(Guarded(tree, BOB).resolve(lfns).ok) == 3000
    assert calls == [32]
    calls.clear()
    assert len(list(Guarded(tree, BOB).find(Lfn("/many"), "*"))) == 3000
    assert sum(calls) == 32
    assert len(calls) < 8
