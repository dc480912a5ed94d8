"""The access check algorithm of POSIX.1e, case by case, and what access entries look like."""

from __future__ import annotations

import pytest

from vse.catalogue.permissions import may, symbolic
from vse.errors import BadRequest
from vse.model import Access, AccessEntry, Identity, Lfn
from vse.model.access import ENTER, READ, WRITE, with_mask

ALICE, BOB, CARL = Identity("alice", ("lhc",)), Identity("bob", ("lhc", "cms")), Identity("carl", ("atlas",))


def access(mode, *entries, owner="alice", group="lhc"):
    return Access(Lfn("/d"), "directory", owner, group, mode, tuple(map(AccessEntry.parse, entries)))


def rights(identity, held):
    return "".join(
        letter
        for letter, bit in zip("rwx", (READ, WRITE, ENTER), strict=True)
        if may(identity, held, bit) is None
    )


@pytest.mark.parametrize(
    ("mode", "entries", "alice", "bob", "carl"),
    [
        (0o754, (), "rwx", "rx", "r"),
        (0o077, (), "", "rwx", "rwx"),  # the owner has the owner's digit, be it the worst
        (0o705, (), "rwx", "", "rx"),  # so have members of the group
        (0o700, ("user:carl:rwx", "mask::rwx"), "rwx", "", "rwx"),
        (0o700, ("user:carl:rwx", "mask::r-x"), "rwx", "", "rx"),
        (0o707, ("user:carl:---", "mask::rwx"), "rwx", "", ""),
        (0o770, ("group:cms:r--", "mask::rwx"), "rwx", "rwx", ""),
        (0o740, ("group:cms:-wx", "mask::rwx"), "rwx", "rwx", ""),
        (0o770, ("group:cms:r--", "mask::r--"), "rwx", "r", ""),
        (0o777, ("group:atlas:---", "mask::rwx"), "rwx", "rwx", ""),
        (0o755, ("user:alice:---", "mask::---"), "rwx", "", "rx"),  # neither is the owner's matter
    ],
)
def test_the_first_class_that_fits_decides(mode, entries, alice, bob, carl):
    held = access(mode, *entries)
    assert (rights(ALICE, held), rights(BOB, held), rights(CARL, held)) == (alice, bob, carl)


def test_one_group_must_grant_all_that_is_wanted():
    held = access(0o700, "group:lhc:r--", "group:cms:-w-", "mask::rwx", group="none")
    assert may(BOB, held, READ) is None
    assert may(BOB, held, WRITE) is None
    assert may(BOB, held, READ | WRITE) is not None


def test_a_refusal_names_all_that_decided():
    said = may(CARL, access(0o2750 & 0o1777, "user:eve:r-x", "mask::r-x"), WRITE | ENTER)
    for word in ("/d", "0750", "owner alice", "group lhc", "user:eve:r-x", "carl", "write in and enter"):
        assert word in said


@pytest.mark.parametrize("text", ["user:alice:rw-", "group:lhc:r-x", "mask::r--"])
def test_entries_are_written_as_they_are_read(text):
    assert str(AccessEntry.parse(text)) == text
    assert AccessEntry.parse(text.replace("user", "u").replace("group", "g").replace("mask", "M")) == (
        AccessEntry.parse(text)
    )


@pytest.mark.parametrize(
    "text", ["", "alice:rw", "user::rw-", "mask:x:r", "user:a:rz", "other::r", "user:a:8"]
)
def test_what_is_no_entry_is_said(text):
    with pytest.raises(BadRequest, match="read the access entry"):
        AccessEntry.parse(text)


def test_a_list_without_a_mask_gets_the_widest():
    entries = tuple(map(AccessEntry.parse, ("group:lhc:-w-", "user:bob:r--")))
    assert [str(one) for one in with_mask(entries, 0o1)] == ["user:bob:r--", "group:lhc:-w-", "mask::rwx"]
    assert with_mask((), 7) == ()


def test_modes_are_shown_as_ls_shows_them():
    assert symbolic(access(0o1750)) == "drwxr-x--T"
    assert symbolic(access(0o1777, "user:bob:r--", "mask::r--")) == "drwxrwxrwt+"
