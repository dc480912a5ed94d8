"""Which requests wait for somebody's word, and who may give it (seed 000: the user asks, the site stages)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Self

from vse.config.settings import StagerSettings
from vse.model import Identity


@dataclass(frozen=True, slots=True)
class ApprovalRule:
    """``above_bytes``: a request that has more than so much to come waits; None: none does."""

    above_bytes: int | None = None

    @classmethod
    def of(cls, settings: StagerSettings) -> Self:
        kind, _, size = settings.approval.partition(" ")
        return cls({"none": None, "all": -1}[kind] if not size else int(size))

    def holds(self, coming_bytes: int) -> bool:
        return self.above_bytes is not None and coming_bytes > self.above_bytes


@dataclass(frozen=True, slots=True)
class Approvers:
    """Who approves, and whose own requests need no approval."""

    users: Collection[str] = ()
    groups: Collection[str] = ()

    def include(self, identity: Identity) -> bool:
        return identity.name in self.users or any(group in self.groups for group in identity.groups)
