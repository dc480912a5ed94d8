"""The site that is soaked: its settings, its files, its daemons, and those who ask for files."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from soak.daemons import Daemon, Nursery
from soak.source import FOR_GOOD, Source, root_file
from vse.app.init import init_site
from vse.app.site import Site
from vse.config.load import load
from vse.db.tables import transfers
from vse.errors import VseError
from vse.model import FindQuery, Lfn, NewFile
from vse.staging.values import Conditions, Request
from vse.transfer.lifecycle import State

POOL_BYTES = 12_000_000
SETTINGS = """\
[site]
name = "soak"

[database]
url = "{url}"

[StorageElements.FAR]
WriteAccess = false

[StorageElements.FAR.Web]
Protocol = "http"
Host = "127.0.0.1"
Port = {port}
Path = "/"

[StorageElements.POOL.File]
Protocol = "file"
Path = "pool"

[pools.POOL]
size = {size}
high = 0.8
low = 0.6
young_s = 0
sync_every_s = 5

[stager]
destination = "POOL"
slots = 8
slots_per_source = 8
backoff_s = 0.1
backoff_max_s = 1.0
max_failures = 9
no_progress_s = 1.5
verify_timeout_s = 3
lease_s = 10

[upkeep]
pool_every_s = 1
"""
DATASETS, FILES = 30, 25
OWNERS = ("anna", "ben", "eva")
_FAR = "FAR"


class Field:
    """One site in a directory; ``url`` is its database. `close` ends what it started."""

    def __init__(self, root: Path, url: str, source: Source, chance: random.Random) -> None:
        self.root, self.source, self.chance = root, source, chance
        self.mark = f"soak-{os.getpid()}-{root.name}"
        init_site(root, name="soak")
        (root / "pool").mkdir(exist_ok=True)
        self.toml = root / "vse.toml"
        self.settings = SETTINGS.format(url=url, port=source.port, size=POOL_BYTES)
        self.write_settings(self.settings)
        self.site = Site.open(load(self.toml))
        self.bad: dict[Lfn, str] = {}
        self.vanished: set[Lfn] = set()
        self.datasets = 0
        self.daemons: list[Daemon] = []
        self._nursery = Nursery({"SOAK_MARK": self.mark})
        self._logs = 0
        for _ in range(DATASETS):
            self.add_dataset()

    # -- files -----------------------------------------------------------------------------------

    def add_dataset(self) -> Lfn:
        """Make another dataset at the source and in the catalogue; one file in 25 is bad for good."""
        number, self.datasets = self.datasets, self.datasets + 1
        base = Lfn(f"/soak/d{number:04}")
        new = []
        for one in range(FILES):
            lfn, lie = Lfn(f"{base}/f{one:02}.dat"), ""
            data = self.chance.randbytes(self.chance.randrange(1, 60_000))
            if one % 5 == 1:
                lfn, data = Lfn(f"{base}/f{one:02}.root"), root_file(self.chance.randrange(4))
            if one == FILES - 4:  # a ROOT file
                lie = self.chance.choice(FOR_GOOD)
                self.bad[lfn] = lie
            if lie == "unreadable":
                data = bytes(len(data))  # the right checksum of something that is no ROOT file
            elif lie:
                self.source.lies[lfn] = lie
            self.source.files[lfn] = data
            new.append(NewFile(lfn, len(data), self.source.adler32(lfn), _FAR))
        result = self.site.catalogue.register(new)
        assert not result.failed
        return base

    def files_of(self, base: Lfn) -> list[Lfn]:
        return [Lfn(name) for name in list(self.source.files) if name.startswith(f"{base}/")]

    def path(self, lfn: str) -> Path:
        return self.root / "pool" / lfn.lstrip("/")

    def vanish(self) -> None:
        """Take a dataset out of the catalogue while its files are on their way, and out of the source."""
        base = self.add_dataset()
        self.ask(base)
        time.sleep(self.chance.uniform(0.0, 0.5))
        lfns = self.files_of(base)
        self.site.catalogue.remove(lfns, forever=True)
        self.vanished.update(lfns)
        for lfn in lfns:
            self.source.lies[lfn] = "gone"

    # -- those who ask -----------------------------------------------------------------------------

    def ask(self, base: Lfn | None = None) -> Request | None:
        """Ask for a dataset, as anybody might; None where the database did not answer."""
        if base is None:
            base = Lfn(f"/soak/d{self.chance.randrange(DATASETS):04}")
        query = FindQuery("", base=base, pattern="*")
        conditions = Conditions(priority=self.chance.choice((3, 5, 5, 7)))
        try:
            return self.site.staging.request(query, self.chance.choice(OWNERS), "POOL", conditions)
        except VseError:
            return None

    def keep_busy(self, requests: int) -> None:
        """See that so many requests are open; cancel or retry one now and then."""
        try:
            staging = self.site.staging
            open_now = staging.list(open_only=True, limit=100)
            for _ in range(requests - len(open_now)):
                self.ask()
            if open_now and self.chance.random() < 0.05:
                staging.cancel(self.chance.choice(open_now).id)
            if self.chance.random() < 0.05 and (ended := staging.list(limit=20)):
                staging.retry(self.chance.choice(ended).id)
        except VseError:
            return

    # -- daemons -----------------------------------------------------------------------------------

    def start(self) -> None:
        self._logs += 1
        self.daemons.append(self._nursery.start(self.root, self.root / f"log.{self._logs}"))

    def kill(self, process: Daemon) -> None:
        process.kill()
        process.wait()
        self.daemons.remove(process)

    def stop_all(self) -> list[int]:
        """End all daemons in the orderly way; return their exit codes."""
        for one in self.daemons:
            one.send_signal(signal.SIGTERM)
        codes = [one.wait(120) for one in self.daemons]
        self.daemons.clear()
        return codes

    def at_work(self) -> set[int]:
        """Return the pids of the daemons that move files at this moment."""
        leases = sa.select(transfers.c.lease_owner).where(transfers.c.state == State.RUNNING).distinct()
        try:
            with self.site.database.read() as rows:
                return {int(owner.split("/")[2]) for (owner,) in rows.execute(leases)}
        except VseError:
            return set()

    def processes(self) -> dict[int, str]:
        """Return what runs of this site: daemons and all they started, by pid."""
        found = {}
        for one in Path("/proc").glob("[0-9]*"):
            try:
                if f"SOAK_MARK={self.mark}".encode() in (one / "environ").read_bytes().split(b"\0"):
                    words = (one / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    if words and int(one.name) != self._nursery.pid:  # no zombie
                        found[int(one.name)] = words
            except OSError:
                continue
        return found

    def write_settings(self, text: str) -> None:
        """Write new settings as an editor does: another file in the place of the old one."""
        new = self.toml.with_name("vse.toml.new")
        new.write_text(text)
        new.replace(self.toml)

    def events(self) -> Iterable[Any]:
        """Yield all lines of all logs that are no events: tracebacks."""
        for log in sorted(self.root.glob("log.*")):
            for line in log.read_text(errors="replace").splitlines():
                if "Traceback" in line or "this is a defect of VSE" in line:
                    yield f"{log.name}: {line}"

    def close(self) -> None:
        for one in list(self.daemons):
            self.kill(one)
        with self._nursery:
            self.site.close()
