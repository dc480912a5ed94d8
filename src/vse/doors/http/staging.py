"""``/api/v1/staging``: requests, how far they are, and why a file is (not) here; as `vse status --json`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response

from vse.doors.http.exchange import Refused
from vse.doors.http.names import json_body
from vse.doors.http.threads import blocking
from vse.errors import BadRequest, NotFound
from vse.model import DatasetQuery, Lfn
from vse.staging.told import item_to_json, request_to_json, status_to_json
from vse.staging.values import Conditions, Item, ItemState, Request, RequestStatus
from vse.transfer.lifecycle import PRIORITY

STAGING_PATH = "/api/v1/staging"
_LISTED = 100
_FILES = 1000


class Desk(Protocol):
    """What the door needs of a site's staging. Every call may block."""

    def requests(self, *, open_only: bool, owner: str, limit: int) -> list[RequestStatus]:
        """Return the newest requests, newest first."""

    def request(self, request_id: int) -> RequestStatus:
        """Return one; `BadRequest` where there is none."""

    def files(self, request_id: int, states: list[ItemState], after: str, limit: int) -> list[Item]:
        """Return files of a request, in order of their names."""

    def why(self, lfn: Lfn) -> dict[str, Any]:
        """Return all that is known of a file, as JSON."""

    def ask(self, query: DatasetQuery, destination: str, conditions: Conditions) -> Request:
        """Ask for files, as the service."""

    def cancel(self, request_id: int) -> Request:
        """End a request of the service's."""

    def retry(self, request_id: int) -> Request:
        """Try what failed of a request of the service's again."""

    def change_priority(self, request_id: int, priority: int) -> Request:
        """Let a request of the service's come earlier or later."""


class StagingService:
    """The answers."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def list(self, request: HttpRequest) -> Response:
        """``?all=1&owner=NAME&limit=N`` -> ``{"requests": [...]}``: the open ones, or all."""
        asked = request.query_params
        everything, owner = asked.get("all", "0") not in ("", "0", "false"), asked.get("owner", "")
        limit = _number(asked.get("limit", str(_LISTED)), "limit", 1, 10 * _LISTED)

        def work() -> list[RequestStatus]:
            return self._desk.requests(open_only=not everything, owner=owner, limit=limit)

        return JSONResponse({"requests": [status_to_json(one) for one in await blocking(work)]})

    async def show(self, request: HttpRequest) -> Response:
        """``?files=1&state=failed&after=LFN`` -> a request, and up to 1000 of its files where asked for."""
        number, asked = _id(request), request.query_params
        told = status_to_json(await _found(number, lambda: self._desk.request(number)))
        if asked.get("files", "0") not in ("", "0", "false"):
            states = [_state(one) for one in asked.getlist("state")]

            def work() -> list[Item]:
                return self._desk.files(number, states, asked.get("after", ""), _FILES)

            told["items"] = [item_to_json(one) for one in await blocking(work)]
        return JSONResponse(told)

    async def why(self, request: HttpRequest) -> Response:
        """``?lfn=LFN`` -> copies, what would be read, transfers with every attempt, and when it comes."""
        name = request.query_params.get("lfn", "")
        if not name:
            raise BadRequest("tell why", "the request has no lfn", "ask as /why?lfn=/a/file")
        return JSONResponse(await blocking(self._desk.why, Lfn.parse(name)))

    async def ask(self, request: HttpRequest) -> Response:
        """``{"query", "destination"?, "priority"?, "pin_s"?, "note"?}`` -> 201 and the request."""
        body = await json_body(request, "query", may=("destination", "priority", "pin_s", "note"))
        wanted = "stage what is asked for"
        query = DatasetQuery.parse(_text(body, "query", wanted))
        pin_s = body.get("pin_s")
        if pin_s is not None and (not isinstance(pin_s, int | float) or isinstance(pin_s, bool)):
            raise BadRequest(wanted, "'pin_s' is no number of seconds")
        conditions = Conditions(_priority(body, wanted), pin_s, _text(body, "note", wanted))
        made = await blocking(self._desk.ask, query, _text(body, "destination", wanted), conditions)
        headers = {"location": f"{STAGING_PATH}/requests/{made.id}"}
        return JSONResponse(request_to_json(made), 201, headers)

    async def cancel(self, request: HttpRequest) -> Response:
        """Ends a request; the answer is the request as it is then."""
        number = _id(request)
        return JSONResponse(request_to_json(await _found(number, lambda: self._desk.cancel(number))))

    async def retry(self, request: HttpRequest) -> Response:
        """Tries again what failed or was cancelled; the answer is the request as it is then."""
        number = _id(request)
        await _found(number, lambda: self._desk.request(number))
        return JSONResponse(request_to_json(await blocking(self._desk.retry, number)))

    async def change_priority(self, request: HttpRequest) -> Response:
        """``{"priority"}`` -> the request as it is then."""
        number = _id(request)
        priority = _priority(await json_body(request, "priority"), "change a priority")
        await _found(number, lambda: self._desk.request(number))
        return JSONResponse(request_to_json(await blocking(self._desk.change_priority, number, priority)))


async def _found(number: int, work: Callable[[], Any]) -> Any:
    try:
        return await blocking(work)
    except BadRequest as error:
        raise Refused(404, NotFound(f"find request {number}", error.found, error.todo)) from error


def _id(request: HttpRequest) -> int:
    return _number(request.path_params["number"], "the request's number", 1, 1 << 62)


def _number(text: str, name: str, least: int, most: int) -> int:
    if not (text.isascii() and text.isdigit() and least <= int(text[:19]) <= most):
        raise BadRequest("answer the request", f"{name} {text[:40]!r} is none from {least} to {most}")
    return int(text)


def _state(text: str) -> ItemState:
    try:
        return ItemState(text)
    except ValueError as error:
        found = f"{text[:40]!r} is none of {', '.join(ItemState)}"
        raise BadRequest("choose files by their state", found) from error


def _priority(body: dict[str, Any], wanted: str) -> int:
    value = body.get("priority", PRIORITY)
    if not isinstance(value, int) or isinstance(value, bool):
        raise BadRequest(wanted, "'priority' is no whole number")
    return value


def _text(body: dict[str, Any], name: str, wanted: str) -> str:
    value = body.get(name, "")
    if not isinstance(value, str):
        raise BadRequest(wanted, f"{name!r} is no text")
    return value
