"""A site's catalogue from elsewhere: the whole port, over the HTTP door (``/api/v1/names``)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

from vse.catalogue import wire_rows as rows
from vse.catalogue.port import NewReplica
from vse.catalogue.upstream.http import HttpAsking, Request, Response, TokenFile
from vse.catalogue.wire import JSON, MAX_BODY_BYTES, MAX_NAMES, NAMES_PATH, NDJSON, dumps, error_from_json
from vse.errors import BadRequest, UpstreamGarbage
from vse.model import (
    Access,
    Audited,
    BulkResult,
    Closing,
    Details,
    Entry,
    Expired,
    Lfn,
    Located,
    NewAccess,
    NewFile,
    NewLink,
    ReplicaState,
    Trashed,
)

NAMES_AHEAD = 2500
_BATCH_BYTES = MAX_BODY_BYTES // 2
_MAX_REFUSAL_BYTES = 1024 * 1024
_MAX_LINE_BYTES = 64 * 1024 * 1024

T = TypeVar("T")
_Ids = Sequence[int]


class RemoteCatalogue(Closing):
    """`vse.catalogue.port.Catalogue` of the site whose door is at ``url``. Safe to share between threads.

    The door must be open for writing (``doors.http.write``), and ``token_file`` hold its token; what is
    done is done, and audited, as the door's own identity, which may be refused things (`Denied`).

    At most `MAX_NAMES` items go in one request (names to be described: `NAMES_AHEAD`), and each request is
    one transaction: a longer call is several, in order. Streams hold a line at a time; one that ends without
    its end line, or with an error in it, raises. Nothing is retried: a call whose answer was lost
    (`UpstreamUnavailable`, `UpstreamGarbage`) may have been done. ``timeout_s`` is how long the
    door may be silent.
    """

    def __init__(self, url: str, token_file: Path | None = None, timeout_s: float = 120.0) -> None:
        self._http = HttpAsking("remote", url, timeout_s)
        self._token = None if token_file is None else TokenFile(token_file)

    def close(self) -> None:
        """Drop the connections."""
        self._http.close()

    # -- reading ----------------------------------------------------------------------------------

    def stat(self, lfns: Sequence[Lfn]) -> BulkResult[Entry]:
        return self._described("stat", lfns, rows.entry_of)

    def resolve(self, lfns: Sequence[Lfn]) -> BulkResult[Located]:
        return self._described("resolve", lfns, rows.located_of)

    def list(self, directory: Lfn) -> Iterator[Entry]:
        return self._stream("list", {"directory": directory}, rows.entry_of)

    def find(self, base: Lfn, pattern: str) -> Iterator[Located]:
        return self._stream("find", {"base": base, "pattern": pattern}, rows.located_of)

    def details(self, lfns: Sequence[Lfn]) -> BulkResult[Details]:
        return self._described("details", lfns, rows.details_of)

    def access(self, lfns: Sequence[Lfn]) -> BulkResult[Access]:
        return self._described("access", lfns, rows.access_of)

    def by_guid(self, guids: Sequence[bytes]) -> dict[bytes, tuple[Lfn, ...]]:
        named = self._bulk("by_guid", "guids", [guid.hex() for guid in guids], _names)
        return {bytes.fromhex(guid): lfns for guid, lfns in named.ok.items()}

    def members(self, collection: Lfn) -> Iterator[Lfn]:
        return self._stream("members", {"collection": collection}, rows.lfn_of)

    def history(self, lfn: Lfn) -> Iterator[Audited]:
        return self._stream("history", {"lfn": lfn}, rows.audited_of)

    # -- files and their copies -------------------------------------------------------------------

    def register(self, files: Iterable[NewFile]) -> BulkResult[Lfn]:
        return self._bulk("register", "files", map(rows.new_file_row, files), rows.lfn_of)

    def add_replicas(self, replicas: Iterable[NewReplica]) -> BulkResult[None]:
        return self._bulk("add_replicas", "replicas", map(rows.new_replica_row, replicas), _nothing)

    def mark_replicas(
        self, lfns: Sequence[Lfn], se: str, state: ReplicaState | None = None, *, master: bool = False
    ) -> BulkResult[None]:
        said = {"se": se, "state": None if state is None else str(state), "master": master}
        return self._bulk("mark_replicas", "lfns", lfns, _nothing, said)

    def remove_replicas(self, lfns: Sequence[Lfn], se: str) -> BulkResult[None]:
        return self._bulk("remove_replicas", "lfns", lfns, _nothing, {"se": se})

    def note_access(self, lfns: Sequence[Lfn], se: str, when_s: float) -> None:
        self._bulk("note_access", "lfns", lfns, _nothing, {"se": se, "when_s": when_s})

    # -- names ------------------------------------------------------------------------------------

    def make_directories(self, lfns: Sequence[Lfn], owner: str, group: str) -> BulkResult[None]:
        said = {"owner": owner, "group": group}
        return self._bulk("make_directories", "lfns", lfns, _nothing, said)

    def make_links(self, links: Iterable[NewLink]) -> BulkResult[None]:
        return self._bulk("make_links", "links", map(rows.new_link_row, links), _nothing)

    def put_collection(self, collection: Lfn, members: Iterable[Lfn], owner: str, group: str) -> None:
        """As the port says, in one request: `BadRequest` for more members than fit into it."""
        said = {"collection": collection, "members": [*members], "owner": owner, "group": group}
        self._ask("put_collection", dumps(said))

    def rename(self, source: Lfn, target: Lfn) -> None:
        self._ask("rename", dumps({"source": source, "target": target}))

    def change_access(self, changes: Iterable[NewAccess]) -> BulkResult[None]:
        return self._bulk("change_access", "changes", map(rows.new_access_row, changes), _nothing)

    # -- removing ---------------------------------------------------------------------------------

    def remove(self, lfns: Sequence[Lfn], *, forever: bool = False) -> BulkResult[None]:
        # Where they go in several requests, what a directory holds must go before it.
        deepest_first = sorted(lfns, key=lambda lfn: -lfn.count("/")) if len(lfns) > MAX_NAMES else lfns
        return self._bulk("remove", "lfns", deepest_first, _nothing, {"forever": forever})

    def trash(self) -> Iterator[Trashed]:
        return self._stream("trash", {}, rows.trashed_of)

    def undelete(self, ids: _Ids) -> BulkResult[Lfn]:
        return self._bulk("undelete", "ids", ids, rows.lfn_of)

    def expired(self, now_s: float, ids: _Ids | None = None) -> Iterator[Expired]:
        until_s = None if math.isinf(now_s) else now_s
        if ids is None:
            yield from self._stream("expired", {"now_s": until_s, "ids": None}, rows.expired_of)
            return
        for start in range(0, len(ids), MAX_NAMES):
            body = {"now_s": until_s, "ids": ids[start : start + MAX_NAMES]}
            yield from self._stream("expired", body, rows.expired_of)

    def forget_trash(self, ids: _Ids) -> None:
        self._bulk("forget_trash", "ids", ids, _nothing)

    # -- asking -----------------------------------------------------------------------------------

    def _bulk(
        self,
        call: str,
        key: str,
        items: Iterable[Any],
        read: Callable[[Any], T],
        more: dict[str, Any] | None = None,
    ) -> BulkResult[T]:
        result: BulkResult[T] = BulkResult()
        head = b"{" + b"".join(
            dumps(name) + b":" + dumps(value) + b"," for name, value in (more or {}).items()
        )
        for part in _batches(items, MAX_NAMES):
            data = self._ask(call, b"%b%b:[%b]}" % (head, dumps(key), b",".join(part)))
            self._take(result, call, data, read)
        return result

    def _described(self, call: str, lfns: Sequence[Lfn], read: Callable[[Any], T]) -> BulkResult[T]:
        """Ask about names; while one answer is read, the door works on the next."""
        result: BulkResult[T] = BulkResult()
        waiting: list[Future[dict[str, Any]]] = []
        with ThreadPoolExecutor(1, "vse-remote") as ahead:
            for part in _batches(lfns, NAMES_AHEAD):
                waiting.append(ahead.submit(self._ask, call, b'{"lfns":[%b]}' % b",".join(part)))
                if len(waiting) > 1:
                    self._take(result, call, waiting.pop(0).result(), read)
            for last in waiting:
                self._take(result, call, last.result(), read)
        return result

    def _take(self, result: BulkResult[T], call: str, data: dict[str, Any], read: Callable[[Any], T]) -> None:
        ok, failed = data.get("ok"), data.get("failed")
        if not isinstance(ok, dict) or not isinstance(failed, dict):
            raise self._http.garbage(_wanted(call), "its answer is not an object with 'ok' and 'failed'")
        for name, value in ok.items():
            result.failed.pop(name, None)
            result.ok[name] = read(value)
        for name, value in failed.items():
            result.ok.pop(name, None)
            result.failed[name] = error_from_json(value)

    def _ask(self, call: str, body: bytes) -> dict[str, Any]:
        wanted = _wanted(call)
        with self._asked(call, body, JSON) as response:
            data = self._http.json(self._http.body(response, wanted), wanted)
        if not isinstance(data, dict):
            raise self._http.garbage(wanted, "its answer is no object")
        return data

    def _stream(self, call: str, body: dict[str, Any], read: Callable[[Any], T]) -> Iterator[T]:
        """Ask, so that what is refused raises here; return the values of the stream."""
        stream = self._streamed(call, body, read)
        next(stream)  # begun: it now lets its connection go even if nothing is read of it
        return stream

    def _streamed(self, call: str, body: dict[str, Any], read: Callable[[Any], T]) -> Iterator[T]:
        """Yield nothing of meaning, then the values of a stream, which must end with their number."""
        wanted = _wanted(call)
        with self._asked(call, dumps(body), NDJSON) as response:
            yield cast(T, None)
            count = 0
            end: dict[str, Any] | None = None
            with closing(self._http.lines(response, wanted, _MAX_LINE_BYTES)) as lines:
                for line in lines:
                    data = self._http.json(line, wanted)
                    if end is not None:
                        raise self._http.garbage(wanted, "there is more after its end line")
                    if isinstance(data, dict):
                        end = data
                        continue
                    if not isinstance(data, list):
                        raise self._http.garbage(wanted, f"it sent {line[:60]!r}")
                    count += len(data)
                    yield from map(read, data)
            if end is not None and "error" in end:
                raise error_from_json(end["error"])
            if end is None or end.get("end") != count:
                raise self._http.garbage(wanted, f"it ends after {count} without its end line")

    @contextmanager
    def _asked(self, call: str, body: bytes, media_type: str) -> Iterator[Response]:
        wanted = _wanted(call)
        if len(body) > MAX_BODY_BYTES:
            found = f"it takes {len(body)} bytes; a request has at most {MAX_BODY_BYTES}"
            raise BadRequest(wanted, found, "do it on the machine of the catalogue")
        headers = {"Content-Type": JSON, "Accept": media_type}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token.read(wanted)}"

        def check(response: Response, _wanted: str) -> None:
            if response.status != 200:
                self._refuse(response, wanted)
            self._http.check_kind(response, wanted, media_type)

        request = Request("POST", f"{NAMES_PATH}/{call}", headers, body)
        with self._http.asked(request, wanted, check) as response:
            yield response

    def _refuse(self, response: Response, wanted: str) -> None:
        """Raise what the door says; or, where it says nothing that can be understood, its status."""
        kind = response.headers.get("content-type", "").partition(";")[0]
        if kind == JSON:
            text = self._http.body(response, wanted, _MAX_REFUSAL_BYTES)
            try:
                error = error_from_json(self._http.json(text, wanted))
            except UpstreamGarbage:
                pass
            else:
                raise error
        self._http.check_busy(response, wanted)
        raise self._http.garbage(wanted, f"it answered {response.status}; is this the URL of a VSE door?")


def _batches(items: Iterable[Any], most: int) -> Iterator[list[bytes]]:
    """Yield items as JSON, at most ``most`` at a time and no more than fit into a request."""
    part: list[bytes] = []
    size_bytes = 0
    for item in items:
        encoded = dumps(item)
        if part and (len(part) == most or size_bytes + len(encoded) > _BATCH_BYTES):
            yield part
            part, size_bytes = [], 0
        part.append(encoded)
        size_bytes += len(encoded) + 1
    if part:
        yield part


def _wanted(call: str) -> str:
    return f"{call.replace('_', ' ')} at the remote catalogue"


def _nothing(_: Any) -> None:
    return None


def _names(value: Any) -> tuple[Lfn, ...]:
    return tuple(map(rows.lfn_of, value))
