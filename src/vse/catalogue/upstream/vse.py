"""The catalogue of another VSE, asked through its HTTP door (``/api/v1/catalogue``)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from fnmatch import fnmatchcase
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from vse.catalogue.upstream.http import HttpAsking, Request, Response, TokenFile
from vse.catalogue.wire import NDJSON, dumps, error_from_json, located_from_json
from vse.errors import Denied
from vse.model import BulkResult, Lfn, Located

NAMES_AT_ONCE = 5000


class VseUpstream:
    """`vse.catalogue.port.Upstream` over HTTP. Safe to share between threads.

    ``url`` is that of the door, without ``/api``. The token is read again when its file changes.
    Nothing is retried here; ``timeout_s`` is how long the other side may be silent.
    """

    def __init__(self, name: str, url: str, token_file: Path | None = None, timeout_s: float = 60.0) -> None:
        self.name = name
        self._http = HttpAsking(name, url, timeout_s)
        self._token = None if token_file is None else TokenFile(token_file)

    def find(self, base: Lfn, pattern: str) -> Iterator[Located]:
        """Yield every file under ``base`` that matches; memory does not grow with the answer.

        A file that was not asked for, a stream without its end line or with a wrong count raises
        `UpstreamGarbage`, after the good ones were yielded.
        """
        wanted = f"find {pattern!r} under {base} at the upstream {self.name!r}"
        with self._asked("find", {"base": base, "pattern": pattern}, wanted, NDJSON) as response:
            count = 0
            ended = False
            for line in self._http.lines(response, wanted):
                if ended:
                    raise self._http.garbage(wanted, "there is more after its end line")
                data = self._http.json(line, wanted)
                if isinstance(data, dict) and data.keys() == {"end"}:
                    ended = True
                    if data["end"] != count:
                        found = f"its end line counts {data['end']!r} files, {count} came"
                        raise self._http.garbage(wanted, found)
                    continue
                located = located_from_json(data, self.name)
                lfn = located.entry.lfn
                if not lfn.is_below(base) or not fnmatchcase(lfn.name, pattern):
                    raise self._http.garbage(wanted, f"it told of {lfn}, which was not asked for")
                count += 1
                yield located
            if not ended:
                raise self._http.garbage(wanted, f"it ends after {count} files without an end line")

    def resolve(self, lfns: Sequence[Lfn]) -> BulkResult[Located]:
        """Return each file with its replicas, `NoSuchEntry` for each that is not there.

        A name that leads through links there is answered with the entry of the real one.
        """
        result: BulkResult[Located] = BulkResult()
        names = iter(dict.fromkeys(lfns))
        while batch := list(islice(names, NAMES_AT_ONCE)):
            result.merge(self._resolve(batch))
        return result

    def close(self) -> None:
        """Drop the connections."""
        self._http.close()

    def _resolve(self, lfns: list[Lfn]) -> BulkResult[Located]:
        wanted = f"look up {len(lfns)} names at the upstream {self.name!r}"
        with self._asked("resolve", {"lfns": lfns}, wanted, "application/json") as response:
            data = self._http.json(self._http.body(response, wanted), wanted)
        if not isinstance(data, dict) or data.keys() != {"ok", "failed"}:
            raise self._http.garbage(wanted, "its answer is not an object with 'ok' and 'failed'")
        ok, failed = data["ok"], data["failed"]
        if not isinstance(ok, dict) or not isinstance(failed, dict):
            raise self._http.garbage(wanted, "'ok' and 'failed' are not objects")
        asked: set[str] = set(lfns)
        if len(ok) + len(failed) != len(asked) or ok.keys() | failed.keys() != asked:
            raise self._http.garbage(wanted, "its answer is not about the names that were asked")
        result: BulkResult[Located] = BulkResult()
        for name, value in ok.items():
            result.ok[name] = located_from_json(value, self.name)
        result.failed.update((name, error_from_json(value)) for name, value in failed.items())
        return result

    def _asked(
        self, what: str, body: dict[str, Any], wanted: str, media_type: str
    ) -> AbstractContextManager[Response]:
        headers = {"Content-Type": "application/json", "Accept": media_type}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token.read(wanted)}"
        request = Request("POST", f"/api/v1/catalogue/{what}", headers, dumps(body))
        return self._http.asked(request, wanted, partial(self._check_status, media_type=media_type))

    def _check_status(self, response: Response, wanted: str, media_type: str) -> None:
        status, url = response.status, self._http.url
        if status in (401, 403):
            todo = f"put the token of {url} into the file named by token_file of upstreams.{self.name}"
            raise Denied(wanted, f"{url} answered {status}", todo)
        self._http.check_busy(response, wanted)
        if status != 200:
            raise self._http.garbage(wanted, f"it answered {status}; is this the URL of a VSE door?")
        self._http.check_kind(response, wanted, media_type)
