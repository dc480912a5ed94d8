"""The pure half of the pool: what goes, what stays, what is copied."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vse.config.pools import PoolSettings
from vse.errors import BadSettings
from vse.model import Lfn
from vse.model.sizes import parse_bytes, show_bytes
from vse.staging.pool_plan import (
    Candidate,
    Fill,
    Popular,
    Watermarks,
    bytes_to_free,
    plan_eviction,
    plan_replication,
)

NOW_S = 1e9
sizes = st.integers(0, 10**12)
candidates = st.lists(
    st.builds(
        Candidate,
        st.integers(0, 50).map(lambda number: Lfn(f"/f{number}")),
        sizes,
        st.floats(0, 2e9),
    ),
    unique_by=lambda one: one.lfn,
)


@st.composite
def situations(draw):
    files = draw(candidates)
    names = [one.lfn for one in files]
    stay = draw(st.sets(st.sampled_from(names))) if names else set()
    return draw(st.integers(0, 10**13)), files, dict.fromkeys(stay, "pinned")


@given(situations())
def test_nothing_protected_ever_goes(situation):
    goal, files, protected = situation
    plan = plan_eviction(goal, files, protected, NOW_S, "full")
    assert not {one.file.lfn for one in plan.evictions} & set(protected)
    assert all(one.reason == "pinned" for one in plan.kept)


@given(situations())
def test_the_goal_is_reached_where_it_can_be_and_what_is_missing_is_told(situation):
    goal, files, protected = situation
    plan = plan_eviction(goal, files, protected, NOW_S, "full")
    freed = sum(one.file.size_bytes for one in plan.evictions)
    most = sum(one.size_bytes for one in files if one.lfn not in protected)
    assert plan.short_bytes == max(0, goal - freed)
    assert freed >= min(goal, most)


@given(situations())
def test_no_more_goes_than_is_needed(situation):
    goal, files, protected = situation
    plan = plan_eviction(goal, files, protected, NOW_S, "full")
    if plan.evictions:
        assert sum(one.file.size_bytes for one in plan.evictions[:-1]) < goal


@given(situations(), st.randoms())
def test_the_plan_does_not_depend_on_the_order_it_is_told_in(situation, random):
    goal, files, protected = situation
    shuffled = list(files)
    random.shuffle(shuffled)
    first = plan_eviction(goal, files, protected, NOW_S, "full")
    assert first == plan_eviction(goal, shuffled, protected, NOW_S, "full")


@given(situations())
def test_the_oldest_go_first_and_a_time_in_the_future_is_now(situation):
    goal, files, protected = situation
    plan = plan_eviction(goal, files, protected, NOW_S, "full")
    gone = [min(one.file.accessed_s, NOW_S) for one in plan.evictions]
    assert gone == sorted(gone)
    stays = {one.lfn for one in files} - {one.file.lfn for one in plan.evictions} - set(protected)
    left = [min(one.accessed_s, NOW_S) for one in files if one.lfn in stays]
    assert not gone or not left or max(gone) <= min(left)


@given(sizes, sizes, sizes)
def test_room_is_made_only_above_the_high_watermark_and_then_down_to_the_low_one(total, used, need):
    marks = Watermarks(0.9, 0.8)
    goal = bytes_to_free(Fill(total, used), marks, need)
    if used + need <= int(total * 0.9):
        assert goal == 0
    elif goal < used:
        assert used + need - goal <= int(total * 0.8)


@pytest.mark.parametrize(("high", "low"), [(0.8, 0.9), (0.9, 0.9), (1.1, 0.8), (0.9, -0.1)])
def test_watermarks_the_wrong_way_round_are_refused(high, low):
    with pytest.raises(BadSettings, match=r"low below high"):
        bytes_to_free(Fill(100, 100), Watermarks(high, low))
    with pytest.raises(ValueError, match=r"watermark|less than|greater than"):
        PoolSettings(high=high, low=low)


def test_a_percentage_instead_of_a_fraction_is_refused():
    with pytest.raises(ValueError, match="less than or equal to 1"):
        PoolSettings(high=90, low=80)


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [("10TB", 10**13), ("1.5 GiB", 3 * 2**29), ("7", 7), ("0.1kB", 100), ("2 pb", 2 * 10**15)],
)
def test_sizes_are_read_as_people_write_them(text, size_bytes):
    assert parse_bytes(text) == size_bytes
    assert PoolSettings.model_validate({"size": text}).size == size_bytes


@pytest.mark.parametrize("text", ["", "TB", "-5GB", "10 T B", "ten", "1.2.3GB", "5Gb/s"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ValueError, match="no size"):
        parse_bytes(text)


@given(st.integers(0, 10**20))
def test_a_size_for_people_is_right_to_three_figures(size_bytes):
    assert parse_bytes(show_bytes(size_bytes).replace("e+03", "000")) == pytest.approx(size_bytes, rel=6e-3)


popular = st.lists(
    st.builds(
        Popular,
        st.integers(0, 30).map(lambda number: Lfn(f"/f{number}")),
        st.integers(0, 100),
        st.integers(0, 20),
        st.frozensets(st.sampled_from(["A", "B", "C"])),
    ),
    unique_by=lambda one: one.lfn,
)


@given(popular, st.integers(0, 500), st.integers(1, 10))
def test_copies_of_files_read_often_stay_within_the_budget(files, budget, at_least):
    plan = plan_replication(files, ["A", "B"], at_least, budget)
    assert sum(one.size_bytes for one, _ in plan.copies) <= budget
    for one, place in (*plan.copies, *plan.left_out):
        assert one.reads >= at_least
        assert place in {"A", "B"} - one.places
    wanted = {(one.lfn, place) for one in files for place in {"A", "B"} - one.places if one.reads >= at_least}
    assert {(one.lfn, place) for one, place in (*plan.copies, *plan.left_out)} == wanted
    reads = [one.reads for one, _ in plan.copies]
    assert reads == sorted(reads, reverse=True)
