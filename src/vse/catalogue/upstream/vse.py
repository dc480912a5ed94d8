"""The catalogue of another VSE, asked through its HTTP door (``/api/v1/catalogue``)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from typing import Any

import urllib3
from urllib3.exceptions import HTTPError, LocationValueError, NewConnectionError
from urllib3.exceptions import TimeoutError as HttpTimeout

from vse.catalogue.wire import NDJSON, dumps, error_from_json, located_from_json
from vse.errors import Denied, UpstreamGarbage, UpstreamUnavailable, VseError
from vse.model import BulkResult, Lfn, Located

NAMES_AT_ONCE = 5000
_MAX_LINE_BYTES = 4 * 1024 * 1024
_MAX_ANSWER_BYTES = 256 * 1024 * 1024
_READ_BYTES = 64 * 1024


class VseUpstream:
    """`vse.catalogue.port.Upstream` over HTTP. Safe to share between threads.

    ``url`` is that of the door, without ``/api``. The token is read again when its file changes.
    Nothing is retried here; ``timeout_s`` is how long the other side may be silent.
    """

    def __init__(self, name: str, url: str, token_file: Path | None = None, timeout_s: float = 60.0) -> None:
        self.name = name
        self._url = url.rstrip("/")
        self._token = None if token_file is None else _TokenFile(token_file)
        self._timeout_s = timeout_s
        timeout = urllib3.Timeout(connect=timeout_s, read=timeout_s)
        self._pool = urllib3.PoolManager(maxsize=8, timeout=timeout, retries=False)

    def find(self, base: Lfn, pattern: str) -> Iterator[Located]:
        """Yield every file under ``base`` that matches; memory does not grow with the answer.

        A file that was not asked for, a stream without its end line or with a wrong count raises
        `UpstreamGarbage`, after the good ones were yielded.
        """
        wanted = f"find {pattern!r} under {base} at the upstream {self.name!r}"
        with self._asked("find", {"base": base, "pattern": pattern}, wanted, NDJSON) as response:
            count = 0
            ended = False
            for line in self._lines(response, wanted):
                if ended:
                    raise self._garbage(wanted, "there is more after its end line")
                data = self._json(line, wanted)
                if isinstance(data, dict) and data.keys() == {"end"}:
                    ended = True
                    if data["end"] != count:
                        found = f"its end line counts {data['end']!r} files, {count} came"
                        raise self._garbage(wanted, found)
                    continue
                located = located_from_json(data, self.name)
                lfn = located.entry.lfn
                if not lfn.is_below(base) or not fnmatchcase(lfn.name, pattern):
                    raise self._garbage(wanted, f"it told of {lfn}, which was not asked for")
                count += 1
                yield located
            if not ended:
                raise self._garbage(wanted, f"it ends after {count} files without an end line")

    def resolve(self, lfns: Sequence[Lfn]) -> BulkResult[Located]:
        """Return each file with its replicas, `NoSuchEntry` for each that is not there."""
        result: BulkResult[Located] = BulkResult()
        names = iter(dict.fromkeys(lfns))
        while batch := list(islice(names, NAMES_AT_ONCE)):
            result.merge(self._resolve(batch))
        return result

    def close(self) -> None:
        """Drop the connections."""
        self._pool.clear()

    def _resolve(self, lfns: list[Lfn]) -> BulkResult[Located]:
        wanted = f"look up {len(lfns)} names at the upstream {self.name!r}"
        with self._asked("resolve", {"lfns": lfns}, wanted, "application/json") as response:
            data = self._json(b"".join(self._pieces(response, wanted, _MAX_ANSWER_BYTES)), wanted)
        if not isinstance(data, dict) or data.keys() != {"ok", "failed"}:
            raise self._garbage(wanted, "its answer is not an object with 'ok' and 'failed'")
        ok, failed = data["ok"], data["failed"]
        if not isinstance(ok, dict) or not isinstance(failed, dict):
            raise self._garbage(wanted, "'ok' and 'failed' are not objects")
        asked: set[str] = set(lfns)
        if len(ok) + len(failed) != len(asked) or ok.keys() | failed.keys() != asked:
            raise self._garbage(wanted, "its answer is not about the names that were asked")
        result: BulkResult[Located] = BulkResult()
        for name, value in ok.items():
            located = located_from_json(value, self.name)
            if located.entry.lfn != name:
                raise self._garbage(wanted, f"for {name} it describes {located.entry.lfn}")
            result.ok[name] = located
        result.failed.update((name, error_from_json(value)) for name, value in failed.items())
        return result

    @contextmanager
    def _asked(
        self, what: str, body: dict[str, Any], wanted: str, media_type: str
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        """Send a request and give its answer if that is a good one; the connection is let go after it."""
        headers = {"Content-Type": "application/json", "Accept": media_type}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token.read(wanted)}"
        try:
            response = self._pool.request(
                "POST",
                f"{self._url}/api/v1/catalogue/{what}",
                body=dumps(body),
                headers=headers,
                preload_content=False,
                redirect=False,
            )
        except (HTTPError, LocationValueError) as error:
            # A refused connection is a kind of timeout to urllib3.
            if isinstance(error, HttpTimeout) and not isinstance(error, NewConnectionError):
                raise self._silent(wanted) from error
            raise self._unavailable(wanted, f"it cannot be reached ({_reason(error)})") from error
        whole = False
        try:
            self._check_status(response, wanted, media_type)
            yield response
            whole = True
        finally:
            if whole:
                response.release_conn()
            else:
                response.close()

    def _check_status(self, response: urllib3.BaseHTTPResponse, wanted: str, media_type: str) -> None:
        status = response.status
        if status in (401, 403):
            todo = f"put the token of {self._url} into the file named by token_file of upstreams.{self.name}"
            raise Denied(wanted, f"{self._url} answered {status}", todo)
        if status == 429 or status >= 500:
            raise self._unavailable(wanted, f"it answered {status}")
        if status != 200:
            raise self._garbage(wanted, f"it answered {status}; is this the URL of a VSE door?")
        kind = response.headers.get("content-type", "nothing").partition(";")[0].strip().lower()
        if kind != media_type:
            raise self._garbage(wanted, f"it answered {kind[:60]!r}, not {media_type}")

    def _lines(self, response: urllib3.BaseHTTPResponse, wanted: str) -> Iterator[bytes]:
        rest = b""
        for piece in self._pieces(response, wanted, None):
            *lines, rest = (rest + piece).split(b"\n")
            yield from lines
            if len(rest) > _MAX_LINE_BYTES:
                raise self._garbage(wanted, f"it sent a line of more than {_MAX_LINE_BYTES} bytes")
        if rest:
            raise self._garbage(wanted, "it ends in the middle of a line")

    def _pieces(
        self, response: urllib3.BaseHTTPResponse, wanted: str, limit_bytes: int | None
    ) -> Iterator[bytes]:
        count = 0
        try:
            for piece in response.stream(_READ_BYTES):
                count += len(piece)
                if limit_bytes is not None and count > limit_bytes:
                    raise self._garbage(wanted, f"its answer has more than {limit_bytes} bytes")
                yield piece
        except HttpTimeout as error:
            raise self._silent(wanted) from error
        except HTTPError as error:
            raise self._garbage(wanted, f"its answer broke off after {count} bytes") from error

    def _json(self, text: bytes, wanted: str) -> object:
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise self._garbage(wanted, f"it sent what is no JSON: {text[:60]!r}") from error

    def _garbage(self, wanted: str, found: str) -> VseError:
        return UpstreamGarbage(wanted, found, f"look at {self._url} with its administrator")

    def _unavailable(self, wanted: str, found: str) -> VseError:
        return UpstreamUnavailable(wanted, found, f"check that {self._url} is up and try again")

    def _silent(self, wanted: str) -> VseError:
        return self._unavailable(wanted, f"it was silent for {self._timeout_s:g} s")


class _TokenFile:
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


def _reason(error: Exception) -> str:
    """Return the last and most telling part of a chain of connection errors."""
    text = str(error.__cause__ or error).rpartition("] ")[2].strip() or type(error).__name__
    return text[:200]
