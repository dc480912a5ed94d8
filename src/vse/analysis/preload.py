"""What a local worker does first: it leaves the terminal alone, and imports while it joins."""

from __future__ import annotations

import gc
import os
import signal
import threading
from contextlib import suppress

COLLECT_EVERY = 10_000
"""So many objects more than before are looked through for cycles. A packet makes thousands: with Python's 700
an eighth of the processor time of small packets went into looking."""


def dask_setup(worker: object) -> None:
    """Called by dask in each new worker, in its main thread.

    What user code prints goes to the error output, where it cannot spoil a listing; Ctrl-C is for the
    process that started the workers, which then stops them.
    """
    os.dup2(2, 1)
    with suppress(ValueError):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_import_all, name="vse-preload", daemon=True).start()


def _import_all() -> None:
    import awkward  # noqa: F401
    import hist  # noqa: F401
    import uproot  # noqa: F401

    import vse.analysis.worker  # noqa: F401

    gc.freeze()  # what the libraries made is here to stay: not to be looked through again and again
    gc.set_threshold(COLLECT_EVERY)
