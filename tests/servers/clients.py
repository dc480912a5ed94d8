"""Where tools/clients.sh put clients and servers of other catalogues, each in an environment of its own."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

_REQUIREMENTS = Path(__file__).parents[2] / "requirements"


def python_of(name: str) -> str | None:
    """Return the Python that has ``name`` (rucio, dirac, alien); None where it is not installed."""
    digest = hashlib.sha256((_REQUIREMENTS / f"{name}.lock").read_bytes()).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    place = cache / "vse" / f"{name}-{digest}"
    return str(place / "bin" / "python") if (place / "ready").exists() else None
