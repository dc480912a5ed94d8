"""``/api/v1/catalogue``: what this site's catalogue knows, for other sites. Reading only.

Streams are newline-delimited JSON: one value a line, and ``{"end": count}`` as the last line, without
which the answer is not complete.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from vse.catalogue.port import Names
from vse.catalogue.wire import JSON, MAX_BODY_BYTES, MAX_NAMES, NDJSON, dumps, entry_to_json, located_to_json
from vse.doors.http.exchange import DATA_PREFIX, Refused, scope_host
from vse.doors.http.threads import batches, blocking
from vse.errors import BadLfn, BadRequest, VseError
from vse.model import BulkResult, Lfn, Located, Replica

_LINES_AT_ONCE = 500

T = TypeVar("T")


class NamesService:
    """The catalogue as the door shows it. ``element`` is the storage element that ``/data`` serves."""

    def __init__(self, catalogue: Names, element: str = "") -> None:
        self._catalogue = catalogue
        self._element = element

    async def find(self, request: Request) -> Response:
        """``{"base", "pattern"}`` -> a stream of files."""
        body = await json_body(request, "base", "pattern")
        base, pattern = Lfn.parse(_text(body, "base")), _text(body, "pattern")
        url_of = self._url_of(request)

        def line(located: Located) -> bytes:
            return dumps(located_to_json(located, url_of))

        return await _stream(lambda: self._catalogue.find(base, pattern), line)

    async def list(self, request: Request) -> Response:
        """``{"directory"}`` -> a stream of entries."""
        directory = Lfn.parse(_text(await json_body(request, "directory"), "directory"))
        return await _stream(
            lambda: self._catalogue.list(directory), lambda entry: dumps(entry_to_json(entry))
        )

    async def resolve(self, request: Request) -> Response:
        """``{"lfns": [...]}`` -> ``{"ok": {lfn: file}, "failed": {lfn: error}}``."""
        url_of = self._url_of(request)

        def shown(located: Located) -> dict[str, Any]:
            return located_to_json(located, url_of)

        return await _bulk(request, self._catalogue.resolve, shown)

    async def stat(self, request: Request) -> Response:
        """``{"lfns": [...]}`` -> ``{"ok": {lfn: entry}, "failed": {lfn: error}}``."""
        return await _bulk(request, self._catalogue.stat, entry_to_json)

    def _url_of(self, request: Request) -> Callable[[Replica], str | None]:
        """How a replica is reached from where the request came from."""
        here = scope_host(request.scope) + DATA_PREFIX

        def url_of(replica: Replica) -> str | None:
            if self._element and replica.se == self._element:
                return here + quote(replica.lfn)
            local = replica.url is not None and urlsplit(replica.url).scheme in ("", "file")
            return None if local else replica.url

        return url_of


async def _stream(source: Callable[[], Iterator[T]], line: Callable[[T], bytes]) -> Response:
    """Answer with a line for each item. What fails before the first one still gets a status."""
    listed = batches(source, _LINES_AT_ONCE)
    first: list[T] = await anext(listed, [])

    async def lines() -> AsyncIterator[bytes]:
        count = 0
        async with contextlib.aclosing(listed):
            batch = first
            while batch:
                count += len(batch)
                yield b"\n".join([*map(line, batch), b""])
                batch = await anext(listed, [])
        yield dumps({"end": count}) + b"\n"

    return StreamingResponse(lines(), media_type=NDJSON)


def sorted_names(names: object, *, normal: bool = False) -> tuple[dict[Lfn, str], dict[str, VseError]]:
    """Return the names of a request by what they are, with how they were written; and those that are none.

    ``normal``: one that is written otherwise than in its normal form is none. Raises `BadRequest`.
    """
    wanted = "look up the names"
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise BadRequest(wanted, "'lfns' is not a list of strings")
    if len(names) > MAX_NAMES:
        found = f"{len(names)} names are asked for; at most {MAX_NAMES} are possible"
        raise BadRequest(wanted, found, "ask in several requests")
    failed: dict[str, VseError] = {}
    lfns: dict[Lfn, str] = {}
    for name in names:
        try:
            lfn = Lfn.parse(name)
        except BadLfn as error:
            failed[name] = error
            continue
        if normal and lfn != name:
            failed[name] = BadLfn(f"use {name!r}", f"its normal form is {lfn!r}", "parse names first")
        else:
            lfns[lfn] = name
    return lfns, failed


async def _bulk(
    request: Request, ask: Callable[[Sequence[Lfn]], BulkResult[T]], shown: Callable[[T], dict[str, Any]]
) -> Response:
    names = (await json_body(request, "lfns"))["lfns"]

    def answer() -> bytes:
        lfns, failed = sorted_names(names)
        found = ask(list(lfns))
        ok = {lfns[Lfn(lfn)]: shown(value) for lfn, value in found.ok.items()}
        failed.update((lfns[Lfn(lfn)], error) for lfn, error in found.failed.items())
        return dumps({"ok": ok, "failed": {name: error.to_dict() for name, error in failed.items()}})

    return Response(await blocking(answer), media_type=JSON)


async def json_body(request: Request, *keys: str, may: Sequence[str] = ()) -> dict[str, Any]:
    """Return the JSON object of a request, which must have these keys, ``may`` have those, and no others."""
    wanted = "understand the request"
    data = bytearray()
    async for piece in request.stream():
        data += piece
        if len(data) > MAX_BODY_BYTES:
            too_long = BadRequest(wanted, f"its body has more than {MAX_BODY_BYTES} bytes")
            raise Refused(413, too_long, [(b"connection", b"close")])
    try:
        body = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadRequest(wanted, f"its body is no JSON ({str(error)[:100]})") from None
    todo = f"send an object with {', '.join(keys)}" + (f", and maybe {', '.join(may)}" if may else "")
    if not isinstance(body, dict):
        raise BadRequest(wanted, "its body is JSON, and no object", todo)
    missing, unknown = set(keys) - set(body), set(body) - set(keys) - set(may)
    if missing:
        raise BadRequest(wanted, f"its body lacks {', '.join(sorted(missing))}", todo)
    if unknown:
        raise BadRequest(wanted, f"its body has {', '.join(sorted(unknown))[:100]} as well", todo)
    return body


def _text(body: dict[str, Any], key: str) -> str:
    value = body[key]
    if not isinstance(value, str):
        raise BadRequest("understand the request", f"{key!r} is not a string")
    return value
