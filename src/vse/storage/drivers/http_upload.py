"""Writing a file over HTTP: one PUT whose last piece is held back until `commit`.

A server publishes a file when the last byte has come, so nothing can appear before `commit`, and an
upload that ends in any other way leaves a request that never became whole, which the server drops.
"""

from __future__ import annotations

import http.client
import io
import select
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from urllib.parse import urlsplit

from vse.errors import (
    AlreadyExists,
    BadRequest,
    IntegrityError,
    ServerFault,
    SourceUnavailable,
    VseError,
)
from vse.model import Checksum
from vse.storage.contract import StoredFile
from vse.storage.drivers.aborting import Aborting
from vse.storage.drivers.http_session import (
    MAX_REDIRECTS,
    MAX_SAID_BYTES,
    HttpSession,
    Origin,
    error_of,
    mapped,
    redirected,
)
from vse.storage.drivers.sums import Declared

_CONTINUE_WAIT_S = 2.0
"""How long to wait for '100 Continue' (or a refusal) before sending the body anyway (RFC 9110 §10.1.1)."""
_HEAD_BYTES = 65536
_SEND_BYTES = 65536


class PutRequest:
    """One PUT on a connection of its own, its body pushed piece by piece.

    The standard library's client sends a body and reads the answer afterwards; here an answer that
    comes early is seen before each piece.
    """

    def __init__(
        self, session: HttpSession, url: str, size_bytes: int, headers: Mapping[str, str], wanted: str
    ) -> None:
        self._wanted = wanted
        self._no_progress_s = session.no_progress_s
        self._early = b""
        origin = Origin.of(url)
        self._connection = session.connection(origin)
        try:
            with mapped(wanted):
                self._connection.connect()
                self._socket: socket.socket = self._connection.sock
                self._socket.settimeout(self._no_progress_s)
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                parts = urlsplit(url)
                target = f"{parts.path}?{parts.query}" if parts.query else parts.path
                self._connection.putrequest("PUT", target, skip_accept_encoding=True)
                for name, value in headers.items():
                    self._connection.putheader(name, value)
                self._connection.putheader("Content-Length", str(size_bytes))
                if size_bytes:
                    self._connection.putheader("Expect", "100-continue")
                self._connection.endheaders()
        except BaseException:
            self.close()
            raise

    def refused(self, wait_s: float = 0.0) -> bool:
        """Whether a final answer has come before the body is whole; waits up to ``wait_s`` for any."""
        until_s = time.monotonic() + wait_s
        with mapped(self._wanted):
            while True:
                left_s = max(0.0, until_s - time.monotonic())
                if self._pending() or select.select([self._socket], [], [], left_s)[0]:
                    self._receive()
                final = self._is_final()
                if final is not None or time.monotonic() >= until_s:
                    return bool(final)

    def _is_final(self) -> bool | None:
        """Whether what came is more than '100 Continue' (which is dropped); None if nothing came whole."""
        interim = None
        while len(self._early) > len("HTTP/1.1 1"):
            if self._early[9:10] != b"1":
                return True
            _, separator, rest = self._early.partition(b"\r\n\r\n")
            if not separator:
                break
            self._early, interim = rest, False
        return interim

    def send(self, data: memoryview) -> None:
        """Send all of ``data``; `Stalled` only where the server takes nothing for the time allowed."""
        with mapped(self._wanted):
            for start in range(0, len(data), _SEND_BYTES):  # the socket's timeout is for the whole of a call
                self._socket.sendall(data[start : start + _SEND_BYTES])

    def answer(self) -> http.client.HTTPResponse:
        """Wait for the final answer and return it."""
        with mapped(self._wanted):
            response = http.client.HTTPResponse(
                _Prefixed(self._early, self._socket),  # type: ignore[arg-type]
                method="PUT",
            )
            response.begin()
        return response

    def close(self) -> None:
        """Drop the connection, also under another thread that is sending on it."""
        with suppress(OSError, AttributeError):
            self._connection.sock.shutdown(socket.SHUT_RDWR)
        with suppress(OSError):
            self._connection.close()

    def _pending(self) -> bool:
        return isinstance(self._socket, ssl.SSLSocket) and self._socket.pending() > 0

    def _receive(self) -> None:
        """Take what has come, without waiting: on TLS it may be no data of ours at all."""
        self._socket.setblocking(False)
        try:
            data = self._socket.recv(_HEAD_BYTES)
            if not data:
                raise SourceUnavailable(self._wanted, "the server closed the connection")
            self._early += data
        except (ssl.SSLWantReadError, BlockingIOError):
            pass
        finally:
            self._socket.settimeout(self._no_progress_s)


class _Prefixed(io.RawIOBase):
    """A socket with bytes put back in front of it, in the shape `http.client.HTTPResponse` reads from."""

    def __init__(self, prefix: bytes, source: socket.socket) -> None:
        self._prefix = memoryview(prefix)
        self._source = source

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if not self._prefix:
            return self._source.recv_into(buffer)
        count = min(len(buffer), len(self._prefix))
        buffer[:count] = self._prefix[:count]
        self._prefix = self._prefix[count:]
        return count


class HttpUpload(Aborting):
    """`vse.storage.contract.Upload` by one PUT to ``path``.

    ``confirm`` is given the size and checksum that were sent; it publishes, where the PUT has not done
    so, and tells what the server has. ``taking`` is held from before the last byte until then.
    ``pause_s`` is how long to wait with the body after '100 Continue'.
    ``accept`` are the statuses that say a new file was made; ``dropped`` is called after an abort.
    """

    def __init__(
        self,
        session: HttpSession,
        path: str,
        size_bytes: int,
        checksum: Checksum | None,
        confirm: Callable[[int, Checksum], StoredFile],
        *,
        taking: Callable[[], AbstractContextManager[None]] = nullcontext,
        accept: tuple[int, ...] = (201,),
        dropped: Callable[[], None] = lambda: None,
        pause_s: float = 0.0,
    ) -> None:
        self._session = session
        self._pause_s = pause_s
        self._url = session.url(path)
        self._wanted = f"write {self._url}"
        self._declared = Declared(self._wanted, size_bytes, checksum)
        self._confirm = confirm
        self._taking = taking
        self._accept = accept
        self._dropped = dropped
        self._held = b""
        self._ended = False
        self._request: PutRequest | None = None
        if size_bytes:
            with self._guarded():
                self._request = self._begin()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        with self._guarded():
            self._check_open()
            view = memoryview(data).cast("B")
            self._declared.update(view)
            if not view or self._request is None:
                return
            if self._declared.seen.size_bytes == self._declared.size_bytes:
                self._held = bytes(view[-1:])
                view = view[:-1]
            self._push(self._request, view)

    def partial_path(self) -> Path | None:
        return None

    def commit(self) -> StoredFile:
        with self._guarded():
            self._check_open()
            self._declared.check()
            with self._taking():
                request = self._request = self._request or self._begin()
                if self._held:
                    self._push(request, memoryview(self._held))
                self._conclude(request)
                stored = self._confirmed()
        self._end()
        return stored

    def _confirmed(self) -> StoredFile:
        try:
            return self._confirm(self._declared.size_bytes, self._declared.seen.checksum)
        except (AlreadyExists, IntegrityError):
            raise
        except VseError as error:
            found = f"the server took the file, but then: {error.found}"
            raise type(error)(self._wanted, found, "look whether it is there before trying again") from error

    def abort(self) -> None:
        if not self._ended:
            self._end()
            self._dropped()

    def _end(self) -> None:
        self._ended = True
        request, self._request = self._request, None
        if request is not None:
            request.close()

    def _begin(self) -> PutRequest:
        """Start the PUT where the server sends us to; raise at once where it refuses."""
        url = self._url
        for _ in range(MAX_REDIRECTS + 1):
            headers = {**self._session.headers_for(url), "If-None-Match": "*"}
            if self._declared.checksum is not None and self._declared.checksum.algorithm == "adler32":
                headers["Digest"] = f"adler32={self._declared.checksum.value}"
            request = PutRequest(self._session, url, self._declared.size_bytes, headers, self._wanted)
            try:
                if not self._declared.size_bytes or not request.refused(_CONTINUE_WAIT_S):
                    time.sleep(self._pause_s)
                    return request
                response = request.answer()
                target = redirected(response.status, url, response.getheader("Location"), self._wanted)
                if target is None:
                    raise self._error(response)
            except BaseException:
                request.close()
                raise
            request.close()
            url = target
        raise SourceUnavailable(self._wanted, f"the server redirected more than {MAX_REDIRECTS} times")

    def _push(self, request: PutRequest, data: memoryview) -> None:
        if request.refused():
            raise self._error(request.answer())
        try:
            request.send(data)
        except SourceUnavailable as broken:
            # A server that refuses in the middle answers, then closes: its answer says more.
            refusal: VseError = broken
            with suppress(VseError):
                refusal = self._error(request.answer())
            raise refusal from broken

    def _conclude(self, request: PutRequest) -> None:
        try:
            response = request.answer()
        except VseError as error:
            found = f"{error.found}; whether the file was published is not known"
            raise type(error)(error.wanted, found, error.todo) from error
        if response.status not in self._accept:
            raise self._error(response)

    def _error(self, response: http.client.HTTPResponse) -> VseError:
        if response.status in self._accept:
            found = f"the server answered {response.status} before it had the file"
            return ServerFault(self._wanted, found)
        if response.status < 300:
            found = f"the server answered {response.status} in place of 201 Created"
            return AlreadyExists(self._wanted, f"{found}: the name was taken")
        body = b""
        with suppress(VseError), mapped(self._wanted):
            body = response.read(MAX_SAID_BYTES)
        return error_of(response.status, self._wanted, response.getheader("Content-Type", ""), body)

    def _check_open(self) -> None:
        if self._ended:
            raise BadRequest(self._wanted, "the upload has ended already")
