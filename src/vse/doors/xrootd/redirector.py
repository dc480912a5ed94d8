"""The root:// redirector: a client that opens a file is sent to the copy here, once there is one.

While a file is staged its open is held for some seconds and then answered with *wait*: the client asks
again, and nothing of it has to be remembered. So a redirector that was killed is only started again.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

import structlog

from vse.doors.xrootd import wire
from vse.doors.xrootd.desk import Desk
from vse.doors.xrootd.port import Name, Opening, prepared_as_dict
from vse.doors.xrootd.wire import Ask, Call, Failure, Request, Stat
from vse.errors import BadRequest, BadSettings, Unsupported, VseError

HOLD_S = 25.0
"""How long an open is held: well below the 60 s after which clients give a silent connection up."""
WAIT_S = 1
"""How long a client is then told to wait."""
_HELLO_S = 30.0
_MOST_OPEN = 4096
"""Requests of one connection that are worked on at a time; the next is not read before."""
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 15), (socket.TCP_KEEPCNT, 4))

_log = structlog.get_logger()
_Handler = Callable[[Request], Awaitable[bytes]]


class Redirector:
    """Serves one listening socket, which listens from when this is made.

    ``port`` 0 takes any free one; `address` has the real one. Raises `BadSettings` where the address
    cannot be used.
    """

    def __init__(
        self, site: Opening, host: str = "127.0.0.1", port: int = 0, *, hold_s: float = HOLD_S
    ) -> None:
        self._site = site
        self._hold_s = hold_s
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            self._socket = socket.create_server((host, port), family=family, backlog=1024)
        except OSError as error:
            raise BadSettings(
                f"serve root:// at {host}:{port}", error.strerror or str(error), "change [doors.xrootd]"
            ) from error
        shown = f"[{host}]" if ":" in host else host
        self.address = f"{shown}:{self._socket.getsockname()[1]}"
        self._stopped: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self.desk: Desk | None = None

    def run(self, ready: Callable[[str], None] = lambda _: None) -> None:
        """Serve until `stop`, or SIGTERM or SIGINT in the main thread; ``ready`` is told the address."""
        asyncio.run(self._serve(ready))

    def stop(self) -> None:
        """End `run`; from any thread."""
        if self._loop is not None and self._stopped is not None:
            with suppress(RuntimeError):  # it has ended already
                self._loop.call_soon_threadsafe(self._stopped.set)

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._connections)

    async def _serve(self, ready: Callable[[str], None]) -> None:
        self._loop, self._stopped = asyncio.get_running_loop(), asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            with suppress(RuntimeError, ValueError):  # not in the main thread
                self._loop.add_signal_handler(number, self._stopped.set)
        self.desk = Desk(self._site, self._hold_s)
        self.desk.start()
        server = await asyncio.start_server(self._connected, sock=self._socket, limit=wire.MAX_BODY_BYTES)
        ready(self.address)
        try:
            await self._stopped.wait()
        finally:
            server.close()
            for task in list(self._connections):
                task.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)
            await self.desk.stop()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task, desk = asyncio.current_task(), self.desk
        if task is None or desk is None:
            return
        self._connections.add(task)
        end = writer.get_extra_info("socket")
        end.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # a client whose machine died is noticed
        for option, value in _KEEPALIVE:
            end.setsockopt(socket.IPPROTO_TCP, option, value)
        try:
            await _Connection(self._site, desk, reader, writer).serve()
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            pass
        except VseError as error:
            _log.warning("connection ended", error=str(error))
        except asyncio.CancelledError:
            if self._stopped is None or not self._stopped.is_set():
                raise
        finally:
            self._connections.discard(task)
            writer.close()


class _Connection:
    """One client. Its requests are worked on side by side; they end when it goes."""

    def __init__(
        self, site: Opening, desk: Desk, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._site, self._desk = site, desk
        self._reader, self._writer = reader, writer
        self._room = asyncio.Semaphore(_MOST_OPEN)
        self._handlers: dict[int, _Handler] = {
            Call.OPEN: self._open,
            Call.STAT: self._stat,
            Call.LOCATE: self._locate,
            Call.PREPARE: self._prepare,
            Call.QUERY: self._query,
            Call.PROTOCOL: self._protocol,
            Call.LOGIN: self._login,
            Call.PING: self._fine,
            Call.SET: self._fine,
            Call.ENDSESS: self._fine,
        }

    async def serve(self) -> None:
        async with asyncio.timeout(_HELLO_S):
            if not wire.is_handshake(await self._reader.readexactly(wire.HANDSHAKE_BYTES)):
                return
        await self._send(wire.handshake())
        running: set[asyncio.Task[None]] = set()
        try:
            async for request in self._requests():
                await self._room.acquire()
                task = asyncio.create_task(self._work(request))
                running.add(task)
                task.add_done_callback(running.discard)
        finally:
            for task in list(running):
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _requests(self) -> AsyncIterator[Request]:
        while True:
            request, length = wire.parse_header(await self._reader.readexactly(wire.HEADER_BYTES))
            yield request._replace(body=await self._reader.readexactly(length)) if length else request

    async def _work(self, request: Request) -> None:
        try:
            await self._send(await self._answered(request))
        except OSError:
            self._writer.close()
        finally:
            self._room.release()

    async def _answered(self, request: Request) -> bytes:
        try:
            if request.call in wire.CHANGING:
                return _read_only(request)
            if request.call == Call.DIRLIST:
                return await self._list(request)
            handler = self._handlers.get(request.call)
            if handler is None:
                raise Unsupported(f"answer request {request.call}", "this is a redirector for reading")
            return await handler(request)
        except VseError as error:
            return wire.failure_of(request.stream, error)
        except Exception as error:  # one request must not take the client's others with it
            _log.exception("request failed", call=request.call)
            return wire.failure(request.stream, Failure.SERVER_ERROR, f"{type(error).__name__}: {error}")

    async def _send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    # -- requests --------------------------------------------------------------------------------

    async def _open(self, request: Request) -> bytes:
        if request.writes:
            return _read_only(request)
        here = await self._desk.open(self._site.lfn_of(request.path))
        if here is None:
            return wire.wait(request.stream, WAIT_S)
        return wire.redirect(request.stream, here.url)

    async def _stat(self, request: Request) -> bytes:
        if request.of_file_system or not request.path:
            raise Unsupported("tell the space of a storage", "this redirector has none")
        name = await self._desk.call(self._site.stat, self._site.lfn_of(request.path))
        return wire.text(request.stream, str(_stat_of(name)))

    async def _list(self, request: Request) -> bytes:
        names = await self._desk.call(self._site.children, self._site.lfn_of(request.path))
        stats = [_stat_of(one) for one in names] if request.wants_details else None
        return b"".join(wire.listing(request.stream, [one.name for one in names], stats))

    async def _locate(self, request: Request) -> bytes:
        lfn = self._site.lfn_of(request.path.lstrip("*") or "/")
        server, online = await self._desk.call(self._site.locate, lfn)
        return wire.text(request.stream, f"{'S' if online else 's'}r{server}")

    async def _prepare(self, request: Request) -> bytes:
        if request.preparing == "evict":
            raise Unsupported(
                "evict files", "this door removes nothing", "the site's pool makes room by itself"
            )
        if not request.lines:
            raise BadRequest("prepare files", "none is named")
        if request.preparing == "cancel":
            await self._desk.call(self._site.cancel, request.lines[0])
            return wire.reply(request.stream)
        number = f"vse-{os.urandom(6).hex()}"
        return wire.text(request.stream, await self._desk.call(self._site.prepare, number, request.lines))

    async def _query(self, request: Request) -> bytes:
        lines = request.lines
        if request.query == Ask.CONFIG:
            words = " ".join(lines).split()
            return wire.text(request.stream, "".join(f"{_CONFIG.get(word, word)}\n" for word in words))
        if request.query == Ask.CHECKSUM:
            lfn = self._site.lfn_of(request.path)
            return wire.text(request.stream, await self._desk.call(self._site.checksum, lfn))
        if request.query == Ask.PREPARE and lines:
            number, *paths = lines
            files = await self._desk.call(self._site.prepared, number, paths)
            return wire.text(request.stream, json.dumps(prepared_as_dict(number, files)))
        raise Unsupported(f"answer a query of kind {request.query}", "this is a redirector for reading")

    async def _protocol(self, request: Request) -> bytes:
        return wire.protocol(request.stream)

    async def _login(self, request: Request) -> bytes:
        return wire.reply(request.stream, os.urandom(16))

    async def _fine(self, request: Request) -> bytes:
        return wire.reply(request.stream)


_CONFIG = {"role": "manager", "chksum": "0:adler32", "tpc": "0", "readv_iov_max": "0"}


def _read_only(request: Request) -> bytes:
    text = "cannot change anything here: this door is for reading. Write to a storage element"
    return wire.failure(request.stream, Failure.READ_ONLY, text)


def _stat_of(name: Name) -> Stat:
    return Stat(name.size_bytes, name.modified_s, name.directory, name.online)
