"""Files whose only copies are on tape: asked for, waited for, and read when they are on disk.

A file that waits for its tape holds no slot: its transfer is put off until it is looked at again. This is
done by a thread of its own, for many files at a time: tape systems take their time, and order what they are
asked for together.
"""

from __future__ import annotations

import queue as std_queue
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from vse.errors import NoSuchReplica, OnTape, SourceUnavailable, Stalled, VseError
from vse.model import Clock, Lfn
from vse.staging.stager_parts import Outcome, defect
from vse.storage.contract import Locality
from vse.storage.element import Elements
from vse.transfer.mover import Job, Live
from vse.transfer.sources import Source

KEPT_S = 24 * 3600.0
"""How long a file stays on the disk of the tape system, unless it is let go before."""
_SOONEST_S, _LATEST_S = 2.0, 300.0


def pause_s(waited_s: float) -> float:
    """Return how long to wait before a file is looked for again: a tenth of the time it has taken so far."""
    return min(_LATEST_S, max(_SOONEST_S, waited_s / 10))


class Tapes:
    """Sorts jobs: ``ready`` gets those that can be read, ``ended`` how the others ended for now.

    When files were asked for is not written down: after a restart they are asked for once more.
    """

    def __init__(
        self,
        elements: Elements,
        clock: Clock,
        ready: Callable[[Live, Job], None],
        ended: Callable[[Outcome], None],
    ) -> None:
        self._elements = elements
        self._clock = clock
        self._ready = ready
        self._ended = ended
        self._asked_s: dict[tuple[str, Lfn], float] = {}
        self._work: std_queue.SimpleQueue[list[tuple[Live, Job]] | tuple[str, list[Lfn]] | None] = (
            std_queue.SimpleQueue()
        )
        self._thread: threading.Thread | None = None

    def take(self, jobs: list[tuple[Live, Job]]) -> None:
        """Look where these are, soon."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="vse-tapes", daemon=True)
            self._thread.start()
        self._work.put(jobs)

    def release(self, sources: Sequence[Source]) -> None:
        """Tell that files were read; an error means that they stay on disk for longer than they had to."""
        ours: dict[str, list[Lfn]] = {}
        for one in sources:
            if one.tape is not None and self._asked_s.pop((one.se, one.tape), None) is not None:
                ours.setdefault(one.se, []).append(one.tape)
        if self._thread is not None:
            for se, names in ours.items():
                self._work.put((se, names))

    def _let_go(self, se: str, names: Sequence[Lfn]) -> None:
        with suppress(VseError):
            self._elements.get(se).release(names)

    def stop(self) -> None:
        """End the thread after what it is doing."""
        if self._thread is not None:
            self._work.put(None)
            self._thread = None

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            if isinstance(work, list):
                try:
                    self._sort(work)
                except Exception as problem:  # else nobody would ever hear of these again
                    for live, job in work:
                        error = defect(f"ask for {live.transfer.lfn} on its tape", problem)
                        self._ended(Outcome(live, job, None, error))
            else:
                self._let_go(*work)

    def _sort(self, jobs: Sequence[tuple[Live, Job]]) -> None:
        unreadable: dict[Where, VseError | None] = {}
        for se, names in _by_tape(jobs).items():
            unreadable |= {(se, lfn): why for lfn, why in self._unreadable(se, names).items()}
        waiting: dict[str, list[_Waiting]] = {}
        for live, job in jobs:
            now = [one for one in job.sources if _where(one) not in unreadable]
            whys = [(one, unreadable[where]) for one in job.sources if (where := _where(one)) in unreadable]
            on_tape = next((one for one, why in whys if why is None), None)
            if now or not whys:
                self._ready(live, job._replace(sources=now))
            elif on_tape is not None:
                waiting.setdefault(on_tape.se, []).append(_Waiting(live, job, on_tape))
            else:
                self._ended(Outcome(live, job, None, whys[0][1]))
        for se, files in waiting.items():
            self._ask_for(se, files)

    def _unreadable(self, se: str, names: Sequence[Lfn]) -> dict[Lfn, VseError | None]:
        """Return the files that cannot be read now; None for those that are on tape."""
        try:
            answer = self._elements.get(se).poll(names)
        except VseError as error:
            return dict.fromkeys(names, error)
        found: dict[Lfn, VseError | None] = {Lfn(lfn): error for lfn, error in answer.failed.items()}
        for name, where in answer.ok.items():
            lfn = Lfn(name)
            if where is Locality.TAPE:
                found[lfn] = None
            elif where is Locality.LOST:
                found[lfn] = NoSuchReplica(f"read {lfn} from {se}", "its tape system has lost it")
            elif where is Locality.UNAVAILABLE:
                found[lfn] = SourceUnavailable(f"read {lfn} from {se}", "its tape cannot be read now")
        return found

    def _ask_for(self, se: str, files: Sequence[_Waiting]) -> None:
        """Have files brought from tape, unless that is under way."""
        now_s = self._clock()
        new = [one.lfn for one in files if (se, one.lfn) not in self._asked_s]
        failed = self._bulk(new, lambda names: self._elements.get(se).stage(names, KEPT_S).failed)
        for one in files:
            one.live.source = one.source
            error = failed.get(one.lfn)
            if error is None:
                asked_s = self._asked_s.setdefault((se, one.lfn), now_s)
                error = self._verdict(se, one.lfn, now_s - asked_s)
            self._ended(Outcome(one.live, one.job, None, error))

    def _verdict(self, se: str, lfn: Lfn, waited_s: float) -> VseError:
        limit_s = self._elements.get(se).settings.bring_online_timeout_s
        if limit_s is not None and waited_s > limit_s:
            self._asked_s.pop((se, lfn), None)
            return Stalled(
                f"bring {lfn} from tape at {se}",
                f"it did not come within the {limit_s} s of BringOnlineTimeout",
                "ask those who run the tape system",
            )
        return OnTape(
            f"read {lfn} from {se}",
            f"it is on tape, and was asked for {waited_s:.0f} s ago",
            "it is read as soon as it is on disk; nothing needs to be done",
        )

    def wait_s(self, source: Source | None) -> float:
        """Return after how long to look for a file again."""
        now_s = self._clock()
        if source is None or source.tape is None:
            return pause_s(0.0)
        return pause_s(now_s - self._asked_s.get((source.se, source.tape), now_s))

    def _bulk(
        self, names: Sequence[Lfn], ask: Callable[[Sequence[Lfn]], Mapping[str, VseError]]
    ) -> Mapping[str, VseError]:
        if not names:
            return {}
        try:
            return ask(names)
        except VseError as error:
            return dict.fromkeys(names, error)


_Work = list[tuple[Live, Job]] | tuple[str, list[Lfn]] | None
"""Jobs to be sorted, or files to be let go of at an element; None is the end."""
Where = tuple[str, Lfn | None]
"""A storage element, and the name of a file there."""


class _Waiting(NamedTuple):
    live: Live
    job: Job
    source: Source

    @property
    def lfn(self) -> Lfn:
        return self.source.tape or self.job.transfer.lfn


def _where(source: Source) -> Where:
    return source.se, source.tape


def _by_tape(jobs: Sequence[tuple[Live, Job]]) -> dict[str, list[Lfn]]:
    """Return the files that each tape system may have, by its element."""
    found: dict[str, list[Lfn]] = {}
    for _, job in jobs:
        for one in job.sources:
            if one.tape is not None:
                found.setdefault(one.se, []).append(one.tape)
    return found
