"""Catalogues whose own client is a Python package that we keep apart: it runs in a helper process.

The helper is a script that needs nothing of VSE, run by the Python that has the client (settings
``python``, ``environment``). It is asked and answers in lines of JSON on its standard input and output::

    {"call": "find", "base": "/lhc", "pattern": "*.root"}      {"call": "resolve", "names": [...]}
    {"file": {name, size_bytes, adler32, guid, owner, group, mode, created_s, modified_s, replicas}}
    {"missing": name}    {"alive": true}    {"end": how many files}
    {"error": denied | unavailable | garbage, "text": ...}

``replicas`` is a list of ``[storage element, URL or null, state]``. An answer without its end line is no
answer. A helper says ``alive`` once when its client is loaded, for which it has a minute at least; one that
says nothing for ``timeout_s`` after that is ended, not waited for.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from typing import IO, Any

from vse.config.upstreams import UpstreamSettings
from vse.errors import BadSettings, Denied, NoSuchEntry, UpstreamGarbage, UpstreamUnavailable, VseError
from vse.model import BulkResult, Entry, Lfn, Located, Replica, ReplicaState

_KEPT = 2
_GRACE_S = 2.0
_LOADING_S = 60.0
_READ_BYTES = 1 << 20
_MAX_LINE_BYTES = 4 * 1024 * 1024
_NO_CLIENT = 3
_HEX8, _HEX32 = re.compile(r"[0-9a-f]{8}"), re.compile(r"[0-9a-f]{32}")
_KINDS: dict[str, type[VseError]] = {
    "denied": Denied,
    "unavailable": UpstreamUnavailable,
    "garbage": UpstreamGarbage,
}
_KEYS = {
    "name",
    "size_bytes",
    "adler32",
    "guid",
    "owner",
    "group",
    "mode",
    "created_s",
    "modified_s",
    "replicas",
}


class HelperUpstream:
    """`vse.catalogue.port.Upstream` through a helper. Safe to share between threads.

    ``script`` is the helper's file, ``package`` what must be installed for it, for messages. Helpers are
    started when needed and a few are kept, each with its connection.
    """

    def __init__(self, settings: UpstreamSettings, script: Path, package: str) -> None:
        self.name = settings.name
        self._settings = settings
        self._script = script
        self._package = package
        self._lock = threading.Lock()
        self._idle: list[_Process] = []

    def find(self, base: Lfn, pattern: str) -> Iterator[Located]:
        """Yield every file under ``base`` that matches; memory does not grow with the answer."""
        wanted = f"find {pattern!r} under {base} at the upstream {self.name!r}"
        for key, value in self._answers({"call": "find", "base": base, "pattern": pattern}, wanted):
            if key != "file":
                raise _garbage(wanted, f"its helper sent {key!r}")
            located = self._located(value, wanted)
            lfn = located.entry.lfn
            if not lfn.is_below(base) or not fnmatchcase(lfn.name, pattern):
                raise _garbage(wanted, f"it told of {lfn}, which was not asked for")
            yield located

    def resolve(self, lfns: Sequence[Lfn]) -> BulkResult[Located]:
        """Return each file with its replicas, `NoSuchEntry` for each that is not there."""
        result: BulkResult[Located] = BulkResult()
        names = iter(dict.fromkeys(lfns))
        while batch := list(islice(names, self._settings.batch)):
            wanted = f"look up {len(batch)} names at the upstream {self.name!r}"
            for key, value in self._answers({"call": "resolve", "names": batch}, wanted):
                if key == "file":
                    located = self._located(value, wanted)
                    result.ok[located.entry.lfn] = located
                else:
                    error = NoSuchEntry(
                        f"find {value} at the upstream {self.name!r}", "there is no such file"
                    )
                    result.failed[str(value)] = error
        return result

    def close(self) -> None:
        """End the helpers."""
        with self._lock:
            idle, self._idle = self._idle, []
        for process in idle:
            process.end()

    def _answers(self, question: dict[str, Any], wanted: str) -> Iterator[tuple[str, Any]]:
        """Yield ("file", {...}) and ("missing", name); the helper is kept only if its answer was whole."""
        with self._lock:
            process = self._idle.pop() if self._idle else None
        if process is None:
            process = _Process(self._settings, self._script, self._package, wanted)
        whole = False
        try:
            process.ask(question, wanted)
            count = 0
            for key, value in process.messages(wanted):
                if key == "end":
                    if value != count:
                        raise _garbage(wanted, f"its end counts {value!r} files, {count} came")
                    whole = True
                    return
                if key == "error":
                    whole = value["kind"] == "garbage"
                    todo = "check the credentials of the client" if value["kind"] == "denied" else ""
                    kind = _KINDS.get(value["kind"], UpstreamUnavailable)
                    raise kind(wanted, f"{self._package} says: {value['text']}", todo)
                count += key == "file"
                yield key, value
        finally:
            self._give_back(process, whole)

    def _give_back(self, process: _Process, whole: bool) -> None:
        with self._lock:
            keep = whole and len(self._idle) < _KEPT
            if keep:
                self._idle.append(process)
        if not keep:
            process.end()

    def _located(self, value: object, wanted: str) -> Located:
        try:
            return _located(value, self.name)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise _garbage(wanted, f"what it told of a file cannot be right ({error})") from error


class _Process:
    """One helper, for one call at a time."""

    def __init__(self, settings: UpstreamSettings, script: Path, package: str, wanted: str) -> None:
        python = settings.python or sys.executable
        self._timeout_s = settings.timeout_s
        self._silence_s = max(settings.timeout_s, _LOADING_S)
        self._package = package
        self._python = python
        self._section = f"upstreams.{settings.name}"
        self._words = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the helper
        given = {"url": settings.url, "timeout_s": settings.timeout_s, "vo": settings.vo}
        try:
            self._process = subprocess.Popen(
                [python, str(script), json.dumps(given)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._words,
                env={**os.environ, **settings.environment},
            )
        except OSError as error:
            self._words.close()
            todo = f"set {self._section}.python to the Python that has {package}"
            raise BadSettings(wanted, f"{python} cannot be run ({error.strerror})", todo) from error
        self._buffer = b""

    def ask(self, question: dict[str, Any], wanted: str) -> None:
        try:
            stdin = _pipe(self._process.stdin)
            stdin.write(json.dumps(question).encode() + b"\n")
            stdin.flush()
        except OSError:
            raise self._ended(wanted) from None

    def messages(self, wanted: str) -> Iterator[tuple[str, Any]]:
        """Yield each message as its key and value; raises where the helper ends or is silent."""
        while True:
            line = self._line(wanted)
            try:
                message = json.loads(line)
                if "error" in message:
                    yield "error", {"kind": str(message["error"]), "text": str(message["text"])[:300]}
                    return
                ((key, value),) = message.items()
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise _garbage(wanted, f"its helper sent {line[:60]!r}") from error
            if key != "alive":
                yield key, value
            if key == "end":
                return

    def _line(self, wanted: str) -> bytes:
        descriptor = _pipe(self._process.stdout).fileno()
        until_s = time.monotonic() + self._silence_s
        while b"\n" not in self._buffer:
            left_s = max(0.0, until_s - time.monotonic())
            if not select.select([descriptor], [], [], left_s)[0]:
                raise UpstreamUnavailable(
                    wanted, f"it was silent for {self._silence_s:g} s", "try again later"
                )
            data = os.read(descriptor, _READ_BYTES)
            if not data:
                raise self._ended(wanted)
            self._buffer += data
            if len(self._buffer) > _MAX_LINE_BYTES and b"\n" not in self._buffer:
                raise _garbage(wanted, f"its helper sent a line of more than {_MAX_LINE_BYTES} bytes")
        line, _, self._buffer = self._buffer.partition(b"\n")
        self._silence_s = self._timeout_s
        return line

    def _ended(self, wanted: str) -> VseError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE_S)
        code = self._process.returncode
        said = self._said()
        if code == _NO_CLIENT:
            todo = f"set {self._section}.python to the Python that has it"
            found = f"{self._package} cannot be imported by {self._python} ({said})"
            return BadSettings(wanted, found, todo)
        return UpstreamUnavailable(wanted, f"its helper ended ({code}){': ' if said else ''}{said}")

    def _said(self) -> str:
        """Return the last line that the helper wrote for people."""
        self._words.seek(0)
        lines = self._words.read()[-4096:].decode("utf-8", "replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")[:300]

    def end(self) -> None:
        """TERM, then KILL."""
        with contextlib.suppress(OSError):
            _pipe(self._process.stdin).close()
        self._process.terminate()
        try:
            self._process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        _pipe(self._process.stdout).close()
        self._words.close()


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None  # noqa: S101  # every helper has both
    return stream


def _located(value: Any, origin: str) -> Located:
    if set(value) != _KEYS:
        raise ValueError("its keys are not those of a file")
    lfn = Lfn.parse(value["name"])
    size_bytes, mode = value["size_bytes"], value["mode"]
    if lfn != value["name"] or type(size_bytes) is not int or size_bytes < 0 or type(mode) is not int:
        raise ValueError(f"of {str(value['name'])[:100]}: name, size or mode")
    adler32, guid = value["adler32"], value["guid"]
    if (adler32 and not _HEX8.fullmatch(adler32)) or (guid and not _HEX32.fullmatch(guid)):
        raise ValueError(f"of {lfn}: checksum {adler32!r} or GUID {guid!r}")
    entry = Entry(
        lfn=lfn,
        kind="file",
        size_bytes=size_bytes,
        adler32=int(adler32, 16) if adler32 else None,
        guid=bytes.fromhex(guid) if guid else None,
        owner=str(value["owner"]),
        group=str(value["group"]),
        mode=mode & 0o7777,
        created_s=float(value["created_s"]),
        modified_s=float(value["modified_s"]),
    )
    replicas = (
        Replica(lfn, str(se), None if url is None else str(url), ReplicaState(state), None, origin)
        for se, url, state in value["replicas"]
    )
    return Located(entry, tuple(sorted(replicas, key=lambda replica: replica.se)))


def _garbage(wanted: str, found: str) -> UpstreamGarbage:
    return UpstreamGarbage(wanted, found, "what it told before is kept; look at it with its administrator")
