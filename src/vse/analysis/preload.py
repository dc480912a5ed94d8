"""What a worker imports while it joins, so that its first packet does not wait for it."""

from __future__ import annotations

import threading


def dask_setup(worker: object) -> None:
    """Called by dask in each new worker."""
    threading.Thread(target=_import_all, name="vse-preload", daemon=True).start()


def _import_all() -> None:
    import awkward  # noqa: F401
    import hist  # noqa: F401
    import uproot  # noqa: F401

    import vse.analysis.worker  # noqa: F401
