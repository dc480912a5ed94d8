"""The JSON form of catalogue values, as two VSEs speak it.

Reading is strict: every key must be there, none that is not known, each of its type. The other side may
be an old version, a proxy's error page or somebody else's server, and a wrong size or checksum taken
in here would be believed for a day.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Collection
from typing import Any

from vse.errors import BadLfn, UpstreamGarbage, VseError, from_dict
from vse.model import Contents, Entry, Lfn, Located, Replica, ReplicaState

MAX_NAMES = 10_000
"""As many names as one request may ask for."""
MAX_BODY_BYTES = 32 * 1024 * 1024
"""As long a request as the door reads."""
NAMES_PATH = "/api/v1/names"
JSON, NDJSON = "application/json", "application/x-ndjson"

_ENTRY = (
    "lfn",
    "kind",
    "size_bytes",
    "adler32",
    "guid",
    "owner",
    "group",
    "mode",
    "created_s",
    "modified_s",
)
_KINDS = ("file", "directory", "link", "collection")
_REPLICA = ("se", "url", "state")
_LOCATED = ("entry", "replicas", "contents")
_CONTENTS = ("tree", "entries")
_ERROR = ("code", "wanted", "found", "todo", "retryable")
_HEX8, _HEX32 = re.compile(r"[0-9a-f]{8}"), re.compile(r"[0-9a-f]{32}")


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def dumps(value: Any) -> bytes:
    """Return ``value`` as one line of JSON, without its end."""
    return _encode(value).encode("utf-8", "surrogatepass")


def entry_to_json(entry: Entry) -> dict[str, Any]:
    """Return ``{lfn, kind, size_bytes, adler32 (8 hex digits), guid (32), owner, group, mode, times}``.

    A link has a ``target``, too.
    """
    target = {} if entry.target is None else {"target": entry.target}
    return {
        "lfn": entry.lfn,
        "kind": entry.kind,
        "size_bytes": entry.size_bytes,
        "adler32": None if entry.adler32 is None else f"{entry.adler32:08x}",
        "guid": None if entry.guid is None else entry.guid.hex(),
        "owner": entry.owner,
        "group": entry.group,
        "mode": entry.mode,
        "created_s": entry.created_s,
        "modified_s": entry.modified_s,
        **target,
    }


def replica_to_json(replica: Replica, url: str | None) -> dict[str, Any]:
    """Return ``{se, url, state}``; ``url`` is the whole one, None where it is not known.

    When a copy was read last, and where we heard of it, is this site's own business.
    """
    return {"se": replica.se, "url": url, "state": str(replica.state)}


def located_to_json(
    located: Located, url_of: Callable[[Replica], str | None] = lambda replica: replica.url
) -> dict[str, Any]:
    """Return ``{entry, replicas, contents}``."""
    contents = located.contents
    return {
        "entry": entry_to_json(located.entry),
        "replicas": [replica_to_json(replica, url_of(replica)) for replica in located.replicas],
        "contents": None if contents is None else contents._asdict(),
    }


def entry_from_json(data: object) -> Entry:
    """Read an entry; raises `UpstreamGarbage` that names the key."""
    link = isinstance(data, dict) and data.get("kind") == "link"
    fields = _object(data, (*_ENTRY, "target") if link else _ENTRY, "entry")
    kind = fields["kind"]
    if kind not in _KINDS:
        raise _garbage("entry.kind", kind, f"one of {', '.join(_KINDS)}")
    size_bytes = _whole(fields["size_bytes"], "entry.size_bytes", optional=kind != "file")
    adler32, guid = fields["adler32"], fields["guid"]
    for key, value, form in (("adler32", adler32, _HEX8), ("guid", guid, _HEX32)):
        if value is not None and not (isinstance(value, str) and form.fullmatch(value)):
            raise _garbage(f"entry.{key}", value, "lower-case hex of full width")
    mode = _whole(fields["mode"], "entry.mode")
    return Entry(
        lfn=_lfn(fields["lfn"]),
        kind=kind,
        size_bytes=size_bytes,
        adler32=None if adler32 is None else int(adler32, 16),
        guid=None if guid is None else bytes.fromhex(guid),
        owner=_text(fields["owner"], "entry.owner"),
        group=_text(fields["group"], "entry.group"),
        mode=mode or 0,
        created_s=_seconds(fields["created_s"], "entry.created_s"),
        modified_s=_seconds(fields["modified_s"], "entry.modified_s"),
        target=_text(fields["target"], "entry.target") if link else None,
    )


def replica_from_json(data: object, lfn: Lfn, origin: str) -> Replica:
    """Read a replica of ``lfn`` that the upstream ``origin`` told of."""
    fields = _object(data, _REPLICA, "replica")
    url = fields["url"]
    state = fields["state"]
    if state not in set(ReplicaState):
        raise _garbage("replica.state", state, f"one of {', '.join(ReplicaState)}")
    return Replica(
        lfn=lfn,
        se=_text(fields["se"], "replica.se"),
        url=None if url is None else _text(url, "replica.url"),
        state=ReplicaState(state),
        accessed_s=None,
        origin=origin,
    )


def located_from_json(data: object, origin: str) -> Located:
    """Read a file with its replicas and contents; raises `UpstreamGarbage` that names the key."""
    fields = _object(data, _LOCATED, "file")
    entry = entry_from_json(fields["entry"])
    if entry.kind != "file":
        raise _garbage("entry.kind", entry.kind, "'file'")
    if not isinstance(fields["replicas"], list):
        raise _garbage("replicas", fields["replicas"], "a list")
    replicas = (replica_from_json(replica, entry.lfn, origin) for replica in fields["replicas"])
    contents = None
    if fields["contents"] is not None:
        read = _object(fields["contents"], _CONTENTS, "contents")
        entries = _whole(read["entries"], "contents.entries")
        contents = Contents(_text(read["tree"], "contents.tree"), entries or 0)
    return Located(entry, tuple(sorted(replicas, key=lambda replica: replica.se)), contents)


def error_from_json(data: object) -> VseError:
    """Read an error; one of an unknown code becomes a plain `VseError`."""
    return from_dict(_object(data, _ERROR, "error"))


def _object(data: object, keys: Collection[str], what: str) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise _garbage(what, data, "an object")
    missing = [key for key in keys if key not in data]
    unknown = [key for key in data if key not in keys]
    if missing or unknown:
        found = [f"no key {key!r}" for key in missing] + [f"an unknown key {key!r}" for key in unknown]
        raise UpstreamGarbage(f"understand the {what} in an upstream's answer", f"it has {', '.join(found)}")
    return data


def _lfn(value: object) -> Lfn:
    text = _text(value, "entry.lfn")
    try:
        lfn = Lfn.parse(text)
    except BadLfn as error:
        raise _garbage("entry.lfn", value, f"a logical file name ({error.found})") from error
    if lfn != text:
        raise _garbage("entry.lfn", value, f"in its normal form {lfn!r}")
    return lfn


def _text(value: object, key: str) -> str:
    if not isinstance(value, str):
        raise _garbage(key, value, "a string")
    return value


def _whole(value: object, key: str, *, optional: bool = False) -> int | None:
    if value is None and optional:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise _garbage(key, value, "a whole number, 0 or more")
    return value


def _seconds(value: object, key: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise _garbage(key, value, "a time in seconds")
    return float(value)


def _garbage(key: str, value: object, wanted: str) -> UpstreamGarbage:
    shown = repr(value)
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    return UpstreamGarbage("understand an upstream's answer", f"{key} is {shown}, not {wanted}")
