"""The lookup cache: questions are answered from our own catalogue, and upstreams asked only when due.

This is what the Virtual Storage Element is for (seed 000): a catalogue query was the slowest step of an
analysis, and a cached one makes it three times faster. Answers are rows with an expiry, 'not there'
included (seed 002 §4.3.6, C.3), so they outlive the process; upstreams are asked in bulk, never name by
name; and while one does not answer, what it told before is served, and the report says so.
"""

from __future__ import annotations

import contextlib
import pickle
import tempfile
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import IO, Any, Protocol

from vse.catalogue.answers import FIND, NAME, Answers, Conflict, Question
from vse.catalogue.globs import matcher
from vse.catalogue.port import Upstream
from vse.catalogue.sql import SqlCatalogue
from vse.db.prepared import chunks
from vse.errors import NotFound, UpstreamGarbage, VseError
from vse.model import BulkResult, Clock, Entry, Lfn, Located

FRESH_S = 86400.0
NEGATIVE_FRESH_S = 300.0
MOST_CONFLICTS = 100
_CHUNK_FILES = 5_000
_Lfns = list[Lfn]  # inside the class, list is the method
_IN_MEMORY_BYTES = 32 * 1024 * 1024


class Expiry(Protocol):
    """How long the answers of an upstream are believed; `vse.config.settings.UpstreamSettings` is one."""

    @property
    def fresh_s(self) -> float: ...

    @property
    def negative_fresh_s(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Believed:
    """An `Expiry` by itself."""

    fresh_s: float = FRESH_S
    negative_fresh_s: float = NEGATIVE_FRESH_S


@dataclass(slots=True)
class LookupReport:
    """How one call was answered.

    ``asked``: upstreams that were asked, in order. ``queries`` and ``waited_s``: what that took.
    ``failed``: upstreams that did not answer, and why; what is served of theirs is what they told
    before. ``conflicts``: names of which an upstream tells something else than is held here, at most
    `MOST_CONFLICTS` of the ``conflict_count``.
    """

    asked: list[str] = field(default_factory=list)
    queries: int = 0
    waited_s: float = 0.0
    failed: dict[str, VseError] = field(default_factory=dict)
    conflicts: list[Conflict] = field(default_factory=list)
    conflict_count: int = 0

    @property
    def stale(self) -> bool:
        """Whether the answer may be older than the settings allow."""
        return bool(self.failed)

    def note_conflicts(self, conflicts: Sequence[Conflict]) -> None:
        self.conflict_count += len(conflicts)
        self.conflicts.extend(conflicts[: MOST_CONFLICTS - len(self.conflicts)])


class Lookup:
    """`vse.catalogue.port.Names` over ``catalogue`` and ``upstreams``, in the order of the settings.

    ``expiries`` holds an `Expiry` by upstream name. Safe to share between threads. Each reading call
    has a form ``..._with_report`` that also says how it was answered. The counters grow over the life of
    the object, in questions and names: ``hits`` answered without asking, ``misses`` asked about,
    ``stale`` served although an upstream that was due did not answer; ``queries`` counts upstream calls.
    """

    def __init__(
        self,
        catalogue: SqlCatalogue,
        upstreams: Sequence[Upstream],
        clock: Clock,
        expiries: Mapping[str, Expiry] | None = None,
    ) -> None:
        self.catalogue = catalogue
        self.upstreams = tuple(upstreams)
        self.hits = self.misses = self.stale = self.queries = 0
        self._clock = clock
        self._expiries = {
            upstream.name: (expiries or {}).get(upstream.name, Believed()) for upstream in upstreams
        }
        self._fresh_s = min((expiry.fresh_s for expiry in self._expiries.values()), default=FRESH_S)
        self._answers = Answers(catalogue.statements, catalogue.rows)
        self._ids = catalogue.rows.upstreams.ids(self._expiries) if upstreams else {}

    # -- reading ----------------------------------------------------------------------------------

    def stat(self, lfns: Sequence[Lfn]) -> BulkResult[Entry]:
        """Describe names; a directory is there once a file below it was told of."""
        return self.stat_with_report(lfns)[0]

    def stat_with_report(self, lfns: Sequence[Lfn]) -> tuple[BulkResult[Entry], LookupReport]:
        report = LookupReport()
        settled, others = self._settled(lfns)
        result = BulkResult({lfn: located.entry for lfn, located in settled.items()})
        if others:
            unsure = self._refresh_names(others, report)
            result.merge(self.catalogue.stat(others))
            self._judge(result, unsure)
        return result, report

    def resolve(self, lfns: Sequence[Lfn]) -> BulkResult[Located]:
        """Return files with their replicas, here and elsewhere.

        A name that is not here, and of which an upstream that should know could not be asked, has that
        upstream's error under ``failed``.
        """
        return self.resolve_with_report(lfns)[0]

    def resolve_with_report(self, lfns: Sequence[Lfn]) -> tuple[BulkResult[Located], LookupReport]:
        report = LookupReport()
        settled, others = self._settled(lfns)
        result = BulkResult(settled)
        if others:
            unsure = self._refresh_names(others, report)
            result.merge(self.catalogue.resolve(others))
            self._judge(result, unsure)
        return result, report

    def list(self, directory: Lfn) -> Iterator[Entry]:
        """Yield the children that are known here; upstreams are asked only if the directory is not.

        They are then asked for all files below it, once. The root is always known.
        """
        if not self.upstreams or directory in self.catalogue.stat([directory]).ok:
            return self.catalogue.list(directory)
        report = self._refresh_find(Question(directory, "*"))
        if report.failed and directory not in self.catalogue.stat([directory]).ok:
            raise next(iter(report.failed.values()))
        return self.catalogue.list(directory)

    def find(self, base: Lfn, pattern: str) -> Iterator[Located]:
        """Yield the files of a dataset query; upstreams are asked, where due, before this returns.

        Raises an upstream's error where it does not answer and nothing that it told before, nor
        anything else, can be served.
        """
        return self.find_with_report(base, pattern)[0]

    def find_with_report(self, base: Lfn, pattern: str) -> tuple[Iterator[Located], LookupReport]:
        question = Question(base, pattern)
        report = self._refresh_find(question)
        answer = self.catalogue.find(base, pattern)
        unheard = [error for name, error in report.failed.items() if not self._heard(name, question)]
        if unheard:
            first = next(answer, None)
            if first is None:
                raise unheard[0]
            answer = chain((first,), answer)
        self.stale += bool(report.failed)
        return answer, report

    def _judge(self, result: BulkResult[Any], unsure: Mapping[str, VseError]) -> None:
        """Tell 'not there' from 'could not be asked', and count what is served stale."""
        for lfn, error in unsure.items():
            if lfn in result.failed:
                result.failed[lfn] = error
            else:
                self.stale += 1

    # -- names ------------------------------------------------------------------------------------

    def _refresh_names(self, lfns: Sequence[Lfn], report: LookupReport) -> dict[str, VseError]:
        """Ask about those of ``lfns`` that are due; return those that could not be asked about."""
        directories = {entry.lfn for entry in self.catalogue.directories(lfns)}
        due = [lfn for lfn in lfns if lfn not in directories]
        now_s = self._clock()
        told: dict[str, Sequence[Located]] = {}
        denied: dict[str, Sequence[Lfn]] = {}
        unsure: dict[str, VseError] = {}
        asked: set[Lfn] = set()
        for upstream in self.upstreams:
            wanted = self._to_ask(upstream, due, now_s)
            if wanted:
                asked.update(wanted)
                answer = self._ask_names(upstream, wanted, report)
                told[upstream.name] = [*answer.ok.values()]
                denied[upstream.name] = [
                    lfn for lfn in wanted if isinstance(answer.failed.get(lfn), NotFound)
                ]
                unsure.update({k: e for k, e in answer.failed.items() if not isinstance(e, NotFound)})
        self.misses += len(asked)
        self.hits += len(lfns) - len(asked)
        self._store_names(told, denied, unsure, now_s, report)
        return unsure

    def _settled(self, lfns: Sequence[Lfn]) -> tuple[dict[str, Located], _Lfns]:
        """Return the files among ``lfns`` that are our own or fresh, and all other names."""
        now_s = self._clock()
        settled: dict[str, Located] = {
            located.entry.lfn: located
            for located, fresh_until_s in self.catalogue.known(lfns)
            if fresh_until_s is None or fresh_until_s > now_s
        }
        self.hits += len(settled)
        return settled, [lfn for lfn in dict.fromkeys(lfns) if lfn not in settled]

    def _to_ask(self, upstream: Upstream, due: Sequence[Lfn], now_s: float) -> _Lfns:
        """Return those of ``due`` that no believed answer of ``upstream`` is about."""
        database, which = self.catalogue.database, self._ids[upstream.name]
        with database.mapped("read the catalogue"):
            reader = database.reader()
            # A find that did not tell of a name says 'not there', which is believed for a shorter time.
            since_s = now_s - self._expiries[upstream.name].negative_fresh_s
            covered = self._answers.fresh_finds(reader, which, now_s, since_s)
            not_there = self._answers.not_there(reader, which, due, now_s)
        return [lfn for lfn in due if lfn not in not_there and not covered.holds(lfn)]

    def _ask_names(
        self, upstream: Upstream, wanted: Sequence[Lfn], report: LookupReport
    ) -> BulkResult[Located]:
        """Ask once about ``wanted``; each of them is in the answer, under its error where it failed."""
        try:
            with self._asking(upstream, report):
                answer = upstream.resolve(wanted)
                _check_names(upstream.name, wanted, answer)
        except VseError as error:
            report.failed[upstream.name] = error
            return BulkResult(failed=dict.fromkeys(wanted, error))
        for reason in answer.failed.values():
            if not isinstance(reason, NotFound):
                report.failed.setdefault(upstream.name, reason)
        return answer

    def _store_names(
        self,
        told: Mapping[str, Sequence[Located]],
        denied: Mapping[str, Sequence[Lfn]],
        unsure: Collection[str],
        now_s: float,
        report: LookupReport,
    ) -> None:
        if not any(told.values()) and not any(denied.values()):
            return
        # A name is fresh until the first of those that told of it is due, and not at all while one
        # that should know has not answered.
        until: dict[str, float] = dict.fromkeys(unsure, now_s)
        for name, files in told.items():
            expires_s = now_s + self._expiries[name].fresh_s
            for located in files:
                until[located.entry.lfn] = min(until.get(located.entry.lfn, expires_s), expires_s)
        for files in told.values():
            self._intern(files)
        with self.catalogue.database.write_names() as driver:
            self._answers.purge_names(driver, now_s)
            for name, lfns in denied.items():
                which, expires_s = self._ids[name], now_s + self._expiries[name].negative_fresh_s
                self._answers.forget(driver, which, lfns, now_s)
                rows = [(which, NAME, lfn, now_s, expires_s, 0) for lfn in lfns]
                self._answers.keep(driver, rows)
            votes = Counter(chain.from_iterable(denied.values()))
            nowhere = [lfn for lfn, count in votes.items() if count == len(self.upstreams)]
            self._answers.forget_unknown(driver, nowhere)
            for name, files in told.items():
                dated = [(located, until[located.entry.lfn]) for located in files]
                report.note_conflicts(self._answers.take_in(driver, name, dated, now_s))

    # -- find -------------------------------------------------------------------------------------

    def _refresh_find(self, question: Question) -> LookupReport:
        """Ask every upstream whose answer to ``question`` is due, and store what they tell.

        A stream is spooled first, so that one that breaks off changes nothing, and no lock is held
        while an upstream is slow; it is then stored in batches, and believed after the last one.
        """
        report = LookupReport()
        now_s = self._clock()
        due = [upstream for upstream in self.upstreams if not self._believed(upstream, question, now_s)]
        if not due:
            self.hits += 1
            return report
        self.misses += 1
        with contextlib.ExitStack() as stack:
            heard: list[tuple[Upstream, IO[bytes], int]] = []
            for upstream in due:
                spool: Any = stack.enter_context(tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES))
                try:
                    with self._asking(upstream, report):
                        found = _spool(upstream, question, spool)
                except VseError as error:
                    report.failed[upstream.name] = error
                else:
                    heard.append((upstream, spool, found))
            fresh_until_s = now_s if report.failed else now_s + self._fresh_s
            for upstream, spool, _ in heard:
                self._store_files(upstream, spool, now_s, fresh_until_s, report)
            for upstream, _, found in heard:
                self._conclude(upstream, question, found, now_s, fresh_until_s)
        return report

    def _believed(self, upstream: Upstream, question: Question, now_s: float) -> bool:
        expires_s = self._earlier(upstream.name, question)
        return expires_s is not None and expires_s > now_s

    def _heard(self, name: str, question: Question) -> bool:
        return self._earlier(name, question) is not None

    def _earlier(self, name: str, question: Question) -> float | None:
        database = self.catalogue.database
        with database.mapped("read the catalogue"):
            return self._answers.earlier(database.reader(), self._ids[name], question)

    def _store_files(
        self, upstream: Upstream, spool: IO[bytes], told_s: float, fresh_until_s: float, report: LookupReport
    ) -> None:
        for files in _unspool(spool):
            self._intern(files)
            dated = [(located, fresh_until_s) for located in files]
            with self.catalogue.database.write_names() as driver:
                report.note_conflicts(self._answers.take_in(driver, upstream.name, dated, told_s))

    def _conclude(
        self, upstream: Upstream, question: Question, found: int, told_s: float, fresh_until_s: float
    ) -> None:
        """After a whole answer is stored: drop what is told no more, and believe the answer."""
        which, expiry = self._ids[upstream.name], self._expiries[upstream.name]
        expires_s = told_s + (expiry.fresh_s if found else expiry.negative_fresh_s)
        with self.catalogue.database.write_names() as driver:
            alone = len(self.upstreams) == 1
            self._answers.sweep(driver, which, question, told_s, fresh_until_s, alone)
            self._answers.keep(driver, [(which, FIND, str(question), told_s, expires_s, found)])

    @contextlib.contextmanager
    def _asking(self, upstream: Upstream, report: LookupReport) -> Iterator[None]:
        report.asked.append(upstream.name)
        report.queries += 1
        self.queries += 1
        began = time.perf_counter()
        try:
            yield
        finally:
            report.waited_s += time.perf_counter() - began

    def _intern(self, files: Sequence[Located]) -> None:
        rows = self.catalogue.rows
        rows.principals.ids({name for file in files for name in (file.entry.owner, file.entry.group)})
        rows.elements.ids({copy.se for file in files for copy in file.replicas})


def _spool(upstream: Upstream, question: Question, spool: IO[bytes]) -> int:
    """Write a whole find answer to ``spool`` in batches; return how many files it has."""
    matches = matcher(question.pattern)
    found = 0

    def checked() -> Iterable[Located]:
        for located in upstream.find(question.base, question.pattern):
            lfn = located.entry.lfn
            if not lfn.is_below(question.base) or not matches(lfn.name):
                raise _garbage(upstream.name, f"asked {question}, it told of {lfn}")
            _check(upstream.name, located)
            yield located

    for files in chunks(checked(), _CHUNK_FILES):
        pickle.dump(files, spool, protocol=pickle.HIGHEST_PROTOCOL)
        found += len(files)
    spool.seek(0)
    return found


def _unspool(spool: IO[bytes]) -> Iterator[list[Located]]:
    with contextlib.suppress(EOFError):
        while True:
            yield pickle.load(spool)  # noqa: S301  # our own unnamed file, written a moment ago


def _check_names(upstream: str, wanted: Sequence[Lfn], answer: BulkResult[Located]) -> None:
    """Raise `UpstreamGarbage` unless each of ``wanted``, and nothing else, is answered."""
    silent = [lfn for lfn in wanted if lfn not in answer.ok and lfn not in answer.failed]
    if silent:
        raise _garbage(upstream, f"it said nothing of {len(silent)} names, such as {silent[0]}")
    asked = set(wanted)
    for lfn, located in answer.ok.items():
        if lfn not in asked or located.entry.lfn != lfn:
            raise _garbage(upstream, f"it told of {located.entry.lfn}, which was not asked")
        _check(upstream, located)


def _check(upstream: str, located: Located) -> None:
    entry = located.entry
    if entry.kind != "file" or entry.size_bytes is None or entry.size_bytes < 0:
        raise _garbage(upstream, f"it told of {entry.lfn} as a {entry.kind} of {entry.size_bytes} bytes")


def _garbage(upstream: str, found: str) -> UpstreamGarbage:
    todo = "its administrator should know; what it told before is kept"
    return UpstreamGarbage(f"use the answer of upstream {upstream}", found, todo)
