"""Requests and forecasts as JSON, the same from the command line and over HTTP."""

from __future__ import annotations

from typing import Any

from vse.staging.eta import Estimate
from vse.staging.values import Item, Request, RequestStatus


def request_to_json(request: Request) -> dict[str, Any]:
    """Return a request; times are Unix seconds."""
    return {
        "request": request.id,
        "query": request.query,
        "destination": request.destination,
        "owner": request.owner,
        "priority": request.priority,
        "pin_s": request.pin_s,
        "note": request.note,
        "state": str(request.state),
        "approval": str(request.approval),
        "approved_by": request.approved_by,
        "approval_note": request.approval_note,
        "created_s": request.created_s,
        "finished_s": request.finished_s,
        "error": None if request.error is None else request.error.to_dict(),
    }


def status_to_json(status: RequestStatus) -> dict[str, Any]:
    """Return how far a request is. ``reason``: why nothing moves, or why there is no ``eta``."""
    return {
        **request_to_json(status.request),
        "files": {str(state): count for state, count in status.files.items()},
        "total_bytes": status.total_bytes,
        "here_bytes": status.here_bytes,
        "running": status.running,
        "rate_bytes_s": status.rate_bytes_s,
        "eta": estimate_to_json(status.eta),
        "reason": status.note,
        "broken": [{"lfn": broken.lfn, "error": broken.error.to_dict()} for broken in status.broken],
    }


def estimate_to_json(estimate: Estimate | None) -> dict[str, float] | None:
    """Return when something should come, in seconds from now: an interval of 80 %."""
    return None if estimate is None else dict(estimate._asdict())


def item_to_json(item: Item) -> dict[str, Any]:
    return {
        "lfn": item.lfn,
        "state": str(item.state),
        "transfer": None if item.transfer_state is None else str(item.transfer_state),
        "size_bytes": item.size_bytes,
        "error": None if item.error is None else item.error.to_dict(),
    }
