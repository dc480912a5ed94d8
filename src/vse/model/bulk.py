"""The natural form of every call: many items in, what worked and what failed out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, TypeVar

from vse.errors import VseError

T = TypeVar("T")


@dataclass(slots=True)
class BulkResult(Generic[T]):
    """``ok[key]`` for each item that worked, ``failed[key]`` for each that did not; nothing is dropped."""

    ok: dict[str, T] = field(default_factory=dict)
    failed: dict[str, VseError] = field(default_factory=dict)

    def one(self, key: str) -> T:
        """Return the answer for ``key``, or raise its error: the single form of a bulk call."""
        if key in self.failed:
            raise self.failed[key]
        return self.ok[key]

    def merge(self, other: BulkResult[T]) -> None:
        """Take in the answers of another call; its answer wins where both have one."""
        for key in other.ok:
            self.failed.pop(key, None)
        for key in other.failed:
            self.ok.pop(key, None)
        self.ok.update(other.ok)
        self.failed.update(other.failed)
