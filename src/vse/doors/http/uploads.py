"""PUT: write-once, verified, and nothing left of an upload that did not end well."""

from __future__ import annotations

import asyncio
import tempfile
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from typing import IO

from vse.doors.http.digests import declared_adler32
from vse.doors.http.exchange import Disconnected, Exchange, Refused
from vse.doors.http.files import DoorFiles
from vse.doors.http.threads import blocking
from vse.errors import BadRequest, Denied, SizeMismatch
from vse.model import Lfn
from vse.storage.contract import CHUNK_BYTES, Upload
from vse.storage.drivers.os_errors import mapped

NO_PROGRESS_S = 300.0
"""A client that sends nothing for so long is taken for gone."""


async def put_file(exchange: Exchange, files: DoorFiles) -> None:
    """Answer a PUT: 201 when the file stands under its name, complete and verified.

    Every error leaves nothing behind. 201 for every upload that worked, and missing parents are made,
    as the clients of the field expect.
    """
    lfn = exchange.lfn()
    if exchange.header("content-range") is not None:
        raise BadRequest(f"write {lfn}", "a part of a file cannot be written", "send the whole file")
    length = _declared_size(exchange, lfn)
    checksum = declared_adler32(exchange.header("digest"))
    if lfn == "/" or exchange.path.endswith("/"):
        raise BadRequest(f"write {lfn}", "a directory is no file", "make directories with MKCOL")
    await blocking(files.confirm_inside, lfn)
    path = files.path(lfn)
    if length is None:
        await _confirm_free(files, lfn)
        with await blocking(_spool, files) as spool:
            length = await _move(_body(exchange, lfn), spool.write)
            upload = await blocking(files.driver.put, path, length, checksum)
            await _fill(upload, _respooled(spool))
    else:
        upload = await blocking(files.driver.put, path, length, checksum)
        await _fill(upload, _counted(_body(exchange, lfn), length, lfn))
    digest = () if checksum is None else ((b"digest", f"adler32={checksum.value}".encode()),)
    await exchange.answer(201, digest)


def _declared_size(exchange: Exchange, lfn: Lfn) -> int | None:
    """Return the Content-Length; None for a chunked body, 0 where there is no body."""
    if b"transfer-encoding" in exchange.headers:
        return None
    text = exchange.header("content-length")
    if text is not None and not (text.isascii() and text.isdigit()):
        raise BadRequest(f"write {lfn}", f"Content-Length is {text[:40]!r}")
    return int(text or 0)


async def _confirm_free(files: DoorFiles, lfn: Lfn) -> None:
    """Refuse a taken name before the body is received, where the size is not known yet."""
    await blocking(lambda: files.driver.put(files.path(lfn), 0).abort())


def _spool(files: DoorFiles) -> IO[bytes]:
    """A nameless file on the disk of the storage; it is gone with its descriptor, whatever happens."""
    try:
        return tempfile.TemporaryFile(dir=files.root(), buffering=0)
    except OSError as error:
        raise mapped("take in the file", error) from error


async def _respooled(spool: IO[bytes]) -> AsyncIterator[bytes]:
    spool.seek(0)
    while data := await blocking(spool.read, CHUNK_BYTES):
        yield data


async def _body(exchange: Exchange, lfn: Lfn) -> AsyncIterator[bytes]:
    """Yield the request's body as it comes; raises `Disconnected` where it breaks off."""
    while True:
        try:
            async with asyncio.timeout(NO_PROGRESS_S):
                message = await exchange.receive()
        except TimeoutError:
            found = f"no byte came for {NO_PROGRESS_S:.0f} s"
            raise Refused(408, BadRequest(f"write {lfn}", found), [(b"connection", b"close")]) from None
        if message["type"] == "http.disconnect":
            raise Disconnected
        yield message.get("body", b"")
        if not message.get("more_body", False):
            return


async def _counted(body: AsyncIterator[bytes], wanted: int, lfn: Lfn) -> AsyncIterator[bytes]:
    count = 0
    async for data in body:
        count += len(data)
        if count > wanted:
            raise SizeMismatch(f"write {lfn}", f"more than the {wanted} bytes of Content-Length came")
        yield data


async def _fill(upload: Upload, body: AsyncIterator[bytes]) -> None:
    """Write ``body`` to ``upload`` and commit it; abort it after any error or cancellation."""
    try:
        await _move(body, upload.write)
        await blocking(upload.commit)
    except BaseException:
        await asyncio.shield(blocking(upload.abort))
        raise


async def _move(body: AsyncIterator[bytes], write: Callable[[bytearray], object]) -> int:
    """Write ``body`` in pieces of `CHUNK_BYTES`, receiving while the last one is written.

    No write is running any more when this returns or raises.
    """
    gathered = bytearray()
    total_bytes = 0
    writing: asyncio.Task[None] | None = None
    try:
        async for data in body:
            gathered += data
            total_bytes += len(data)
            if len(gathered) >= CHUNK_BYTES:
                if writing is not None:
                    await asyncio.shield(writing)
                writing = asyncio.create_task(blocking(_write_all, write, gathered))
                gathered = bytearray()
        if writing is not None:
            await asyncio.shield(writing)
            writing = None
        if gathered:
            writing = asyncio.create_task(blocking(_write_all, write, gathered))
            await asyncio.shield(writing)
    finally:
        if writing is not None and not writing.done():
            await asyncio.wait([writing])
        if writing is not None:
            writing.exception()
    return total_bytes


def _write_all(write: Callable[[bytearray], object], data: bytearray) -> None:
    """Write to an upload (which takes all) or to a raw file (which may take less)."""
    try:
        count = write(data)
        while isinstance(count, int) and count < len(data):
            data = data[count:]
            count = write(data)
    except OSError as error:
        raise mapped("take in the file", error) from error


class RefusedUploads:
    """Uploads that failed a moment ago, so that the DELETE some clients send after it does no harm.

    gfal2 sends DELETE after nearly every failed PUT (measured), also where the PUT failed because a good
    file of that name is there. The first DELETE after a failed PUT, from the same address and within
    ``window_s``, is refused once; whoever means it sends it again. Time is passed in.
    """

    def __init__(self, window_s: float = 30.0, keep: int = 4096) -> None:
        self._window_s = window_s
        self._keep = keep
        self._failed: OrderedDict[tuple[str, Lfn], float] = OrderedDict()

    def note(self, peer: str, lfn: Lfn, now_s: float) -> None:
        """Remember that an upload of ``lfn`` from ``peer`` failed."""
        self._failed[peer, lfn] = now_s
        self._failed.move_to_end((peer, lfn))
        while len(self._failed) > self._keep:
            self._failed.popitem(last=False)

    def confirm_meant(self, peer: str, lfn: Lfn, now_s: float) -> None:
        """Raise `Refused` (403, the one status that ends gfal2's clean-up) for such a DELETE, once."""
        failed_s = self._failed.pop((peer, lfn), None)
        if failed_s is None or now_s - failed_s > self._window_s:
            return
        found = "an upload to this name failed a moment ago, and clean-up must not remove an older file"
        error = Denied(f"remove {lfn}", found, "send DELETE again if you mean the file that is here")
        raise Refused(403, error)
