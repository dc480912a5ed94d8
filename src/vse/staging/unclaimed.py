"""Files that came for nobody: their stager was killed before it recorded them, and then they were cancelled.

Such a file is under its final name, whole and verified, but neither the catalogue nor the accounts know it,
and no transfer will find it there. It was wanted by nobody any more, so it goes.
"""

from __future__ import annotations

from collections.abc import Sequence

from vse.catalogue.port import Catalogue
from vse.model import Clock
from vse.storage.element import Elements, StorageElement
from vse.transfer.lifecycle import State, Transfer
from vse.transfer.queue import Queue

LOOK_BACK_S = 7 * 86400.0
"""How old a cancelled transfer is looked at after a start."""
_BATCH = 1_000
_SLACK_S = 60.0
"""How far the clocks of a storage and ours may be apart."""


class Unclaimed:
    """Removes what cancelled transfers left; each of them is looked at once by every stager.

    ``lease_s``: how long after its end a transfer's stager may still be at work.
    """

    def __init__(
        self, queue: Queue, catalogue: Catalogue, elements: Elements, lease_s: float, clock: Clock
    ) -> None:
        self._queue = queue
        self._catalogue = catalogue
        self._elements = elements
        self._lease_s = lease_s
        self._clock = clock
        self._seen_s: dict[str, float] = {}

    def remove(self) -> int:
        """Look at what was cancelled since the last time; return how many files went."""
        until_s = self._clock() - self._lease_s
        removed = 0
        for element in self._elements:
            by_guid = any(section.placement == "guid" for section in element.settings.protocols)
            if by_guid or not element.can("remove"):
                continue  # by GUID, the file may be another name's
            since_s = self._seen_s.get(element.name, until_s - LOOK_BACK_S)
            cancelled = self._queue.cancelled(element.name, since_s, until_s)
            for start in range(0, len(cancelled), _BATCH):
                removed += self._remove(element, cancelled[start : start + _BATCH])
            self._seen_s[element.name] = max(since_s, until_s)
        return removed

    def _remove(self, element: StorageElement, cancelled: Sequence[Transfer]) -> int:
        names = [one.lfn for one in cancelled]
        located = self._catalogue.resolve(names).ok
        known = {
            lfn
            for lfn, file in located.items()
            if any(self._elements.name_of(replica.se) == element.name for replica in file.replicas)
        }
        held = element.stat([lfn for lfn in names if lfn not in known]).ok
        ours = [one for one in cancelled if one.lfn in held and self._is_its(one, held[one.lfn].modified_s)]
        still = self._queue.get([one.id for one in ours])
        gone = [one.lfn for one in ours if still[one.id].state is State.CANCELLED]
        return len(element.remove(gone).ok) if gone else 0

    def _is_its(self, transfer: Transfer, modified_s: float | None) -> bool:
        """Whether a file was written while the transfer ran."""
        if modified_s is None or transfer.started_s is None or transfer.finished_s is None:
            return False
        latest_s = transfer.finished_s + self._lease_s
        return transfer.started_s - _SLACK_S <= modified_s <= latest_s + _SLACK_S
