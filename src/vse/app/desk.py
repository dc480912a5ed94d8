"""A site's staging as its HTTP door serves it. One token is one identity: the service's."""

from __future__ import annotations

from typing import Any

from vse.app import requests
from vse.app.site import Site
from vse.app.stage import stage_dataset
from vse.errors import Denied
from vse.model import DatasetQuery, Identity, Lfn
from vse.staging.values import Conditions, Item, ItemState, Request, RequestStatus


class SiteDesk:
    """Answers `vse.doors.http.staging.Desk` from a site."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._me = Identity.of_process()

    def requests(self, *, open_only: bool, owner: str, limit: int) -> list[RequestStatus]:
        found = self._site.staging.list(open_only=open_only, owner=owner, limit=limit)
        return self._site.progress.status(found)

    def request(self, request_id: int) -> RequestStatus:
        (status,) = self._site.progress.status(self._site.staging.get([request_id]))
        return status

    def files(self, request_id: int, states: list[ItemState], after: str, limit: int) -> list[Item]:
        return list(self._site.staging.items(request_id, states, after=after, limit=limit))

    def why(self, lfn: Lfn) -> dict[str, Any]:
        return everything_about(self._site, lfn)

    def ask(self, query: DatasetQuery, destination: str, conditions: Conditions) -> Request:
        job = stage_dataset(self._site, query, destination, conditions)
        request = job.status().request
        for error in job.left_out:
            raise Denied(error.wanted, error.found, f"request {request.id} has the other files")
        return request

    def cancel(self, request_id: int) -> Request:
        return requests.cancel(self._site, request_id, self._me)

    def retry(self, request_id: int) -> Request:
        return requests.retry(self._site, request_id, self._me)

    def change_priority(self, request_id: int, priority: int) -> Request:
        return requests.change_priority(self._site, request_id, priority, self._me)


def everything_about(site: Site, lfn: Lfn) -> dict[str, Any]:
    """Return all that is known of a file, as JSON: where, when, why not, in a pool, in quarantine."""
    told = site.explainer.explain(lfn).to_dict()
    kept = [one.to_dict() for one in site.quarantine.of(lfn)]
    return {**told, "pool": site.pool.explain(lfn), "quarantine": kept}
