"""Histograms whose axes grew apart: brought to the same bins, so that they can be added.

Of growing axes ``boost_histogram`` adds categories only. Regular and integer ones that grew in different
packets are on one grid, and fit each into the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_OFF_GRID = 1e-6
"""In bins: what rounding in the edges of a grown axis may amount to."""


def is_histogram(value: Any) -> bool:
    return type(value).__module__.partition(".")[0] in ("hist", "boost_histogram")


def add(total: Any, part: Any) -> Any:
    """Return the sum. Raises ValueError where the axes are not the same, and did not grow apart either."""
    axes = [_common(*pair) for pair in zip(total.axes, part.axes, strict=True)]
    return spread(total, axes) + spread(part, axes)


def in_order(histogram: Any) -> Any:
    """Return it with the categories of its growing axes sorted: they grew as the packets came."""
    if all(list(axis) == sorted(axis) for axis in histogram.axes if _grows_names(axis)):
        return histogram
    axes = [_of_categories(axis, sorted(axis)) if _grows_names(axis) else axis for axis in histogram.axes]
    return spread(histogram, axes)


def spread(histogram: Any, axes: Sequence[Any]) -> Any:
    """Return a histogram of these ``axes``, which hold every bin of its own."""
    import numpy as np

    made = type(histogram)(*axes, storage=histogram.storage_type())
    for name in ("name", "label"):  # a `hist.Hist` has them
        if getattr(histogram, name, None) is not None:
            setattr(made, name, getattr(histogram, name))
    places = [_places(*pair) for pair in zip(histogram.axes, axes, strict=True)]
    made.view(flow=True)[np.ix_(*places)] = histogram.view(flow=True)
    return made


def _common(one: Any, other: Any) -> Any:
    if one == other:
        return one
    if type(one) is not type(other) or not (one.traits.growth and other.traits.growth):
        raise ValueError("their axes differ")
    if _is_of_categories(one):
        return _of_categories(one, dict.fromkeys([*one, *other]))
    width = _grid(one)
    low, high = min(one.edges[0], other.edges[0]), max(one.edges[-1], other.edges[-1])
    on_grid = [(edge - low) / width for edge in (one.edges[0], *other.edges[:2])] if width else [0.5]
    if any(abs(place - round(place)) > _OFF_GRID for place in on_grid):
        raise ValueError("their axes grew apart and are of no common bins")
    if type(one).__name__ == "Integer":
        return _like(one, int(low), int(high))
    return _like(one, round((high - low) / width), low, high)


def _grid(axis: Any) -> float:
    """Return how wide each bin of a growing axis is; 0 where that cannot be said."""
    if type(axis).__name__ not in ("Regular", "Integer") or getattr(axis, "transform", None) is not None:
        return 0.0
    return float((axis.edges[-1] - axis.edges[0]) / axis.size)


def _places(old: Any, new: Any) -> list[int]:
    """Return where the bins of ``old``, with those below and above, are in ``new``."""
    below = int(new.traits.underflow)
    inner = list(range(below, below + old.size))
    if _is_of_categories(old):
        where = {name: number for number, name in enumerate(new)}
        inner = [where[name] for name in old]
    elif old.traits.growth and _grid(old):
        first = round((old.edges[0] - new.edges[0]) / _grid(old))
        inner = [number + first for number in inner]
    return [*([0] if below else []), *inner, *([new.extent - 1] if old.traits.overflow else [])]


def _is_of_categories(axis: Any) -> bool:
    return type(axis).__name__ in ("StrCategory", "IntCategory")


def _grows_names(axis: Any) -> bool:
    return bool(axis.traits.growth) and _is_of_categories(axis)


def _of_categories(like: Any, categories: Any) -> Any:
    return _like(like, list(categories))


def _like(axis: Any, *bins: Any) -> Any:
    made = type(axis)(*bins, growth=True)
    made.__dict__.update(axis.__dict__)  # its name and label
    return made
