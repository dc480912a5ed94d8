"""A session with a Rucio server: its token, its requests, and what its answers mean.

Rucio's REST interface (https://rucio.github.io/documentation/html/rest_api_doc.html): a token is fetched
for a name and password, and sent in ``X-Rucio-Auth-Token``; an error names its exception in
``ExceptionClass``; lists are streams of JSON lines, ``application/x-json-stream``. Rucio answers 401 for a
token that ended and for what an account may not do alike.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

from vse.catalogue.upstream.http import HttpAsking, Request, Response, TokenFile
from vse.config.upstreams import UpstreamSettings
from vse.errors import BadSettings, Denied, VseError
from vse.model import Clock

STREAM = "application/x-json-stream"
_TOKEN = "X-Rucio-Auth-Token"  # noqa: S105  # the name of a header
_RENEW_BEFORE_S = 60.0
_UNKNOWN_LIFE_S = 300.0
_SHOWN = 200


class Refused(Exception):
    """The server understood, and refuses: ``kind`` is the name of Rucio's exception."""

    def __init__(self, status: int, kind: str, message: str) -> None:
        super().__init__(f"{kind}: {message}" if kind else f"it answered {status}")
        self.status = status
        self.kind = kind


class _Token(NamedTuple):
    text: str
    renew_s: float


class RucioSession:
    """Requests with a token that is fetched once, kept till near its end, and renewed on a 401 once.

    Safe to share between threads. ``token_file`` of the settings is for servers that take a bearer
    token; otherwise ``username`` and ``password`` log in.
    """

    def __init__(self, settings: UpstreamSettings, clock: Clock) -> None:
        self._http = HttpAsking(settings.name, settings.url, settings.timeout_s)
        self._settings = settings
        self._clock = clock
        self._file = None if settings.token_file is None else TokenFile(settings.token_file)
        self._token: _Token | None = None
        self._lock = threading.Lock()
        self.logins = 0

    def close(self) -> None:
        """Drop the connections."""
        self._http.close()

    def send(self, method: str, path: str, body: object, wanted: str) -> bytes:
        """Send a request; return the whole answer. Raises `Refused`, and as `Upstream` does."""
        with _Answer(self, method, path, body, wanted, "*/*") as response:
            return self._http.body(response, wanted)

    def read(self, path: str, wanted: str) -> object:
        """Return a JSON answer."""
        return self._http.json(self.send("GET", path, None, wanted), wanted)

    def stream(self, method: str, path: str, body: object, wanted: str) -> Iterator[Any]:
        """Yield the JSON values of a stream as they come."""
        with _Answer(self, method, path, body, wanted, STREAM) as response:
            self._http.check_kind(response, wanted, STREAM)
            for line in self._http.lines(response, wanted):
                yield self._http.json(line, wanted)

    def garbage(self, wanted: str, found: str) -> VseError:
        return self._http.garbage(wanted, found)

    def refused(self, wanted: str, refused: Refused) -> VseError:
        """Return the error for a refusal that nothing else is known about."""
        if refused.kind:
            return self._http.unavailable(wanted, f"it answered {refused.status}, {refused}")
        return self.garbage(wanted, f"{refused}; is this the URL of a Rucio server?")

    # -- the token --------------------------------------------------------------------------------

    def headers(self, wanted: str, accept: str) -> dict[str, str]:
        """Return the headers of a request, with a token that is good for some time."""
        if self._file is not None:
            token = self._file.read(wanted)
        else:
            with self._lock:
                if self._token is None or self._token.renew_s <= self._clock():
                    self._token = self._log_in(wanted)
                token = self._token.text
        return {_TOKEN: token, "Accept": accept, "Content-Type": "application/json"}

    def forget(self, headers: dict[str, str]) -> bool:
        """Forget the token of ``headers``, which the server refused; whether a new one can be had."""
        with self._lock:
            if self._token is not None and self._token.text == headers[_TOKEN]:
                self._token = None
        return self._file is None

    def _log_in(self, wanted: str) -> _Token:
        settings, password = self._settings, self._settings.password
        if not settings.username or password is None:
            todo = f"give username, password and account, or token_file, in [upstreams.{settings.name}]"
            raise BadSettings(wanted, "the settings name no way to log in", todo)
        headers = {
            "X-Rucio-Account": settings.account,
            "X-Rucio-Username": settings.username,
            "X-Rucio-Password": password.get_secret_value(),
            "X-Rucio-AppID": "vse",
        }
        if settings.vo:
            headers["X-Rucio-VO"] = settings.vo
        self.logins += 1
        try:
            with self._http.asked(Request("GET", "/auth/userpass", headers), wanted, self.check) as response:
                self._http.body(response, wanted)
                return self._read_token(response, wanted)
        except Refused as refused:
            if refused.status in (401, 403):
                raise self.denied(wanted, refused) from refused
            raise self.refused(wanted, refused) from refused

    def _read_token(self, response: Response, wanted: str) -> _Token:
        text = response.headers.get(_TOKEN, "")
        if not text or not text.isprintable():
            raise self.garbage(wanted, "it logged in, and gave no token; is this the URL of a Rucio server?")
        now_s = self._clock()
        try:
            ends = parsedate_to_datetime(response.headers.get(f"{_TOKEN}-Expires", ""))
            life_s = ends.timestamp() - now_s
        except (TypeError, ValueError, OverflowError):
            life_s = _UNKNOWN_LIFE_S
        return _Token(text, now_s + max(life_s - _RENEW_BEFORE_S, life_s / 2))

    # -- answers ----------------------------------------------------------------------------------

    def ask(self, request: Request, wanted: str) -> Any:
        return self._http.asked(request, wanted, self.check)

    def check(self, response: Response, wanted: str) -> None:
        """Let a good answer pass; raise `Refused` with what Rucio says, or what the status means."""
        status = response.status
        if 200 <= status < 300:
            return
        kind = response.headers.get("ExceptionClass", "")
        if not kind or status == 429 or status in (502, 503, 504):
            self._http.check_busy(response, wanted)
        raise Refused(status, kind[:_SHOWN], response.headers.get("ExceptionMessage", "")[:_SHOWN])

    def denied(self, wanted: str, refused: Refused) -> Denied:
        settings = self._settings
        whose = f"the account {settings.account!r} of upstreams.{settings.name}"
        todo = f"check how {whose} logs in, and what it may do"
        return Denied(wanted, f"{self._http.url} answered {refused.status}, {refused}", todo)


class _Answer:
    """A context that gives the answer to one request; after a 401, that to one with a new token."""

    def __init__(
        self, session: RucioSession, method: str, path: str, body: object, wanted: str, accept: str
    ) -> None:
        self._session = session
        self._wanted = wanted
        self._accept = accept
        self._request = Request(method, path, {}, None if body is None else json.dumps(body).encode())

    def __enter__(self) -> Response:
        session, wanted = self._session, self._wanted
        headers = session.headers(wanted, self._accept)
        try:
            return self._open(headers)
        except Refused as refused:
            if refused.status not in (401, 403):
                raise
            if refused.status == 403 or not session.forget(headers):
                raise session.denied(wanted, refused) from refused
        try:
            return self._open(session.headers(wanted, self._accept))
        except Refused as refused:
            if refused.status in (401, 403):
                raise session.denied(wanted, refused) from refused
            raise

    def _open(self, headers: dict[str, str]) -> Response:
        self._context = self._session.ask(self._request._replace(headers=headers), self._wanted)
        response: Response = self._context.__enter__()
        return response

    def __exit__(self, *reason: Any) -> None:
        self._context.__exit__(*reason)
