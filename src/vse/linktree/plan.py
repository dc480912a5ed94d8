"""What to do with one name of the link tree: a pure decision over what is wanted, recorded and found.

The rule that everything follows from: what the tree did not make, it neither changes nor removes.
"""

from __future__ import annotations

from enum import Enum

FOREIGN = object()
"""Something stands at the name that is no symbolic link."""


class Action(Enum):
    KEEP = "it is as wanted"
    MAKE = "make the link"
    RETARGET = "point our link elsewhere"
    REMOVE = "remove our link"
    FORGET = "nothing is there any more: drop the record"
    CONFLICT = "something else is in the way: leave it, and say so"


def decide(wanted: str | None, recorded: str | None, found: object) -> Action:
    """Return what to do.

    ``wanted``: the target the link should have, None for no link. ``recorded``: the target that we
    made it with, None if we did not. ``found``: the target of the link on disk, None where nothing is
    there, `FOREIGN` for anything else.
    """
    ours = recorded is not None and found == recorded
    if wanted is None:
        if found is None:
            return Action.FORGET
        return Action.REMOVE if ours else Action.CONFLICT
    if found is None:
        return Action.MAKE
    if found == wanted:
        return Action.KEEP
    return Action.RETARGET if ours else Action.CONFLICT
