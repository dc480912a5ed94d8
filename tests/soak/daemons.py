"""Daemons without the second that each spends on imports: forked from a process that has made them.

So a kill meets a daemon at work, not one that reads its modules. All else is as with `vse serve stager`:
a process of its own, its own threads, connections and files.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from vse.cli.main import run


class Nursery:
    """The process that daemons are forked from; ends with the ``with`` block."""

    def __init__(self, environment: dict[str, str]) -> None:
        places = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "soak.daemons"],
            env={**os.environ, **environment, "PYTHONPATH": os.pathsep.join(filter(None, places))},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self.pid = self._process.pid

    def ask(self, *words: object) -> int:
        """Send one order; return the number that is the answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\t".join(map(str, words)) + "\n")
        answer = self._process.stdout.readline()
        assert answer, "the process that daemons are forked from has ended"
        return int(answer)

    def start(self, directory: Path, log: Path) -> Daemon:
        return Daemon(self, self.ask("start", directory, log))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate(timeout=60)


_RUNS = 1000
"""The answer for one that has not ended."""


class Daemon:
    """One of them, with the methods of `subprocess.Popen` that the soak needs."""

    def __init__(self, nursery: Nursery, pid: int) -> None:
        self._nursery = nursery
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            code = self._nursery.ask("poll", self.pid)
            self.returncode = None if code == _RUNS else code
        return self.returncode

    def wait(self, timeout_s: float = 60.0) -> int:
        deadline_s = time.monotonic() + timeout_s
        while (code := self.poll()) is None:
            assert time.monotonic() < deadline_s, f"{self.pid} did not end within {timeout_s} s"
            time.sleep(0.02)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _start(directory: str, log: str) -> int:
    pid = os.fork()
    if pid:
        return pid
    code: object = 1
    try:
        os.chdir(directory)
        nothing = os.open(os.devnull, os.O_RDONLY)
        told = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for number, file in enumerate((nothing, told, told)):
            os.dup2(file, number)
        sys.argv = ["vse", "serve", "stager"]
        run()
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 0 if code is None else 1)


def _poll(pid: str) -> int:
    ended, status = os.waitpid(int(pid), os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else _RUNS


def serve() -> None:
    import vse.app.daemon
    import vse.app.pool
    import vse.app.site
    import vse.cli.serve_stager
    import vse.storage.drivers.file
    import vse.storage.drivers.http  # noqa: F401

    started = []
    for line in sys.stdin:
        verb, *words = line.rstrip("\n").split("\t")
        answer = _start(*words) if verb == "start" else _poll(*words)
        if verb == "start":
            started.append(answer)
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()
    for pid in started:  # of a soak that was killed itself
        with suppress(ChildProcessError, ProcessLookupError):
            if _poll(str(pid)) == _RUNS:
                os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    serve()
