"""Which storage elements make room by themselves, and which files are copied because they are read often."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from vse.config.sections import Count, Names, Positive, Section
from vse.model.sizes import parse_bytes


def _bytes(value: Any) -> Any:
    return parse_bytes(value) if isinstance(value, str) else value


Bytes = Annotated[int, BeforeValidator(_bytes), Field(ge=0)]
"""A number of bytes, or a text with a unit: ``10TB``, ``1.5TiB``."""


class PoolSettings(Section):
    """A storage element whose oldest files make room for new ones."""

    size: Bytes = 0
    """How much VSE may keep there, in bytes or as `10TB`; 0: all of the storage, as it tells its size."""
    high: float = Field(default=0.9, gt=0, le=1)
    """The high watermark, a fraction of the size: fuller than this, files go, the oldest first."""
    low: float = Field(default=0.8, ge=0, le=1)
    """The low watermark: until it is no fuller than this."""
    young_s: float = Field(default=600.0, ge=0)
    """What came, was read, or was requested within this time stays."""
    sync_every_s: Positive = 3600.0
    """How often the accounts are compared with the catalogue."""

    @model_validator(mode="after")
    def _right_way_round(self) -> PoolSettings:
        if self.low >= self.high:
            raise ValueError(f"the low watermark ({self.low}) must be below the high one ({self.high})")
        return self


class ReplicationSettings(Section):
    """Copies of files that are read often (seed 004 §IV.3), made without being asked for."""

    destinations: Names = ()
    """Where they go to: names of storage elements. Where empty, there are none."""
    reads: Count = 10
    """A file that was read so often ..."""
    days: Count = 7
    """... within so many days gets a copy at each destination."""
    budget: Bytes = 100_000_000_000
    """Bytes a day that are asked for at most; `100GB` is a way to write it."""
    priority: int = Field(default=8, ge=1, le=9)
    """That of these requests: 1 first, 9 last."""
    owner: str = "replication"
    """Whom they are asked for by, and whose quota they count for."""
    every_s: Positive = 3600.0
    """How often to look."""
