"""The three looks at a storage: what is dark, lost or different, and what only seems so."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vse.catalogue.consistency import Comparison, Finding, Held, Known, Limits, Seen, Tally, Verdict, judge

LONG_AGO = 100.0
SETTLED = 1000.0


def seen(before: int, after: int, held: int, *, held_bytes=7, newest_s=LONG_AGO, lost=0) -> Seen:
    return Seen("/f", "/f", before, held, after, 7 if before or after else None, held_bytes, newest_s, lost)


@pytest.mark.parametrize(
    ("looks", "verdict"),
    [
        ("001", Verdict.DARK),
        ("011", None),
        ("010", None),
        ("100", None),
        ("101", None),
        ("110", Verdict.LOST),
        ("111", None),
        ("000", None),
    ],
)
def test_diracs_truth_table(looks, verdict):
    """Digits: the catalogue before, the catalogue after, the storage (facts of the field, DIRAC)."""
    found = judge(seen(*map(int, looks)), SETTLED)
    assert (found and found.verdict) == verdict


def test_a_size_that_differs_and_one_that_is_not_told():
    assert judge(seen(1, 1, 1, held_bytes=8), SETTLED).verdict is Verdict.DIFFERING
    assert judge(seen(1, 1, 1, held_bytes=None), SETTLED) is None


@pytest.mark.parametrize("looks", ["001", "110", "111"])
def test_what_is_recent_is_never_judged(looks):
    assert judge(seen(*map(int, looks), held_bytes=8, newest_s=SETTLED), SETTLED) is None


def test_what_was_lost_and_is_there_again_is_found():
    assert judge(seen(1, 1, 1, lost=1), SETTLED).verdict is Verdict.FOUND
    assert judge(seen(1, 1, 0, lost=1), SETTLED) is None, "known to be lost: no news"
    assert judge(seen(1, 1, 1, held_bytes=8, lost=1), SETTLED) is None, "another size is no good copy"


@pytest.mark.parametrize(
    ("dark", "lost", "refused"),
    [
        (5, 0, set()),
        (6, 0, {Verdict.DARK}),
        (0, 5, set()),
        (0, 6, {Verdict.LOST, Verdict.DIFFERING}),
        (99, 99, set(Verdict) - {Verdict.FOUND}),
    ],
)
def test_the_limits_are_fractions_not_percent(dark, lost, refused):
    """0.05 stops at more than five of a hundred: Rucio's compared a percentage with a fraction."""
    tally = Tally(known=100, held=100, dark=dark, lost=lost)
    assert set(Limits(dark=0.05, lost=0.05).refusals(tally)) == refused


def test_differing_sizes_count_with_the_lost():
    refusals = Limits(lost=0.05).refusals(Tally(known=100, held=100, lost=3, differing=3))
    assert "6 of 100 copies" in refusals[Verdict.LOST]


PATHS = st.sampled_from(["/a", "/a/b", "/a-b", "/a/b-c", "/a/b/c", "/é", "/a/b.root", "/b"])
LOOK = st.dictionaries(PATHS, st.integers(0, 2))


@given(before=LOOK, held=LOOK, after=LOOK)
def test_the_looks_are_joined_by_path(tmp_path_factory, before, held, after):
    with Comparison(tmp_path_factory.mktemp("looks")) as comparison:
        assert comparison.look_before(Known(path, path, size) for path, size in before.items()) == len(before)
        comparison.look_at_storage(Held(path, size, LONG_AGO) for path, size in held.items())
        comparison.look_after(Known(path, path, size) for path, size in after.items())
        found = list(comparison.findings(SETTLED))
    assert [one.path for one in found] == sorted((one.path for one in found), key=str.encode)
    both = before.keys() & after.keys()
    expected = {(path, Verdict.DARK) for path in held.keys() - before.keys() - after.keys()}
    expected |= {(path, Verdict.LOST) for path in both - held.keys()}
    expected |= {
        (path, Verdict.DIFFERING)
        for path in both & held.keys()
        if max(before[path], after[path]) != held[path]
    }
    assert {(one.path, one.verdict) for one in found} == expected


def test_nothing_is_judged_below_what_could_not_be_listed(tmp_path):
    with Comparison(tmp_path) as comparison:
        for look in (comparison.look_before, comparison.look_after):
            look([Known("/a/x", "/a/x", 1), Known("/ab", "/ab", 1)])
        comparison.look_at_storage([])
        comparison.leave_out("/a")
        assert list(comparison.findings(SETTLED)) == [Finding("/ab", "/ab", Verdict.LOST, None, 1)]


def test_the_temporary_file_goes_with_the_comparison(tmp_path):
    with Comparison(tmp_path) as comparison:
        assert list(tmp_path.iterdir())
    assert not list(tmp_path.iterdir())
    with pytest.raises(sqlite3.ProgrammingError):
        comparison.look_before([Known("/a", "/a", 1)])


def test_a_directory_that_is_not_there_is_said(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        Comparison(tmp_path / "none")
