"""Who asks."""

from __future__ import annotations

import getpass
import grp
import os
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Identity:
    """A person or service by name, and the groups it belongs to (the first is its primary one)."""

    name: str
    groups: tuple[str, ...] = ()

    @classmethod
    def of_process(cls) -> Self:
        """The user this process runs as."""
        try:
            group = grp.getgrgid(os.getgid()).gr_name
        except KeyError:
            group = str(os.getgid())
        try:
            name = getpass.getuser()
        except (KeyError, OSError):
            name = str(os.getuid())
        return cls(name, (group,))
