"""When will it be here: what was measured, with honest bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vse.staging.eta import Rate, Sample, estimate, measure

MB = 1_000_000


def test_nothing_measured_is_no_estimate() -> None:
    assert measure([]) is None
    assert measure([Sample(0.0, 5.0, 0)]) is None
    assert estimate(None, 10 * MB, 1) is None


def test_a_steady_flow_is_measured_over_all_slots_together() -> None:
    """Two slots, each a file of 10 MB in 10 s: 2 MB/s, and 20 MB take ten seconds."""
    samples = [Sample(start, start + 10, 10 * MB) for start in (0, 10, 20, 30) for _ in range(2)]
    rate = measure(samples)
    assert rate is not None
    assert rate.bytes_per_s == pytest.approx(2 * MB)
    assert rate.files_per_s == pytest.approx(0.2)
    found = estimate(rate, 20 * MB, 2)
    assert found is not None
    assert found.likely_s == pytest.approx(10)
    assert found.low_s == pytest.approx(8)
    assert found.high_s == pytest.approx(12.5)


def test_an_idle_night_does_not_slow_the_rate() -> None:
    evening = [Sample(0, 10, 1)]
    morning = [Sample(40_000, 40_010, 10 * MB)]
    rate = measure(evening + morning)
    assert rate is not None
    assert rate.bytes_per_s == pytest.approx(MB)


def test_an_uneven_flow_has_wider_bounds_than_a_steady_one() -> None:
    steady = measure([Sample(n * 10, n * 10 + 10, 10 * MB) for n in range(8)])
    uneven = measure([Sample(n * 10, n * 10 + 10, (1 if n % 2 else 19) * MB) for n in range(8)])
    assert steady is not None
    assert uneven is not None
    assert uneven.bytes_per_s == pytest.approx(steady.bytes_per_s)
    assert uneven.low < steady.low
    assert uneven.high > steady.high


def test_a_single_sample_is_good_for_a_factor_of_two() -> None:
    found = estimate(measure([Sample(0, 10, 10 * MB)]), 10 * MB, 1)
    assert found is not None
    assert (found.low_s, found.likely_s, found.high_s) == pytest.approx((5, 10, 20))


def test_many_tiny_files_take_as_long_as_their_number_says() -> None:
    found = estimate(Rate(100.0 * MB, 50.0, 80.0 * MB, 120.0 * MB), 1000, 10_000)
    assert found is not None
    assert found.high_s == pytest.approx(200)


def test_a_back_off_comes_before_all() -> None:
    found = estimate(Rate(MB, 1.0, MB, MB), MB, 1, wait_s=60)
    assert found is not None
    assert found.low_s == pytest.approx(61)


_SAMPLES = st.lists(
    st.builds(
        lambda start, length, size: Sample(start, start + length, size),
        st.floats(0, 1e6),
        st.floats(0, 1e4),
        st.integers(0, 10**12),
    ),
    max_size=30,
)


@given(_SAMPLES, st.integers(0, 10**13), st.integers(0, 10**6))
def test_the_likely_time_lies_between_the_bounds(samples: list[Sample], size: int, files: int) -> None:
    found = estimate(measure(samples), size, files)
    if found is not None:
        assert 0 <= found.low_s <= found.likely_s <= found.high_s < float("inf")
