"""Numbers of bytes as people write them: ``10TB``, ``1.5 GiB``."""

from __future__ import annotations

import re

_NAMES = ("", "k", "M", "G", "T", "P", "E")
_UNITS = {f"{name.lower()}b": 1000**power for power, name in enumerate(_NAMES)} | {
    f"{name.lower()}ib": 1024**power for power, name in enumerate(_NAMES) if power
}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")


def parse_bytes(text: str) -> int:
    """Return the bytes that ``text`` means: a number, and B, kB ... EB (powers of 1000) or KiB ... EiB.

    The case of the unit does not matter, and without one it is bytes. Raises `ValueError` otherwise.
    """
    found = _SIZE.fullmatch(text)
    factor = _UNITS.get((found[2] or "b").lower()) if found else None
    if found is None or factor is None:
        raise ValueError(f"{text!r} is no size: write it as 10TB, 500 GB or 1.5TiB")
    whole, _, part = found[1].partition(".")
    size_bytes: int = int(whole + part) * factor // 10 ** len(part)
    return size_bytes


def show_bytes(size_bytes: int) -> str:
    """Return a number of bytes for people, to three figures: ``1.46 TB`` (powers of 1000)."""
    power = 0
    value = float(size_bytes)
    while abs(value) >= 999.5 and power < len(_NAMES) - 1:
        value, power = value / 1000, power + 1
    return f"{value:.3g} {_NAMES[power]}B"
