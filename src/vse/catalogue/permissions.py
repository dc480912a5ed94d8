"""Who may do what with a name: the access check algorithm of POSIX.1e (draft 17, 23.1.5). Pure."""

from __future__ import annotations

from vse.model import Access, Identity
from vse.model.access import ENTER, READ, WRITE, letters

_VERBS = ((READ, "read"), (WRITE, "write in"), (ENTER, "enter"))


def may(identity: Identity, access: Access, wanted: int) -> str | None:
    """Return None where ``identity`` may do all that is ``wanted`` (of READ, WRITE, ENTER), or why not.

    The owner has the mode's first digit alone; a user whom the list names, that entry within the mask;
    else any one entry of the user's groups (the owning group has the mode's second digit) within the mask
    must grant all; who is in none of them has the third digit.
    """
    return None if _granted(identity, access, wanted) else reason(identity, access, wanted)


def reason(identity: Identity, access: Access, wanted: int) -> str:
    """Say what a name lets ``identity`` not do, and what decides so."""
    lists = f", access list {','.join(map(str, access.entries))}" if access.entries else ""
    has = f"mode {access.mode:04o}, owner {access.owner}, group {access.group}{lists}"
    verbs = " and ".join(verb for bit, verb in _VERBS if wanted & bit)
    return f"{access.lfn} has {has}: {identity.name} may not {verbs} it"


def _granted(identity: Identity, access: Access, wanted: int) -> bool:
    if identity.name == access.owner:
        return _covers(access.mode >> 6, wanted)
    mask = next((one.permissions for one in access.entries if one.whom == "mask"), 7)
    for one in access.entries:
        if one.whom == "user" and one.name == identity.name:
            return _covers(one.permissions & mask, wanted)
    groups = [
        one.permissions for one in access.entries if one.whom == "group" and one.name in identity.groups
    ]
    if access.group in identity.groups:
        groups.append(access.mode >> 3)
    if groups:
        return any(_covers(permissions & mask, wanted) for permissions in groups)
    return _covers(access.mode, wanted)


def _covers(permissions: int, wanted: int) -> bool:
    return permissions & wanted == wanted


def symbolic(access: Access) -> str:
    """Return ``drwxr-x--T+`` as `ls` writes it; ``+`` where there is an access list."""
    kind = {"directory": "d", "link": "l", "collection": "c"}.get(access.kind, "-")
    text = "".join(letters(access.mode >> shift & 7) for shift in (6, 3, 0))
    if access.mode & 0o1000:
        text = text[:-1] + ("t" if access.mode & 1 else "T")
    return kind + text + ("+" if access.entries or access.defaults else "")
