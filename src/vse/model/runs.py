"""Run lists as they are written in dataset queries: ``139505-139510,139437``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Self

MAX_RUN = 999_999_999


@dataclass(frozen=True, slots=True)
class Runs:
    """A set of run numbers as ranges ``(first, last)``, both included: sorted, disjoint, not adjacent."""

    ranges: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, ranges: Iterable[tuple[int, int]]) -> Self:
        """Sort and merge; a range may be given last run first (as in ROOT's TDataSetManagerAliEn)."""
        merged: list[tuple[int, int]] = []
        for first, last in sorted((min(one), max(one)) for one in ranges):
            if merged and first <= merged[-1][1] + 1:
                merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
            else:
                merged.append((first, last))
        return cls(tuple(merged))

    def __len__(self) -> int:
        return sum(last - first + 1 for first, last in self.ranges)

    def __iter__(self) -> Iterator[int]:
        for first, last in self.ranges:
            yield from range(first, last + 1)

    def __contains__(self, run: object) -> bool:
        return isinstance(run, int) and any(first <= run <= last for first, last in self.ranges)

    def __str__(self) -> str:
        return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in self.ranges)


class BadRun(ValueError):
    """A piece of a run list that is no run and no range; ``column`` counts from the list's beginning."""

    def __init__(self, column: int, found: str) -> None:
        super().__init__(found)
        self.column = column
        self.found = found


def parse_runs(text: str) -> Runs:
    """Read numbers and ranges, separated by ',' (or ':', as the seeds' files have it). Raises `BadRun`."""
    ranges: list[tuple[int, int]] = []
    column = 0
    for piece in text.replace(":", ",").split(","):
        start = column + len(piece) - len(piece.lstrip())
        column += len(piece) + 1
        first, dash, last = piece.partition("-")
        numbers = [first.strip(), last.strip()] if dash else [first.strip()]
        for number in numbers:
            if not (number.isascii() and number.isdigit()):
                shown = piece.strip() or "nothing"
                raise BadRun(start, f"{shown!r} is no run and no range of runs")
            if int(number) > MAX_RUN:
                raise BadRun(start, f"{number} is too great for a run")
        ranges.append((int(numbers[0]), int(numbers[-1])))
    return Runs.of(ranges)
