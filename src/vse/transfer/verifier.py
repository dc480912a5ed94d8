"""Opens files for the stager, in a process of its own: ``python -m vse.transfer.verifier``.

"Badly written ROOT files lead to memory leaks and crashes, that constantly affected the whole
daemon's operations" (seed 002 §4.3.5.2): here they end this process only. One line of JSON a file comes
in on standard input, ``{"path", "kind", "member", "tree", "deep", "timeout_s"}``; lines ``{}`` go out when
the process is ready and while a file is being read, and one ``{"tree", "entries"}`` or ``{"error"}`` at the
end of it. The end of the input ends the process; so does a file at which it stays for far too long, whether
or not anybody waits for it.
"""

from __future__ import annotations

import json
import math
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any

from vse.transfer.verification_root import Seen, Window, in_words
from vse.transfer.verification_root import look as look_at_root
from vse.transfer.verification_zip import look as look_at_zip

_BEAT_PART = 0.25
"""Signs of life are given so often, in terms of the time allowed."""


def _tell(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


class _Life:
    """Signs of life, and the end of a process that gives none: `SIGALRM` comes even inside a C library."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._told_s = -math.inf
        self.beat()

    def beat(self) -> None:
        now_s = time.monotonic()
        if now_s - self._told_s >= self._timeout_s * _BEAT_PART:
            self._told_s = now_s
            signal.alarm(math.ceil(self._timeout_s) + 5)
            _tell({})


def _look(question: dict[str, Any], life: _Life) -> Seen:
    path, tree, deep = Path(question["path"]), question["tree"], question["deep"]
    if question["kind"] == "zip":
        return look_at_zip(path, question["member"], tree, deep, life.beat)
    with path.open("rb") as raw:
        return look_at_root(Window(raw, 0, path.stat().st_size), tree, deep, life.beat)


def _answer(line: str) -> dict[str, Any]:
    question = json.loads(line)
    try:
        return _look(question, _Life(question["timeout_s"]))._asdict()
    except Exception as error:
        return {"error": in_words(error)}
    finally:
        signal.alarm(0)


def serve(memory_bytes: int) -> None:
    """Answer questions until the input ends, with at most ``memory_bytes`` of address space."""
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    import uproot  # noqa: F401  takes a second: better before the first file is here

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the stager's business; it ends our input
    _tell({})
    for line in sys.stdin:
        _tell(_answer(line))


if __name__ == "__main__":
    serve(int(sys.argv[1]))
