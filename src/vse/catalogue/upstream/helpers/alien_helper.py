"""Answers from JAliEn by ``alienpy``; run by the Python that has it, never imported.

Three of JAliEn's commands are used: ``find -f`` (every field of an entry), ``stat`` (many names in one
message) and ``whereis -r`` (the copies of one file, those of a member of an archive being the archive's),
the last sent many at a time on one connection.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import urlsplit

from helper_wire import NO_CLIENT, Refused, answers_apart, serve  # type: ignore[import-not-found]

_PAGE = 10_000
_WHEREIS_AT_ONCE = 200
_STAT_AT_ONCE = 200
_PORT = 8097
_NOT_THERE = (errno.ENOENT, errno.ENOTDIR)
_DENIED = (errno.EACCES, errno.EPERM)
_NOT_REGISTERED = 129
_NO_ANSWER = (22, 42)
"""How alienpy says that it got no JSON, or none of JAliEn."""


class Calls:
    """What can be asked; ``alien`` is connected at the first question."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._connection: Any = None

    def _send(self, *words: str) -> Any:
        """Run one command; return its results. Raises `Refused` as (exit code, words)."""
        if self._connection is None:
            try:
                self._connection = self._client.InitConnection()
            except SystemExit as end:  # how alienpy says that it cannot connect
                kind = "denied" if end.code == _NOT_REGISTERED else "unavailable"
                raise Refused(kind, f"it cannot connect, and ended with {end.code}") from end
        return self._client.SendMsg(self._connection, words[0], list(words[1:]), opts="nomsg")

    def find(self, base: str, pattern: str) -> Iterator[dict[str, Any]]:
        offset = 0
        while True:
            page = ["-l", str(_PAGE), "-o", str(offset)]
            answer = self._send("find", "-a", "-f", *page, base, _superset(pattern))
            if answer.exitcode in _NOT_THERE and not offset:
                yield from self._alone(base, pattern)
                return
            entries = [entry for entry in _results(answer) if entry.get("lfn")]
            wanted = [
                entry
                for entry in entries
                if entry.get("type", "f") == "f" and fnmatchcase(entry["lfn"].rpartition("/")[2], pattern)
            ]
            yield from self._with_copies(wanted)
            yield {"alive": True}
            if len(entries) < _PAGE:
                return
            offset += _PAGE

    def _alone(self, base: str, pattern: str) -> Iterator[dict[str, Any]]:
        for message in self.resolve([base]):
            if "file" in message and fnmatchcase(base.rpartition("/")[2], pattern):
                yield message

    def resolve(self, names: list[str]) -> Iterator[dict[str, Any]]:
        for start in range(0, len(names), _STAT_AT_ONCE):
            some = names[start : start + _STAT_AT_ONCE]
            answer = self._send("stat", *some)
            # One name that is not there makes the exit code of all; the others are answered still.
            results = _results(answer, _NOT_THERE)
            files = {entry["lfn"]: entry for entry in results if entry.get("type") == "f"}
            yield from self._with_copies([files[name] for name in some if name in files])
            for name in some:
                if name not in files:
                    yield {"missing": name}

    def _with_copies(self, entries: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for start in range(0, len(entries), _WHEREIS_AT_ONCE):
            some = entries[start : start + _WHEREIS_AT_ONCE]
            commands = [
                json.dumps({"command": "whereis", "options": ["-nomsg", "-r", entry["lfn"]]})
                for entry in some
            ]
            answers = self._client.SendMsgMulti(self._connection, commands)
            yield {"alive": True}
            if len(answers) != len(some):
                raise Refused("unavailable", "it did not answer every whereis")
            for entry, answer in zip(some, answers, strict=True):
                yield _file(entry, _results(answer, (*_NOT_THERE, errno.ENOLINK)))


def _superset(pattern: str) -> str:
    """Return a pattern that JAliEn, which compares more than the last part, cannot match less with."""
    if set(pattern) & set("?[]%"):
        return "*"
    return pattern if pattern.startswith("*") else f"*{pattern}"


def _results(answer: Any, allowed: tuple[int, ...] = ()) -> list[dict[str, Any]]:
    code = answer.exitcode
    if code and code not in allowed:
        kind = "denied" if code in _DENIED else "unavailable"
        if not answer.ansdict and code in _NO_ANSWER:
            kind = "garbage"
        raise Refused(kind, f"{answer.err or answer.out or 'no reason given'} ({code})")
    if not isinstance(answer.ansdict, dict) or not isinstance(answer.ansdict.get("results"), list):
        raise Refused("garbage", "its answer has no results")
    return list(answer.ansdict["results"])


def _file(entry: dict[str, Any], copies: list[dict[str, Any]]) -> dict[str, Any]:
    guid = str(entry.get("guid") or "").replace("-", "").lower()
    told = {
        "name": entry["lfn"],
        "size_bytes": int(entry["size"]),
        "adler32": None,  # AliEn keeps MD5 sums
        "guid": guid if len(guid) == 32 else None,
        "owner": entry.get("owner") or "root",
        "group": entry.get("gowner") or "root",
        "mode": int(entry.get("perm") or "644", 8),
        "created_s": int(entry.get("ctime") or 0) / 1000,
        "modified_s": int(entry.get("ctime") or 0) / 1000,
        "replicas": sorted(
            [copy["seName"], copy["pfn"], "available"]
            for copy in copies
            if copy.get("pfn") and copy.get("seName") not in (None, "Unknown", "ArchiveMember")
        ),
    }
    return {"file": told}


def _point_at(url: str) -> None:
    """Tell alienpy, by its environment, which endpoint to use."""
    parts = urlsplit(url if "//" in url else f"//{url}")
    if parts.hostname:
        os.environ["ALIENPY_JCENTRAL"] = parts.hostname
        os.environ["ALIENPY_JCENTRAL_PORT"] = str(parts.port or _PORT)
    os.environ.setdefault("ALIENPY_CONNECT_TRIES", "1")


def main() -> None:
    given = json.loads(sys.argv[1])
    sys.argv = sys.argv[:1]
    answers = answers_apart()
    _point_at(given["url"])
    try:
        from alienpy import wb_api  # type: ignore[import-not-found]
    except (ImportError, SystemExit) as error:  # it exits where a package of its own is missing
        sys.stderr.write(f"{error}\n")
        sys.exit(NO_CLIENT)
    calls = Calls(wb_api)
    serve(answers, {"find": calls.find, "resolve": calls.resolve})


if __name__ == "__main__":
    main()
