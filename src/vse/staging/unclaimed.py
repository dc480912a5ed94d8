"""Files that came for nobody: their stager was killed before it recorded them, and then they were cancelled,
or their names were removed from the catalogue.

Such a file is under its final name, whole and verified, but neither the catalogue nor the accounts know it,
and no transfer will find it there. It was wanted by nobody any more, so it goes.
"""

from __future__ import annotations

from collections.abc import Sequence

from vse.catalogue.port import Catalogue
from vse.model import Clock
from vse.staging.orphans import removed_for_good
from vse.storage.element import Elements, StorageElement
from vse.transfer.lifecycle import State, Transfer
from vse.transfer.queue import Queue

LOOK_BACK_S = 7 * 86400.0
"""How old a transfer in vain is looked at after a start."""
_BATCH = 1_000
_SLACK_S = 60.0
"""How far the clocks of a storage and ours may be apart."""


class Unclaimed:
    """Removes what transfers in vain have left; each of them is looked at once by every stager.

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
        """Look at what ended in vain since the last time; return how many files went."""
        until_s = self._clock() - self._lease_s
        removed = 0
        for element in self._elements:
            by_guid = any(section.placement == "guid" for section in element.settings.protocols)
            if by_guid or not element.can("remove"):
                continue  # by GUID, the file may be another name's
            # Where the clock was set back, what ends from now on has not been looked at.
            since_s = min(self._seen_s.get(element.name, until_s - LOOK_BACK_S), until_s)
            in_vain = self._queue.in_vain(element.name, since_s, until_s)
            for start in range(0, len(in_vain), _BATCH):
                removed += self._remove(element, in_vain[start : start + _BATCH])
            self._seen_s[element.name] = until_s
        return removed

    def _remove(self, element: StorageElement, in_vain: Sequence[Transfer]) -> int:
        located = self._catalogue.resolve([one.lfn for one in in_vain])
        known = {
            lfn
            for lfn, file in located.ok.items()
            if any(self._elements.name_of(replica.se) == element.name for replica in file.replicas)
        }
        # What is in the way of a transfer that failed under a known name is somebody else's.
        asked = [
            one for one in in_vain if one.lfn not in (known if one.state is State.CANCELLED else located.ok)
        ]
        held = element.stat([one.lfn for one in asked]).ok
        there = [one for one in asked if one.lfn in held and self._is_its(one, held[one.lfn].modified_s)]
        given_up = [one.lfn for one in there if one.state is State.FAILED]
        removed = removed_for_good(self._catalogue, given_up) if given_up else []
        ours = [one for one in there if one.state is State.CANCELLED or one.lfn in removed]
        still = self._queue.get([one.id for one in ours])
        gone = [one.lfn for one in ours if still[one.id].state is one.state]
        return len(element.remove(gone).ok) if gone else 0

    def _is_its(self, transfer: Transfer, modified_s: float | None) -> bool:
        """Whether a file was written while the transfer ran, in any of its attempts."""
        if modified_s is None or transfer.started_s is None or transfer.finished_s is None:
            return False
        attempts = self._queue.attempts_of(transfer.id)
        first_s = min([transfer.started_s, *(one.started_s for one in attempts)])
        latest_s = transfer.finished_s + self._lease_s
        return first_s - _SLACK_S <= modified_s <= latest_s + _SLACK_S
