"""A directory of lists whose files are staged, as afdsmgrd kept it (seed 002 §4.3.5.1, §4.3.5.5, C.2).

The lists are of any form that `vse.catalogue.dataset_formats` reads, PROOF's own (ROOT files with a
TFileCollection) among them. They are only read: what became of their files is told in a file beside each,
``NAME.status.jsonl``, since a TFileCollection can be written by ROOT alone. A scan costs a look at each list
that has not changed and is over, and reading the others.
"""

from __future__ import annotations

import contextlib
import filecmp
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple
from urllib.parse import unquote, urlsplit

import sqlalchemy as sa

from vse.catalogue.dataset_formats import ListedFile, Listing, read_list
from vse.catalogue.port import Catalogue
from vse.config.settings import AfdsmgrdSettings, UrlRule
from vse.db import Database
from vse.db.tables import request_items, transfers
from vse.errors import BadLfn, BadRequest, StorageFault, VseError
from vse.model import BulkResult, Clock, Lfn, Located, Replica
from vse.monitor.plugins import DatasetFigures
from vse.staging.afdsmgrd_conf import SHARE
from vse.transfer.lifecycle import ENDED, State, Wanted
from vse.transfer.queue import Queue
from vse.transfer.rows import error_of

STATUS_SUFFIX = ".status.jsonl"
_SUFFIXES = (".root", ".txt", ".jsonl", ".json")
_PROOFS_KEY = "dataset"
_BATCH = 1000
_GROUP = re.compile(r"\$(\d)")
_MARKS = 2**27

Tell = Callable[..., None]
"""Called with the name of an event and its values, as `vse.monitor.events.Events.tell`."""


class Named(NamedTuple):
    """A file of a list, with the name it has here and the URL to stage; None for one of no use."""

    listed: ListedFile
    lfn: Lfn | None
    url: str
    why_not: str = ""


def staged_url(url: str, rules: Sequence[UrlRule]) -> str | None:
    """Return the URL to stage for one of a list: the substitute of the first rule that matches.

    Without rules it is staged as it is; None where there are some and none matches.
    """
    for rule in rules:
        match = re.search(rule.regex, url)
        if match:
            return _GROUP.sub(lambda one, match=match: _group(match, int(one.group(1))), rule.subst)  # type: ignore[misc]
    return None if rules else url


def _group(match: re.Match[str], number: int) -> str:
    return (match.group(number) or "") if number <= match.re.groups else ""


def name_of(url: str) -> Lfn:
    """Return the name a URL of a list has here: its path (``alien:///alice/a.root`` is ``/alice/a.root``).

    Raises `BadLfn`.
    """
    scheme, mark, rest = url.partition("://")
    if not mark or scheme in ("alien", "lfn"):
        return Lfn.parse(url.partition("#")[0] if mark else url)
    return Lfn.parse(unquote(urlsplit(f"x://{rest}").path) or "/")


def lists_in(directory: Path) -> Iterator[Path]:
    """Yield the lists below a directory, in order of their names."""
    for where, below, names in os.walk(directory):
        below.sort()
        for name in sorted(names):
            if name.endswith(_SUFFIXES) and not name.startswith(".") and not name.endswith(STATUS_SUFFIX):
                yield Path(where) / name


@dataclass(frozen=True, slots=True)
class Seen:
    """What a scan found in a list. ``over``: nothing of it is left to come."""

    signature: tuple[int, int, int]
    figures: DatasetFigures
    over: bool


class Repository:
    """Queues what lists name and tells what became of it. For one thread.

    Any number of them, in any number of processes, may look after one directory.
    """

    def __init__(
        self,
        *,
        settings: AfdsmgrdSettings,
        directory: Path,
        destination: str,
        database: Database,
        queue: Queue,
        catalogue: Catalogue,
        clock: Clock,
        tell: Tell,
    ) -> None:
        self._settings = settings
        self._directory = directory
        self._destination = destination
        self._database = database
        self._queue = queue
        self._catalogue = catalogue
        self._clock = clock
        self._tell = tell
        self._seen: dict[Path, Seen] = {}
        self._unreadable: dict[Path, tuple[int, int, int]] = {}
        self._first = True

    @property
    def figures(self) -> tuple[DatasetFigures, ...]:
        """What the last scan found, by list."""
        return tuple(seen.figures for seen in self._seen.values())

    def scan(self) -> None:
        """Look at every list once. Idempotent; raises `StorageFault` where the directory is not there."""
        if not self._directory.is_dir():
            raise StorageFault(
                f"look at the lists in {self._directory}", "it is no directory", "see afdsmgrd.repository"
            )
        now = {path: signature for path in lists_in(self._directory) if (signature := _signature(path))}
        changed = [path for path, seen in self._seen.items() if now.get(path) != seen.signature]
        claimed = _Marks() if self._first or changed else None
        for path, signature in now.items():
            self._look(path, signature, claimed)
        for path in [one for one in self._seen if one not in now]:
            del self._seen[path]
        for path in [one for one in self._unreadable if one not in now]:
            del self._unreadable[path]
        if claimed is not None and not self._unreadable:  # nobody knows what those name
            self._drop_unclaimed(claimed)
        self._first = False

    def _look(self, path: Path, signature: tuple[int, int, int], claimed: _Marks | None) -> None:
        before = self._seen.get(path)
        settled = before is not None and before.signature == signature
        if settled and before is not None and before.over:
            self._purge(path, before)
            return
        try:
            seen = self._read(path, signature, claimed)
        except (VseError, OSError) as error:
            problem = error if isinstance(error, VseError) else StorageFault(f"read {path}", str(error))
            if self._unreadable.get(path) != signature:
                self._unreadable[path] = signature
                self._tell("dataset.unreadable", problem, dataset=self._name(path))
                self._show_unreadable(path, problem)
            return
        self._unreadable.pop(path, None)
        self._seen[path] = seen
        if before is None or before.figures != seen.figures:
            one = seen.figures
            self._tell(
                "dataset.over" if seen.over else "dataset.seen",
                dataset=one.name,
                files=one.files,
                staged=one.staged,
                corrupt=one.corrupt,
            )

    def _show_unreadable(self, path: Path, problem: VseError) -> None:
        """Say beside a list that it cannot be read, where its files are told of otherwise."""
        row = {"url": "", "lfn": None, "state": "unreadable", "staged": False, "corrupt": False}
        with contextlib.suppress(OSError):  # then the log alone tells
            _status_path(path).write_text(json.dumps({**row, "error": str(problem)}) + "\n", "utf-8")

    def _purge(self, path: Path, seen: Seen) -> None:
        """Remove a list that is over (purgenoopds); one with failures stays, to tell of them.

        Only one that two scans found the same, so that none goes that is still being written.
        """
        if not self._settings.purge or seen.figures.corrupt or _signature(path) != seen.signature:
            return
        _status_path(path).unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        self._tell("dataset.removed", dataset=seen.figures.name, files=seen.figures.files)

    def _name(self, path: Path) -> str:
        relative = path.relative_to(self._directory).as_posix()
        return "/" + relative.removesuffix("".join(path.suffixes[-1:]))

    def _read(self, path: Path, signature: tuple[int, int, int], claimed: _Marks | None) -> Seen:
        """Read one list: queue what is missing, write its status, and sum it up."""
        total = _Sum(self._name(path))
        files = _listing(path).files
        target = _status_path(path)
        temporary = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            with temporary.open("w", encoding="utf-8") as out:
                while some := list(islice(files, _BATCH)):
                    self._batch(some, signature, total, claimed, out)
            if target.exists() and filecmp.cmp(temporary, target, shallow=False):
                temporary.unlink()
            else:
                temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
        return Seen(signature, total.figures(), not total.coming)

    def _batch(
        self,
        files: Sequence[ListedFile],
        signature: tuple[int, int, int],
        total: _Sum,
        claimed: _Marks | None,
        out: IO[str],
    ) -> None:
        named = [self._named(one) for one in files]
        names = list(dict.fromkeys(one.lfn for one in named if one.lfn is not None))
        seen_s = self._clock()
        located = self._catalogue.resolve(names)
        known = self._transfers(names)
        wanted: dict[Lfn, Wanted] = {}
        for one in named:
            replica = self._copy(located, one.lfn)
            state = _state(one, replica, known.get(one.lfn or ""), signature[0] / 1e9)
            if one.lfn is not None and state in ("wanted", "coming"):
                if claimed is not None:
                    claimed.add(one.lfn)
                if state == "wanted":
                    wanted[one.lfn] = _wanted(one, seen_s)
            row = _row(one, state, located, replica, known.get(one.lfn or ""))
            total.add(row)
            out.write(json.dumps(row, ensure_ascii=False) + "\n")
        if wanted:
            self._queue.enqueue(self._destination, wanted)

    def _named(self, listed: ListedFile) -> Named:
        """Choose the URL of a file: the first that a rule matches."""
        suffix = f"#{listed.member}" if listed.member else ""
        for original in listed.urls:
            url = staged_url(original + suffix, self._settings.url_rules)
            if url is not None:
                try:
                    return Named(listed, name_of(original), url)
                except BadLfn as error:
                    return Named(listed, None, original, str(error))
        return Named(listed, None, listed.urls[0] if listed.urls else "", "no afdsmgrd.url_rules matches it")

    def _copy(self, located: BulkResult[Located], lfn: Lfn | None) -> Replica | None:
        file = located.ok.get(lfn) if lfn is not None else None
        copies = file.replicas if file else ()
        return next((one for one in copies if one.se == self._destination), None)

    def _transfers(self, names: Sequence[Lfn]) -> dict[str, Any]:
        columns = (
            transfers.c.lfn,
            transfers.c.state,
            transfers.c.failures,
            transfers.c.finished_s,
            transfers.c.error,
        )
        query = sa.select(*columns).where(
            transfers.c.destination == self._destination, transfers.c.lfn.in_(names)
        )
        with self._database.read() as connection:
            return {row.lfn: row for row in connection.execute(query)}

    def _drop_unclaimed(self, claimed: _Marks) -> None:
        """Take out of the queue what no list and no request names any more (§4.3.5.1, step 8)."""
        after = 0
        while True:
            query = (
                sa.select(transfers.c.id, transfers.c.lfn)
                .where(
                    transfers.c.destination == self._destination,
                    transfers.c.share == SHARE,
                    transfers.c.state.not_in([str(state) for state in ENDED]),
                    transfers.c.id > after,
                    ~sa.exists().where(request_items.c.transfer_id == transfers.c.id),
                )
                .order_by(transfers.c.id)
                .limit(_BATCH)
            )
            with self._database.read() as connection:
                rows = connection.execute(query).all()
            if not rows:
                return
            after = rows[-1].id
            unclaimed = [row.id for row in rows if row.lfn not in claimed]
            for dropped in self._queue.cancel(unclaimed) if unclaimed else ():
                self._tell("file.unclaimed", lfn=dropped.lfn, transfer=dropped.id)


def _listing(path: Path) -> Listing:
    """Read a list; of several in a ROOT file the one that PROOF keeps there."""
    try:
        return read_list(path)
    except BadRequest:
        if path.suffix != ".root":
            raise
        return read_list(path, name=_PROOFS_KEY)


class _Sum:
    """The figures of a list, as they add up."""

    def __init__(self, name: str) -> None:
        self.coming = 0
        self._name = name
        self._tree = ""
        self._counts = dict.fromkeys(("files", "staged", "corrupt", "entries", "size_bytes"), 0)

    def add(self, row: dict[str, Any]) -> None:
        counts = self._counts
        counts["files"] += 1
        counts["staged"] += bool(row["staged"])
        counts["corrupt"] += bool(row["corrupt"])
        counts["entries"] += row.get("entries") or 0
        counts["size_bytes"] += row.get("size_bytes") or 0
        self.coming += row["state"] == "coming"
        self._tree = self._tree or row.get("tree", "")

    def figures(self) -> DatasetFigures:
        one = self._counts
        return DatasetFigures(
            self._name,
            one["files"],
            one["staged"],
            one["corrupt"],
            self._tree,
            one["entries"],
            one["size_bytes"],
        )


class _Marks:
    """Which names were met: 16 MiB, however many. Some that were not may seem so: they stay queued."""

    def __init__(self) -> None:
        self._bits = bytearray(_MARKS // 8)

    def add(self, name: str) -> None:
        for bit in self._places(name):
            self._bits[bit >> 3] |= 1 << (bit & 7)

    def __contains__(self, name: str) -> bool:
        return all(self._bits[bit >> 3] & 1 << (bit & 7) for bit in self._places(name))

    def _places(self, name: str) -> tuple[int, int]:
        return hash(name) % _MARKS, hash((name, 1)) % _MARKS


def _signature(path: Path) -> tuple[int, int, int] | None:
    """Return what changes with a list (the time first, in ns); None for one that has gone."""
    with contextlib.suppress(OSError):
        stat = path.stat()
        return stat.st_mtime_ns, stat.st_ino, stat.st_size
    return None


def _status_path(path: Path) -> Path:
    return path.with_name(path.name + STATUS_SUFFIX)


def _state(one: Named, replica: Replica | None, transfer: Any, changed_s: float) -> str:
    """Return ``staged``, ``corrupt``, ``coming``, or ``wanted`` for one to be queued.

    Who writes a list anew wants what has failed before to be tried again (§4.3.5.5: the flags are reset).
    """
    if one.lfn is None or one.listed.corrupt:
        return "corrupt"
    if one.listed.staged or replica is not None:
        return "staged"
    if transfer is None:
        return "wanted"
    if transfer.state not in ENDED:
        return "coming"
    older = (transfer.finished_s or 0.0) < changed_s
    if older or transfer.state == State.CANCELLED:
        return "wanted"
    return "corrupt" if transfer.state == State.FAILED else "staged"


def _wanted(one: Named, seen_s: float) -> Wanted:
    return Wanted(
        one.listed.size_bytes or 0,
        one.listed.adler32,
        one.listed.tree,
        seen_s=seen_s,
        share=SHARE,
        given_source=one.url,
    )


def _row(
    one: Named, state: str, located: BulkResult[Located], replica: Replica | None, transfer: Any
) -> dict[str, Any]:
    """Return the line of a file in the status of its list."""
    shown = "coming" if state == "wanted" else state
    member = f"#{one.listed.member}" if one.listed.member else ""
    row: dict[str, Any] = {
        "url": one.listed.urls[0] + member if one.listed.urls else "",
        "lfn": one.lfn,
        "state": shown,
        "staged": shown == "staged",
        "corrupt": shown == "corrupt",
        "tree": one.listed.tree,
        "entries": one.listed.entries,
        "size_bytes": one.listed.size_bytes,
    }
    file = located.ok.get(one.lfn) if one.lfn is not None else None
    if replica is not None and file is not None:
        row |= {"size_bytes": file.entry.size_bytes, "endpoint": replica.url or one.url}
        if file.contents is not None:
            row |= {"tree": file.contents.tree, "entries": file.contents.entries}
    error = error_of(transfer.error) if transfer is not None and shown != "staged" else None
    if transfer is not None and transfer.failures:
        row["failures"] = transfer.failures
    if error is not None or one.why_not:
        row["error"] = str(error) if error is not None else one.why_not
    return row
