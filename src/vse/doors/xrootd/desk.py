"""Where openers wait: any number of clients for one file are one question to the site, and one wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

import structlog

from vse.doors.xrootd.port import Answer, Coming, Here, Opening
from vse.errors import VseError
from vse.model import BulkResult, Lfn

_AT_ONCE = 4
"""Questions to the site at a time: a slow upstream catalogue does not hold up all others."""
_MOST = 500
_POLL_S = 0.2
_NOTE_S = 1.0
_THREADS = 12

T = TypeVar("T")
_log = structlog.get_logger()


@dataclass(slots=True)
class _Waited:
    """A file that somebody waits for. ``clients`` counts them; at none it is forgotten."""

    future: asyncio.Future[Here]
    clients: int = 0
    coming: Coming | None = None


@dataclass(slots=True)
class Desk:
    """Questions of an asyncio program to a site whose calls block. Made and used in one event loop.

    It holds nothing that matters: what was asked for is a row of the site, and clients ask again.
    """

    site: Opening
    hold_s: float
    _waited: dict[Lfn, _Waited] = field(default_factory=dict)
    _asked: asyncio.Queue[Lfn] = field(default_factory=asyncio.Queue)
    _read: dict[str, set[Lfn]] = field(default_factory=dict)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(_THREADS, "vse-xrootd"))

    def start(self) -> None:
        """Begin to work, in the event loop that runs."""
        loops = [self._answer() for _ in range(_AT_ONCE)] + [self._poll(), self._note()]
        self._tasks = [asyncio.create_task(loop) for loop in loops]

    async def stop(self) -> None:
        """End, with what was read recorded."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._write_notes()
        self._pool.shutdown(wait=False)

    @property
    def waited_for(self) -> int:
        """How many files somebody waits for now."""
        return len(self._waited)

    async def open(self, lfn: Lfn) -> Here | None:
        """Return where a file can be read; None where it has not come within ``hold_s``.

        Raises why it does not come. Whoever is cancelled while waiting leaves nothing behind.
        """
        waited = self._waited.get(lfn)
        if waited is None:
            waited = self._waited[lfn] = _Waited(asyncio.get_running_loop().create_future())
            self._asked.put_nowait(lfn)
        waited.clients += 1
        try:
            async with asyncio.timeout(self.hold_s):
                here = await asyncio.shield(waited.future)
        except TimeoutError:
            return None
        finally:
            waited.clients -= 1
            if not waited.clients:
                self._forget(lfn, waited)
        self._read.setdefault(here.se, set()).add(lfn)
        return here

    async def call(self, function: Callable[..., T], *arguments: object) -> T:
        """Make one blocking call."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)

    # -- inside ----------------------------------------------------------------------------------

    def _forget(self, lfn: Lfn, waited: _Waited) -> None:
        if self._waited.get(lfn) is waited:
            del self._waited[lfn]

    async def _answer(self) -> None:
        """Ask for what was opened, many files at a time."""
        while True:
            lfns = {await self._asked.get()}
            while len(lfns) < _MOST and not self._asked.empty():
                lfns.add(self._asked.get_nowait())
            wanted = [lfn for lfn in lfns if lfn in self._waited]
            if wanted:
                self._take(wanted, await self._told(wanted))

    async def _told(self, lfns: Sequence[Lfn]) -> BulkResult[Answer]:
        try:
            return await self.call(self.site.open, lfns)
        except VseError as error:
            return BulkResult(failed=dict.fromkeys(lfns, error))
        except Exception as error:  # a fault of ours is told to the client, too, who else would wait for ever
            _log.exception("opening failed", files=len(lfns))
            fault = VseError("open a file", f"{type(error).__name__}: {error}", "look into the door's log")
            return BulkResult(failed=dict.fromkeys(lfns, fault))

    def _take(self, lfns: Sequence[Lfn], told: BulkResult[Answer]) -> None:
        for lfn in lfns:
            waited = self._waited.get(lfn)
            if waited is None or waited.future.done():
                continue
            answer = told.ok.get(lfn)
            if isinstance(answer, Coming):
                waited.coming = answer
                continue
            self._forget(lfn, waited)  # who opens it from now on asks anew
            if isinstance(answer, Here):
                waited.future.set_result(answer)
            else:
                waited.future.set_exception(told.failed[lfn])
                waited.future.exception()  # looked at, even if every client has gone

    async def _poll(self) -> None:
        """See which transfers have ended, and ask again for their files."""
        while True:
            await asyncio.sleep(_POLL_S)
            coming = {one.coming.transfer_id: lfn for lfn, one in self._waited.items() if one.coming}
            if not coming:
                continue
            try:
                ended = await self.call(self.site.ended, list(coming))
            except Exception as error:  # the database may be away for a while: ask again
                _log.warning("cannot look at transfers", error=str(error))
                continue
            for key in ended:
                waited = self._waited.get(coming[key])
                if waited is not None and waited.coming is not None:
                    waited.coming = None
                    self._asked.put_nowait(coming[key])

    async def _note(self) -> None:
        while True:
            await asyncio.sleep(_NOTE_S)
            await self._write_notes()

    async def _write_notes(self) -> None:
        """Record what was read, many files at a time. What cannot be recorded is logged, and let go."""
        read, self._read = self._read, {}
        if not read:
            return
        try:
            await self.call(self.site.note_access, {se: sorted(lfns) for se, lfns in read.items()})
        except Exception as error:
            _log.warning("cannot record accesses", error=str(error))
