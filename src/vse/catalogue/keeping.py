"""Storing what upstreams answer: checked first, spooled while it comes, believed after the last row."""

from __future__ import annotations

import contextlib
import pickle
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import IO

from vse.catalogue.answers import FIND, NAME, Answers, Question
from vse.catalogue.belief import Expiry, LookupReport
from vse.catalogue.globs import matcher
from vse.catalogue.port import Upstream
from vse.catalogue.sql import SqlCatalogue
from vse.db.prepared import chunks
from vse.errors import UpstreamGarbage
from vse.model import BulkResult, Lfn, Located

_CHUNK_FILES = 5_000


class Keeping:
    """Writes answers of upstreams into the catalogue's rows; asks nobody."""

    def __init__(
        self,
        catalogue: SqlCatalogue,
        answers: Answers,
        ids: Mapping[str, int],
        expiries: Mapping[str, Expiry],
    ) -> None:
        self._catalogue = catalogue
        self._answers = answers
        self._ids = ids
        self._expiries = expiries
        self._fresh_s = min((expiry.fresh_s for expiry in expiries.values()), default=0.0)

    def names(
        self,
        told: Mapping[str, Sequence[Located]],
        denied: Mapping[str, Sequence[Lfn]],
        unsure: Collection[str],
        now_s: float,
        report: LookupReport,
    ) -> None:
        """Store what upstreams, by name, ``told`` and ``denied``; of ``unsure`` one did not answer."""
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
        with self._catalogue.database.write_names() as driver:
            self._answers.purge_names(driver, now_s)
            for name, lfns in denied.items():
                which, expires_s = self._ids[name], now_s + self._expiries[name].negative_fresh_s
                self._answers.forget(driver, which, lfns, now_s)
                rows = [(which, NAME, lfn, now_s, expires_s, 0) for lfn in lfns]
                self._answers.keep(driver, rows)
            votes = Counter(chain.from_iterable(denied.values()))
            nowhere = [lfn for lfn, count in votes.items() if count == len(self._ids)]
            self._answers.forget_unknown(driver, nowhere)
            for name, files in told.items():
                dated = [(located, until[located.entry.lfn]) for located in files]
                report.note_conflicts(self._answers.take_in(driver, name, dated, now_s))

    def finds(
        self,
        question: Question,
        heard: Sequence[tuple[Upstream, IO[bytes], int]],
        now_s: float,
        report: LookupReport,
    ) -> None:
        """Store whole answers to ``question``, as `spool` left them, in batches; then believe them."""
        fresh_until_s = now_s if report.failed else now_s + self._fresh_s
        for upstream, spooled, _ in heard:
            for files in _unspool(spooled):
                self._intern(files)
                dated = [(located, fresh_until_s) for located in files]
                with self._catalogue.database.write_names() as driver:
                    report.note_conflicts(self._answers.take_in(driver, upstream.name, dated, now_s))
        for upstream, _, found in heard:
            self._conclude(upstream.name, question, found, now_s, fresh_until_s)

    def _conclude(
        self, upstream: str, question: Question, found: int, told_s: float, fresh_until_s: float
    ) -> None:
        """After a whole answer is stored: drop what is told no more, and believe the answer."""
        which, expiry = self._ids[upstream], self._expiries[upstream]
        expires_s = told_s + (expiry.fresh_s if found else expiry.negative_fresh_s)
        with self._catalogue.database.write_names() as driver:
            alone = len(self._ids) == 1
            self._answers.sweep(driver, which, question, told_s, fresh_until_s, alone)
            self._answers.keep(driver, [(which, FIND, str(question), told_s, expires_s, found)])

    def _intern(self, files: Sequence[Located]) -> None:
        rows = self._catalogue.rows
        rows.principals.ids({name for file in files for name in (file.entry.owner, file.entry.group)})
        rows.elements.ids({copy.se for file in files for copy in file.replicas})


def spool(upstream: Upstream, question: Question, to: IO[bytes]) -> int:
    """Write a whole find answer to ``to`` in batches; return how many files it has."""
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
        pickle.dump(files, to, protocol=pickle.HIGHEST_PROTOCOL)
        found += len(files)
    to.seek(0)
    return found


def _unspool(spooled: IO[bytes]) -> Iterator[list[Located]]:
    with contextlib.suppress(EOFError):
        while True:
            yield pickle.load(spooled)  # noqa: S301  # our own unnamed file, written a moment ago


def check_names(upstream: str, wanted: Sequence[Lfn], answer: BulkResult[Located]) -> None:
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
