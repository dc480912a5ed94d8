"""Who asks."""

from __future__ import annotations

import grp
import os
import pwd
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Identity:
    """A person or service by name, and the groups it belongs to (the first is its primary one)."""

    name: str
    groups: tuple[str, ...] = ()

    @classmethod
    def of_process(cls) -> Self:
        """The user and all groups of this process, as the system knows them; no variable can change them."""
        own = os.getegid()
        groups = [own, *sorted(set(os.getgroups()) - {own})]
        return cls(user_name(os.geteuid()), tuple(map(_group_name, groups)))

    @classmethod
    def known(cls, name: str) -> Self | None:
        """A user of this machine and all groups of that user; None where there is none of that name."""
        try:
            own = pwd.getpwnam(name).pw_gid
        except KeyError:
            return None
        groups = [own, *sorted(set(os.getgrouplist(name, own)) - {own})]
        return cls(name, tuple(map(_group_name, groups)))


def user_name(uid: int) -> str:
    """Return the name of a user of this machine, or its number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def primary_group(user: str) -> str:
    """Return the name of a user's primary group; empty for a user this machine does not know."""
    try:
        return _group_name(pwd.getpwnam(user).pw_gid)
    except KeyError:
        return ""


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
