"""What a facility was started with: kept in its directory, so that a restart is the same facility."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from vse.elastic.batch.port import Batch, Order
from vse.elastic.controller import Limits
from vse.errors import BadSettings

BATCHES = ("local", "slurm", "ssh", "htcondor")


@dataclass(frozen=True, slots=True)
class FacilityOrders:
    """``directories`` of environment scripts, system-wide first; ``every_s`` is between two looks."""

    batch: str
    order: Order
    host: str = "127.0.0.1"
    hosts: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
    directories: tuple[Path, ...] = ()
    every_s: float = 2.0

    def to_json(self) -> str:
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> FacilityOrders:
        data = json.loads(text)
        order = data["order"]
        order |= {name: Path(order[name]) for name in ("pack", "logs")}
        order["options"] = tuple(order["options"])
        data |= {
            "order": Order(**order),
            "hosts": tuple(data["hosts"]),
            "limits": Limits(**data["limits"]),
            "directories": tuple(map(Path, data["directories"])),
        }
        return cls(**data)


def open_batch(kind: str, order: Order, hosts: Sequence[str] = ()) -> Batch:
    """Return the batch system of that name. Raises `BadSettings`, or `Unsupported` without its bindings."""
    if kind == "local":
        from vse.elastic.batch.local import Local

        return Local(order)
    if kind == "slurm":
        from vse.elastic.batch.slurm import Slurm

        return Slurm(order)
    if kind == "ssh":
        from vse.elastic.batch.ssh import Ssh

        return Ssh(order, hosts)
    if kind == "htcondor":
        from vse.elastic.batch.htcondor import HTCondor

        return HTCondor(order)
    raise BadSettings(f"use the batch system {kind}", f"it is none of {', '.join(BATCHES)}")
