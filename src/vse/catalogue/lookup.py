"""The lookup cache: questions are answered from our own catalogue, and upstreams asked only when due.

This is what the Virtual Storage Element is for (seed 000): a catalogue query was the slowest step of an
analysis, and a cached one makes it three times faster. Answers are rows with an expiry, 'not there'
included (seed 002 §4.3.6, C.3), so they outlive the process; upstreams are asked in bulk, never name by
name; for ``stale_s`` after its time an answer is still served at once, and asked for anew behind it; and
while an upstream does not answer, what it told before is served, and the report says so.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import IO, Any

from vse.catalogue.answers import FIND, NAME, Answers, Question
from vse.catalogue.asking import Asking
from vse.catalogue.belief import Believed, Expiry, LookupReport, Standing, standing
from vse.catalogue.keeping import Keeping, check_names, spool
from vse.catalogue.port import Upstream
from vse.catalogue.refresh import Asked, Refresher
from vse.catalogue.sql import SqlCatalogue
from vse.catalogue.upstream_states import UpstreamState
from vse.errors import NotFound, VseError
from vse.model import BulkResult, Clock, Closing, Entry, Lfn, Located

__all__ = ["Believed", "Expiry", "Lookup", "LookupReport"]

_Lfns = list[Lfn]  # inside the class, list is the method
_States = list[UpstreamState]
_Earlier = list[tuple[float, int]]
_IN_MEMORY_BYTES = 32 * 1024 * 1024


class Lookup(Closing):
    """`vse.catalogue.port.Names` over ``catalogue`` and ``upstreams``, in the order of the settings.

    ``expiries`` holds an `Expiry` by upstream name; ``offline``: none of them is asked. Safe to share
    between threads. Each reading call has a form ``..._with_report`` that also says how it was
    answered. The counters grow over the life of the object, in questions and names: ``hits`` answered
    without asking, ``misses`` asked about, ``stale`` served beyond their time; ``queries`` counts
    upstream calls. Those over the life of the site, for each upstream, are `states`.
    """

    def __init__(
        self,
        catalogue: SqlCatalogue,
        upstreams: Sequence[Upstream],
        clock: Clock,
        expiries: Mapping[str, Expiry] | None = None,
        offline: bool = False,
    ) -> None:
        self.catalogue = catalogue
        self.upstreams = tuple(upstreams)
        self.hits = self.misses = self.stale = self.queries = 0
        self._clock = clock
        self._expiries = {
            upstream.name: (expiries or {}).get(upstream.name, Believed()) for upstream in upstreams
        }
        self._stale_s = min((expiry.stale_s for expiry in self._expiries.values()), default=0.0)
        self._answers = Answers(catalogue.statements, catalogue.rows)
        names = catalogue.rows.upstreams.ids(self._expiries) if upstreams else {}
        self._ids = {name: names[name] for name in self._expiries}
        self._asking = Asking(
            upstreams, self._ids, self._expiries, catalogue.database, self._answers, clock, offline
        )
        self._keeping = Keeping(catalogue, self._answers, self._ids, self._expiries)
        self._refresher = Refresher(catalogue.database, clock, self.refresh)

    def states(self) -> _States:
        """Return how each upstream fares, over all processes of the site."""
        return self._asking.states.all()

    def resume_refreshing(self) -> None:
        """Ask anew, behind the caller, what processes that ended had queued."""
        if self.upstreams:
            self._refresher.resume()

    def close(self) -> None:
        """End what goes on behind callers, write the counts down, and close the upstreams."""
        if not self.upstreams:
            return
        self._refresher.close()
        self._asking.states.flush()
        for upstream in self.upstreams:
            close = getattr(upstream, "close", None)
            if close is not None:
                close()

    # -- reading ----------------------------------------------------------------------------------

    def stat(self, lfns: Sequence[Lfn]) -> BulkResult[Entry]:
        """Describe names; a directory is there once a file below it was told of."""
        return self.stat_with_report(lfns)[0]

    def stat_with_report(self, lfns: Sequence[Lfn]) -> tuple[BulkResult[Entry], LookupReport]:
        report = LookupReport()
        settled, others = self._settled(lfns, report)
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
        settled, others = self._settled(lfns, report)
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
        for name in report.failed:
            self._count(name, stale=1)
        self.stale += bool(report.failed)
        return answer, report

    def prefetch(self, base: Lfn, pattern: str, again: bool = False) -> LookupReport:
        """Have the answer of ``find(base, pattern)`` here; ``again``: even where it is still believed.

        Raises the error of the first upstream that should have answered and did not.
        """
        report = self._refresh_find(Question(base, pattern), again=again)
        for error in report.failed.values():
            raise error
        return report

    def _judge(self, result: BulkResult[Any], unsure: Mapping[str, VseError]) -> None:
        """Tell 'not there' from 'could not be asked', and count what is served stale."""
        for lfn, error in unsure.items():
            if lfn in result.failed:
                result.failed[lfn] = error
            else:
                self.stale += 1

    def refresh(self, asked: Collection[Asked]) -> None:
        """Ask upstreams about questions, whose answers are no longer believed, that were queued."""
        names = [Lfn(question) for kind, question in asked if kind == NAME]
        if names:
            self._refresh_names(names, LookupReport())
        for kind, question in asked:
            if kind == FIND:
                self._refresh_find(Question.parse(question), behind=True)

    def _count(self, upstream: str, **more: float) -> None:
        self._asking.states.count(self._ids[upstream], **more)

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
                self._count(upstream.name, misses=len(wanted))
                answer = self._ask_names(upstream, wanted, report)
                told[upstream.name] = [*answer.ok.values()]
                denied[upstream.name] = [
                    lfn for lfn in wanted if isinstance(answer.failed.get(lfn), NotFound)
                ]
                unsure.update({k: e for k, e in answer.failed.items() if not isinstance(e, NotFound)})
            self._count(upstream.name, hits=len(lfns) - len(wanted))
        self.misses += len(asked)
        self.hits += len(lfns) - len(asked)
        self._keeping.names(told, denied, unsure, now_s, report)
        for name in report.failed:
            self._count(name, stale=sum(lfn in asked for lfn in unsure))
        return unsure

    def _settled(self, lfns: Sequence[Lfn], report: LookupReport) -> tuple[dict[str, Located], _Lfns]:
        """Return the files among ``lfns`` that are our own or may be served at once, and all other names."""
        if self._asking.watched:
            self._asking.watch()
        now_s = self._clock()
        settled: dict[str, Located] = {}
        old: list[Lfn] = []
        for located, fresh_until_s in self.catalogue.known(lfns):
            if fresh_until_s is None or fresh_until_s > now_s:
                settled[located.entry.lfn] = located
            elif fresh_until_s + self._stale_s > now_s:
                settled[located.entry.lfn] = located
                old.append(located.entry.lfn)
        self.hits += len(settled)
        self._asking.states.hits += len(settled)
        if old:
            self.stale += len(old)
            for name in self._ids:
                self._count(name, stale=len(old))
            self._behind(((NAME, lfn) for lfn in old), report)
        return settled, [lfn for lfn in dict.fromkeys(lfns) if lfn not in settled]

    def _behind(self, questions: Iterable[Asked], report: LookupReport) -> None:
        report.refreshing = True
        self._refresher.queue(questions)

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
            with self._calling(upstream, report):
                answer = upstream.resolve(wanted)
                check_names(upstream.name, wanted, answer)
        except VseError as error:
            report.failed[upstream.name] = error
            return BulkResult(failed=dict.fromkeys(wanted, error))
        for reason in answer.failed.values():
            if not isinstance(reason, NotFound):
                report.failed.setdefault(upstream.name, reason)
        return answer

    # -- find -------------------------------------------------------------------------------------

    def _refresh_find(self, question: Question, *, again: bool = False, behind: bool = False) -> LookupReport:
        """Ask every upstream whose answer to ``question`` is due, and store what they tell.

        ``again``: ask all of them; ``behind``: those too whose answer may still be served. A stream is
        spooled first, so that one that breaks off changes nothing, and no lock is held while an upstream
        is slow; it is then stored in batches, and believed after the last one.
        """
        report = LookupReport()
        if self._asking.watched:
            self._asking.watch()
        now_s = self._clock()
        due = []
        old = False
        for upstream in self.upstreams:
            stands = self._standing(upstream, question, now_s)
            if again or stands is Standing.DUE or (behind and stands is Standing.STALE):
                due.append(upstream)
                self._count(upstream.name, misses=1)
            else:
                self._count(upstream.name, hits=1)
                if stands is Standing.STALE:
                    old = True
                    self._count(upstream.name, stale=1)
        if old:
            self.stale += 1
            self._behind([(FIND, str(question))], report)
        if not due:
            self.hits += 1
            return report
        self.misses += 1
        with contextlib.ExitStack() as stack:
            heard: list[tuple[Upstream, IO[bytes], int]] = []
            for upstream in due:
                to: Any = stack.enter_context(tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES))
                try:
                    with self._calling(upstream, report):
                        found = spool(upstream, question, to)
                except VseError as error:
                    report.failed[upstream.name] = error
                else:
                    heard.append((upstream, to, found))
            self._keeping.finds(question, heard, now_s, report)
        return report

    def _heard(self, name: str, question: Question) -> bool:
        return bool(self._earlier(name, question))

    def _standing(self, upstream: Upstream, question: Question, now_s: float) -> Standing:
        """Return how the best answer stands; 'not there' is not served beyond its time."""
        stale_s = self._expiries[upstream.name].stale_s
        best = Standing.DUE
        for expires_s, found in self._earlier(upstream.name, question):
            stands = standing(expires_s, now_s, stale_s if found else 0.0)
            if stands is Standing.FRESH:
                return stands
            if stands is Standing.STALE:
                best = stands
        return best

    def _earlier(self, name: str, question: Question) -> _Earlier:
        database = self.catalogue.database
        with database.mapped("read the catalogue"):
            return self._answers.earlier(database.reader(), self._ids[name], question)

    @contextlib.contextmanager
    def _calling(self, upstream: Upstream, report: LookupReport) -> Iterator[None]:
        before = report.queries
        try:
            with self._asking.call(upstream, report):
                yield
        finally:
            self.queries += report.queries - before
