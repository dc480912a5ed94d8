"""What is kept of a file that failed verification."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from vse.errors import VseError
from vse.transfer.lifecycle import Transfer


class Evidence(NamedTuple):
    """The bytes that came from ``source`` (a URL) for a transfer, and what is wrong with them.

    ``path``: where they can be read until the caller goes on; None on a remote storage.
    """

    transfer: Transfer
    source: str
    path: Path | None
    error: VseError


Keep = Callable[[Evidence], None]
"""Keeps evidence, by a second name of its file; raises nothing."""


def keep_nothing(evidence: Evidence) -> None:
    """Let it go."""
