"""Speaks gfal2 for the gfal driver, in a process of its own, run by the system's Python (which has gfal2).

Plain standard library and gfal2's binding; nothing of VSE is imported. One JSON object a line comes in,
``{"call", ...}``; one goes out, ``{"ok"}`` or ``{"errno", "error"}``, and during a copy any number of
``{"done_bytes"}`` before it. The end of the input ends the process.
"""

from __future__ import annotations

import base64
import errno
import json
import os
import stat
import sys
import time
from typing import Any

import gfal2  # type: ignore[import-not-found]

_OPEN_FILES = 8
_TELL_S = 0.5


class Calls:
    """Every public method is a call."""

    def __init__(self) -> None:
        self._context = gfal2.creat_context()
        self._files: dict[str, Any] = {}
        self._lost: list[Any] = []

    def stat(self, url: str) -> list[Any]:
        """Return ``[is a directory, size in bytes, time of change in Unix seconds]``."""
        return _described(self._context.stat(url))

    def children(self, url: str) -> list[list[Any]]:
        """Return ``[name, is a directory, size, time]`` of each child; the last three None if not told."""
        directory = self._context.opendir(url)
        found: list[list[Any]] = []
        while True:
            entry, status = directory.readpp()
            if entry is None or not entry.d_name:
                return found
            if entry.d_name not in (".", ".."):
                found.append([entry.d_name, *(_described(status) if status.st_mode else [None] * 3)])

    def read(self, url: str, ranges: list[list[int]]) -> list[str]:
        """Return the bytes of each ``[offset, size]`` in base64."""
        file = self._files.pop(url, None) or self._context.open(url, "r")
        pieces: list[str] = []
        told_s = time.monotonic()
        for one in ranges:
            if time.monotonic() - told_s > _TELL_S:  # many ranges may take long: a sign of life
                told_s = time.monotonic()
                _say({"done_bytes": 0})
            try:
                piece = _read(file, *one)
            except gfal2.GError:  # GridFTP's plugin now and then loses the state of an open file
                self._lost.append(file)  # to close it would crash the plugin
                file = self._context.open(url, "r")
                piece = _read(file, *one)
            pieces.append(base64.b64encode(piece).decode("ascii"))
        self._files[url] = file
        while len(self._files) > _OPEN_FILES:
            self._files.pop(next(iter(self._files)))
        return pieces

    def let_go(self, url: str) -> None:
        """Close a file that `read` keeps open."""
        self._files.pop(url, None)

    def checksum(self, url: str, algorithm: str) -> str:
        return str(self._context.checksum(url, algorithm))

    def unlink(self, url: str) -> None:
        self._context.unlink(url)

    def rmdir(self, url: str) -> None:
        self._context.rmdir(url)

    def mkdir(self, url: str) -> None:
        self._context.mkdir_rec(url, 0o755)

    def rename(self, source: str, target: str) -> None:
        self._context.rename(source, target)

    def copy(self, source: str, target: str, timeout_s: int) -> None:
        """Copy; two servers do it between them, if they can, and this machine is never in between them."""
        parameters = self._context.transfer_parameters()
        parameters.overwrite = False
        parameters.create_parent = True
        parameters.timeout = timeout_s
        parameters.monitor_callback = _monitor
        third_party = not source.startswith("file:") and not target.startswith("file:")
        self._context.set_opt_boolean("HTTP PLUGIN", "ENABLE_STREAM_COPY", not third_party)
        self._context.filecopy(parameters, source, target)

    def bring_online(self, urls: list[str], lifetime_s: int, timeout_s: int) -> list[Any]:
        """Return ``[failures, token]``, a failure being ``[errno, text]``, or None where there is none."""
        failures, token = self._context.bring_online(urls, lifetime_s, timeout_s, True)
        return [[_failure(one) for one in failures], str(token)]

    def release(self, urls: list[str]) -> list[Any]:
        """Return ``[failures, ""]``, see `bring_online`."""
        return [[_failure(one) for one in self._context.release(urls)], ""]

    def status(self, url: str) -> str:
        """Return where a file is: ``ONLINE``, ``NEARLINE``, ``ONLINE_AND_NEARLINE``, ``LOST``, ..."""
        return str(self._context.getxattr(url, "user.status")).strip("\0 \n")


def _failure(error: Any) -> list[Any] | None:
    return None if error is None else [int(error.code), str(error.message)]


def _monitor(_source: str, _target: str, _rate: int, _now_rate: int, done_bytes: int, _s: int) -> None:
    _say({"done_bytes": int(done_bytes)})


def _described(status: Any) -> list[Any]:
    return [stat.S_ISDIR(status.st_mode), int(status.st_size), float(status.st_mtime)]


def _read(file: Any, offset: int, size_bytes: int) -> bytes:
    pieces: list[bytes] = []
    while size_bytes:
        piece = bytes(file.pread_bytes(offset, size_bytes))
        if not piece:
            break
        pieces.append(piece)
        offset += len(piece)
        size_bytes -= len(piece)
    return b"".join(pieces)


def _answer(calls: Calls, line: str) -> dict[str, Any]:
    asked = json.loads(line)
    try:
        return {"ok": getattr(calls, asked.pop("call"))(**asked)}
    except gfal2.GError as error:
        return {"errno": int(error.code), "error": str(error.message)}
    except Exception as error:
        return {"errno": errno.EIO, "error": f"{type(error).__name__}: {error}"}


def _say(what: dict[str, Any]) -> None:
    _OUT.write(json.dumps(what) + "\n")
    _OUT.flush()


if __name__ == "__main__":
    # What the libraries print themselves must not come between the lines.
    _OUT = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    served = Calls()
    for one in sys.stdin:
        _say(_answer(served, one))
    # Some plugins (GridFTP's) crash where an open file is closed: the system drops what is left.
    os._exit(0)
