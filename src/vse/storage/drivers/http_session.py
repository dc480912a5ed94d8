"""Talking HTTP to one storage: pooled connections, the token, redirects, and what answers mean."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, urljoin, urlsplit

import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
    SSLError,
)

from vse import errors
from vse.config.settings import ProtocolSettings

TRANSPORTS = {"http": "http", "dav": "http", "https": "https", "davs": "https"}
"""The protocols spoken here, and what carries each."""
CONNECT_TIMEOUT_S = 10.0
MAX_REDIRECTS = 5
MAX_SAID_BYTES = 4096
_REDIRECTS = (301, 302, 303, 307, 308)
_DEFAULT_PORTS = {"http": 80, "https": 443}
_AT_ONCE = 16
_SAFE = "/-._~!$&'()*+,;=:@"  # what a path may hold unescaped (RFC 3986 §3.3)

# What a status means where the request says nothing more of it.
STATUS: dict[int, type[errors.VseError]] = {
    400: errors.BadRequest,
    401: errors.Denied,
    403: errors.Denied,
    404: errors.NoSuchFile,
    405: errors.Unsupported,
    408: errors.Stalled,
    409: errors.AlreadyExists,
    410: errors.NoSuchFile,
    412: errors.AlreadyExists,
    413: errors.StorageFull,
    416: errors.SizeMismatch,
    423: errors.SourceUnavailable,
    425: errors.SourceUnavailable,
    429: errors.SourceUnavailable,
    501: errors.Unsupported,
    502: errors.SourceUnavailable,
    503: errors.SourceUnavailable,
    504: errors.Stalled,
    507: errors.StorageFull,
}

# XRootD's door answers 500 for these: only the words tell them apart.
_TOLD: dict[str, type[errors.VseError]] = {
    "directory not empty": errors.NotEmpty,
    "not a directory": errors.NoSuchFile,
    "file exists": errors.AlreadyExists,
}

_TODO: dict[type[errors.VseError], str] = {
    errors.Denied: "check the TokenFile of the storage element and what its token allows",
    errors.StorageFull: "make room there, or send files to another storage element",
}


def error_of(status: int, wanted: str, content_type: str = "", body: bytes = b"") -> errors.VseError:
    """Return the error that an answer tells of.

    Another VSE says in its body which error of the tree it was; it is believed where that fits the status.
    """
    kind = STATUS.get(status, errors.ServerFault if status >= 500 else errors.BadRequest)
    said, code = _said(content_type, body)
    told = next((one for one in errors.tree() if code and one.code == code), kind)
    if _status_of(told) == status:
        kind = told
    elif status == 500:
        kind = next((one for words, one in _TOLD.items() if words in said.lower()), kind)
    reason = http.client.responses.get(status, "")
    found = f"the server answered {status} {reason}".rstrip()
    if said:
        found += f" ({said})"
    return kind(wanted, found, _TODO.get(kind, ""))


def _status_of(kind: type[errors.VseError]) -> int:
    return errors.http_status(kind(""))


def _said(content_type: str, body: bytes) -> tuple[str, str]:
    """Return what an answer says for people, cut to what fits in a message, and its code of the tree."""
    text, code = "", ""
    kind = content_type.partition(";")[0].strip().lower()
    if kind in ("application/json", "application/problem+json"):
        with suppress(ValueError):
            data = json.loads(body)
            if isinstance(data, dict):
                text = str(data.get("found") or data.get("detail") or data.get("title") or "")
                code = str(data.get("code", ""))
    elif kind in ("text/plain", ""):
        text = body.decode("utf-8", "replace").strip().partition("\n")[0]
    return "".join(char if char.isprintable() else " " for char in text[:200]).strip(), code


class Origin(NamedTuple):
    """Where a server is: what a token is sent to, and nowhere else."""

    transport: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Origin:
        """Return the origin of a URL; raise `BadRequest` where it has none."""
        wanted = f"use the URL {url!r}"
        try:
            parts = urlsplit(url)
            transport = TRANSPORTS[parts.scheme]
            host, port = (parts.hostname or "").lower(), parts.port or _DEFAULT_PORTS[transport]
        except (KeyError, ValueError) as error:
            raise errors.BadRequest(wanted, "it is no http, https, dav or davs URL") from error
        if not host:
            raise errors.BadRequest(wanted, "it names no host")
        return cls(transport, host, port)

    @property
    def netloc(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.transport] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.transport}://{self.netloc}"


def escaped(path: str) -> str:
    return quote(path, safe=_SAFE)


def path_in(url: str) -> str:
    """Return the unescaped path of a URL; raise `BadRequest` where it holds a query or a fragment."""
    parts = urlsplit(url)
    if parts.query or parts.fragment:
        raise errors.BadRequest(f"find the path in {url!r}", "it holds a query or a fragment")
    return unquote(parts.path) or "/"


class Token:
    """A bearer token kept in a file; read when needed, and again when the file has changed."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._known: tuple[tuple[int, int, int], str] | None = None

    def header(self) -> dict[str, str]:
        """Return the Authorization header; empty where no token is configured."""
        if self._path is None:
            return {}
        wanted = f"read the token file {self._path}"
        try:
            status = self._path.stat()
            version = (status.st_mtime_ns, status.st_size, status.st_ino)
            known = self._known
            if known is None or known[0] != version:
                known = (version, self._path.read_text("ascii").strip())
        except (OSError, UnicodeDecodeError) as error:
            found = getattr(error, "strerror", None) or "it is not plain text"
            raise errors.Denied(wanted, found, "put the storage's bearer token there") from error
        if not known[1] or not known[1].isprintable() or " " in known[1]:
            raise errors.Denied(wanted, "it holds no token", "put the storage's bearer token there")
        self._known = known
        return {"Authorization": f"Bearer {known[1]}"}


class HttpSession:
    """Requests to one storage, safe to share between threads.

    ``no_progress_s`` is how long the server may send nothing before the request counts as `Stalled`.
    Redirects are followed; the token goes to the configured server only.
    """

    def __init__(
        self, settings: ProtocolSettings, no_progress_s: float, tls: ssl.SSLContext | None = None
    ) -> None:
        if settings.protocol and settings.protocol not in TRANSPORTS:
            raise errors.BadSettings(
                f"use the protocol section {settings.section!r}",
                f"its Protocol {settings.protocol!r} is not one of {', '.join(TRANSPORTS)}",
            )
        if not settings.host:
            raise errors.BadSettings(
                f"use the protocol section {settings.section!r}", "it has no Host", "give the server's name"
            )
        transport = TRANSPORTS[settings.protocol or "http"]
        self.origin = Origin(
            transport, settings.host.lower().strip("[]"), settings.port or _DEFAULT_PORTS[transport]
        )
        self.no_progress_s = no_progress_s
        self._token = Token(settings.token_file)
        self._tls = tls
        self._pools = urllib3.PoolManager(num_pools=8, maxsize=_AT_ONCE, retries=False, ssl_context=tls)

    def url(self, path: str) -> str:
        return f"{self.origin}{escaped(path)}"

    def headers_for(self, url: str) -> dict[str, str]:
        """Return the headers that every request to ``url`` carries."""
        plain = {"Accept-Encoding": "identity", "User-Agent": "vse"}
        return {**plain, **self._token.header()} if Origin.of(url) == self.origin else plain

    def request(
        self,
        method: str,
        url: str,
        wanted: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> urllib3.BaseHTTPResponse:
        """Send a request; return the answer, its body not yet read, whatever its status.

        The caller closes it (see `answered`). A HEAD that is only sent to the same name with a slash
        keeps that answer: it tells of a directory. Raises `SourceUnavailable` or `Stalled` where none comes.
        """
        for _ in range(MAX_REDIRECTS + 1):
            response = self._send(method, url, wanted, headers or {}, body)
            target = redirected(response.status, url, response.headers.get("Location"), wanted)
            if target is None or (method == "HEAD" and is_same_with_slash(url, target)):
                return response
            discard(response)
            url = target
        raise errors.SourceUnavailable(wanted, f"the server redirected more than {MAX_REDIRECTS} times")

    def _send(
        self, method: str, url: str, wanted: str, headers: Mapping[str, str], body: bytes | None
    ) -> urllib3.BaseHTTPResponse:
        again = method in ("GET", "HEAD", "PROPFIND")
        while True:
            try:
                with mapped(wanted):
                    return self._pools.request(
                        method,
                        url,
                        headers={**self.headers_for(url), **headers},
                        body=body,
                        preload_content=False,
                        decode_content=False,
                        redirect=False,
                        retries=False,
                        timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=self.no_progress_s),
                    )
            except errors.SourceUnavailable as error:
                # A kept connection may be closed by the server just as it is used again: once more.
                if not again or not isinstance(error.__cause__, ProtocolError):
                    raise
                again = False

    @contextmanager
    def answered(
        self,
        method: str,
        url: str,
        wanted: str,
        *,
        accept: tuple[int, ...] = (200,),
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        """Send a request and hold its answer open; raise the error of any status not in ``accept``."""
        response = self.request(method, url, wanted, headers=headers, body=body)
        try:
            if response.status not in accept:
                raise refusal(response, wanted)
            with mapped(wanted):
                yield response
        finally:
            discard(response)

    def connection(self, origin: Origin) -> http.client.HTTPConnection:
        """Return a connection (not open yet) of its own, outside of the pool."""
        if origin.transport == "https":
            return http.client.HTTPSConnection(
                origin.host, origin.port, timeout=CONNECT_TIMEOUT_S, context=self._tls
            )
        return http.client.HTTPConnection(origin.host, origin.port, timeout=CONNECT_TIMEOUT_S)

    def close(self) -> None:
        self._pools.clear()


@contextmanager
def mapped(wanted: str) -> Iterator[None]:
    """Turn what urllib3, http.client and sockets raise into errors of the tree."""
    try:
        yield
    except (TimeoutError, ReadTimeoutError) as error:
        raise errors.Stalled(wanted, "the server sent nothing for too long") from error
    except (ConnectTimeoutError, NewConnectionError) as error:
        raise errors.SourceUnavailable(wanted, f"no connection ({_cause(error)})") from error
    except SSLError as error:
        raise errors.SourceUnavailable(wanted, f"no secure connection ({_cause(error)})") from error
    except http.client.IncompleteRead as error:  # urllib3's is one too
        missing = "some" if error.expected is None else error.expected
        raise errors.ShortRead(wanted, f"the server closed with {missing} bytes missing") from error
    except (HTTPError, http.client.HTTPException, OSError) as error:
        if isinstance(error.__cause__, http.client.IncompleteRead):
            raise errors.ShortRead(wanted, "the server closed in the middle of its answer") from error
        raise errors.SourceUnavailable(wanted, f"the connection broke ({_cause(error)})") from error


def _cause(error: BaseException) -> str:
    inner = error.__cause__ or error.__context__ or error
    return getattr(inner, "strerror", None) or str(inner) or type(inner).__name__


def redirected(status: int, url: str, location: str | None, wanted: str) -> str | None:
    """Return where an answer sends us to, None if nowhere; raise `Denied` for a way out of TLS."""
    if status not in _REDIRECTS or not location:
        return None
    target = urljoin(url, location)
    if Origin.of(url).transport == "https" and Origin.of(target).transport != "https":
        raise errors.Denied(wanted, f"the server redirects from https to {Origin.of(target)}")
    return target


def is_same_with_slash(url: str, target: str) -> bool:
    """Whether a redirect only says that ``url`` is a directory."""
    return target.partition("?")[0] == url.partition("?")[0] + "/"


def refusal(response: urllib3.BaseHTTPResponse, wanted: str) -> errors.VseError:
    """Return the error that an answer with an unwanted status tells of."""
    body = b""
    with suppress(HTTPError, OSError):
        body = response.read(MAX_SAID_BYTES, decode_content=False)
    return error_of(response.status, wanted, response.headers.get("Content-Type", ""), body)


def read_into(response: urllib3.BaseHTTPResponse, buffer: memoryview, wanted: str) -> int:
    """Fill ``buffer`` with what comes next of a body; return how much did, less only at its end.

    urllib3's own ``readinto`` reads into a new buffer and copies. What it keeps account of besides, how much
    is still to come, is written on.
    """
    source: Any = response
    with mapped(wanted):
        if source._fp is None or source._fp.closed:
            return 0
        count = int(source._fp.readinto(buffer))
    if source.length_remaining is not None:
        source.length_remaining -= count
    return count


def discard(response: urllib3.BaseHTTPResponse) -> None:
    """Give the connection back where the answer was read to its end; close it otherwise."""
    if response.connection is not None and getattr(response, "length_remaining", None) == 0:
        response.drain_conn()
    response.close()
    response.release_conn()
