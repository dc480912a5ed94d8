"""Files on tape behind an XRootD server: prepare, and what it and the states of files tell.

Servers of tape (CTA, EOS, and whatever else stands behind ``ofs.preplib``) answer ``query prepare`` with a
JSON document; of others the flag 'offline' of a file tells. A server without tape has nothing to bring:
it says yes to a request, and its files are on disk.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from vse.errors import NoSuchFile, ServerFault, SourceUnavailable, VseError
from vse.model import BulkResult
from vse.storage.contract import Locality
from vse.storage.drivers.in_bulk import each
from vse.storage.drivers.xroot_names import XrootNames

_AT_ONCE = 8
_MOST_PATHS = 500
"""How many files one request names; servers refuse or cut longer ones."""
_ANY_REQUEST = "*"
_NO_REQUEST = "0"


class _Told(NamedTuple):
    """What a server says of one path: ``error`` where it is not on its way for a reason."""

    locality: Locality | None
    error: str


def stage(names: XrootNames, paths: Sequence[str]) -> BulkResult[str]:
    """Ask for files to be brought to disk; return the request's number for each."""
    wanted = f"have {len(paths)} files brought to disk at {names.server_url}"
    return _prepared(names, paths, names.flags.PrepareFlags.STAGE, wanted)


def release(names: XrootNames, paths: Sequence[str]) -> BulkResult[None]:
    """Tell that files need not stay on disk."""
    wanted = f"have {len(paths)} files released at {names.server_url}"
    done = _prepared(names, paths, names.flags.PrepareFlags.EVICT, wanted)
    return BulkResult(dict.fromkeys(done.ok), done.failed)


def _prepared(names: XrootNames, paths: Sequence[str], flags: Any, wanted: str) -> BulkResult[str]:
    """Send a prepare for many; one that is refused is sent for each path, so that only some fail."""
    named = each(paths, names.check)
    result: BulkResult[str] = BulkResult(failed=dict(named.failed))
    whole = list(named.ok)
    for start in range(0, len(whole), _MOST_PATHS):
        some = whole[start : start + _MOST_PATHS]
        try:
            result.ok.update(dict.fromkeys(some, _prepare(names, some, flags, wanted)))
        except VseError as error:
            if len(some) == 1:
                result.failed[some[0]] = error
                continue
            alone = each(some, lambda path: _prepare(names, [path], flags, wanted), at_once=_AT_ONCE)
            result.ok.update(alone.ok)
            result.failed.update(alone.failed)
    return result


def _prepare(names: XrootNames, paths: Sequence[str], flags: Any, wanted: str) -> str:
    answer = names.ask(wanted, names.files.prepare, list(paths), flags)
    return _text(answer) or _NO_REQUEST


def poll(names: XrootNames, paths: Sequence[str]) -> BulkResult[Locality]:
    """Return where the bytes of each file are: by ``query prepare`` where it is understood, else by stat."""
    wanted = f"ask where {len(paths)} files are at {names.server_url}"
    named = each(paths, names.check)
    result: BulkResult[Locality] = BulkResult(failed=dict(named.failed))
    whole = list(named.ok)
    for start in range(0, len(whole), _MOST_PATHS):
        some = whole[start : start + _MOST_PATHS]
        told = _queried(names, some, wanted)
        for path in some:
            found = told.get(path)
            if found is not None and found.locality is not None:
                result.ok[path] = found.locality
            elif found is not None:
                kind = ServerFault if found.error else NoSuchFile
                text = f"the server says: {found.error}" if found.error else "the server does not know it"
                result.failed[path] = kind(f"bring {names.raw_url(path)} to disk", text)
        looked = each([path for path in some if path not in told], lambda path: _by_stat(names, path))
        result.ok.update(looked.ok)
        result.failed.update(looked.failed)
    return result


def _queried(names: XrootNames, paths: Sequence[str], wanted: str) -> dict[str, _Told]:
    """Ask for the state of requests; empty from a server that has no JSON to give."""
    question = "\n".join((_ANY_REQUEST, *paths))
    code = names.flags.QueryCode.PREPARE
    try:
        answer = names.ask(wanted, names.files.query, code, question)
    except SourceUnavailable:
        raise
    except VseError:
        return {}
    try:
        responses = json.loads(_text(answer))["responses"]
        return {str(one["path"]): _read(one) for one in responses}
    except (ValueError, KeyError, TypeError):
        return {}


def _read(one: dict[str, Any]) -> _Told:
    """Read one response; the words are those of EOS and CTA (XrdOfsPrep, ``query prepare``)."""
    error = str(one.get("error_text") or "")
    if not one["path_exists"]:
        return _Told(None, "")
    if one["online"]:
        return _Told(Locality.DISK_AND_TAPE if one["on_tape"] else Locality.DISK, "")
    if error:
        return _Told(None, error)
    return _Told(Locality.TAPE if one["on_tape"] else Locality.LOST, "")


def _by_stat(names: XrootNames, path: str) -> Locality:
    wanted = f"ask where {names.raw_url(path)} is"
    flags, found = names.flags.StatInfoFlags, names.described(path, wanted).flags
    if found & flags.OFFLINE:
        return Locality.TAPE
    return Locality.DISK_AND_TAPE if found & flags.BACKUP_EXISTS else Locality.DISK


def _text(answer: Any) -> str:
    """Return an answer's text: it ends at the first zero byte, what stands behind is left over."""
    text: str = bytes(answer or b"").partition(b"\0")[0].decode("utf-8", "replace").strip()
    return text
