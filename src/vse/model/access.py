"""Who may do what with a name: owner, group, mode, and access lists as POSIX.1e (draft 17) has them.

Permissions are of `READ`, `WRITE` and `ENTER`, as the bits of a mode.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Self

from vse.errors import BadRequest
from vse.model.entry import EntryKind
from vse.model.lfn import Lfn

READ, WRITE, ENTER = 4, 2, 1
STICKY = 0o1000
MAX_MODE = 0o1777

Whom = Literal["user", "group", "mask"]
_WHOM: dict[str, Whom] = {
    "u": "user",
    "g": "group",
    "m": "mask",
    "user": "user",
    "group": "group",
    "mask": "mask",
}
_LETTERS = "rwx"


class AccessEntry(NamedTuple):
    """One line of an access list: what a named user or group may. The mask (``name`` empty) bounds both
    and the owning group."""

    whom: Whom
    name: str
    permissions: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``user:alice:rw-``, ``g:lhc:r`` or ``mask::rx``; raise `BadRequest` where it is none."""
        wanted = f"read the access entry {text!r}"
        parts = text.strip().split(":")
        whom = _WHOM.get(parts[0].lower())
        if len(parts) != 3 or whom is None:
            raise BadRequest(
                wanted, "it is not WHOM:NAME:RIGHTS", "write user:alice:rw-, group:lhc:r-x or mask::r--"
            )
        name = parts[1].strip()
        if (whom == "mask") != (name == ""):
            found = "the mask has no name" if name else f"it names no {whom}"
            raise BadRequest(wanted, found, "the owner's, group's and others' rights are the mode: vse chmod")
        return cls(whom, name, _permissions(parts[2], wanted))

    def __str__(self) -> str:
        return f"{self.whom}:{self.name}:{letters(self.permissions)}"


def letters(permissions: int) -> str:
    """Return ``r-x`` for 5."""
    return "".join(one if permissions & (READ >> place) else "-" for place, one in enumerate(_LETTERS))


def _permissions(text: str, wanted: str) -> int:
    text = text.strip()
    if text.isdecimal() and int(text) <= 7:
        return int(text)
    if set(text) - set("rwx-"):
        raise BadRequest(wanted, f"{text!r} are no rights", "write them of r, w, x, as in r-x")
    return sum(READ >> place for place, one in enumerate(_LETTERS) if one in text)


class Access(NamedTuple):
    """What decides who may do what with a name. ``lfn`` is its real one, where links led to it.

    ``entries`` is its access list, ``defaults`` the list that what is made in this directory gets.
    """

    lfn: Lfn
    kind: EntryKind
    owner: str
    group: str
    mode: int
    entries: tuple[AccessEntry, ...] = ()
    defaults: tuple[AccessEntry, ...] = ()


@dataclass(frozen=True, slots=True)
class NewAccess:
    """What shall change of a name's owner, group, mode and access lists; None leaves it as it is."""

    lfn: Lfn
    owner: str | None = None
    group: str | None = None
    mode: int | None = None
    entries: tuple[AccessEntry, ...] | None = None
    defaults: tuple[AccessEntry, ...] | None = None


def with_mask(entries: Sequence[AccessEntry], group_permissions: int) -> tuple[AccessEntry, ...]:
    """Return a list in its order; one with names in it and no mask gets the widest one, as setfacl does."""
    known = {(entry.whom, entry.name): entry for entry in entries}
    if known and ("mask", "") not in known:
        widest = group_permissions
        for entry in known.values():
            widest |= entry.permissions
        known["mask", ""] = AccessEntry("mask", "", widest)
    return tuple(sorted(known.values(), key=_order))


def _order(entry: AccessEntry) -> tuple[int, str]:
    return ("user", "group", "mask").index(entry.whom), entry.name
