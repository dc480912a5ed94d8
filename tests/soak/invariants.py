"""What must hold, seen from outside: rows, files, bytes, processes. Each check returns what is wrong."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from soak.field import Field
from vse.db import tables as t
from vse.db import tables_pool as p
from vse.db.tables_services import services

_QUARANTINE = "quarantine"
_OPEN = ("gathering", "held", "active")


def whole_files(field: Field) -> Iterator[str]:
    """At any time: what has its final name holds all of its bytes, and they are right."""
    for path in (field.root / "pool" / "soak").rglob("*"):
        try:
            data = path.read_bytes() if path.is_file() else None
        except FileNotFoundError:
            continue  # it was thrown away between the two
        lfn = "/" + str(path.relative_to(field.root / "pool"))
        if data is not None and data != field.source.files.get(lfn):
            yield f"{lfn} holds {len(data)} bytes that are not those of the file"


def at_the_end(field: Field) -> list[str]:
    """When all requests are over and all daemons have ended: everything."""
    with field.site.database.read() as rows:
        wrong = [*_requests(field, rows), *_queue(rows), *in_the_pool(field, rows)]
    wrong += whole_files(field)
    wrong += [f"a process is left: {pid} {words}" for pid, words in field.processes().items()]
    wrong += [f"{path} is left" for path in (field.root / "var" / "scratch").rglob("*") if path.is_file()]
    links = field.root / "vse"
    wrong += [f"the link {one} leads nowhere" for one in links.rglob("*") if not one.exists()]
    return wrong + [f"the log tells of a defect: {line}" for line in field.events()]


def _requests(field: Field, rows: sa.Connection) -> Iterator[str]:
    """Every request has ended; every file of it came, or has a reason that is right."""
    evicted = {
        lfn for (lfn,) in rows.execute(sa.select(p.evictions.c.lfn).where(p.evictions.c.state == "done"))
    }
    state_of = {}
    for row in rows.execute(sa.select(t.requests)):
        state_of[row.id] = row.state
        if row.state in _OPEN:
            yield f"request {row.id} is still {row.state}"
    items: dict[int, Counter[str]] = {}
    for row in rows.execute(sa.select(t.request_items)):
        items.setdefault(row.request_id, Counter())[row.state] += 1
        known_bad = row.lfn in field.bad or row.lfn in field.vanished
        here = field.path(row.lfn).exists()
        if row.state == "waiting":
            yield f"{row.lfn} of request {row.request_id} waits for ever"
        if row.state in ("done", "here") and row.lfn in field.bad:
            yield f"{row.lfn}, which is bad ({field.bad[row.lfn]}), counts as {row.state}"
        if row.state in ("done", "here") and not here and row.lfn not in evicted | field.vanished:
            yield f"{row.lfn} of request {row.request_id} is {row.state}, and is not there"
        if row.state == "failed" and not (row.error and json.loads(row.error).get("found")):
            yield f"{row.lfn} of request {row.request_id} failed without a reason"
        if row.state == "failed" and not known_bad:
            yield f"{row.lfn}, which is good, failed in request {row.request_id}: {row.error}"
    for key, counted in items.items():
        wanted = "failed" if counted["failed"] else "done"
        if state_of[key] in ("done", "failed") and state_of[key] != wanted:
            yield f"request {key} is {state_of[key]}, its files are {dict(counted)}"


def _queue(rows: sa.Connection) -> Iterator[str]:
    """Nobody holds or waits for anything; the books of the queue agree with its rows."""
    states: Counter[tuple[str, str]] = Counter()
    for row in rows.execute(sa.select(t.transfers)):
        states[row.destination, row.state] += 1
        if row.state not in ("done", "failed", "cancelled"):
            yield f"the transfer of {row.lfn} is {row.state}"
        if row.lease_owner is not None:
            yield f"the transfer of {row.lfn} is {row.state} and has a lease of {row.lease_owner}"
        if row.state != "cancelled" and (row.state == "failed") != (row.error is not None):
            yield f"the transfer of {row.lfn} is {row.state} with the error {row.error}"
    counts: Counter[tuple[str, str]] = Counter()
    for row in rows.execute(sa.select(t.transfer_counts)):
        counts[row.destination, row.state] += row.files
    if +counts != states:
        yield f"the queue counts {dict(+counts)}, its rows are {dict(states)}"
    for row in rows.execute(sa.select(t.transfer_lanes).where(t.transfer_lanes.c.files != 0)):
        yield f"the lane {tuple(row)} is not empty"
    ends = rows.execute(sa.select(sa.func.count()).select_from(t.transfer_ends)).scalar()
    if ends:
        yield f"{ends} ends were never told to the requests"
    for row in rows.execute(sa.select(services)):
        yield f"the service of pid {row.pid} is still in the list"


def in_the_pool(field: Field, rows: sa.Connection) -> Iterator[str]:
    """Catalogue, accounts and files are the same; no space is kept for anybody."""
    pool = field.root / "pool"
    there = {
        "/" + str(path.relative_to(pool))
        for path in pool.rglob("*")
        if path.is_file() and _QUARANTINE not in path.parts
    }
    evidence = {path.name for path in pool.rglob("*") if path.is_file() and _QUARANTINE in path.parts}
    kept = {Path(row.path).name for row in rows.execute(sa.select(p.quarantine)) if row.path}
    for name in evidence - kept:
        yield f"the evidence {name} is in no row, so that nobody throws it away"
    held = {row.lfn: row for row in rows.execute(sa.select(p.holdings))}
    known = set(rows.execute(_REPLICAS).scalars())
    for name, names in (("accounts", set(held)), ("catalogue", known)):
        for lfn in set(there) ^ names:
            if lfn not in field.vanished:
                where = "the pool, not in the" if lfn in there else "no file, but in the"
                yield f"{lfn} is {where} {name}"
    for where, names in (("pool", there), ("accounts", set(held))):
        for lfn in field.vanished & names:
            yield f"{lfn} has vanished from the catalogue, and is still in the {where}"
    yield from _accounts(rows, list(held.values()))


def _accounts(rows: sa.Connection, held: Sequence[sa.Row[Any]]) -> Iterator[str]:
    """The sums are those of the rows, and nothing is under way."""
    for row in rows.execute(sa.select(p.reservations)):
        yield f"space is kept for {row.lfn} by {row.holder}"
    sums: Counter[tuple[str, str, str]] = Counter()
    for row in held:
        for kind, name in (("element", ""), ("user", row.owner), ("group", row.owner_group)):
            sums[kind, name, "files"] += 1
            sums[kind, name, "bytes"] += row.size_bytes
    for row in rows.execute(sa.select(p.usages)):
        found = (row.files, row.size_bytes, row.reserved_bytes)
        wanted = (sums[row.kind, row.name, "files"], sums[row.kind, row.name, "bytes"], 0)
        if row.kind != "dataset" and found != wanted:
            yield f"the account of {row.kind} {row.name!r} has {found}, its files are {wanted}"
    for row in rows.execute(sa.select(p.evictions).where(p.evictions.c.state == "planned")):
        yield f"the eviction of {row.lfn} was never carried out"


_REPLICAS = (
    sa.select(t.directories.c.path + "/" + t.files.c.name)
    .join(t.files, t.files.c.directory_id == t.directories.c.id)
    .join(t.replicas, t.replicas.c.file_id == t.files.c.id)
    .join(t.elements, t.elements.c.id == t.replicas.c.element_id)
    .where(t.elements.c.name == "POOL")
)
