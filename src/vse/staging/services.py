"""The services of a site as rows, so that every process sees who works, and what keeps one from it."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, replace

import sqlalchemy as sa

from vse.db import Database
from vse.db.tables_services import services
from vse.errors import VseError
from vse.model import Clock
from vse.transfer.instance import dead
from vse.transfer.rows import error_of, error_text

SILENT_S = 30.0
"""One that has said nothing for so long is not counted on."""
_FORGOTTEN_S = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Service:
    """One service. Times are Unix seconds; ``problem`` is why it is paused.

    ``notes``: what of its settings has to wait for its next start. ``running``: transfers that it moves.
    """

    id: str
    kind: str
    host: str
    pid: int
    state: str
    problem: VseError | None
    notes: str
    settings_s: float
    started_s: float
    beat_s: float
    memory_bytes: int
    memory_limit_bytes: int
    slots: int
    running: int

    @classmethod
    def of_process(cls, name: str, kind: str, now_s: float) -> Service:
        host, pid = socket.gethostname(), os.getpid()
        return cls(name, kind, host, pid, "working", None, "", now_s, now_s, now_s, 0, 0, 0, 0)

    def as_dict(self) -> dict[str, object]:
        """Return it as ``--json`` shows it."""
        row = {name: getattr(self, name) for name in self.__slots__ if name != "problem"}
        return row | {"problem": self.problem.to_dict() if self.problem else None}


class Services:
    """Reads and writes the rows. Safe to share between threads and processes."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def beat(self, service: Service) -> None:
        """Say that ``service`` lives and how it is; forget those that are known to be gone."""
        row = service.as_dict() | {
            "beat_s": self._clock(),
            "problem": error_text(service.problem) if service.problem else None,
        }
        with self._database.write() as connection:
            known = connection.execute(sa.select(services.c.id, services.c.beat_s)).all()
            silent = [one.id for one in known if one.beat_s < self._clock() - _FORGOTTEN_S]
            gone = {*dead([one.id for one in known]), *silent, service.id}
            connection.execute(sa.delete(services).where(services.c.id.in_(gone)))
            connection.execute(sa.insert(services).values(row))

    def leave(self, name: str) -> None:
        """Say that a service has ended."""
        with self._database.write() as connection:
            connection.execute(sa.delete(services).where(services.c.id == name))

    def list(self) -> list[Service]:
        """Return the services that live, as far as can be known, the oldest first."""
        with self._database.read() as connection:
            rows = connection.execute(sa.select(services).order_by(services.c.started_s)).all()
        found = [_service(row) for row in rows]
        gone = set(dead([one.id for one in found]))
        return [one for one in found if one.id not in gone and one.beat_s >= self._clock() - SILENT_S]


def _service(row: sa.Row[tuple[object, ...]]) -> Service:
    values = dict(row._mapping)
    return replace(Service(**values), problem=error_of(values["problem"]))
