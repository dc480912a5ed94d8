"""One soak: load, faults one after the other, then peace, and the judgement."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import sqlalchemy as sa

from soak.faults import FAULTS, Fault, disk_full, kill
from soak.field import Field
from soak.invariants import at_the_end, in_the_pool, whole_files
from soak.source import running_source
from vse.db.tables import attempts, transfers
from vse.errors import VseError
from vse.staging.requests_gathering import GATHER_LEASE_S
from vse.testing.postgresql import fresh_database, running_postgresql, server_programs

_DISK = "24m"
_SETTLED_S = GATHER_LEASE_S + 60.0
"""How long in peace nothing may be begun before all is over: a process that could not say that it listed
a request no longer, as its database was away, holds it so long."""
_TENDED_S = 120.0


@dataclass(slots=True)
class Verdict:
    """What was done, and what is wrong after it."""

    seed: int
    faults: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    requests: int = 0
    attempts: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        told = ", ".join(f"{number} {name}" for name, number in self.faults.most_common())
        answers = ", ".join(f"{number} {name}" for name, number in self.answers.most_common())
        good = (
            "all is right"
            if not self.wrong
            else f"{len(self.wrong)} WRONG:\n  " + "\n  ".join(self.wrong[:30])
        )
        return (
            f"seed {self.seed}: {self.seconds:.0f} s, {self.requests} requests, {self.attempts} attempts; "
            f"faults: {told}; answers of the source: {answers}; {good}"
        )


def soak(
    root: Path,
    url: str,
    go_on: Callable[[Verdict], bool],
    *,
    seed: int | None = None,
    faults: Mapping[Fault, int] = FAULTS,
    failing: float = 0.1,
    daemons: int = 3,
    requests: int = 8,
) -> Verdict:
    """Soak a new site in ``root`` while ``go_on``, with so many open requests at any time.

    The seed decides which faults come, and when; first each once, then by their weights.
    """
    seed = int.from_bytes(os.urandom(4)) if seed is None else seed
    print(f"soak: seed {seed}, database {url.partition(':')[0]}", flush=True)
    verdict, began_s, chance = Verdict(seed), time.monotonic(), random.Random(seed)
    with ExitStack() as stack:
        root.mkdir(parents=True, exist_ok=True)
        weights = dict(faults)
        if not stack.enter_context(small_disk(root / "pool")):
            weights.pop(disk_full, None)
        first = chance.sample(list(weights), len(weights))
        source = stack.enter_context(running_source(random.Random(seed + 1), failing))
        site = Field(root, url, source, chance)
        stack.callback(site.close)
        for _ in range(daemons):
            site.start()
        while go_on(verdict) and not verdict.wrong:
            site.keep_busy(requests)
            fault = first.pop() if first else chance.choices(list(weights), list(weights.values()))[0]
            fault(site)
            verdict.faults[fault.__name__] += 1
            verdict.wrong += whole_files(site)
            verdict.wrong += _ended_by_themselves(site)
            verdict.seconds = time.monotonic() - began_s
            if verdict.faults.total() % 25 == 0:
                print(f"soak: {verdict.faults.total()} faults in {verdict.seconds:.0f} s", flush=True)
        asked = len(site.site.staging.list(limit=100_000))
        if verdict.seconds > _SETTLED_S and asked <= requests:
            verdict.wrong.append(f"none of the first {asked} requests ended within {verdict.seconds:.0f} s")
        verdict.wrong += _settle(site)
        verdict.wrong += at_the_end(site)
        verdict.answers, verdict.seconds = source.told, time.monotonic() - began_s
        with site.site.database.read() as rows:
            verdict.attempts = rows.execute(sa.select(sa.func.count()).select_from(attempts)).scalar_one()
        verdict.requests = len(site.site.staging.list(limit=100_000))
    return verdict


def _tried(site: Field) -> int:
    """Return how often a transfer was begun."""
    with site.site.database.read() as rows:
        return int(rows.execute(sa.select(sa.func.sum(transfers.c.attempts))).scalar() or 0)


def _ended_by_themselves(site: Field) -> Iterator[str]:
    for one in list(site.daemons):
        if one.poll() is not None:
            yield f"the daemon {one.pid} ended by itself with {one.returncode}: logs in {site.root}"
            site.daemons.remove(one)


def _settle(site: Field) -> Iterator[str]:
    """In peace, try again what failed though it is good, until all is over; then end the daemons."""
    staging, deadline_s, seen = site.site.staging, time.monotonic() + _SETTLED_S, 0
    site.source.failing = 0.0
    while time.monotonic() < deadline_s and site.daemons:
        time.sleep(0.5)
        with suppress(VseError):
            if (tried := _tried(site)) != seen:
                seen, deadline_s = tried, time.monotonic() + _SETTLED_S
            if staging.list(open_only=True, limit=1):
                continue
            again = list(_unlucky(site))
            if not again:
                break
            for key in again:
                staging.retry(key)
    else:
        yield f"not all was over, and nothing was begun for {_SETTLED_S:g} s of peace"
    _tended(site)
    codes = site.stop_all()
    if any(codes):
        yield f"daemons ended with {codes} after SIGTERM"


def _unlucky(site: Field) -> Iterator[int]:
    """Requests that have good files which failed or were cancelled."""
    for one in site.site.staging.list(limit=100_000):
        items = site.site.staging.items(one.id)
        hopeless = site.bad.keys() | site.vanished
        if any(item.state.value == "failed" and item.lfn not in hopeless for item in items):
            yield one.id


def _tended(site: Field) -> None:
    """Wait until the upkeep of the pool has put right what may be wrong for a while."""
    deadline_s = time.monotonic() + _TENDED_S
    while time.monotonic() < deadline_s:
        time.sleep(1.0)
        with suppress(VseError), site.site.database.read() as rows:
            if next(in_the_pool(site, rows), None) is None:
                return


@contextmanager
def database(kind: str, root: Path) -> Iterator[str]:
    """Yield the URL of a new database; of PostgreSQL, on a server of its own, which a fault may stop."""
    if kind == "sqlite":
        root.mkdir(parents=True, exist_ok=True)
        yield f"sqlite:///{root / 'vse.db'}"
        return
    programs = server_programs()
    if programs is None:
        pytest.skip("no PostgreSQL server is installed")
    with running_postgresql(programs) as server, fresh_database(server) as url:
        yield url


@contextmanager
def small_disk(path: Path) -> Iterator[bool]:
    """Make ``path`` a small file system of its own, if we may; yields whether it is one."""
    path.mkdir(parents=True, exist_ok=True)
    mount = shutil.which("mount")
    small = os.geteuid() == 0 and mount is not None
    if small:
        small = not subprocess.run(
            [mount, "-t", "tmpfs", "-o", f"size={_DISK}", "none", path], check=False, capture_output=True
        ).returncode
    try:
        yield small
    finally:
        if small:
            subprocess.run(["umount", "-l", path], check=True)


def for_seconds(seconds: float) -> Callable[[Verdict], bool]:
    return lambda verdict: verdict.seconds < seconds


def for_faults(number: int) -> Callable[[Verdict], bool]:
    return lambda verdict: verdict.faults.total() < number


def for_kills(number: int) -> Callable[[Verdict], bool]:
    return lambda verdict: verdict.faults[kill.__name__] < number
