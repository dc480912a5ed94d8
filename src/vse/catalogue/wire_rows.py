"""The whole catalogue port as JSON: each value is a list of plain ones, for speed, as `NamedTuple` has it.

For a site's own clients (`vse.catalogue.remote`) and its door; what other sites are told is
`vse.catalogue.wire`. Reading checks every field, and raises `UpstreamGarbage` that names the value: a
client must not believe a proxy's error page, or an older door.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from vse.catalogue.port import NewReplica
from vse.errors import BadLfn, UpstreamGarbage
from vse.model import (
    Access,
    AccessEntry,
    Audited,
    Checksum,
    Contents,
    Details,
    Entry,
    Expired,
    Lfn,
    Located,
    NewAccess,
    NewFile,
    NewLink,
    Origin,
    Replica,
    ReplicaState,
    Trashed,
)

T = TypeVar("T")
Row = list[Any]

_KINDS = frozenset(("file", "directory", "link", "collection"))
_STATES: Mapping[Any, ReplicaState] = {str(state): state for state in ReplicaState}


# -- values to rows ---------------------------------------------------------------------------------


def entry_row(entry: Entry) -> Row:
    """``[lfn, kind, size, adler32, guid (hex), owner, group, mode, created, modified, target]``."""
    row: Row = [*entry]
    if entry.guid is not None:
        row[4] = entry.guid.hex()
    return row


def replica_row(replica: Replica) -> Row:
    """``[se, url, state, accessed, origin]``; of which file, is known from where it stands."""
    return [*replica[1:]]


def located_row(located: Located) -> Row:
    """``[entry, [replica, ...], [tree, entries] or null]``."""
    return [entry_row(located.entry), [one[1:] for one in located.replicas], located.contents]


def details_row(details: Details) -> Row:
    """``[lfn, [[algorithm, hex], ...], [[se, master, source, made], ...]]``."""
    return [*details]


def access_row(access: Access) -> Row:
    """``[lfn, kind, owner, group, mode, entries, defaults]``, of entries ``[whom, name, permissions]``."""
    return [*access]


def trashed_row(trashed: Trashed) -> Row:
    """``[id, lfn, kind, removed, by, expires]``."""
    return [*trashed]


def expired_row(expired: Expired) -> Row:
    """``[trashed, size, guid, [replica, ...]]``."""
    guid = None if expired.guid is None else expired.guid.hex()
    return [expired.trashed, expired.size_bytes, guid, [replica_row(one) for one in expired.replicas]]


def audited_row(audited: Audited) -> Row:
    """``[when, who, action, lfn, detail]``."""
    return [*audited]


def new_file_row(new: NewFile) -> Row:
    guid = None if new.guid is None else new.guid.hex()
    return [
        *(new.lfn, new.size_bytes, new.adler32, new.se, new.url, guid, new.owner, new.group, new.mode),
        *(new.modified_s, new.contents, new.checksums),
    ]


def new_replica_row(new: NewReplica) -> Row:
    return [new.lfn, new.se, new.url, str(new.state), new.contents, new.source, new.master]


def new_link_row(new: NewLink) -> Row:
    return [new.lfn, new.target, new.owner, new.group]


def new_access_row(new: NewAccess) -> Row:
    return [new.lfn, new.owner, new.group, new.mode, new.entries, new.defaults]


# -- rows to values ---------------------------------------------------------------------------------


def reading(what: str, read: Callable[[Any], T]) -> Callable[[Any], T]:
    """Return ``read``, which then raises `UpstreamGarbage` for what is no row of its kind."""

    def checked(row: Any) -> T:
        try:
            return read(row)
        except (TypeError, ValueError, KeyError, IndexError, AttributeError, BadLfn) as error:
            shown = repr(row)
            shown = shown if len(shown) <= 80 else shown[:77] + "..."
            raise UpstreamGarbage(f"understand {what} in an answer", f"it is {shown}") from error

    return checked


def _entry(row: Any) -> Entry:
    lfn, kind, size_bytes, adler32, guid, owner, group, mode, created_s, modified_s, target = row
    if kind not in _KINDS or type(mode) is not int or type(owner) is not str or type(group) is not str:
        raise ValueError(row)
    if (type(size_bytes) is not int or size_bytes < 0) if kind == "file" else size_bytes is not None:
        raise ValueError(row)
    if adler32 is not None and (type(adler32) is not int or not 0 <= adler32 < 2**32):
        raise ValueError(row)
    values = (
        *(name_of(lfn), kind, size_bytes, adler32, None if guid is None else guid_of(guid), owner, group),
        *(mode, _time(created_s), _time(modified_s), _text_or_none(target)),
    )
    return Entry._make(values)


def _replica(row: Any, lfn: Lfn) -> Replica:
    se, url, state, accessed_s, origin = row
    read_s = None if accessed_s is None else _time(accessed_s)
    return Replica._make((lfn, _text(se), _text_or_none(url), _STATES[state], read_s, _text(origin)))


def _located(row: Any) -> Located:
    entry_of, replicas, contents = row
    entry = _entry(entry_of)
    lfn = entry.lfn
    return Located(entry, tuple([_replica(one, lfn) for one in replicas]), _contents(contents))


def _contents(row: Any) -> Contents | None:
    if row is None:
        return None
    tree, entries = row
    return Contents(_text(tree), _whole(entries))


def _details(row: Any) -> Details:
    lfn, checksums, origins = row
    return Details(name_of(lfn), _checksums(checksums), tuple(_origin(*one) for one in origins))


def _origin(se: Any, master: Any, source: Any, made_s: Any) -> Origin:
    when_s = None if made_s is None else _time(made_s)
    return Origin(_text(se), _flag(master), _text_or_none(source), when_s)


def _checksums(rows: Any) -> tuple[Checksum, ...]:
    return tuple(Checksum(_text(algorithm), _text(value)) for algorithm, value in rows)


def _access(row: Any) -> Access:
    lfn, kind, owner, group, mode, entries, defaults = row
    if kind not in _KINDS:
        raise ValueError(row)
    people = (_text(owner), _text(group))
    return Access(name_of(lfn), kind, *people, _whole(mode), _list(entries), _list(defaults))


def _list(rows: Any) -> tuple[AccessEntry, ...]:
    return tuple(_access_entry(*row) for row in rows)


def _access_entry(whom: Any, name: Any, permissions: Any) -> AccessEntry:
    if whom not in ("user", "group", "mask") or not 0 <= _whole(permissions) <= 7:
        raise ValueError(whom)
    return AccessEntry(whom, _text(name), permissions)


def _trashed(row: Any) -> Trashed:
    which, lfn, kind, removed_s, by, expires_s = row
    if kind not in _KINDS:
        raise ValueError(row)
    return Trashed(_whole(which), name_of(lfn), kind, _time(removed_s), _text(by), _time(expires_s))


def _expired(row: Any) -> Expired:
    trashed_row, size_bytes, guid, replicas = row
    trashed = _trashed(trashed_row)
    copies = tuple(_replica(one, trashed.lfn) for one in replicas)
    size = None if size_bytes is None else _whole(size_bytes)
    return Expired(trashed, size, None if guid is None else guid_of(guid), copies)


def _audited(row: Any) -> Audited:
    when_s, who, action, lfn, detail = row
    if not isinstance(detail, dict):
        raise TypeError(row)
    return Audited(_time(when_s), _text(who), _text(action), name_of(lfn), detail)


def _new_file(row: Any) -> NewFile:
    lfn, size_bytes, adler32, se, url, guid, owner, group, mode, modified_s, contents, checksums = row
    return NewFile(
        lfn=name_of(lfn),
        size_bytes=_whole(size_bytes),
        adler32=None if adler32 is None else _whole(adler32),
        se=_text_or_none(se),
        url=_text_or_none(url),
        guid=None if guid is None else guid_of(guid),
        owner=_text(owner),
        group=_text(group),
        mode=_whole(mode),
        modified_s=None if modified_s is None else _time(modified_s),
        contents=_contents(contents),
        checksums=tuple(Checksum.parse(f"{_text(name)}:{_text(value)}") for name, value in checksums),
    )


def _new_replica(row: Any) -> NewReplica:
    lfn, se, url, state, contents, source, master = row
    inside = _contents(contents)
    where = (name_of(lfn), _text(se), _text_or_none(url))
    return NewReplica(*where, _STATES[state], inside, _text_or_none(source), _flag(master))


def _new_link(row: Any) -> NewLink:
    lfn, target, owner, group = row
    return NewLink(name_of(lfn), _text(target), _text(owner), _text(group))


def _new_access(row: Any) -> NewAccess:
    lfn, owner, group, mode, entries, defaults = row
    return NewAccess(
        name_of(lfn),
        _text_or_none(owner),
        _text_or_none(group),
        None if mode is None else _mode(mode),
        None if entries is None else _list(entries),
        None if defaults is None else _list(defaults),
    )


def name_of(value: Any) -> Lfn:
    """Return a name that must be in its normal form."""
    lfn = Lfn.parse(_text(value))
    if lfn != value:
        raise ValueError(value)
    return lfn


def guid_of(value: Any) -> bytes:
    """Return the 16 bytes of 32 hex digits."""
    guid = bytes.fromhex(value)
    if len(guid) != 16:
        raise ValueError(value)
    return guid


def state_of(value: Any) -> ReplicaState:
    return _STATES[value]


def _text(value: Any) -> str:
    if type(value) is not str:
        raise TypeError(value)
    return value


def _text_or_none(value: Any) -> str | None:
    return None if value is None else _text(value)


def _whole(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**63:
        raise ValueError(value)
    return value


def _mode(value: Any) -> int:
    """A mode that may be wrong: the catalogue says so, as it does to its own callers."""
    if type(value) is not int or abs(value) >= 2**31:
        raise ValueError(value)
    return value


def _flag(value: Any) -> bool:
    if type(value) is not bool:
        raise TypeError(value)
    return value


def _time(value: Any) -> float:
    if type(value) not in (int, float):
        raise TypeError(value)
    return float(value)


entry_of = reading("an entry", _entry)
located_of = reading("a file", _located)
details_of = reading("the details of a file", _details)
access_of = reading("the access of a name", _access)
trashed_of = reading("a trashed name", _trashed)
expired_of = reading("an expired name", _expired)
audited_of = reading("a change", _audited)
lfn_of = reading("a name", name_of)
new_file_of = reading("a new file", _new_file)
new_replica_of = reading("a new replica", _new_replica)
new_link_of = reading("a new link", _new_link)
new_access_of = reading("a change of access", _new_access)
