"""Asking a catalogue elsewhere over HTTP: what every client of one needs, and the errors it tells.

Nothing is retried here. An answer is read as it comes, with a limit, and one that breaks off, lies about
its length or is silent for too long is an error of the tree.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import urllib3
from urllib3.exceptions import HTTPError, LocationValueError, NewConnectionError
from urllib3.exceptions import TimeoutError as HttpTimeout

from vse.errors import Denied, UpstreamGarbage, UpstreamUnavailable, VseError

MAX_ANSWER_BYTES = 256 * 1024 * 1024
_MAX_LINE_BYTES = 4 * 1024 * 1024
_READ_BYTES = 64 * 1024
_MAX_PAUSE_S = 86400.0

Response = urllib3.BaseHTTPResponse


class Request(NamedTuple):
    """One request; ``path`` is what follows the URL of the catalogue."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes | None = None


class HttpAsking:
    """Connections to the catalogue ``name`` at ``url``. Safe to share between threads.

    ``timeout_s`` is how long the other side may be silent.
    """

    def __init__(self, name: str, url: str, timeout_s: float) -> None:
        self.name = name
        self.url = url.rstrip("/")
        self.timeout_s = timeout_s
        timeout = urllib3.Timeout(connect=timeout_s, read=timeout_s)
        self._pool = urllib3.PoolManager(maxsize=8, timeout=timeout, retries=False)

    def close(self) -> None:
        """Drop the connections."""
        self._pool.clear()

    @contextmanager
    def asked(
        self, request: Request, wanted: str, check: Callable[[Response, str], None]
    ) -> Iterator[Response]:
        """Send a request; give its answer if ``check`` lets it pass; let the connection go after it."""
        try:
            response = self._pool.request(
                request.method,
                self.url + request.path,
                body=request.body,
                headers=request.headers,
                preload_content=False,
                redirect=False,
            )
        except (HTTPError, LocationValueError) as error:
            # A refused connection is a kind of timeout to urllib3.
            if isinstance(error, HttpTimeout) and not isinstance(error, NewConnectionError):
                raise self._silent(wanted) from error
            raise self.unavailable(wanted, f"it cannot be reached ({_reason(error)})") from error
        whole = False
        try:
            check(response, wanted)
            yield response
            whole = True
        finally:
            if whole:
                response.release_conn()
            else:
                response.close()

    def lines(
        self, response: Response, wanted: str, limit_bytes: int = _MAX_LINE_BYTES
    ) -> Generator[bytes, None, None]:
        """Yield the lines of an answer; each must have its end."""
        rest = b""
        for piece in self._pieces(response, wanted, None):
            *lines, rest = (rest + piece).split(b"\n")
            yield from lines
            if len(rest) > limit_bytes:
                raise self.garbage(wanted, f"it sent a line of more than {limit_bytes} bytes")
        if rest:
            raise self.garbage(wanted, "it ends in the middle of a line")

    def body(self, response: Response, wanted: str, limit_bytes: int = MAX_ANSWER_BYTES) -> bytes:
        """Return a whole answer."""
        return b"".join(self._pieces(response, wanted, limit_bytes))

    def json(self, text: bytes, wanted: str) -> object:
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise self.garbage(wanted, f"it sent what is no JSON: {text[:60]!r}") from error

    def check_busy(self, response: Response, wanted: str) -> None:
        """Raise `UpstreamUnavailable` for 429 and 5xx, with the pause that it wants."""
        if response.status != 429 and response.status < 500:
            return
        found = f"it answered {response.status}"
        pause_s = _pause_s(response.headers.get("retry-after", ""))
        if pause_s is not None:
            found += f", and wants to be left alone for {pause_s:g} s"
        raise self.unavailable(wanted, found, pause_s)

    def check_kind(self, response: Response, wanted: str, media_type: str) -> None:
        """Raise `UpstreamGarbage` unless the answer is of this kind."""
        kind = response.headers.get("content-type", "nothing").partition(";")[0].strip().lower()
        if kind != media_type:
            raise self.garbage(wanted, f"it answered {kind[:60]!r}, not {media_type}")

    def garbage(self, wanted: str, found: str) -> VseError:
        return UpstreamGarbage(wanted, found, f"look at {self.url} with its administrator")

    def unavailable(self, wanted: str, found: str, retry_after_s: float | None = None) -> VseError:
        error = UpstreamUnavailable(wanted, found, f"check that {self.url} is up and try again")
        error.retry_after_s = retry_after_s
        return error

    def _silent(self, wanted: str) -> VseError:
        return self.unavailable(wanted, f"it was silent for {self.timeout_s:g} s")

    def _pieces(self, response: Response, wanted: str, limit_bytes: int | None) -> Iterator[bytes]:
        count = 0
        try:
            for piece in response.stream(_READ_BYTES):
                count += len(piece)
                if limit_bytes is not None and count > limit_bytes:
                    raise self.garbage(wanted, f"its answer has more than {limit_bytes} bytes")
                yield piece
        except HttpTimeout as error:
            raise self._silent(wanted) from error
        except HTTPError as error:
            raise self.garbage(wanted, f"its answer broke off after {count} bytes") from error


class TokenFile:
    """A bearer token that is read again when its file has changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: tuple[tuple[int, int, int], str] | None = None

    def read(self, wanted: str) -> str:
        """Return the token; raises `Denied` where there is none that can be sent."""
        todo = f"put the token that the other site gave you into {self._path}"
        try:
            status = self._path.stat()
            state = (status.st_mtime_ns, status.st_ino, status.st_size)
            known = self._known
            if known is not None and known[0] == state:
                return known[1]
            token = self._path.read_text("ascii").strip()
        except OSError as error:
            found = f"its token file {self._path} cannot be read ({error.strerror})"
            raise Denied(wanted, found, todo) from error
        except UnicodeDecodeError as error:
            raise Denied(wanted, f"its token file {self._path} holds no token", todo) from error
        if not token or not token.isprintable() or " " in token:
            raise Denied(wanted, f"its token file {self._path} holds no token", todo)
        self._known = (state, token)
        return token


def _pause_s(retry_after: str) -> float | None:
    """Return the seconds of a Retry-After header; its other form, a date, is passed over."""
    return min(float(retry_after), _MAX_PAUSE_S) if retry_after.strip().isdecimal() else None


def _reason(error: Exception) -> str:
    """Return the last and most telling part of a chain of connection errors."""
    text = str(error.__cause__ or error).rpartition("] ")[2].strip() or type(error).__name__
    return text[:200]
