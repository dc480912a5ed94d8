"""Which source is read next, and from where."""

from __future__ import annotations

from vse.transfer.sources import Plan, Source, in_order, next_se


def never() -> object:
    raise AssertionError


A, B, C = (Source(name, f"mem://{name}/f", never) for name in "ABC")  # type: ignore[arg-type]


def test_the_next_source_goes_on_where_the_checksum_is_known() -> None:
    for checked in (True, False):
        plan = Plan([A, B], checked=checked)
        plan.reads(plan.next() or A)
        assert plan.broke_off() is checked
        assert plan.next() is B
        assert plan.next() is None


def test_wrong_bytes_of_one_source_are_its_own_fault() -> None:
    plan = Plan([A, B], checked=True)
    plan.reads(plan.next() or A)
    assert plan.were_wrong()
    assert plan.next() is B
    plan.reads(B)
    assert plan.were_wrong()
    assert plan.next() is None


def test_wrong_bytes_of_several_are_read_once_more_from_each_alone() -> None:
    plan = Plan([A, B, C], checked=True)
    plan.reads(plan.next() or A)
    assert plan.broke_off()
    plan.reads(plan.next() or B)
    assert not plan.were_wrong()
    order = []
    while (source := plan.next()) is not None:
        order.append(source)
        plan.reads(source)
        assert not plan.broke_off()
    assert order == [A, B, C]


def test_wrong_bytes_of_an_earlier_attempt_blame_nobody() -> None:
    plan = Plan([A], checked=True)
    source = plan.next()
    assert source is A
    plan.kept()
    plan.reads(A)
    assert not plan.were_wrong()
    assert plan.next() is A
    plan.reads(A)
    assert plan.were_wrong()
    assert plan.next() is None


def test_what_no_source_mends_ends_the_plan() -> None:
    plan = Plan([A, B], checked=True)
    plan.next()
    plan.kept()
    plan.reads(A)
    plan.end()
    plan.were_wrong()
    assert plan.next() is None


def test_the_next_time_begins_with_the_one_after_the_last() -> None:
    assert [next_se([A, B, C], last) for last in ("A", "B", "C", "D", None)] == ["B", "C", "A", None, None]
    assert in_order([A, B, C], "B") == [B, A, C]
    assert in_order([A, B, C], None) == [A, B, C]
