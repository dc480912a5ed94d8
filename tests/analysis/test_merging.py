"""Results are added as coffea's accumulate does."""

from __future__ import annotations

import awkward as ak
import hist
import numpy as np
import pytest

from vse.analysis.merging import Unmergeable, merge


def test_everything_is_added_by_its_kind() -> None:
    def part(value: int) -> dict[str, object]:
        histogram = hist.Hist.new.Reg(4, 0, 4, name="x").Double()
        histogram.fill([value])
        return {
            "n": 100,
            "deep": {"x": 1.5, f"only{value}": value},
            "set": {value},
            "list": [value],
            "hist": histogram,
            "array": np.array([1, value]),
            "ragged": ak.Array([[value], []]),
            "name": "same",
            "none": None,
        }

    total = None
    for value in (1, 2, 3):
        total = merge(total, part(value))
    assert total["n"] == 300
    assert total["deep"] == {"x": 4.5, "only1": 1, "only2": 2, "only3": 3}
    assert total["set"] == {1, 2, 3}
    assert total["list"] == [1, 2, 3]
    assert total["hist"].values().tolist() == [0, 1, 1, 1]
    assert total["array"].tolist() == [3, 6]
    assert total["ragged"].to_list() == [[1], [], [2], [], [3], []]
    assert (total["name"], total["none"]) == ("same", None)


def test_coffea_agrees() -> None:
    processor = pytest.importorskip("coffea.processor")
    parts = [{"a": index, "b": {"c": [index]}, "s": {index % 2}} for index in range(5)]
    total = None
    for part in parts:
        total = merge(total, {"a": part["a"], "b": {"c": list(part["b"]["c"])}, "s": set(part["s"])})
    assert total == processor.accumulate(parts)


@pytest.mark.parametrize(
    ("one", "other"), [({"x": 1}, {"x": "a"}), ({"x": "a"}, {"x": "b"}), ({"x": {}}, {"x": 1})]
)
def test_what_cannot_be_added_says_where(one: object, other: object) -> None:
    with pytest.raises(Unmergeable, match=r"\['x'\]"):
        merge(one, other)
