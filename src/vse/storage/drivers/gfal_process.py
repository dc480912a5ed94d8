"""Calls to gfal2 in helper processes: a call that makes no progress ends its process, not ours."""

from __future__ import annotations

import errno
import json
import os
import re
import select
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from vse import errors
from vse.storage.contract import Note
from vse.storage.drivers.os_errors import KINDS

_PYTHON = "/usr/bin/python3"
_HELPER = Path(__file__).with_name("gfal_helper.py")
_KEPT = 4
_GRACE_S = 2.0
_GRIDFTP = re.compile(r"GridFTP-Errno: (\d+)|responded with an error 530\b")
_ASKING = ("stat", "children", "read", "checksum", "status")
"""Calls that change nothing, and so may be made again where their process crashed under them."""
_ATTEMPTS = 3


class _Crashed(errors.SourceUnavailable):
    """A helper was ended by a signal: a fault of gfal2 or of a plugin of its."""


_KINDS: dict[int, type[errors.VseError]] = {
    **KINDS,
    errno.ECANCELED: errors.Stalled,
    errno.ECONNREFUSED: errors.SourceUnavailable,
    errno.ECONNRESET: errors.SourceUnavailable,
    errno.EHOSTUNREACH: errors.SourceUnavailable,
    errno.EHOSTDOWN: errors.SourceUnavailable,
    errno.ENETUNREACH: errors.SourceUnavailable,
    errno.ECOMM: errors.SourceUnavailable,
    errno.EPROTONOSUPPORT: errors.Unsupported,
    errno.ENOSYS: errors.Unsupported,
    errno.ENOTSUP: errors.Unsupported,
}
_PLUGIN = "install the gfal2 plugin of the protocol (Debian: gfal2-plugin-...)"
_TODO: dict[type[errors.VseError], str] = {
    errors.Denied: "check the proxy certificate or token that gfal2 finds in the environment",
    errors.StorageFull: "make room there, or send files to another storage element",
}


def error_of(wanted: str, number: int, text: str) -> errors.VseError:
    """Return the error that gfal2 tells of by an errno and its own words.

    Of GridFTP servers it knows less than they say: their own errno stands in the text, or FTP's number.
    """
    if number == errno.ECOMM:
        said = _GRIDFTP.search(text)
        number = number if said is None else int(said[1] or errno.EACCES)
    found = " ".join(text.split())[:300] or os.strerror(number)
    kind = _KINDS.get(number, errors.ServerFault)
    if "read-only file system" in found.lower():  # a copy's error has no number for it
        kind = errors.Denied
    todo = _PLUGIN if number == errno.EPROTONOSUPPORT else _TODO.get(kind, "")
    return kind(wanted, f"gfal2 says: {found}", todo)


class _Process:
    """One helper, for one call at a time."""

    def __init__(self, wanted: str) -> None:
        try:
            self._process = subprocess.Popen(
                [_PYTHON, "-E", str(_HELPER)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        except OSError as error:
            raise errors.BadSettings(wanted, f"{_PYTHON} cannot be run", "install python3") from error
        self._buffer = b""

    def ask(self, question: dict[str, Any], wanted: str, no_progress_s: float, note: Note | None) -> Any:
        """Return the answer; raise `Stalled` where nothing comes for so long."""
        stdin = self._process.stdin
        try:
            if stdin is not None:
                stdin.write(json.dumps(question).encode() + b"\n")
                stdin.flush()
        except OSError:
            raise self._ended(wanted) from None
        while True:
            answer = json.loads(self._line(wanted, no_progress_s))
            if "done_bytes" not in answer:
                break
            if note is not None:
                note(int(answer["done_bytes"]))
        if "ok" in answer:
            return answer["ok"]
        raise error_of(wanted, int(answer["errno"]), str(answer["error"]))

    def _line(self, wanted: str, no_progress_s: float) -> bytes:
        stdout = self._process.stdout
        descriptor = stdout.fileno() if stdout is not None else -1
        until_s = time.monotonic() + no_progress_s
        while b"\n" not in self._buffer:
            left_s = max(0.0, until_s - time.monotonic())
            if not select.select([descriptor], [], [], left_s)[0]:
                raise errors.Stalled(wanted, f"gfal2 gave no sign of progress for {no_progress_s:g} s")
            data = os.read(descriptor, 1 << 20)
            if not data:
                raise self._ended(wanted)
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _ended(self, wanted: str) -> errors.VseError:
        self._process.wait(_GRACE_S)
        if self._process.returncode == 1:
            todo = "install Debian's python3-gfal2 and the gfal2 plugins of the protocols in use"
            return errors.BadSettings(wanted, f"gfal2 cannot be imported by {_PYTHON}", todo)
        return _Crashed(wanted, f"the gfal2 process ended ({self._process.returncode})")

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def end(self) -> None:
        """TERM, then KILL."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                try:
                    stream.close()
                except OSError:
                    continue  # it had ended with a question in the pipe
        self._process.terminate()
        try:
            self._process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class GfalCalls:
    """A few helpers, started when needed; safe to share between threads."""

    def __init__(self, no_progress_s: float) -> None:
        self._no_progress_s = no_progress_s
        self._lock = threading.Lock()
        self._idle: list[_Process] = []

    def ask(self, wanted: str, call: str, *, note: Note | None = None, **arguments: Any) -> Any:
        """Make one call. After anything but an answer its process is ended; an error is an answer."""
        for _ in range(_ATTEMPTS - 1 if call in _ASKING else 0):
            with suppress(_Crashed):
                return self._ask(wanted, {"call": call, **arguments}, note)
        return self._ask(wanted, {"call": call, **arguments}, note)

    def _ask(self, wanted: str, question: dict[str, Any], note: Note | None) -> Any:
        process = self._taken() or _Process(wanted)
        answered = False
        try:
            answer = process.ask(question, wanted, self._no_progress_s, note)
            answered = True
        except errors.VseError as error:
            answered = error.found.startswith("gfal2 says")
            raise
        finally:
            self._give_back(process, answered)
        return answer

    def _taken(self) -> _Process | None:
        """Return an idle helper that lives still."""
        while True:
            with self._lock:
                process = self._idle.pop() if self._idle else None
            if process is None or process.is_alive:
                return process
            process.end()

    def _give_back(self, process: _Process, answered: bool) -> None:
        with self._lock:
            keep = answered and len(self._idle) < _KEPT
            if keep:
                self._idle.append(process)
        if not keep:
            process.end()

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for process in idle:
            process.end()
