"""``/api/v1/names``: the whole catalogue, reading and writing, for the site's own clients.

One table says of each call which keys its body has, how they are read, and what it answers: a *bulk*
``{"ok": {name: row}, "failed": {name: error}}``, *nothing* (``{}``), or a *stream* of lines, each a list
of rows, with ``{"end": count}`` (or ``{"error": error}``) as the last one. Rows are those of
`vse.catalogue.wire_rows`.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from vse.catalogue import wire_rows as rows
from vse.catalogue.port import Catalogue
from vse.catalogue.wire import JSON, MAX_NAMES, NDJSON, dumps
from vse.doors.http.names import json_body, sorted_names
from vse.doors.http.threads import batches, blocking
from vse.errors import BadLfn, BadRequest, UpstreamGarbage, VseError, http_status
from vse.model import BulkResult, Lfn

_ROWS_A_LINE = 100
_LINES_AT_ONCE = 2
_MAX_ID = 2**63

Read = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the port: its keys, and how its answer is told."""

    answer: Literal["bulk", "stream", "nothing"]
    do: Callable[..., Any]
    keys: Mapping[str, Read]
    row: Read = lambda value: value


class WholeNames:
    """Every call of ``catalogue``, which is the one that whoever passes the door's gate acts on."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._calls = _calls(catalogue)

    @property
    def calls(self) -> Collection[str]:
        return self._calls.keys()

    async def answer(self, request: Request) -> Response:
        """Do the call that is the last part of the path."""
        call = self._calls[request.url.path.rpartition("/")[2]]
        body = await json_body(request, *call.keys)
        if call.answer == "stream":
            return await _streamed(call, _read(call, body))
        return Response(await blocking(_done, call, body), media_type=JSON)


def _done(call: Call, body: dict[str, Any]) -> bytes:
    """Do a call that is no stream. Names that cannot be one fail alone."""
    unfit: dict[str, VseError] = {}
    if "lfns" in body:
        lfns, unfit = sorted_names(body["lfns"], normal=True)
        body["lfns"] = [*lfns]
    found = call.do(**_read(call, body))
    if call.answer == "nothing":
        return dumps({})
    result: BulkResult[Any] = found
    row = call.row
    failed = {name: error.to_dict() for name, error in (result.failed | unfit).items()}
    return dumps({"ok": {name: row(value) for name, value in result.ok.items()}, "failed": failed})


def _read(call: Call, body: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call; raises `BadRequest` for what cannot be one, `BadLfn` for a name."""
    given: dict[str, Any] = {}
    for key, read in call.keys.items():
        try:
            given[key] = read(body[key])
        except UpstreamGarbage as error:
            if isinstance(error.__cause__, BadLfn):
                raise error.__cause__ from None
            raise BadRequest("understand the request", error.found) from None
        except BadLfn:
            raise
        except (TypeError, ValueError, KeyError):
            raise BadRequest("understand the request", f"{key!r} is not what it should be") from None
    return given


async def _streamed(call: Call, given: dict[str, Any]) -> Response:
    """Answer with all rows. What fails before the first one gets a status; later, an error line."""
    listed = batches(lambda: _with_its_error(call, given), _ROWS_A_LINE * _LINES_AT_ONCE)
    first: list[Any] = await anext(listed, [])
    if first and isinstance(first[0], VseError):
        await listed.aclose()
        raise first[0]

    async def lines() -> AsyncIterator[bytes]:
        count = 0
        end: dict[str, Any] | None = None
        async with contextlib.aclosing(listed):
            batch = first
            while batch:
                if isinstance(batch[-1], VseError):
                    end = {"error": batch.pop().to_dict()}
                count += len(batch)
                yield _lines([call.row(value) for value in batch])
                batch = await anext(listed, [])
        yield dumps(end or {"end": count}) + b"\n"

    return StreamingResponse(lines(), media_type=NDJSON)


def _with_its_error(call: Call, given: dict[str, Any]) -> Iterator[Any]:
    """Yield what a call does, and the error that it ends with.

    What is the site's own trouble only breaks the answer off: it is for its log.
    """
    try:
        yield from call.do(**given)
    except VseError as error:
        if http_status(error) >= 500:
            raise
        yield error


def _lines(told: Sequence[Any]) -> bytes:
    parts = (told[start : start + _ROWS_A_LINE] for start in range(0, len(told), _ROWS_A_LINE))
    return b"".join(dumps(part) + b"\n" for part in parts)


# -- the table --------------------------------------------------------------------------------------


def _calls(catalogue: Catalogue) -> dict[str, Call]:
    names = {"lfns": _given_names}
    owners = {"owner": _text, "group": _text}
    return {
        "stat": Call("bulk", catalogue.stat, names, rows.entry_row),
        "resolve": Call("bulk", catalogue.resolve, names, rows.located_row),
        "list": Call("stream", catalogue.list, {"directory": rows.name_of}, rows.entry_row),
        "find": Call("stream", catalogue.find, {"base": rows.name_of, "pattern": _text}, rows.located_row),
        "details": Call("bulk", catalogue.details, names, rows.details_row),
        "access": Call("bulk", catalogue.access, names, rows.access_row),
        "by_guid": Call("bulk", _by_guid(catalogue), {"guids": _list_of(rows.guid_of)}),
        "members": Call("stream", catalogue.members, {"collection": rows.name_of}),
        "history": Call("stream", catalogue.history, {"lfn": rows.name_of}, rows.audited_row),
        "register": Call("bulk", catalogue.register, {"files": _list_of(rows.new_file_of)}),
        "add_replicas": Call("bulk", catalogue.add_replicas, {"replicas": _list_of(rows.new_replica_of)}),
        "mark_replicas": Call(
            "bulk", catalogue.mark_replicas, {**names, "se": _text, "state": _state, "master": _flag}
        ),
        "remove_replicas": Call("bulk", catalogue.remove_replicas, {**names, "se": _text}),
        "note_access": Call("bulk", _noting(catalogue), {**names, "se": _text, "when_s": _time}),
        "make_directories": Call("bulk", catalogue.make_directories, {**names, **owners}),
        "make_links": Call("bulk", catalogue.make_links, {"links": _list_of(rows.new_link_of)}),
        "put_collection": Call(
            "nothing",
            catalogue.put_collection,
            {"collection": rows.name_of, "members": _names, **owners},
        ),
        "rename": Call("nothing", catalogue.rename, {"source": rows.name_of, "target": rows.name_of}),
        "change_access": Call("bulk", catalogue.change_access, {"changes": _list_of(rows.new_access_of)}),
        "remove": Call("bulk", catalogue.remove, {**names, "forever": _flag}),
        "trash": Call("stream", catalogue.trash, {}, rows.trashed_row),
        "undelete": Call("bulk", catalogue.undelete, {"ids": _list_of(_id)}),
        "expired": Call("stream", catalogue.expired, {"now_s": _until, "ids": _some_ids}, rows.expired_row),
        "forget_trash": Call("bulk", _forgetting(catalogue), {"ids": _list_of(_id)}),
    }


def _by_guid(catalogue: Catalogue) -> Callable[..., BulkResult[tuple[Lfn, ...]]]:
    def do(guids: Sequence[bytes]) -> BulkResult[tuple[Lfn, ...]]:
        return BulkResult({guid.hex(): lfns for guid, lfns in catalogue.by_guid(guids).items()})

    return do


def _noting(catalogue: Catalogue) -> Callable[..., BulkResult[None]]:
    def do(lfns: Sequence[Lfn], se: str, when_s: float) -> BulkResult[None]:
        catalogue.note_access(lfns, se, when_s)
        return BulkResult()

    return do


def _forgetting(catalogue: Catalogue) -> Callable[..., BulkResult[None]]:
    def do(ids: Sequence[int]) -> BulkResult[None]:
        catalogue.forget_trash(ids)
        return BulkResult()

    return do


def _list_of(read: Read) -> Read:
    def checked(value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise TypeError(value)
        if len(value) > MAX_NAMES:
            found = f"{len(value)} items are sent; at most {MAX_NAMES} are possible"
            raise BadRequest("understand the request", found, "send several requests")
        return [*map(read, value)]

    return checked


def _given_names(value: list[Lfn]) -> list[Lfn]:
    return value


def _names(value: Any) -> Iterator[Lfn]:
    if not isinstance(value, list):
        raise TypeError(value)
    return iter([*map(rows.name_of, value)])


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(value)
    return value


def _state(value: Any) -> Any:
    return None if value is None else rows.state_of(value)


def _id(value: Any) -> int:
    if type(value) is not int or abs(value) >= _MAX_ID:
        raise TypeError(value)
    return value


def _some_ids(value: Any) -> list[int] | None:
    return None if value is None else _list_of(_id)(value)


def _time(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise TypeError(value)
    return float(value)


def _until(value: Any) -> float:
    """A time; null is for ever."""
    return math.inf if value is None else _time(value)
