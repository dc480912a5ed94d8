"""Commands run as another user, wherever the interpreter of these tests lies."""

from __future__ import annotations

import sys
from pathlib import Path

_PASS = "dac_override"
_PASS_READING = "dac_read_search"


def open_to_others(program: Path) -> bool:
    """Whether any user may run a program: it, and where its links lead to."""
    places = {place for path in (program.absolute(), program.resolve()) for place in path.parents}
    return all(place.stat().st_mode & 0o001 for place in places)


def with_our_python(command: list[str], *, writing: bool = True) -> list[str]:
    """Return a ``setpriv`` command that can run our interpreter.

    Where that lies in a directory which is closed to others (one in root's home), the user is let through
    file permissions (those of reading only, where not ``writing``); what VSE itself refuses to them, it
    refuses all the same.
    """
    if open_to_others(Path(sys.executable)):
        return command
    program, *words = command
    right = _PASS if writing else _PASS_READING
    return [program, f"--inh-caps=+{right}", f"--ambient-caps=+{right}", *words]
