"""A filter's own process: ``python -m vse.staging.filters_process ORDER PARENT``.

Limits are set first, then the order (JSON, see `vse.staging.filters_running`) is carried out: a command takes
the place of this program, a Python function of the entry point group ``vse.filters`` is called as
``function(source, target, tree=..., options=...)`` with two paths, a skim is made.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1


def _end_with(parent: int) -> None:
    """Be killed when the thread that started this ends, however it does."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def _limit(order: dict[str, Any]) -> None:
    memory_bytes, output_bytes = order["memory_bytes"], order["output_bytes"]
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if output_bytes:
        resource.setrlimit(resource.RLIMIT_FSIZE, (output_bytes, output_bytes))


def _call(order: dict[str, Any]) -> None:
    from importlib.metadata import entry_points

    found = list(entry_points(group="vse.filters", name=order["entry"]))
    if not found:
        has = ", ".join(sorted(entry_points(group="vse.filters").names)) or "none"
        sys.exit(f"no filter {order['entry']!r} is installed in the entry point group vse.filters ({has})")
    found[0].load()(
        Path(order["source"]), Path(order["target"]), tree=order["tree"], options=order["options"]
    )


def _replace_by(command: list[str]) -> None:
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and that would be inherited
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)  # noqa: S606
    except OSError as error:
        sys.exit(f"{command[0]}: {error.strerror}")


def main(order: dict[str, Any], parent: int) -> None:
    _end_with(parent)
    _limit(order)
    if order["kind"] == "command":
        _replace_by(order["command"])
    elif order["kind"] == "python":
        _call(order)
    else:
        from vse.staging.filters_skim import skim

        skim(Path(order["source"]), Path(order["target"]), order["tree"], order["branches"], order["where"])


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), int(sys.argv[2]))
