"""Which file next, for a worker at this place: its own host's, its site's, then the busiest host's.

PROOF's rule (seed 002 §4.1.5): data packets go as much as possible to the nodes that host them; who has
nothing of its own left takes from whoever has most. Pure.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from typing import NamedTuple

from vse.analysis.rates import Rates

UNLIMITED = 0


class Place(NamedTuple):
    """Where a copy of a file can be read. ``host``: of the storage; empty where it is anywhere.

    ``source`` is what the runner knows the copy by (a URL).
    """

    host: str = ""
    site: str = ""
    source: str = ""


ANYWHERE = (Place(),)


class Shelves:
    """The files that nobody has begun, by the hosts that hold them."""

    def __init__(self) -> None:
        self._places: dict[str, Sequence[Place]] = {}
        self._by_host: dict[str, deque[str]] = {}
        self._by_site: dict[str, deque[str]] = {}
        self._left = Counter[str]()

    def __len__(self) -> int:
        return len(self._places)

    def add(self, lfn: str, places: Sequence[Place]) -> None:
        self._places[lfn] = places
        for host in {place.host for place in places}:
            self._by_host.setdefault(host, deque()).append(lfn)
            self._left[host] += 1
        for site in {place.site for place in places if place.site}:
            self._by_site.setdefault(site, deque()).append(lfn)

    def take(self, host: str, site: str, full: frozenset[str] = frozenset()) -> str | None:
        """Take the next file for a worker off the shelves; None where none may be begun now.

        ``full``: storage hosts that have as many readers as they may. A file is taken only if it has a
        copy at another one.
        """
        if not self._places:
            return None
        for key, shelves in ((host, self._by_host), (site, self._by_site)):
            if key:
                found = self._from(shelves.get(key), full)
                if found is not None:
                    return found
        for busiest, _ in sorted(self._left.items(), key=lambda item: -item[1]):
            if busiest not in full:
                found = self._from(self._by_host[busiest], full)
                if found is not None:
                    return found
        return None

    def _from(self, shelf: deque[str] | None, full: frozenset[str]) -> str | None:
        """Take the first file of a shelf that is still there and can be read; the others keep their order."""
        passed: list[str] = []
        found = None
        while shelf and found is None:
            lfn = shelf.popleft()
            places = self._places.get(lfn)
            if places is None:
                continue
            if full and all(place.host in full for place in places):
                passed.append(lfn)
                continue
            found = lfn
        if shelf is not None:
            shelf.extendleft(reversed(passed))
        if found is not None:
            for host in {place.host for place in self._places.pop(found)}:
                self._left[host] -= 1
                if not self._left[host]:
                    del self._left[host]
        return found


class Sources:
    """Several copies of one file: which to read, by what was measured while running (seed 002 §5.3.3).

    ``readers_a_host`` limits how many workers read from one storage host at a time; 0 is no limit.
    """

    def __init__(self, readers_a_host: int = UNLIMITED) -> None:
        self._most = readers_a_host
        self._readers = Counter[str]()
        self._rates = Rates()

    @property
    def full(self) -> frozenset[str]:
        """The hosts that take no more readers."""
        if not self._most:
            return frozenset()
        return frozenset(host for host, number in self._readers.items() if host and number >= self._most)

    def rank(self, places: Sequence[Place], host: str, site: str) -> list[Place]:
        """Return the copies in the order a worker should try them.

        Its own host's first. Then the fastest as measured from its site, where one that nobody tried yet
        counts as good as the best, so that each is tried; then its own site's, then the least busy one.
        """
        if len(places) == 1:
            return list(places)
        measured = {place: self._rates.get((site, place.host)) for place in places}
        best = max((rate for rate in measured.values() if rate is not None), default=0.0)
        full = self.full

        def preference(place: Place) -> tuple[bool, bool, float, bool, int]:
            rate = measured[place]
            return (
                place.host in full,
                not host or place.host != host,
                -(best if rate is None else rate),
                place.site != site,
                self._readers[place.host],
            )

        return sorted(places, key=preference)

    def begin(self, place: Place) -> None:
        self._readers[place.host] += 1

    def end(self, place: Place) -> None:
        self._readers[place.host] -= 1
        if self._readers[place.host] <= 0:
            del self._readers[place.host]

    def measure(self, place: Place, site: str, bytes_per_s: float) -> None:
        """Note how fast a copy was read from a site."""
        self._rates.measure((site, place.host), bytes_per_s)
