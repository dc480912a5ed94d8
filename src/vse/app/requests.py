"""What people do with requests: who may, and on what conditions."""

from __future__ import annotations

from vse.app.site import Site
from vse.catalogue.guarded import SUPERUSER
from vse.errors import Denied
from vse.model import Identity
from vse.staging.approval import Approvers
from vse.staging.values import Conditions, Request


def approvers(site: Site) -> Approvers:
    """Return who approves requests: those of the settings, administrators of the catalogue, and root."""
    settings = site.settings.stager
    users = frozenset(settings.approvers) | site.administrators | {SUPERUSER}
    return Approvers(users, frozenset(settings.approver_groups))


def conditions(
    site: Site, who: Identity, priority: int, pin_s: float | None = None, note: str = ""
) -> Conditions:
    """Return the conditions on which somebody asks for files."""
    return Conditions(priority, pin_s, note, approvers(site).include(who))


def cancel(site: Site, request_id: int, who: Identity) -> Request:
    _check_owner(site, request_id, who, "cancel")
    return site.staging.cancel(request_id)


def retry(site: Site, request_id: int, who: Identity) -> Request:
    _check_owner(site, request_id, who, "retry")
    return site.staging.retry(request_id)


def change_priority(site: Site, request_id: int, priority: int, who: Identity) -> Request:
    _check_owner(site, request_id, who, "change")
    return site.staging.change_priority(request_id, priority)


def approve(site: Site, request_id: int, who: Identity, note: str = "") -> Request:
    _check_approver(site, request_id, who, "approve")
    return site.staging.approve(request_id, who.name, note)


def refuse(site: Site, request_id: int, who: Identity, note: str) -> Request:
    _check_approver(site, request_id, who, "refuse")
    return site.staging.refuse(request_id, who.name, note)


def _check_owner(site: Site, request_id: int, who: Identity, verb: str) -> None:
    (request,) = site.staging.get([request_id])
    if request.owner != who.name and not approvers(site).include(who):
        raise Denied(
            f"{verb} request {request_id}",
            f"it is {request.owner}'s, and you are {who.name}",
            f"ask {request.owner}, or one of stager.approvers",
        )


def _check_approver(site: Site, request_id: int, who: Identity, verb: str) -> None:
    if not approvers(site).include(who):
        raise Denied(
            f"{verb} request {request_id}",
            f"{who.name} is none of stager.approvers",
            "ask one of them; the settings name them: vse config show",
        )
