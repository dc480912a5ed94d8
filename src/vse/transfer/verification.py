"""Is a file readable? Asked of processes apart, so that a broken file breaks no stager.

A reader that crashes, hangs or takes too much memory is a file that failed; the reader is replaced.
How far it looks is the setting ``stager.verify``: at ``checksum`` not at all (size and checksum have been
compared by then), at ``contents`` it opens the tree, counts entries and sees that baskets are where the
tree says, at ``baskets`` it decompresses each one. Files that are looked into: ``*.root``, ``*.zip``.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Protocol, cast

from vse.config.filters import Depth
from vse.errors import StorageFault, Unreadable
from vse.model import Closing, Contents, Lfn
from vse.transfer.abort import Abort

MEMORY_BYTES = 4 * 1024**3
"""Address space of a reader."""

Command = Sequence[str]
_KINDS = frozenset({"root", "zip"})
_START_S = 60.0
"""How long a reader's start may take: it loads much, on machines that are busy."""


def reader_command(memory_bytes: int = MEMORY_BYTES) -> Command:
    return (sys.executable, "-m", "vse.transfer.verifier", str(memory_bytes))


class Verifier(Protocol):
    """Says what a file holds, or that it cannot be read."""

    def check(
        self, lfn: Lfn, path: Path, tree: str, abort: Abort, depth: Depth | None = None
    ) -> Contents | None:
        """Return the contents of the file at ``path``; None for a kind of file that is not looked into.

        ``tree`` may be ``MEMBER#TREE`` for a member of a zip archive. ``depth`` takes the place of the
        usual one. Raises `Unreadable`, or what ``abort`` was fired with.
        """
        ...

    def warm(self) -> None:
        """Get ready in the background: files will come."""
        ...

    def close(self) -> None: ...


class NoVerifier:
    """Sizes and checksums are enough (setting ``verify = "checksum"``)."""

    def check(
        self, lfn: Lfn, path: Path, tree: str, abort: Abort, depth: Depth | None = None
    ) -> Contents | None:
        return None

    def warm(self) -> None:
        """Nothing to start."""

    def close(self) -> None:
        """Nothing to end."""


class Readers(Closing):
    """Up to ``count`` reader processes, started when first needed and kept; shared by all threads."""

    def __init__(
        self, count: int, timeout_s: float, command: Command | None = None, depth: Depth = "contents"
    ) -> None:
        """``timeout_s``: how long a reader may stay at one part of a file, such as a basket.

        A new one may take a minute more until it says that it is ready: that is no fault of the file.
        """
        self._timeout_s = timeout_s
        self._depth = depth
        self._command = command or reader_command()
        self._free: queue.LifoQueue[_Reader | None] = queue.LifoQueue()
        for _ in range(count):
            self._free.put(None)

    def warm(self) -> None:
        """Start a reader, unless one runs; it gets ready by itself."""
        if self._depth == "checksum":
            return
        try:
            reader = self._free.get_nowait()
        except queue.Empty:
            return
        self._free.put(reader or _Reader(self._command))

    def check(
        self, lfn: Lfn, path: Path, tree: str, abort: Abort, depth: Depth | None = None
    ) -> Contents | None:
        """See `Verifier.check`; what a file is is told by its name."""
        kind, depth = lfn.name.rpartition(".")[2], depth or self._depth
        if depth == "checksum" or kind not in _KINDS:
            return None
        member, _, plain = tree.rpartition("#")
        question = {
            "path": str(path),
            "kind": kind,
            "member": member,
            "tree": plain,
            "deep": depth == "baskets",
            "timeout_s": self._timeout_s,
        }
        reader = self._free.get()
        try:
            if reader is None or not reader.lives():
                if reader is not None:
                    reader.end()
                reader = _Reader(self._command)
            with abort.calls(reader.kill):
                answer = reader.ask(question)
            abort.check()
        finally:
            self._free.put(reader if reader and reader.lives() else None)
        if "error" in answer:
            raise Unreadable(
                f"use {lfn}",
                str(answer["error"]),
                "look at the copy at its source; another source may hold a good one",
            )
        return Contents(str(answer["tree"]), int(answer["entries"]))

    def close(self) -> None:
        """End the readers that are idle. The pool may be used again."""
        idle = []
        while True:
            try:
                idle.append(self._free.get_nowait())
            except queue.Empty:
                break
        for reader in idle:
            if reader is not None:
                reader.end()
            self._free.put(None)


class _Reader:
    """One reader process; used by one thread at a time, killed by any."""

    def __init__(self, command: Command) -> None:
        try:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            )
        except OSError as error:
            raise StorageFault("start a reader of ROOT files", error.strerror or str(error)) from error
        self._questions = cast(IO[bytes], self._process.stdin)
        self._answers = cast(IO[bytes], self._process.stdout)
        self._read = b""
        self._ready = False

    def lives(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        """End the process; whoever waits for its answer sees its output end."""
        self._process.kill()

    def end(self) -> None:
        """End the process and forget it. For the one thread that uses it."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._questions, self._answers):
            with contextlib.suppress(OSError):
                pipe.close()

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        """Return the reader's answer; where it gives none, what became of it as the error."""
        timeout_s = question["timeout_s"]
        try:
            os.write(self._questions.fileno(), (json.dumps(question) + "\n").encode())
            return self._answer(timeout_s)
        except TimeoutError:
            self.end()
            if not self._ready:
                return {"error": f"the reader did not get ready within {timeout_s + _START_S:g} s"}
            return {"error": f"the reader did not come to an end within {timeout_s:g} s"}
        except (OSError, ValueError):  # the process, or its pipe, is gone, or it talks nonsense
            self.end()
            return {"error": f"the reader {_ending(self._process.returncode)} on it"}

    def _answer(self, timeout_s: float) -> dict[str, Any]:
        """Return the first answer that is not a sign of life only; raise `ValueError` for the end."""
        while True:
            line = self._line(timeout_s if self._ready else timeout_s + _START_S)
            self._ready = True
            answer = json.loads(line)
            if answer:
                return dict(answer)

    def _line(self, timeout_s: float) -> bytes:
        """Return the next line, or what came before the end; raise `TimeoutError`."""
        handle = self._answers.fileno()
        until_s = time.monotonic() + timeout_s
        while b"\n" not in self._read:
            ready, _, _ = select.select([handle], [], [], max(0.0, until_s - time.monotonic()))
            if not ready:
                raise TimeoutError
            piece = os.read(handle, 65536)
            if not piece:
                break
            self._read += piece
        line, newline, self._read = self._read.partition(b"\n")
        return line + newline


def _ending(code: int | None) -> str:
    if code is not None and code < 0:
        try:
            return f"crashed ({signal.Signals(-code).name})"
        except ValueError:
            return f"crashed (signal {-code})"
    return f"ended (exit code {code})"
