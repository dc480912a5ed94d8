"""Answers from DIRAC's FileCatalog by DIRAC's client; run by the Python that has it, never imported.

Directories are listed several in one call, in the order of their names: memory does not grow with the
tree. The copies are those that DIRAC shows to jobs, by the URLs that its own rules give.
"""

from __future__ import annotations

import heapq
import json
import math
import sys
from collections.abc import Container, Iterable, Iterator
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any

from helper_wire import NO_CLIENT, Refused, answers_apart, serve  # type: ignore[import-not-found]

_AT_ONCE = 20
_NOT_THERE = ("no such file", "does not exist", "not found")
_DENIED = (
    "not authorized",
    "unauthorized",
    "permission denied",
    "access denied",
    "certificate",
    "proxy",
    "credentials",
)


class Calls:
    """What can be asked. Every list of names is one call to the service."""

    def __init__(self, client: Any, timeout_s: float) -> None:
        self._client = client
        self._timeout = max(1, math.ceil(timeout_s))

    def find(self, base: str, pattern: str) -> Iterator[dict[str, Any]]:
        waiting = [base]
        listed: dict[str, Any] = {}
        while waiting:
            if waiting[0] not in listed:
                listed.update(self._listed(heapq.nsmallest(_AT_ONCE, waiting), base, pattern))
                yield {"alive": True}
            directories, files, copies = listed.pop(heapq.heappop(waiting))
            for directory in directories:
                heapq.heappush(waiting, directory)
            for name in sorted(files):
                yield _file(name, files[name], copies.get(name, {}))

    def _listed(self, names: list[str], base: str, pattern: str) -> dict[str, Any]:
        """Return for each directory those in it, its files that match by name, and their copies."""
        answer = _value(self._client.listDirectory(names, True, timeout=self._timeout))
        found: dict[str, tuple[Iterable[str], dict[str, Any]]] = {}
        for name, content in answer["Successful"].items():
            files = {file: told["MetaData"] for file, told in content["Files"].items() if _is(file, pattern)}
            found[name] = (content["SubDirs"], files)
        for name, reason in answer["Failed"].items():
            _check_not_there(name, reason)
            # A directory that went away meanwhile holds nothing; a base may be a file.
            files = self._known([name]) if name == base and _is(name, pattern) else {}
            found[name] = ((), files)
        _check_all_told(names, found)
        copies = self._copies([file for _, files in found.values() for file in files])
        return {name: (*content, copies) for name, content in found.items()}

    def _known(self, names: list[str]) -> dict[str, Any]:
        """Return the metadata of those of ``names`` that are there."""
        answer = _value(self._client.getFileMetadata(names, timeout=self._timeout))
        for name, reason in answer["Failed"].items():
            _check_not_there(name, reason)
        _check_all_told(names, {**answer["Successful"], **answer["Failed"]})
        known: dict[str, Any] = answer["Successful"]
        return known

    def _copies(self, names: list[str]) -> dict[str, Any]:
        """Return the URLs of copies by storage element, of the files that have any."""
        if not names:
            return {}
        answer = _value(self._client.getReplicas(names, timeout=self._timeout))
        for name, reason in answer["Failed"].items():
            if "replica" not in reason.lower():
                _check_not_there(name, reason)
        _check_all_told(names, {**answer["Successful"], **answer["Failed"]})
        copies: dict[str, Any] = answer["Successful"]
        return copies

    def resolve(self, names: list[str]) -> Iterator[dict[str, Any]]:
        known = self._known(names)
        copies = self._copies(list(known))
        for name in names:
            if name in known:
                yield _file(name, known[name], copies.get(name, {}))
            else:
                yield {"missing": name}


def _value(answer: Any) -> Any:
    if answer["OK"]:
        return answer["Value"]
    raise _refused(answer["Message"])


def _refused(text: str) -> Refused:
    low = text.lower()
    return Refused("denied" if any(word in low for word in _DENIED) else "unavailable", text)


def _is(name: str, pattern: str) -> bool:
    return fnmatchcase(name.rpartition("/")[2], pattern)


def _check_not_there(name: str, reason: str) -> None:
    """Raise unless the service says that there is no such name."""
    if not any(words in reason.lower() for words in _NOT_THERE):
        raise _refused(f"{name}: {reason}")


def _check_all_told(names: list[str], told: Container[str]) -> None:
    silent = [name for name in names if name not in told]
    if silent:
        raise Refused("garbage", f"it said nothing of {len(silent)} names, such as {silent[0]}")


def _file(name: str, known: dict[str, Any], copies: dict[str, Any]) -> dict[str, Any]:
    kind = str(known.get("ChecksumType") or known.get("CheckSumType") or "").lower()
    checksum = str(known.get("Checksum") or "").lower()
    guid = str(known.get("GUID") or "").replace("-", "").lower()
    # A PFN that is the LFN says: as the storage element's own settings have it.
    replicas = [[se, None if pfn in ("", name) else pfn, "available"] for se, pfn in sorted(copies.items())]
    told = {
        "name": name,
        "size_bytes": int(known["Size"]),
        "adler32": checksum.zfill(8) if kind == "adler32" and checksum else None,
        "guid": guid if len(guid) == 32 else None,
        "owner": known.get("Owner") or "root",
        "group": known.get("OwnerGroup") or "root",
        "mode": int(known.get("Mode", 0o644)),
        "created_s": _seconds(known.get("CreationDate")),
        "modified_s": _seconds(known.get("ModificationDate")),
        "replicas": replicas,
    }
    return {"file": told}


def _seconds(moment: Any) -> float:
    """DIRAC's times are UTC and do not say so."""
    if not isinstance(moment, datetime):
        return 0.0
    return moment.replace(tzinfo=UTC).timestamp()


def main() -> None:
    given = json.loads(sys.argv[1])
    sys.argv = sys.argv[:1]  # DIRAC reads the command line, too
    answers = answers_apart()
    try:
        from DIRAC.Core.Base.Script import Script  # type: ignore[import-not-found]
        from DIRAC.Resources.Catalog.FileCatalogClient import FileCatalogClient  # type: ignore[import-not-found]
    except ImportError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(NO_CLIENT)
    Script.localCfg.loadUserData()
    calls = Calls(FileCatalogClient(given["url"]), given["timeout_s"])
    serve(answers, {"find": calls.find, "resolve": calls.resolve})


if __name__ == "__main__":
    main()
