"""Adding results together, as coffea's ``accumulate`` does."""

from __future__ import annotations

from collections.abc import MutableMapping, MutableSet
from typing import Any


class Unmergeable(TypeError):
    """Two outputs cannot be added; the message says where and why."""


def merge(total: Any, part: Any, where: str = "the output") -> Any:
    """Return the sum of ``total`` and ``part``; both may be changed and must not be used again.

    Mappings key by key, sets by union, lists and awkward arrays one behind the other (in no given
    order); numbers, numpy arrays, histograms and anything else that has ``+`` by that. Strings, None
    and booleans must be equal. Raises `Unmergeable`.
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
    if type(total).__module__.partition(".")[0] == "awkward":
        import awkward as ak

        return ak.concatenate([total, part])
    try:
        return total + part
    except Exception as error:
        kinds = f"{type(total).__name__} and {type(part).__name__}"
        raise Unmergeable(f"{where}: {kinds} cannot be added ({error})") from error
