"""Bandwidth caps, with the time passed in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vse.config.settings import StagerSettings
from vse.transfer.caps import OVERALL, Bucket, Caps, Moving, Rates, parts_of

MB = 1_000_000


class Now:
    def __init__(self) -> None:
        self.s = 100.0

    def __call__(self) -> float:
        return self.s


def bytes_in(caps: Caps, now: Now, seconds: float, *ways: tuple[str, str], piece: int = MB // 8) -> int:
    """Move pieces, each way a slot of its own, for some time; return how many bytes went."""
    free_s = dict.fromkeys(ways, now.s)
    end_s, moved = now.s + seconds, 0
    while min(free_s.values()) < end_s:
        way = min(ways, key=free_s.__getitem__)
        now.s = max(now.s, free_s[way])
        moved += piece
        free_s[way] = now.s + caps.wait_s(*way, piece)
    return moved


@pytest.mark.parametrize("piece", [1000, MB // 8, 7 * MB])
def test_one_slot_keeps_to_the_rate_whatever_the_size_of_its_pieces(piece: int) -> None:
    now = Now()
    moved = bytes_in(Caps(Rates(overall=MB), now), now, 60, ("A", "B"), piece=piece)
    assert 0.9 * 60 * MB <= moved <= 61 * MB + piece


def test_all_slots_of_a_process_share_a_cap_and_others_do_not_count() -> None:
    now = Now()
    caps = Caps(Rates(sources={"A": MB}), now)
    ways = [("A", "X"), ("A", "Y"), ("A", "Z")]
    assert bytes_in(caps, now, 20, *ways) <= 21.5 * MB
    assert caps.wait_s("B", "X", 100 * MB) == 0.0


def test_the_narrowest_of_source_destination_and_overall_holds() -> None:
    now = Now()
    caps = Caps(Rates(10 * MB, {"A": 5 * MB}, {"X": MB}), now)
    assert bytes_in(caps, now, 10, ("A", "X")) <= 11.5 * MB


def test_a_stager_takes_only_its_part_of_a_cap() -> None:
    now = Now()
    caps = Caps(Rates(overall=4 * MB, sources={"A": 2 * MB}), now)
    caps.set(Rates(overall=4 * MB), {OVERALL: 0.25})
    assert 8 * MB <= bytes_in(caps, now, 10, ("A", "X")) <= 12 * MB
    caps.set(Rates(sources={"A": 2 * MB}), {OVERALL: 0.25, ("source", "A"): 1.0})
    assert 18 * MB <= bytes_in(caps, now, 10, ("A", "X")) <= 22 * MB


def test_caps_are_divided_as_the_files_are_that_they_hold_for() -> None:
    """Who moves all of A's files has all of A's cap, however many others move those of B."""
    moving = [Moving("me", "A", "X", 2), Moving("you", "B", "X", 6), Moving("they", "B", "Y", 2)]
    assert parts_of("me", moving) == {OVERALL: 0.2, ("source", "A"): 1.0, ("destination", "X"): 0.25}
    assert parts_of("nobody", moving) == {}


_MOVING = st.lists(
    st.builds(
        Moving,
        st.sampled_from(["a", "b", "c"]),
        st.sampled_from(["", "A", "B"]),
        st.sampled_from(["X", "Y"]),
        st.integers(1, 9),
    ),
    min_size=1,
    max_size=12,
)


@given(_MOVING)
def test_the_parts_of_all_stagers_are_the_whole(moving: list[Moving]) -> None:
    parts = [parts_of(owner, moving) for owner in {one.owner for one in moving}]
    for key in {key for some in parts for key in some}:
        assert sum(some.get(key, 0.0) for some in parts) == pytest.approx(1.0)


def test_another_cap_holds_from_now_on_and_none_is_none() -> None:
    now = Now()
    caps = Caps(Rates(overall=MB), now)
    bytes_in(caps, now, 10, ("A", "X"))
    caps.set(Rates(overall=10 * MB))
    assert bytes_in(caps, now, 10, ("A", "X")) > 80 * MB
    caps.set(Rates())
    assert caps.wait_s("A", "X", 1000 * MB) == 0.0


def test_a_clock_that_goes_back_gives_and_takes_nothing() -> None:
    bucket, _ = Bucket(MB, 0.0, 100.0).draw(MB, 100.0)
    back = bucket.filled(50.0)
    assert back.level_bytes == bucket.level_bytes
    assert back.filled(51.0).level_bytes == bucket.level_bytes + MB


@given(st.lists(st.tuples(st.floats(0, 10), st.integers(0, 5 * MB)), max_size=50))
def test_never_more_than_the_rate_and_one_burst(steps: list[tuple[float, int]]) -> None:
    bucket, now_s, gone = Bucket(MB, 0.25 * MB, 0.0), 0.0, 0
    for pause_s, size in steps:
        now_s += pause_s
        bucket, wait_s = bucket.draw(size, now_s)
        now_s += wait_s
        gone += size
        assert gone <= MB * now_s + 0.25 * MB + 1


@pytest.mark.parametrize(
    ("text", "rate"),
    [("100MB/s", 1e8), ("1.5 GiB/s", 1.5 * 2**30), ("10k", 1e4), ("5 B", 5), (7, 7), ("8", 8)],
)
def test_rates_are_written_as_people_do(text: object, rate: float) -> None:
    settings = StagerSettings.model_validate({"max_rate": text, "source_rates": {"A": text}})
    assert (settings.max_rate, settings.source_rates["A"]) == (rate, rate)


@pytest.mark.parametrize("text", ["fast", "-1", "100 parsecs", "MB/s", ""])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="max_rate"):
        StagerSettings.model_validate({"max_rate": text})
