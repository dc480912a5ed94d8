"""Checksums of served files (RFC 3230 ``Want-Digest``/``Digest``), computed beside the event loop."""

from __future__ import annotations

import asyncio
import re
import zlib
from collections import OrderedDict

from vse.doors.http.files import OpenFile
from vse.doors.http.threads import blocking
from vse.errors import BadRequest
from vse.model import Checksum

_PIECE_BYTES = 8 * 1024 * 1024
_HEX = re.compile(r"[0-9a-fA-F]{1,8}")


def wants_adler32(want_digest: str | None) -> bool:
    """Whether a Want-Digest header names adler32 (with any weight but ``q=0``)."""
    for item in (want_digest or "").split(","):
        algorithm, _, parameters = item.partition(";")
        refused = re.fullmatch(r"\s*q\s*=\s*0(\.0*)?\s*", parameters) is not None
        if algorithm.strip().lower() == "adler32" and not refused:
            return True
    return False


def declared_adler32(digest: str | None) -> Checksum | None:
    """Return the adler32 in a Digest header, None where it has none; raises `BadRequest` for a bad one."""
    for item in (digest or "").split(","):
        algorithm, _, value = item.partition("=")
        if algorithm.strip().lower() == "adler32":
            text = value.strip()
            if not _HEX.fullmatch(text):
                found = f"adler32 has 8 hex digits, not {text[:40]!r}"
                raise BadRequest("read the Digest header", found, "send it as 'Digest: adler32=b639c6f0'")
            return Checksum("adler32", text.lower().zfill(8))
    return None


class Digests:
    """The adler32 of files, computed once for each state of a file. Used from the event loop only."""

    def __init__(self, keep: int = 65536) -> None:
        self._keep = keep
        self._known: OrderedDict[tuple[int, int, int, int], Checksum] = OrderedDict()
        self._running: dict[tuple[int, int, int, int], asyncio.Task[Checksum]] = {}

    async def adler32(self, file: OpenFile) -> Checksum:
        """Return the checksum of ``file``. Who asks while it is being computed waits for the same one."""
        key = file.identity
        known = self._known.get(key)
        if known is not None:
            self._known.move_to_end(key)
            return known
        task = self._running.get(key)
        if task is None:
            task = asyncio.create_task(_compute(file.acquire()))
            self._running[key] = task
            task.add_done_callback(lambda done: self._finish(key, done))
        return await asyncio.shield(task)

    def _finish(self, key: tuple[int, int, int, int], task: asyncio.Task[Checksum]) -> None:
        del self._running[key]
        if not task.cancelled() and task.exception() is None:
            self._known[key] = task.result()
            while len(self._known) > self._keep:
                self._known.popitem(last=False)


async def _compute(file: OpenFile) -> Checksum:
    state = 1
    try:
        for offset in range(0, file.size_bytes, _PIECE_BYTES):
            size_bytes = min(_PIECE_BYTES, file.size_bytes - offset)
            state = await blocking(_advance, file, offset, size_bytes, state)
    finally:
        file.release()
    return Checksum.adler32(state)


def _advance(file: OpenFile, offset: int, size_bytes: int, state: int) -> int:
    return zlib.adler32(file.read(offset, size_bytes), state)
