"""The HTTP door as one ASGI application: the gate, the routes, and how errors are told."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match, Route
from starlette.types import Receive, Scope, Send

from vse.catalogue.port import Catalogue, Names
from vse.catalogue.wire import NAMES_PATH
from vse.doors.http.access import DoorAccess, Need
from vse.doors.http.data import METHODS, DataTree
from vse.doors.http.exchange import Disconnected, Exchange, Refused, is_data
from vse.doors.http.files import DoorFiles
from vse.doors.http.names import NamesService
from vse.doors.http.staging import STAGING_PATH, Desk, StagingService
from vse.doors.http.threads import blocking
from vse.doors.http.whole import WholeNames
from vse.errors import NoSuchFile, Unsupported, VseError, http_status
from vse.model import Lfn

log = structlog.get_logger("vse.doors.http")

HEALTH = "/api/v1/health"
METRICS = "/metrics"


@dataclass(frozen=True, slots=True)
class GuardedRoute:
    """A route under ``/api`` and what a client needs to use it."""

    route: Route
    need: Need


async def _health(_request: Request) -> Response:
    return JSONResponse({"status": "ok"})


def _told(figures: Callable[[], bytes]) -> Callable[[Request], Awaitable[Response]]:
    async def tell(_request: Request) -> Response:
        return Response(await blocking(figures), media_type="text/plain; version=0.0.4")

    return tell


def _staging_routes(staging: StagingService) -> list[GuardedRoute]:
    one = f"{STAGING_PATH}/requests/{{number}}"
    return [
        GuardedRoute(Route(f"{STAGING_PATH}/requests", staging.list, methods=["GET"]), Need.FIGURES),
        GuardedRoute(Route(one, staging.show, methods=["GET"]), Need.FIGURES),
        GuardedRoute(Route(f"{STAGING_PATH}/why", staging.why, methods=["GET"]), Need.FIGURES),
        GuardedRoute(Route(f"{STAGING_PATH}/requests", staging.ask, methods=["POST"]), Need.WRITE),
        GuardedRoute(Route(f"{one}/cancel", staging.cancel, methods=["POST"]), Need.WRITE),
        GuardedRoute(Route(f"{one}/retry", staging.retry, methods=["POST"]), Need.WRITE),
        GuardedRoute(Route(f"{one}/priority", staging.change_priority, methods=["POST"]), Need.WRITE),
    ]


def _api_routes(
    names: NamesService | None,
    whole: WholeNames | None,
    metrics: Callable[[], bytes] | None,
    staging: StagingService | None,
) -> tuple[GuardedRoute, ...]:
    """Every route beside ``/data``. Only the health check is open, and it tells nothing."""
    routes = [GuardedRoute(Route(HEALTH, _health, methods=["GET"]), Need.NOTHING)]
    if names is not None:
        for what, endpoint in (
            ("find", names.find),
            ("list", names.list),
            ("resolve", names.resolve),
            ("stat", names.stat),
        ):
            route = Route(f"/api/v1/catalogue/{what}", endpoint, methods=["POST"])
            routes.append(GuardedRoute(route, Need.READ))
    if whole is not None:
        # Who may see all of it as it is may also change it; so reading it this way needs the same.
        for call in whole.calls:
            route = Route(f"{NAMES_PATH}/{call}", whole.answer, methods=["POST"])
            routes.append(GuardedRoute(route, Need.WRITE))
    if metrics is not None:
        routes.append(GuardedRoute(Route(METRICS, _told(metrics), methods=["GET"]), Need.FIGURES))
    if staging is not None:
        routes += _staging_routes(staging)
    return tuple(routes)


class HttpDoor:
    """The application. Every request passes `DoorAccess` before anything looks at what it wants.

    All that is raised becomes one JSON answer (`VseError.to_dict`); what was not foreseen is a 500 with
    an id that stands in the log too. Once an answer has begun, an error breaks the connection off.
    """

    def __init__(
        self,
        access: DoorAccess,
        data: DataTree | None,
        names: NamesService | None,
        metrics: Callable[[], bytes] | None = None,
        whole: WholeNames | None = None,
        staging: StagingService | None = None,
    ) -> None:
        self.routes = _api_routes(names, whole, metrics, staging)
        self._access = access
        self._data = data

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        exchange = Exchange(scope, receive, send)
        try:
            await self._answer(exchange)
        except (Disconnected, ClientDisconnect):
            return
        except Refused as refused:
            await self._tell(exchange, refused)
        except VseError as error:
            await self._tell(exchange, Refused(http_status(error), error))
        except Exception as error:  # the last line of defence: nothing internal leaks
            await self._tell_unforeseen(exchange, error)

    async def _answer(self, exchange: Exchange) -> None:
        authorization = exchange.headers.get(b"authorization")
        if self._data is not None and is_data(exchange.path):
            method = METHODS.get(exchange.method)
            # What nobody may do needs the right to read before it is told that there is no such thing.
            self._access.check(method.need if method else Need.READ, authorization)
            await self._data.serve(exchange)
            return
        found = self._route(exchange)
        self._access.check(found.need if found else Need.READ, authorization)
        if found is None:
            raise NoSuchFile(f"answer {exchange.path[:200]!r}", "this door has nothing of that name")
        methods = found.route.methods or set()
        if exchange.method not in methods:
            allowed = ", ".join(sorted(methods))
            refused = Unsupported("answer the request", f"{exchange.method[:20]} is not one of {allowed}")
            raise Refused(405, refused, [(b"allow", allowed.encode())])
        try:
            await found.route.handle(exchange.scope, exchange.receive, exchange.send)
        except VseError as error:
            if http_status(error) < 500:
                raise
            # What the database says of its troubles is for the site's log only.
            raise type(error)("answer the request", "the catalogue of this site failed") from error

    def _route(self, exchange: Exchange) -> GuardedRoute | None:
        """Return the route of a request; of a path without this method, the first of its routes."""
        partly: GuardedRoute | None = None
        for guarded in self.routes:
            match, child_scope = guarded.route.matches(exchange.scope)
            if match is Match.FULL:
                exchange.scope.update(child_scope)
                return guarded
            if match is Match.PARTIAL and partly is None:
                partly = guarded
        return partly

    async def _tell(self, exchange: Exchange, refused: Refused) -> None:
        cause = refused.__cause__ or refused.error.__cause__ or refused.error
        if refused.status >= 500 or exchange.started:
            # The cause is the storage's own account, which the client does not get to see.
            log.warning("request failed", method=exchange.method, path=exchange.path[:300], error=str(cause))
        if not exchange.started:
            await exchange.refuse(refused.status, refused.error, refused.headers)

    async def _tell_unforeseen(self, exchange: Exchange, error: Exception) -> None:
        name = secrets.token_hex(4)
        log.error("unforeseen", id=name, method=exchange.method, path=exchange.path[:300], exc_info=error)
        if not exchange.started:
            found = f"something went wrong in the door (id {name})"
            told = VseError("answer the request", found, "give this id to the site's administrator")
            await exchange.refuse(500, told)


def create_app(
    access: DoorAccess,
    files: DoorFiles | None = None,
    catalogue: Names | None = None,
    element: str = "",
    metrics: Callable[[], bytes] | None = None,
    whole: Catalogue | None = None,
    read: Callable[[Lfn], None] = lambda _: None,
    desk: Desk | None = None,
) -> HttpDoor:
    """Return the door's application.

    ``files`` is served under ``/data``; ``catalogue`` answers under ``/api/v1/catalogue``. Replicas at
    the storage element ``element`` are told with their URL at this door. ``metrics`` is what ``/metrics``
    tells, to those with the token only. ``whole`` is the catalogue that those may read and change under
    ``/api/v1/names`` who may write through this door. ``read`` is told of every file that is read.
    ``desk`` answers under ``/api/v1/staging``, to those with the token only.
    """
    data = None if files is None else DataTree(files, read=read)
    names = None if catalogue is None else NamesService(catalogue, element)
    staging = None if desk is None else StagingService(desk)
    return HttpDoor(access, data, names, metrics, None if whole is None else WholeNames(whole), staging)
