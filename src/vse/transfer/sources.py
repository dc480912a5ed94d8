"""The copies that a move can read, and in which order. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from vse.model import Checksum, Lfn
from vse.storage.contract import Note, Reader

CopyDirectly = Callable[[int, Checksum | None, Note], None]
"""Has the storages make the copy, of a size and a checksum; what `Note` raises ends it."""


class Source(NamedTuple):
    """A replica that can be read, with how. ``se`` is empty where it is of no storage element.

    ``copy``: where both storages can make the copy without us, by ``way``. ``tape``: its name at
    an element where its bytes may have to be brought from tape before they can be read.
    """

    se: str
    url: str
    open: Callable[[], Reader]
    copy: CopyDirectly | None = None
    way: str = ""
    tape: Lfn | None = None


def in_order(sources: Sequence[Source], first_se: str | None) -> list[Source]:
    """Return the sources with those of ``first_se`` first: a file that failed at one begins with the next."""
    return sorted(sources, key=lambda one: one.se != first_se)


def next_se(sources: Sequence[Source], last_se: str | None) -> str | None:
    """Return the element to begin with the next time: the one after the last that was read."""
    names = list(dict.fromkeys(one.se for one in sources))
    if last_se not in names:
        return None
    return names[(names.index(last_se) + 1) % len(names)] or None


class Plan:
    """Which source to read next, and from where: what is known of a file's bytes so far.

    With the checksum of the whole file known, the next source goes on where the one before it stopped. Where
    the bytes of several turn out wrong, each of them is read once more, alone. Without a checksum nothing
    would tell a patchwork, so that every source begins at the start.
    """

    def __init__(self, sources: Sequence[Source], *, checked: bool) -> None:
        self._left = list(sources)
        self._goes_on = checked
        self._wrote: list[Source] = []
        self._earlier = False
        self._over = False

    def next(self) -> Source | None:
        """Return the source to turn to; None where there is none left."""
        return self._left.pop(0) if self._left else None

    def kept(self) -> None:
        """Bytes of an earlier attempt are in the file."""
        self._earlier = True

    def reads(self, source: Source) -> None:
        """The bytes that come now are those of ``source``."""
        self._wrote.append(source)

    def broke_off(self) -> bool:
        """The source failed before the end; return whether the next one goes on there."""
        if not self._goes_on:
            self._wrote.clear()
        return self._goes_on

    def were_wrong(self) -> bool:
        """All bytes are there, and are not the file; return whether that is the fault of the last source."""
        own = len(self._wrote) == 1 and not self._earlier
        if not own and not self._over:
            self._left = [*self._wrote, *self._left]
            self._goes_on = False
        self._wrote.clear()
        self._earlier = False
        return own

    def end(self) -> None:
        """No other source would give better bytes."""
        self._left.clear()
        self._over = True
