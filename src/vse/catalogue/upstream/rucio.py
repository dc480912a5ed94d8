"""Rucio's catalogue (https://rucio.cern.ch), asked through its REST interface.

Our own small client: Rucio's is the number of its dependencies (rucio#4097). Names are data identifiers,
``scope:name``, and storage elements are RSEs, here as there: see
`vse.catalogue.upstream.mapping`.

A file is asked about twice, in bulk: ``/dids/bulkmeta`` says which names are files (a dataset's name would
be answered with all its files), how long, and whose; ``/replicas/list`` says where. Neither list has an end
mark, but a file that the one knows and the other does not even mention is half a list, not an answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from email.utils import parsedate_to_datetime
from fnmatch import fnmatchcase
from functools import lru_cache
from itertools import islice
from time import time
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

from vse.catalogue.port import CopyMade
from vse.catalogue.upstream.rucio_session import Refused, RucioSession
from vse.config.upstreams import UpstreamSettings
from vse.errors import AlreadyExists, BadRequest, NoSuchEntry, VseError
from vse.model import BulkResult, Clock, Entry, Lfn, Located, Replica, ReplicaState

MOST_AT_ONCE = 1000
"""Names that Rucio takes in one call."""
_UNKNOWN = ("InvalidObject", "DataIdentifierNotFound", "ScopeNotFound")
_FILE_MODE = 0o644
_HEX8, _HEX32 = re.compile(r"[0-9a-f]{8}"), re.compile(r"[0-9a-f]{32}")
_PLAIN = re.compile(r"[^/A-Za-z0-9._-]")
_TYPECAST = re.compile("true|false", re.IGNORECASE)
_GLOB = re.compile(r"[*?\[\]]")
_STATES = {
    "AVAILABLE": ReplicaState.AVAILABLE,
    "UNAVAILABLE": ReplicaState.STAGING,
    "COPYING": ReplicaState.STAGING,
    "BEING_DELETED": ReplicaState.DELETING,
    "TEMPORARY_UNAVAILABLE": ReplicaState.SUSPECT,
    "BAD": ReplicaState.LOST,
}


class Did(NamedTuple):
    """A data identifier."""

    scope: str
    name: str

    @classmethod
    def of(cls, text: str) -> Did:
        """Read ``scope:name``; a text without a scope names nothing, and gets an empty one."""
        scope, colon, name = text.partition(":")
        return cls(scope, name) if colon else cls("", text)

    def __str__(self) -> str:
        return f"{self.scope}:{self.name}"


class RucioUpstream:
    """`vse.catalogue.port.Upstream` and `Registers`, in Rucio's own names. Safe to share between threads."""

    def __init__(self, settings: UpstreamSettings, clock: Clock = time) -> None:
        self.name = settings.name
        self.session = RucioSession(settings, clock)
        self._at_once = min(settings.batch, MOST_AT_ONCE)
        self._deterministic: dict[str, bool] = {}

    def close(self) -> None:
        """Drop the connections."""
        self.session.close()

    # -- reading ----------------------------------------------------------------------------------

    def find(self, base: Lfn, pattern: str) -> Iterator[Located]:
        """Yield every file whose name is ``base`` or below it, and whose last part matches.

        ``base`` is ``scope:name``, ``scope:`` for a whole scope, or empty for all. In Rucio's order.
        """
        scope, colon, start = base.partition(":")
        for one in [scope] if colon else self._scopes():
            names = self._search(one, start, pattern)
            while batch := list(islice(names, self._at_once)):
                # One that is gone meanwhile is not told of.
                yield from self._resolve(batch).ok.values()

    def resolve(self, lfns: Sequence[Lfn]) -> BulkResult[Located]:
        """Return each file with its replicas; `NoSuchEntry` for each that is no file there."""
        result: BulkResult[Located] = BulkResult()
        dids = iter(dict.fromkeys(map(Did.of, lfns)))
        while batch := list(islice(dids, self._at_once)):
            result.merge(self._resolve(batch))
        return result

    def _scopes(self) -> list[str]:
        wanted = f"list the scopes of the upstream {self.name!r}"
        try:
            scopes = self.session.read("/scopes/", wanted)
        except Refused as refused:
            raise self.session.refused(wanted, refused) from refused
        if not isinstance(scopes, list) or not all(isinstance(scope, str) for scope in scopes):
            raise self.session.garbage(wanted, "its answer is no list of names")
        return sorted(scopes)

    def _search(self, scope: str, start: str, pattern: str) -> Iterator[Did]:
        wanted = f"find {pattern!r} under {scope}:{start} at the upstream {self.name!r}"
        query = urlencode({"type": "file", "name": _like(start, pattern)})
        below = start if not start or start.endswith("/") else f"{start}/"
        try:
            for name in self.session.stream(
                "GET", f"/dids/{quote(scope, '')}/dids/search?{query}", None, wanted
            ):
                if not isinstance(name, str):
                    raise self.session.garbage(wanted, f"it told of {str(name)[:60]!r}, which is no name")
                if (name == start or name.startswith(below)) and fnmatchcase(
                    name.rpartition("/")[2], pattern
                ):
                    yield Did(scope, name)
        except Refused as refused:
            raise self.session.refused(wanted, refused) from refused

    def _resolve(self, dids: list[Did]) -> BulkResult[Located]:
        wanted = f"look up {len(dids)} names at the upstream {self.name!r}"
        entries = self._entries(dids, wanted)
        places = self._places(list(entries), wanted) if entries else {}
        result: BulkResult[Located] = BulkResult()
        for did in dids:
            name = str(did) if did.scope else did.name
            entry = entries.get(did)
            if entry is None:
                error = NoSuchEntry(f"find {name} at the upstream {self.name!r}", "there is no such file")
                result.failed[name] = error
                continue
            if did not in places:
                raise self.session.garbage(wanted, f"its list of replicas ends without {did}")
            result.ok[name] = Located(entry, places[did])
        return result

    def _entries(self, dids: list[Did], wanted: str) -> dict[Did, Entry]:
        """Return what is known of those of ``dids`` that are files."""
        asked = [did for did in dids if did.scope and did.name]
        found: dict[Did, Entry] = {}
        for row in self._told("/dids/bulkmeta", asked, {}, wanted):
            did = self._did(row, wanted)
            if row.get("did_type") == "FILE":
                found[did] = self._entry(did, row, wanted)
        self._check_asked(found, asked, wanted)
        return found

    def _places(self, dids: list[Did], wanted: str) -> dict[Did, tuple[Replica, ...]]:
        found: dict[Did, tuple[Replica, ...]] = {}
        # In no order: the usual one, by distance, makes the server look for a map of the world.
        options = {"all_states": True, "resolve_archives": False, "sort": "random"}
        for row in self._told("/replicas/list", dids, options, wanted):
            did = self._did(row, wanted)
            found[did] = self._replicas(did, row, wanted)
        self._check_asked(found, dids, wanted)
        return found

    def _told(
        self, path: str, dids: list[Did], options: Mapping[str, object], wanted: str
    ) -> Iterator[dict[str, Any]]:
        """Yield what the server tells of ``dids``; a name that it would not even read is passed over."""
        if not dids:
            return
        try:
            body = {"dids": [did._asdict() for did in dids], **options}
            for row in self.session.stream("POST", path, body, wanted):
                if not isinstance(row, dict):
                    raise self.session.garbage(wanted, "it told of what is no object")
                yield row
        except Refused as refused:
            if refused.kind not in _UNKNOWN:
                raise self.session.refused(wanted, refused) from refused
            # It refuses all names of a call for one that its naming rules forbid.
            if len(dids) > 1:
                middle = len(dids) // 2
                for half in (dids[:middle], dids[middle:]):
                    yield from self._told(path, half, options, wanted)

    def _check_asked(self, found: Mapping[Did, object], asked: Sequence[Did], wanted: str) -> None:
        if others := found.keys() - set(asked):
            raise self.session.garbage(wanted, f"it told of {next(iter(others))}, which was not asked for")

    # -- reading rows -----------------------------------------------------------------------------

    def _did(self, row: Mapping[str, Any], wanted: str) -> Did:
        scope, name = row.get("scope"), row.get("name")
        if not isinstance(scope, str) or not isinstance(name, str):
            raise self.session.garbage(wanted, f"it told of scope {scope!r}, name {name!r}")
        return Did(scope, name)

    def _entry(self, did: Did, row: Mapping[str, Any], wanted: str) -> Entry:
        size_bytes, account = row.get("bytes"), row.get("account")
        if not isinstance(size_bytes, int) or isinstance(size_bytes, bool) or size_bytes < 0:
            raise self.session.garbage(wanted, f"it told of {did} with {size_bytes!r} bytes")
        adler32, guid = row.get("adler32"), row.get("guid")
        if adler32 is not None:
            adler32 = str(adler32).lower().zfill(8)
        if guid is not None:
            guid = re.sub(r"[-{}]", "", str(guid)).lower()
        for key, value, form in (("adler32", adler32, _HEX8), ("guid", guid, _HEX32)):
            if value is not None and not form.fullmatch(value):
                raise self.session.garbage(wanted, f"it told of {did} with the {key} {value[:60]!r}")
        return Entry(
            lfn=Lfn(str(did)),
            kind="file",
            size_bytes=size_bytes,
            adler32=None if adler32 is None else int(adler32, 16),
            guid=None if guid is None else bytes.fromhex(guid),
            owner=account if isinstance(account, str) else "root",
            group=did.scope,
            mode=_FILE_MODE,
            created_s=_seconds(row.get("created_at")),
            modified_s=_seconds(row.get("created_at")),
        )

    def _replicas(self, did: Did, row: Mapping[str, Any], wanted: str) -> tuple[Replica, ...]:
        elements, urls, states = row.get("rses"), row.get("pfns"), row.get("states")
        if not isinstance(elements, dict) or not isinstance(urls, dict) or not isinstance(states, dict):
            raise self.session.garbage(wanted, f"it told of {did} without its replicas")
        replicas = []
        for element in sorted(elements.keys() | states.keys()):
            state = _STATES.get(str(states.get(element, "AVAILABLE")), ReplicaState.SUSPECT)
            url = _first_url(elements.get(element) or [], urls)
            replicas.append(Replica(Lfn(str(did)), element, url, state, None, self.name))
        return tuple(replicas)

    # -- registering ------------------------------------------------------------------------------

    def register_replicas(self, copies: Sequence[CopyMade]) -> BulkResult[None]:
        """As `vse.catalogue.port.Registers`: checked against what Rucio knows, then added by RSE.

        Rucio itself takes a copy of any size for a file that it knows, and makes a new file of a name
        that it does not: neither is sent.
        """
        result: BulkResult[None] = BulkResult()
        known = self.resolve([copy.lfn for copy in copies])
        by_element: dict[str, list[CopyMade]] = {}
        for copy in copies:
            located = known.ok.get(copy.lfn)
            if located is None:
                result.failed[copy.lfn] = known.failed[copy.lfn]
            elif (difference := _difference(copy, located.entry)) is not None:
                wanted = self._registering(copy.lfn, copy.se)
                result.failed[copy.lfn] = AlreadyExists(wanted, difference, "find out which of them is right")
            elif any(one.se == copy.se and one.state is ReplicaState.AVAILABLE for one in located.replicas):
                result.ok[copy.lfn] = None
            else:
                by_element.setdefault(copy.se, []).append(copy)
        for element, some in by_element.items():
            for place in range(0, len(some), self._at_once):
                self._add(element, some[place : place + self._at_once], result)
        return result

    def _add(self, element: str, copies: list[CopyMade], result: BulkResult[None]) -> None:
        """Add copies; where Rucio refuses all of them for one, find out which."""
        wanted = self._registering(copies[0].lfn, element)
        try:
            with_url = not self._computes_urls(element, wanted)
            files = [_file(copy, with_url) for copy in copies]
            body = {"rse": element, "files": files, "ignore_availability": True}
            self.session.send("POST", "/replicas/", body, wanted)
        except Refused as refused:
            if refused.kind == "RSENotFound" or len(copies) == 1:
                error = self._refusal(element, copies[0], refused)
                result.failed.update((copy.lfn, error) for copy in copies)
                return
            middle = len(copies) // 2
            self._add(element, copies[:middle], result)
            self._add(element, copies[middle:], result)
        else:
            result.ok.update((copy.lfn, None) for copy in copies)

    def _refusal(self, element: str, copy: CopyMade, refused: Refused) -> VseError:
        wanted = self._registering(copy.lfn, element)
        if not refused.kind or "Database" in refused.kind or refused.kind == "ResourceTemporaryUnavailable":
            return self.session.refused(wanted, refused)
        todo = f"see that {element} is an RSE there, and that its URLs are those that Rucio expects"
        return BadRequest(wanted, f"it answered {refused.status}, {refused}", todo)

    def _computes_urls(self, element: str, wanted: str) -> bool:
        """Whether Rucio derives URLs at ``element`` itself, and wants none. Asked once."""
        if element not in self._deterministic:
            row = self.session.read(f"/rses/{quote(element, '')}", wanted)
            if not isinstance(row, dict) or not isinstance(row.get("deterministic"), bool):
                raise self.session.garbage(wanted, f"it told of the RSE {element} without 'deterministic'")
            self._deterministic[element] = row["deterministic"]
        return self._deterministic[element]

    def _registering(self, name: str, element: str) -> str:
        return f"register the copy of {name} at {element} with the upstream {self.name!r}"


def _like(start: str, pattern: str) -> str:
    """Return a search with '*' for at least the names that begin with ``start`` and match ``pattern``.

    Rucio reads '*' alone as a wildcard, and turns 'true' and 'false' in any case into Python's.
    """
    end = _GLOB.split(pattern)[-1]
    text = f"{start}*" if start.endswith(end) else f"{start}*{end}"
    return re.sub(r"\*+", "*", _TYPECAST.sub("*", _PLAIN.sub("*", text)))


def _first_url(urls: Sequence[Any], told: Mapping[str, Any]) -> str | None:
    """Return the URL that Rucio would try first."""
    known = [url for url in urls if isinstance(url, str) and isinstance(told.get(url), dict)]
    return min(known, key=lambda url: (_priority(told[url]), url), default=None)


def _priority(row: Mapping[str, Any]) -> int:
    priority = row.get("priority")
    return priority if isinstance(priority, int) else 0


@lru_cache(maxsize=4096)
def _seconds(text: object) -> float:
    """Return the Unix time of Rucio's dates (RFC 1123); 0 where there is none."""
    try:
        return parsedate_to_datetime(str(text).replace("UTC", "GMT")).timestamp()
    except (TypeError, ValueError, OverflowError):
        return 0.0


def _difference(copy: CopyMade, entry: Entry) -> str | None:
    if entry.size_bytes != copy.size_bytes:
        return f"it has {copy.size_bytes} bytes here and {entry.size_bytes} there"
    if None not in (entry.adler32, copy.adler32) and entry.adler32 != copy.adler32:
        return f"its adler32 is {copy.adler32:08x} here and {entry.adler32:08x} there"
    return None


def _file(copy: CopyMade, with_url: bool) -> dict[str, object]:
    file: dict[str, object] = {**Did.of(copy.lfn)._asdict(), "bytes": copy.size_bytes}
    if copy.adler32 is not None:
        file["adler32"] = f"{copy.adler32:08x}"
    if with_url and copy.url is not None:
        file["pfn"] = copy.url
    return file
