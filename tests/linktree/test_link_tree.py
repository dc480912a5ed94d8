"""The link tree: links for what is here, and hands off everything else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest
import sqlalchemy as sa

from support.databases import ensure_sqlite
from vse.db import Database
from vse.db.tables import links
from vse.errors import AlreadyExists, StorageFault
from vse.linktree import LinkTree
from vse.linktree.plan import FOREIGN, Action, decide
from vse.model import Lfn

A, B, C = Lfn("/lhc/run1/a.root"), Lfn("/lhc/run1/b.root"), Lfn("/lhc/run2/deep/er/c.root")


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[LinkTree]:
    database = Database.open(ensure_sqlite(tmp_path / "l.db"))
    yield LinkTree(tmp_path / "tree", database)
    database.close()


def stored(tree: LinkTree, lfn: Lfn) -> Path:
    path = tree.root.parent / "store" / lfn.lstrip("/")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(lfn)
    return path


def wanted(tree: LinkTree, *lfns: Lfn) -> dict[Lfn, Path]:
    return {lfn: stored(tree, lfn) for lfn in lfns}


def on_disk(tree: LinkTree) -> list[str]:
    return sorted(str(path.relative_to(tree.root)) for path in tree.root.rglob("*"))


def records(tree: LinkTree) -> set[str]:
    with tree._database.read() as connection:
        return {name for (name,) in connection.execute(sa.select(links.c.lfn))}


def as_it_is(path: Path) -> tuple[int, ...]:
    """What a change of the name or of what it holds would change; following a link sets its access time."""
    found = path.lstat()
    return (found.st_ino, found.st_mode, found.st_nlink, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def test_a_link_opens_the_file_and_is_absolute(tree: LinkTree) -> None:
    result = tree.ensure(wanted(tree, A, C))
    assert result.failed == {}
    assert result.ok[A] == tree.path(A)
    assert tree.path(A).read_text() == A
    assert tree.path(C).readlink().is_absolute()
    again = tree.ensure(wanted(tree, A, C))
    assert (again.failed, len(again.ok)) == ({}, 2)


def test_what_is_gone_is_removed_with_the_directories_that_were_made(tree: LinkTree) -> None:
    tree.ensure(wanted(tree, A, B, C))
    assert tree.drop([C]).failed == {}
    assert on_disk(tree) == ["lhc", "lhc/run1", "lhc/run1/a.root", "lhc/run1/b.root"]
    tree.drop([A, B])
    assert on_disk(tree) == []
    assert tree.root.is_dir()
    assert records(tree) == set()
    assert tree.drop([A, Lfn("/never/was")]).failed == {}


def test_a_directory_that_somebody_else_made_or_uses_stays(tree: LinkTree) -> None:
    (tree.root / "lhc").mkdir(parents=True)
    tree.ensure(wanted(tree, A, C))
    (tree.root / "lhc/run2/deep/notes.txt").write_text("mine")
    tree.drop([A, C])
    assert on_disk(tree) == ["lhc", "lhc/run2", "lhc/run2/deep", "lhc/run2/deep/notes.txt"]


def test_sync_makes_what_is_missing_and_removes_what_is_not_wanted(tree: LinkTree) -> None:
    tree.ensure(wanted(tree, A, B))
    tree.path(A).unlink()
    done = tree.sync(wanted(tree, A, C).items())
    assert (done.made, done.removed, done.kept, done.conflicts) == (2, 1, 0, {})
    assert not tree.path(B).is_symlink()
    assert (tree.path(A).read_text(), tree.path(C).read_text()) == (A, C)
    done = tree.sync(wanted(tree, A, C).items())
    assert (done.made, done.removed, done.kept) == (0, 0, 2)


def test_a_file_that_moved_gets_its_link_turned(tree: LinkTree, tmp_path: Path) -> None:
    tree.ensure(wanted(tree, A))
    elsewhere = tmp_path / "elsewhere.root"
    elsewhere.write_text("moved")
    assert tree.sync([(A, elsewhere)]).made == 1
    assert tree.path(A).read_text() == "moved"


@pytest.mark.parametrize("kind", ["file", "directory", "link", "dangling"])
def test_what_is_in_the_way_is_reported_and_left_untouched(tree: LinkTree, tmp_path: Path, kind: str) -> None:
    name = tree.path(A)
    name.parent.mkdir(parents=True)
    if kind == "file":
        name.write_text("precious")
    elif kind == "directory":
        name.mkdir()
    else:
        target = tmp_path / "precious"
        if kind == "link":
            target.write_text("precious")
        name.symlink_to(target)
    before = as_it_is(name)
    result = tree.ensure(wanted(tree, A, B))
    assert set(result.failed) == {A}
    assert isinstance(result.failed[A], AlreadyExists)
    assert "in the way that the link tree did not make" in str(result.failed[A])
    assert as_it_is(name) == before
    assert tree.path(B).read_text() == B
    done = tree.sync(wanted(tree, A, B).items())
    assert set(done.conflicts) == {A}
    tree.sync([])
    assert as_it_is(name) == before
    assert not tree.path(B).is_symlink()


def test_our_link_that_somebody_replaced_is_theirs_now(tree: LinkTree) -> None:
    tree.ensure(wanted(tree, A))
    tree.path(A).unlink()
    tree.path(A).write_text("theirs")
    assert set(tree.drop([A]).failed) == {A}
    assert tree.path(A).read_text() == "theirs"
    assert A not in records(tree)


def test_a_parent_that_is_a_symbolic_link_is_never_walked_through(tree: LinkTree, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "run1").mkdir(parents=True)
    tree.root.mkdir()
    (tree.root / "lhc").symlink_to(outside)
    result = tree.ensure(wanted(tree, A))
    assert "a symbolic link is in the way" in str(result.failed[A])
    assert list((outside / "run1").iterdir()) == []


def test_a_parent_turned_into_a_link_later_is_not_walked_through_to_remove(
    tree: LinkTree, tmp_path: Path
) -> None:
    tree.ensure(wanted(tree, A))
    outside = tmp_path / "outside"
    (tree.root / "lhc").rename(outside)
    (tree.root / "lhc").symlink_to(outside)
    assert set(tree.drop([A]).failed) == {A}
    assert (outside / "run1/a.root").is_symlink()


def test_a_parent_that_is_a_file_is_a_conflict(tree: LinkTree) -> None:
    tree.root.mkdir()
    (tree.root / "lhc").write_text("a file")
    assert "a file is in the way" in str(tree.ensure(wanted(tree, A)).failed[A])


def test_names_of_every_kind_become_links(tree: LinkTree) -> None:
    names = [Lfn.parse(f"/a b/ünï/{part}") for part in ("x y.root", "ж" * 100, "-rf", "*?[", "n" * 255)]
    assert tree.ensure(wanted(tree, *names)).failed == {}
    assert all(tree.path(name).read_text() == name for name in names)


def test_a_kill_between_record_and_link_is_made_good(tree: LinkTree) -> None:
    targets = wanted(tree, A)
    tree._record({A: str(targets[A])})
    assert tree.sync(targets.items()).made == 1
    assert tree.path(A).read_text() == A


def test_a_tree_whose_records_were_lost_counts_its_links_as_there(tree: LinkTree) -> None:
    targets = wanted(tree, A)
    tree.ensure(targets)
    tree._forget([A])
    assert tree.sync(targets.items()).kept == 1
    tree.sync([])
    assert tree.path(A).is_symlink()  # without a record it is not ours to remove


def test_a_root_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    database = Database.open(ensure_sqlite(tmp_path / "l.db"))
    tree = LinkTree(tmp_path / "file" / "tree", database)
    with pytest.raises(StorageFault, match="link tree"):
        tree.ensure({A: tmp_path / "file"})
    database.close()


def test_many_links_are_made_in_bulk(tree: LinkTree) -> None:
    lfns = [Lfn(f"/d/{number % 7}/f{number}") for number in range(2500)]
    target = stored(tree, A)
    done = tree.sync((lfn, target) for lfn in lfns)
    assert done.made == 2500
    assert sum(len(files) for _, _, files in os.walk(tree.root)) == 2500
    assert tree.sync([]).removed == 2500
    assert on_disk(tree) == []


@pytest.mark.parametrize(
    ("want", "record", "found"),
    list(product([None, "x", "y"], [None, "x", "y"], [None, "x", "y", "z", FOREIGN])),
)
def test_no_decision_ever_touches_what_is_not_ours(
    want: str | None, record: str | None, found: object
) -> None:
    action = decide(want, record, found)
    if action in (Action.REMOVE, Action.RETARGET):
        assert found == record is not None
    if action is Action.MAKE:
        assert found is None
    if want is not None and action is Action.KEEP:
        assert found == want
    if found is not None and found not in (want, record):
        assert action is Action.CONFLICT
