"""The books of an analysis: for each file what was done, what failed and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Failure(NamedTuple):
    """Why something failed: one line, and the traceback (may be empty) for whoever asks for it."""

    message: str
    traceback: str = ""


class FailedRange(NamedTuple):
    """Entries ``[start, stop)`` of a file that are not in the result."""

    lfn: str
    start: int
    stop: int
    failure: Failure

    @property
    def entries(self) -> int:
        return self.stop - self.start

    def overlaps(self, other: FailedRange) -> bool:
        return self.lfn == other.lfn and self.start < other.stop and other.start < self.stop


@dataclass(slots=True)
class FileAccount:
    """One file. ``entries`` is None until told; ``cursor``: entries before it were handed out."""

    lfn: str
    entries: int | None
    size_bytes: int
    cursor: int = 0
    entries_done: int = 0
    entries_failed: int = 0
    successes: int = 0
    failures: int = 0
    read_bytes: int = 0
    put_aside: Failure | None = None

    @property
    def uncut(self) -> int:
        """Entries that were not handed out yet (0 where their number is not known)."""
        return 0 if self.entries is None else self.entries - self.cursor

    @property
    def settled(self) -> bool:
        """Whether every entry is done or listed as failed."""
        return self.entries_done + self.entries_failed == self.entries

    def cap(self, size_bytes: int) -> int:
        """How many entries cover ``size_bytes`` of the file (at least 1)."""
        if not self.entries or self.size_bytes <= size_bytes:
            return max(1, self.entries or 1_000_000_000)
        return max(1, self.entries * size_bytes // self.size_bytes)


class Ledger:
    """All files, and sums that do not cost a walk over them."""

    def __init__(self) -> None:
        self.files: dict[str, FileAccount] = {}
        self.broken: dict[str, Failure] = {}
        self.entries_known = 0
        self.entries_done = 0
        self.entries_failed = 0
        self.read_bytes = 0
        self.files_done = 0
        """Files of which every entry is accounted for."""
        self._told = 0
        self._cut = 0
        self._untold = 0
        self._failed: list[FailedRange] = []
        self._merged: list[FailedRange] = []
        self._merged_of = 0

    def add(self, account: FileAccount) -> None:
        self.files[account.lfn] = account
        if account.entries is None:
            self._untold += 1
        else:
            self._told += 1
            self.entries_known += account.entries
            self._count_if_done(account)

    def tell(self, account: FileAccount, entries: int) -> None:
        """Learn how many entries a file has."""
        account.entries = entries
        self._untold -= 1
        self._told += 1
        self.entries_known += entries
        if entries == 0:
            self.files_done += 1

    def write_off(self, account: FileAccount) -> None:
        """Nobody will ever tell the entries of this file."""
        self._untold -= 1
        self.files_done += 1

    def cut(self, account: FileAccount, stop: int) -> None:
        """Entries up to ``stop`` were handed out, or given up."""
        self._cut += stop - account.cursor
        account.cursor = stop

    def done(self, account: FileAccount, entries: int, read_bytes: int) -> None:
        account.entries_done += entries
        account.successes += 1
        account.read_bytes += read_bytes
        self.entries_done += entries
        self.read_bytes += read_bytes
        if entries:
            self._count_if_done(account)

    def undo(self, account: FileAccount, entries: int) -> None:
        """Entries that were done are not in any result any more."""
        if entries and account.settled:
            self.files_done -= 1
        account.entries_done -= entries
        self.entries_done -= entries

    def list_failed(self, failed: FailedRange) -> None:
        self._failed.append(failed)
        self.files[failed.lfn].entries_failed += failed.entries
        self.entries_failed += failed.entries
        self._count_if_done(self.files[failed.lfn])

    def _count_if_done(self, account: FileAccount) -> None:
        if account.settled:
            self.files_done += 1

    def entries_expected(self) -> int:
        """Entries of all files; those of files nobody opened yet are taken to be like the others."""
        return self.entries_known + self._guess_untold()

    def entries_uncut(self) -> int:
        """Entries not handed out yet, guessed as in `entries_expected`."""
        return self.entries_known - self._cut + self._guess_untold()

    def _guess_untold(self) -> int:
        return self._untold * self.entries_known // self._told if self._told else 0

    def typical_entries(self, most: int) -> int:
        """Return how many entries a file has that nobody opened yet, by the others; at most ``most``."""
        return max(1, min(most, self.entries_known // self._told)) if self._told else most

    def failed_ranges(self) -> list[FailedRange]:
        """Every failed range, in order; neighbours with the same reason are one."""
        if len(self._failed) == self._merged_of:
            return self._merged
        merged: list[FailedRange] = []
        for failed in sorted(self._failed, key=lambda item: (item.lfn, item.start)):
            last = merged[-1] if merged else None
            if last is not None and (last.lfn, last.stop, last.failure.message) == (
                failed.lfn,
                failed.start,
                failed.failure.message,
            ):
                merged[-1] = last._replace(stop=failed.stop)
            else:
                merged.append(failed)
        self._merged, self._merged_of = merged, len(self._failed)
        return merged
