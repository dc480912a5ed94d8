"""Whose turn it is: what somebody has given up costs them no turns, and nobody gets more for it."""

from __future__ import annotations

from support.staging_site import BASE, StagingSite
from vse.transfer.shares import Slots


def asked(site: StagingSite, **owners: str) -> dict[str, int]:
    """Let people ask for files; return their requests. The files are made first."""
    return {owner: site.ask(pattern, owner) for owner, pattern in owners.items()}


def files(site: StagingSite, letters: str, number: int = 30) -> None:
    site.add({f"{letter}{n:03}.bin": b"x" for letter in letters for n in range(number)})


def order(site: StagingSite) -> list[str]:
    """Return the files in the order in which stagers take them up: letters and numbers."""
    taken: list[str] = []
    while some := site.queue.claim("me", 1, Slots(1000, 1000)):
        taken += [one.lfn.removeprefix(f"{BASE}/").removesuffix(".bin") for one in some]
    return taken


def test_who_cancels_a_large_request_is_served_at_once_with_the_next_one(site: StagingSite) -> None:
    files(site, "abc")
    site.staging.cancel(site.ask("a*", "anna"))
    asked(site, bob="b*", anna="c000*")
    assert order(site)[:2] in (["b000", "c000"], ["c000", "b000"])


def test_a_file_that_others_still_want_counts_for_them_and_no_more_for_who_cancelled(
    site: StagingSite,
) -> None:
    files(site, "abc", 10)
    first = site.ask("a*", "anna")
    asked(site, bob="a*")
    site.staging.cancel(first)
    asked(site, anna="b*", carl="c*")
    taken = order(site)
    assert len(taken) == len(set(taken)) == 30
    for number in range(10):  # each of the three has the same part of the slots from the beginning
        assert sorted(name[0] for name in taken[3 * number : 3 * number + 3]) == ["a", "b", "c"]


def test_nobody_gains_by_cancelling_what_they_queued_first(site: StagingSite) -> None:
    files(site, "abd", 10)
    first = site.ask("a*", "anna")
    asked(site, anna="b*", bob="d*")
    site.staging.cancel(first)
    files(site, "e", 10)
    asked(site, anna="e*")
    taken = order(site)
    for end in range(1, 31):  # half of the slots, however she goes about it
        anna = sum(name[0] in "be" for name in taken[:end])
        assert anna <= end // 2 + 1 or "d009" in taken[:end]


def test_a_request_that_is_moved_to_another_priority_leaves_no_gap_behind(site: StagingSite) -> None:
    files(site, "abc")
    moved = site.ask("a*", "anna")
    site.staging.change_priority(moved, 9)
    asked(site, bob="b*", anna="c000*")
    taken = order(site)
    assert "c000" in taken[:2]
    assert taken[-30:] == [f"a{number:03}" for number in range(30)]
