"""Third-party copies by the root protocol: one server fetches from another, told to by us."""

from __future__ import annotations

import threading
import time
from typing import Any

from vse.errors import Stalled, VseError
from vse.storage.contract import Note
from vse.storage.drivers.xroot_client import error_of, library, whole_s

_POLL_S = 0.1
_GIVE_UP_S = 10.0
_LONGEST_S = 7 * 24 * 3600


class _Progress:
    """What the library calls, in a thread of its own, while it watches a copy."""

    def __init__(self) -> None:
        self.done_bytes = 0
        self.cancelled = False

    def begin(self, _job: int, _total: int, _source: object, _target: object) -> None: ...

    def end(self, _job: int, _results: object) -> None: ...

    def update(self, _job: int, processed: int, _total: int) -> None:
        self.done_bytes = processed

    def should_cancel(self, _job: int) -> bool:
        return self.cancelled


def third_party(source_url: str, target_url: str, wanted: str, no_progress_s: float, note: Note) -> None:
    """Have the target's server fetch the source; ``note`` is called in this thread, see `Driver.pull`.

    The URLs are as the library takes them, unescaped. Raises what the servers tell, `Stalled` where
    no byte moves for ``no_progress_s``, and whatever ``note`` raises; what is under the target's name
    then is the caller's to remove.
    """
    process = library().CopyProcess()
    process.add_job(
        source_url,
        target_url,
        thirdparty="only",
        mkdir=True,
        inittimeout=whole_s(no_progress_s),
        tpctimeout=_LONGEST_S,  # we watch the progress instead
    )
    progress = _Progress()
    outcome: list[Any] = []

    def run() -> None:
        status, _ = process.prepare(), None
        outcome.append(process.run(progress)[0] if status.ok else status)

    runner = threading.Thread(target=run, name="vse-third-party", daemon=True)
    runner.start()
    try:
        _watch(runner, progress, wanted, no_progress_s, note)
    except BaseException:
        progress.cancelled = True
        runner.join(_GIVE_UP_S)
        raise
    if not outcome or not outcome[0].ok:
        raise error_of(outcome[0], wanted) if outcome else VseError(wanted, "the copy ended without a word")
    note(progress.done_bytes)


def _watch(
    runner: threading.Thread, progress: _Progress, wanted: str, no_progress_s: float, note: Note
) -> None:
    """Wait for the end of a copy, telling how far it is."""
    told_bytes, moved_s = -1, time.monotonic()
    while runner.is_alive():
        runner.join(_POLL_S)
        if progress.done_bytes != told_bytes:
            told_bytes, moved_s = progress.done_bytes, time.monotonic()
            note(told_bytes)
        elif time.monotonic() - moved_s > no_progress_s:
            raise Stalled(wanted, f"no byte moved for {no_progress_s:g} s")
