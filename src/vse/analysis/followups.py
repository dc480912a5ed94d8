"""How far failures of the user's code are followed up, and what is said where they are not.

To find a bad entry takes about twenty packets that fail, each half as large as the one before. Few bad
entries among many are all found; a script that fails on much of what it gets is not run over the same
entries again and again. Where it never succeeds, `Packetizer` gives up the file, or everything.
"""

from __future__ import annotations

from vse.analysis.ledger import Failure
from vse.analysis.packets import Family

PACKETS_AN_ENTRY = 20
"""So many packets fail, at most, until the one bad entry in a million is found."""
ENTRIES_A_FAILURE = 100
"""For each so many entries that went well, one more packet that failed is followed up."""
SETTING = "analysis.max_failed_packets"


class Followups:
    """The books of packets that were halved as the user's code raised in them, or workers died of them.

    ``max_failed``: so many bad entries are sought whatever else there is, and so many failures without any
    success between them end a search.
    """

    def __init__(self, max_failed: int) -> None:
        self.max_failed = max_failed
        self._families: dict[int, Family] = {}
        self._begun = 0

    def of(self, family: int) -> Family:
        return self._families.setdefault(family, Family())

    def succeeded(self, family: int) -> None:
        if family in self._families:
            self._families[family].successes += 1

    def failed(self, family: int, entries_done: int) -> bool:
        """Count a failure; return whether the packet is to be halved. ``entries_done``: of the analysis."""
        books = self.of(family)
        books.failures += 1
        fruitless = books.failures >= self.max_failed and not books.successes
        if fruitless or self._begun >= self.max_failed * PACKETS_AN_ENTRY + entries_done // ENTRIES_A_FAILURE:
            return False
        self._begun += 1
        return True

    def unsought(self, failure: Failure) -> Failure:
        """What is said of entries of which some are bad, nobody knows which."""
        message = (
            f"{failure.message}; on some of these entries or on all: which was not sought, "
            f"as the script fails too often ({SETTING} = {self.max_failed})"
        )
        return failure._replace(message=message)

    def untried(self, failure: Failure) -> Failure:
        """What is said of the rest of a file on which the script has always failed."""
        message = (
            f"not tried: the script failed on this file {self.max_failed} times and never succeeded "
            f"({SETTING} = {self.max_failed}), at last with {failure.message}"
        )
        return failure._replace(message=message)
