"""Adding results together, as coffea's ``accumulate`` does.

What is counted in whole numbers (also as floating point, up to 2**53) comes out bit for bit the same in
whatever order it is added. Other floating point sums depend on the order in their last bits: a sum of N
packets is off by at most N * 1.1e-16 of the sum of the magnitudes, whatever the schedule.
"""

from __future__ import annotations

import sys
from collections.abc import MutableMapping, MutableSet
from typing import Any

from vse.analysis import merging_histograms

_ONE_BEHIND_THE_OTHER = "return an awkward array for values that go one behind the other"


class Unmergeable(TypeError):
    """Two outputs cannot be added; the message says where and why."""


class TooBig(MemoryError):
    """A merged output is larger than allowed; the message says how large, and which part of it."""


def merge(total: Any, part: Any, where: str = "the output") -> Any:
    """Return the sum of ``total`` and ``part``; both may be changed and must not be used again.

    Mappings key by key, sets by union, lists, awkward arrays and pandas tables one behind the other (in no
    given order); numbers, numpy arrays of one shape, histograms and anything else that has ``+`` by that.
    Strings, None and booleans must be equal. Raises `Unmergeable`, and `MemoryError`, which leaves half of
    it added.
    """
    if part is None:
        return total
    if total is None:
        return part
    if isinstance(total, MutableMapping) and isinstance(part, MutableMapping):
        for key, value in part.items():
            total[key] = merge(total[key], value, f"{where}[{key!r}]") if key in total else value
        return total
    if isinstance(total, MutableSet) and isinstance(part, MutableSet):
        return total | part
    if isinstance(total, str | bytes | bool) or isinstance(part, str | bytes | bool):
        if total == part:
            return total
        raise Unmergeable(f"{where} is {total!r} in one packet and {part!r} in another")
    return _add(total, part, where)


def _add(total: Any, part: Any, where: str) -> Any:
    kind = type(total).__module__.partition(".")[0]
    try:
        if kind == "awkward":
            return sys.modules[kind].concatenate([total, part])
        if kind == "pandas":
            return sys.modules[kind].concat([total, part])
        if kind == "numpy" and getattr(total, "shape", ()) != getattr(part, "shape", ()):
            raise ValueError(
                f"shapes {total.shape} and {getattr(part, 'shape', ())}: {_ONE_BEHIND_THE_OTHER}"
            )
        return _add_histograms(total, part) if merging_histograms.is_histogram(total) else total + part
    except MemoryError:
        raise
    except Exception as error:
        kinds = f"{type(total).__name__} and {type(part).__name__}"
        raise Unmergeable(f"{where}: {kinds} cannot be added ({error})") from error


def _add_histograms(total: Any, part: Any) -> Any:
    try:
        return total + part
    except ValueError as error:
        if len(total.axes) != len(part.axes) or total.storage_type is not part.storage_type:
            raise
        try:
            return merging_histograms.add(total, part)
        except ValueError as reason:
            raise reason from error


def in_order(output: Any) -> Any:
    """Return an output in which nothing shows in what order its histograms' categories were met."""
    if isinstance(output, MutableMapping):
        for key, value in output.items():
            output[key] = in_order(value)
        return output
    return merging_histograms.in_order(output) if merging_histograms.is_histogram(output) else output


def sizes(output: Any, where: str = "the output") -> list[tuple[int, str]]:
    """Return ``(size_bytes, where)`` of each part of an output; costs nothing like a walk over its data."""
    if isinstance(output, MutableMapping):
        return [one for key, value in output.items() for one in sizes(value, f"{where}[{key!r}]")]
    return [(_size_bytes(output), where)]


def _size_bytes(value: Any) -> int:
    if isinstance(value, list | tuple | set | frozenset) and value:
        return sys.getsizeof(value) + len(value) * _size_bytes(next(iter(value)))
    if merging_histograms.is_histogram(value):
        value = value.view(flow=True)
    return int(getattr(value, "nbytes", 0) or sys.getsizeof(value))


def excess(output: Any, most_bytes: int) -> str:
    """Say by how much an output is larger than allowed, and which part of it is; empty where it is not."""
    parts = sizes(output)
    total = sum(size_bytes for size_bytes, _ in parts)
    if total <= most_bytes:
        return ""
    largest, where = max(parts)
    megabytes = 1e-6
    return (
        f"it takes {total * megabytes:,.0f} MB and {most_bytes * megabytes:,.0f} MB are allowed; "
        f"the largest part is {where} with {largest * megabytes:,.0f} MB"
    )


def check_size(output: Any, most_bytes: int) -> None:
    """Raise `TooBig` where an output is larger than allowed."""
    found = excess(output, most_bytes)
    if found:
        raise TooBig(found)
