"""Changing who may do what with names, as a person writes it on a command line."""

from __future__ import annotations

import re
from collections.abc import Sequence

from vse.errors import BadRequest
from vse.model import Access, AccessEntry
from vse.model.access import ENTER, MAX_MODE, READ, STICKY, WRITE

_SYMBOLIC = re.compile(r"([ugoa]*)([-+=])([rwxXt]*)")
_SHIFTS = {"u": (6,), "g": (3,), "o": (0,), "a": (6, 3, 0)}
_BITS = {"r": READ, "w": WRITE, "x": ENTER}


def new_mode(text: str, access: Access) -> int:
    """Return the mode that ``text`` makes of a name's: ``0750``, or ``g+w,o-rwx`` as chmod has it.

    ``X`` is x for directories only, ``t`` the sticky bit. Raises `BadRequest`.
    """
    if re.fullmatch(r"[0-7]{1,4}", text) and int(text, 8) <= MAX_MODE:
        return int(text, 8)
    mode = access.mode
    for clause in text.split(","):
        match = _SYMBOLIC.fullmatch(clause)
        if match is None:
            raise BadRequest(
                f"read the mode {text!r}", f"{clause!r} is none", "write 0750, g+w or u=rwx,go=rx"
            )
        mode = _changed(mode, *match.groups(), directory=access.kind == "directory")
    return mode


def _changed(mode: int, whom: str, how: str, what: str, *, directory: bool) -> int:
    what = what.replace("X", "x" if directory else "")
    rights = sum(_BITS[letter] for letter in set(what) & _BITS.keys())
    shifts = {shift for letter in whom or "a" for shift in _SHIFTS[letter]}
    bits = sum(rights << shift for shift in shifts) | (STICKY if "t" in what else 0)
    if how == "+":
        return mode | bits
    if how == "-":
        return mode & ~bits
    return mode & ~sum(7 << shift for shift in shifts) | bits


def new_entries(
    held: Sequence[AccessEntry], put: Sequence[AccessEntry], taken: Sequence[str]
) -> tuple[AccessEntry, ...]:
    """Return a list with ``put`` in it and those of ``taken`` (``user:alice``, ``mask:``) out of it.

    The mask is made anew where it is not among ``put``, as setfacl does.
    """
    known: dict[tuple[str, str], AccessEntry] = {
        (one.whom, one.name): one for one in held if one.whom != "mask"
    }
    known.update(((one.whom, one.name), one) for one in put)
    for text in taken:
        whom, _, name = text.partition(":")
        whom = {"u": "user", "g": "group", "m": "mask"}.get(whom, whom)
        gone = next((key for key in known if key == (whom, name.rstrip(":"))), None)
        if gone is None and whom != "mask":
            raise BadRequest(f"take {text} from the access list", "it is not in it", "vse acl LFN shows it")
        if gone is not None:
            del known[gone]
    return tuple(known.values())
