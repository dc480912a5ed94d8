"""When will it be here: what was measured, what is ahead, and honest bounds."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vse.staging.eta import (
    Ahead,
    Awaited,
    Estimate,
    History,
    covered,
    forecast,
    latest_of,
    measure,
    pinball,
    remaining,
)
from vse.staging.eta_cost import Sample, cost_of
from vse.staging.eta_flow import Work, drain_s
from vse.transfer.lifecycle import Policy
from vse.transfer.shares import Slots

MB = 1_000_000
POLICY = Policy(max_failures=3, backoff_s=30.0)


def flow(
    number: int, slots: int = 2, took_s: float = 10.0, size: int = 10 * MB, **more: object
) -> list[Sample]:
    """``slots`` files at a time, each for ``took_s``, ``number`` times."""
    return [
        Sample(n * took_s, (n + 1) * took_s, 10 * MB, **{"source_se": "FAR", "share": "anna", **more})  # type: ignore[arg-type]
        for n in range(number)
        for _ in range(slots)
    ]


def told(history: History | None, before: int, slots: Slots, **more: object) -> Estimate:
    ahead = [Ahead("FAR", 5, before, before * 10 * MB)]
    found = forecast(history, Awaited("FAR", 10 * MB, ahead, "anna", **more), slots, POLICY)  # type: ignore[arg-type]
    assert found is not None
    return found


def test_nothing_measured_is_no_estimate() -> None:
    assert measure([]) is None
    assert measure([Sample(0.0, 5.0, 0)]) is None
    assert History.of([]) is None
    assert forecast(None, Awaited("FAR", MB, ()), Slots(2, 2), POLICY) is None
    assert remaining(None, Sample(0.0, 5.0, 0), MB) is None


def test_the_rate_is_that_of_all_slots_together() -> None:
    rate = measure(flow(4))
    assert rate is not None
    assert (rate.bytes_per_s, rate.files_per_s) == pytest.approx((2 * MB, 0.2))


def test_an_idle_night_does_not_slow_the_rate() -> None:
    rate = measure([Sample(0, 10, 1), Sample(40_000, 40_010, 10 * MB)])
    assert rate is not None
    assert rate.bytes_per_s == pytest.approx(MB)


def test_a_steady_flow_is_told_well_and_narrowly() -> None:
    """Two slots, 10 s a file: behind a hundred files it takes 500 s, and its own ten."""
    said = told(History.of(flow(100)), 100, Slots(2, 2))
    assert said.low_s < 505 < said.high_s
    assert said.likely_s == pytest.approx(505, rel=0.1)
    assert said.high_s / said.low_s < 2.3


def test_what_costs_by_the_file_and_what_by_the_byte_is_told_apart() -> None:
    """Each file a second, and 10 MB/s: a thousand empty files are not at once here."""
    sizes = [MB * n for n in range(1, 60)]
    found = cost_of([Sample(0.0, 1 + size / (10 * MB), size) for size in sizes])
    assert found.file_s == pytest.approx(1.0, rel=0.1)
    assert found.byte_s == pytest.approx(1e-7, rel=0.1)
    assert found.of(1000, 0) == pytest.approx(1000, rel=0.1)


@pytest.mark.parametrize("running", [False, True])
@pytest.mark.parametrize("spread", [1.0, 2.0])
def test_a_file_unlike_all_that_was_measured_may_cost_by_the_file_or_by_the_byte(
    running: bool, spread: float
) -> None:
    """Forty files of 1 kB took a tenth of a second each; what one of 4 MB takes nobody knows."""
    small = [
        Sample(n * 0.1, n * 0.1 + 0.1, round(1000 * spread ** (n / 40)), "FAR", share="anna")
        for n in range(40)
    ]
    history, size_bytes = History.of(small), 4 * MB
    if running:
        said = remaining(history, Sample(4.0, 4.0, 0, "FAR"), size_bytes)
    else:
        said = forecast(history, Awaited("FAR", size_bytes, (), "anna"), Slots(1, 1), POLICY)
    assert said is not None
    assert said.low_s < 0.15
    assert said.high_s > 0.1 / 1000 / spread * size_bytes
    ahead = [Ahead("FAR", 5, 1, size_bytes)]
    behind = forecast(history, Awaited("FAR", 1000, ahead, "anna"), Slots(1, 1), POLICY)
    assert behind is not None
    assert behind.low_s < 0.3
    assert behind.high_s > 0.1 / 1000 / spread * size_bytes


def test_few_samples_and_uneven_ones_make_wider_bounds() -> None:
    chance = random.Random(1)
    uneven, now_s = [], 0.0
    for _ in range(100):
        took_s = 10 * chance.lognormvariate(0.0, 0.8)
        uneven.append(Sample(now_s, now_s + took_s, 10 * MB, "FAR", share="anna"))
        now_s += took_s
    width = [
        said.high_s / said.low_s
        for said in (
            told(History.of(flow(100, slots=1)), 20, Slots(1, 1)),
            told(History.of(uneven), 20, Slots(1, 1)),
            told(History.of(flow(3, slots=1)), 20, Slots(1, 1)),
        )
    ]
    assert width[0] < width[1]
    assert width[0] < width[2]


def test_a_source_of_few_slots_keeps_its_own_files_waiting_and_no_others() -> None:
    history = History.of(flow(50, 4) + flow(50, 4, source_se="NEAR"))
    slots = Slots(8, 8, sources={"FAR": 2})
    ahead = [Ahead("FAR", 5, 1000, 1000 * 10 * MB), Ahead("NEAR", 5, 60, 600 * MB)]
    far = forecast(history, Awaited("FAR", 10 * MB, ahead), slots, POLICY)
    near = forecast(history, Awaited("NEAR", 10 * MB, ahead), slots, POLICY)
    assert far is not None
    assert near is not None
    assert far.likely_s == pytest.approx(5000, rel=0.2)
    assert near.likely_s == pytest.approx(100, rel=0.35)


def test_better_priorities_come_first() -> None:
    works = [Work(1, 100.0, 4, "A"), Work(5, 40.0, 4, "B")]
    assert drain_s(works, "B", 4) == pytest.approx(35.0)
    works = [Work(1, 100.0, 2, "A"), Work(5, 40.0, 4, "B")]  # two slots are left for it at once
    assert drain_s(works, "B", 4) == pytest.approx(20.0)


def test_where_others_overtake_it_takes_longer() -> None:
    """Every second file that came before anna's had been asked for after them."""
    mine = [Sample(n * 20.0, n * 20 + 10, 10 * MB, "FAR", -500.0, "anna") for n in range(60)]
    late = [Sample(n * 20 + 10.0, n * 20 + 20, 10 * MB, "FAR", n * 20.0, "ben") for n in range(60)]
    alone = told(History.of(flow(120, slots=1)), 30, Slots(1, 1))
    overtaken = told(History.of(mine + late), 30, Slots(1, 1))
    assert overtaken.likely_s > 1.5 * alone.likely_s


def test_a_back_off_comes_before_all() -> None:
    said = told(History.of(flow(20)), 0, Slots(2, 2), wait_s=3600.0)
    assert 3600 < said.low_s < said.high_s < 3700


def test_many_files_of_a_source_that_fails_take_a_back_off_longer() -> None:
    steady = told(History.of(flow(100)), 4, Slots(2, 2), files=100)
    failing = told(History.of(flow(100, failures=1)), 4, Slots(2, 2), files=100)
    assert failing.likely_s > steady.likely_s + POLICY.backoff_s


def test_a_running_file_is_told_by_its_own_pace_too() -> None:
    history = History.of(flow(50))
    slow = remaining(history, Sample(0.0, 60.0, 5 * MB, "FAR"), 10 * MB)  # half of it in a minute
    usual = remaining(history, Sample(0.0, 5.0, 5 * MB, "FAR"), 10 * MB)
    assert slow is not None
    assert usual is not None
    assert usual.likely_s == pytest.approx(5, rel=0.1)
    assert slow.likely_s > 10


def test_the_last_of_several_is_the_latest() -> None:
    assert latest_of([]) is None
    assert latest_of([Estimate(1, 2, 9), Estimate(2, 3, 4)]) == Estimate(2, 3, 9)


def test_coverage_and_loss_are_what_they_say() -> None:
    said = [Estimate(1, 2, 3), Estimate(1, 2, 3)]
    assert covered([2.0, 9.0], said) == 0.5
    assert pinball([10.0], [8.0], 0.9) == pytest.approx(1.8)
    assert pinball([10.0], [12.0], 0.9) == pytest.approx(0.2)


def test_the_same_question_has_the_same_answer() -> None:
    history = History.of(flow(30))
    assert told(history, 50, Slots(2, 2)) == told(history, 50, Slots(2, 2))


_SAMPLES = st.lists(
    st.builds(
        lambda start, length, size, source, created, failures: Sample(
            start, start + length, size, source, start - created, "anna", 5, failures
        ),
        st.floats(0, 1e6),
        st.floats(0, 1e4),
        st.integers(0, 10**12),
        st.sampled_from(["FAR", "NEAR", ""]),
        st.floats(0, 1e5),
        st.integers(0, 3),
    ),
    min_size=1,
    max_size=40,
)


@given(_SAMPLES, st.integers(0, 10**13), st.integers(0, 10**6), st.integers(1, 9), st.integers(1, 30))
def test_the_likely_time_lies_between_the_bounds(
    samples: list[Sample], size: int, files: int, priority: int, slots: int
) -> None:
    ahead = [Ahead("FAR", 1, files, size), Ahead("", 5, files / 3, size / 7), Ahead("NEAR", 0, 1, MB)]
    awaited = Awaited("FAR", 10 * MB, ahead, "anna", priority, files or 1)
    said = forecast(History.of(samples, samples[:3], samples), awaited, Slots(slots, 4), POLICY, 40)
    assert said is not None
    assert 0 <= said.low_s <= said.likely_s <= said.high_s < float("inf")
