"""Calls to upstreams: counted, not made while one is offline, and not again at once after a failure.

A failure is a row, so that no other process waits for the same timeout; the pause after it doubles with
each further one (settings ``backoff_s``, ``backoff_max_s``).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol, cast

from vse.catalogue.answers import Answers
from vse.catalogue.belief import Expiry, LookupReport, pause_s
from vse.catalogue.port import Upstream
from vse.catalogue.upstream_states import UpstreamStates
from vse.db import Database
from vse.errors import Denied, UpstreamGarbage, UpstreamUnavailable, VseError
from vse.model import Clock

_LONGEST_PAUSE_S = 86400.0
"""A pause that ends later than this was written under another clock."""
_FAILURES = (UpstreamUnavailable, UpstreamGarbage, Denied)


class Versioned(Protocol):
    """An upstream that can tell, without being asked anything, that it would answer otherwise now."""

    name: str

    def version(self) -> str:
        """Return what changes with all that it would answer; empty where it cannot tell."""
        ...


class Asking:
    """What stands between the lookup and its upstreams. Safe to share between threads."""

    def __init__(
        self,
        upstreams: Sequence[Upstream],
        ids: Mapping[str, int],
        expiries: Mapping[str, Expiry],
        database: Database,
        answers: Answers,
        clock: Clock,
        offline: bool,
    ) -> None:
        self.states = UpstreamStates(database, tuple(ids.values()))
        self._ids = ids
        self._expiries = expiries
        self._database = database
        self._answers = answers
        self._clock = clock
        self._offline = offline
        self.watched = [
            cast(Versioned, one) for one in upstreams if hasattr(getattr(one, "driver", one), "version")
        ]
        self._versions: dict[str, str] = {}

    @contextlib.contextmanager
    def call(self, upstream: Upstream, report: LookupReport) -> Iterator[None]:
        """A block that asks ``upstream``. Raises its error; or, without the block, why it is not asked."""
        name = upstream.name
        which = self._ids[name]
        failures = self._check(name, which, report)
        report.asked.append(name)
        report.queries += 1
        began = time.perf_counter()
        failed = False
        try:
            yield
        except _FAILURES as error:
            failed = True
            self._note(which, failures + 1, self._expiries[name], error)
            raise
        finally:
            waited_s = time.perf_counter() - began
            report.waited_s += waited_s
            self.states.count(which, queries=1, waited_s=waited_s, failed=int(failed))
        if failures:
            self.states.note_answer(which)

    def _check(self, name: str, which: int, report: LookupReport) -> int:
        """Return how often in a row it failed; raise where it is not to be asked now."""
        expiry = self._expiries[name]
        wanted = f"ask the upstream {name}"
        if self._offline or expiry.offline:
            if name not in report.offline:
                report.offline.append(name)
            where = "--offline, or catalogue.offline" if self._offline else f"upstreams.{name}.offline"
            raise UpstreamUnavailable(wanted, f"it is offline by the settings ({where})")
        if not expiry.backoff_s:
            return 0
        state = self.states.state(which)
        if state is None or not state.failures:
            return 0
        left_s = state.not_before_s - self._clock()
        if 0 < left_s <= _LONGEST_PAUSE_S and state.error is not None:
            times = "once" if state.failures == 1 else f"{state.failures} times in a row"
            found = f"it failed {times} and is asked again in {left_s:.0f} s; it said: {state.error.found}"
            raise type(state.error)(wanted, found, state.error.todo)
        return state.failures

    def _note(self, which: int, failures: int, expiry: Expiry, error: VseError) -> None:
        if expiry.backoff_s:
            # One that says itself for how long it wants to be left alone (429) is.
            wished_s = min(getattr(error, "retry_after_s", None) or 0.0, _LONGEST_PAUSE_S)
            not_before_s = self._clock() + max(pause_s(failures, expiry), wished_s)
            self.states.note_failure(which, failures, not_before_s, error)

    def watch(self) -> None:
        """Let all answers of an upstream expire that answers from another version than before."""
        for upstream in self.watched:
            version = upstream.version()
            if not version or self._versions.get(upstream.name) == version:
                continue
            which = self._ids[upstream.name]
            state = self.states.state(which)
            if state is not None and state.version not in (None, version):
                with self._database.write_names() as driver:
                    self._answers.expire(driver, which, self._clock())
            if state is None or state.version != version:
                self.states.note_version(which, version)
            self._versions[upstream.name] = version
