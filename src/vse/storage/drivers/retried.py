"""Transient errors are tried again, in one place, for every driver (restic's way: a decorator).

What may be tried again is decided by `pause_after`, which is pure. A call that only looks, or that ends
in the same state however often it is made, is repeated; bulk calls repeat only the items that failed so.
A write never is: once an upload has begun, its caller knows what to do with the error. Neither are
renames, links and third-party copies: whether the first one was carried out cannot be told from here.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from vse.errors import (
    BadRequest,
    NoSuchFile,
    ServerFault,
    ShortRead,
    SizeMismatch,
    SourceUnavailable,
    Stalled,
    VseError,
)
from vse.model import BulkResult, Checksum, Clock, Closing, Space
from vse.storage.contract import Driver, Locality, Note, Reader, StoredFile, Upload

T = TypeVar("T")

TRANSIENT: tuple[type[VseError], ...] = (SourceUnavailable, ServerFault, Stalled, ShortRead)
"""What the same server may answer better a moment later. A full storage or a wrong checksum it will not."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """``attempts`` in all; the first pause, doubled each time up to ``pause_max_s``; no attempt begins
    later than ``within_s`` after the first: a server that was silent for a minute is not asked again."""

    attempts: int = 4
    pause_s: float = 0.2
    pause_max_s: float = 5.0
    within_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Patience:
    """A policy with the clock and the sleep to follow it by. ``spread`` gives numbers in [0, 1)."""

    policy: RetryPolicy = RetryPolicy()
    clock: Clock = time.monotonic
    sleep: Callable[[float], object] = time.sleep
    spread: Callable[[], float] = random.random

    def begin(self) -> Trial:
        return Trial(self, self.clock())


def pause_after(
    error: VseError, attempt: int, elapsed_s: float, policy: RetryPolicy, spread: float
) -> float | None:
    """Return the pause (s) before the next attempt; None where there is to be none.

    ``attempt`` counts from 1. The pause is between half and all of the doubled one, by ``spread``, so that
    those who failed together do not come back together.
    """
    if not isinstance(error, TRANSIENT) or attempt >= policy.attempts:
        return None
    pause_s = min(policy.pause_max_s, policy.pause_s * 2 ** (attempt - 1)) * (0.5 + spread / 2)
    return pause_s if elapsed_s + pause_s <= policy.within_s else None


class Trial:
    """The attempts at one thing."""

    def __init__(self, patience: Patience, started_s: float) -> None:
        self._patience = patience
        self._started_s = started_s
        self.attempt = 1

    def wait_after(self, error: VseError) -> bool:
        """Sleep before the next attempt; False where ``error`` is final."""
        patience = self._patience
        elapsed_s = patience.clock() - self._started_s
        pause_s = pause_after(error, self.attempt, elapsed_s, patience.policy, patience.spread())
        if pause_s is None:
            return False
        patience.sleep(pause_s)
        self.attempt += 1
        return True

    def renew(self) -> None:
        """Something came: what fails next is a new failure."""
        self.attempt = 1
        self._started_s = self._patience.clock()


class RetriedDriver:
    """`vse.storage.contract.Driver` over another one; see the module's docstring for what is repeated."""

    def __init__(self, inner: Driver, patience: Patience | None = None) -> None:
        self.inner = inner
        self.protocol = inner.protocol
        self.capabilities = inner.capabilities
        self._patience = patience or Patience()

    def _again(self, ask: Callable[[], T]) -> T:
        trial = self._patience.begin()
        while True:
            try:
                return ask()
            except VseError as error:
                if not trial.wait_after(error):
                    raise

    def _each(self, paths: Sequence[str], ask: Callable[[Sequence[str]], BulkResult[T]]) -> BulkResult[T]:
        """Ask for all, then again for those that failed in passing."""
        result = self._again(lambda: ask(paths))
        trial = self._patience.begin()
        while again := [path for path, error in result.failed.items() if isinstance(error, TRANSIENT)]:
            if not trial.wait_after(result.failed[again[0]]):
                return result
            result.merge(self._one_more(again, ask))
        return result

    def _one_more(self, paths: Sequence[str], ask: Callable[[Sequence[str]], BulkResult[T]]) -> BulkResult[T]:
        try:
            return ask(paths)
        except VseError as error:  # for the whole call; what was answered before stays answered
            return BulkResult(failed=dict.fromkeys(paths, error))

    def url(self, path: str) -> str:
        return self.inner.url(path)

    def path_of(self, url: str) -> str:
        return self.inner.path_of(url)

    def stat(self, paths: Sequence[str]) -> BulkResult[StoredFile]:
        return self._each(paths, self.inner.stat)

    def open(self, path: str) -> RetriedReader:
        reader = self._again(lambda: self.inner.open(path))
        return RetriedReader(reader, lambda: self.inner.open(path), f"read {path}", self._patience)

    def put(self, path: str, size_bytes: int, checksum: Checksum | None = None) -> Upload:
        """As the contract says. Only its beginning is repeated: no byte has gone by then."""
        return self._again(lambda: self.inner.put(path, size_bytes, checksum))

    def list(self, path: str) -> Iterator[StoredFile]:
        """As the contract says. A listing that breaks off goes on after those it has told of."""
        trial = self._patience.begin()
        told: set[str] = set()
        while True:
            try:
                for child in self.inner.list(path):
                    if child.path not in told:
                        told.add(child.path)
                        yield child
            except VseError as error:
                if not trial.wait_after(error):
                    raise
            else:
                return

    def remove(self, paths: Sequence[str]) -> BulkResult[None]:
        """As the contract says. What is gone after an attempt whose answer was lost, that one removed."""
        uncertain: set[str] = set()

        def ask(some: Sequence[str]) -> BulkResult[None]:
            try:
                answer = self.inner.remove(some)
            except VseError as error:
                if isinstance(error, TRANSIENT):
                    uncertain.update(some)
                raise
            for path, reason in list(answer.failed.items()):
                if isinstance(reason, TRANSIENT):
                    uncertain.add(path)
                elif isinstance(reason, NoSuchFile) and path in uncertain:
                    del answer.failed[path]
                    answer.ok[path] = None
            return answer

        return self._each(paths, ask)

    def rename(self, source: str, target: str) -> None:
        self.inner.rename(source, target)

    def checksum(self, paths: Sequence[str], algorithm: str) -> BulkResult[Checksum]:
        return self._each(paths, lambda some: self.inner.checksum(some, algorithm))

    def space(self, path: str) -> Space:
        return self._again(lambda: self.inner.space(path))

    def local_path(self, path: str) -> Path:
        return self.inner.local_path(path)

    def make_directory(self, path: str) -> None:
        self._again(lambda: self.inner.make_directory(path))

    def link(self, existing: str, path: str) -> None:
        self.inner.link(existing, path)

    def stage(self, paths: Sequence[str], lifetime_s: float) -> BulkResult[str]:
        return self._each(paths, lambda some: self.inner.stage(some, lifetime_s))

    def poll(self, paths: Sequence[str]) -> BulkResult[Locality]:
        return self._each(paths, self.inner.poll)

    def release(self, paths: Sequence[str]) -> BulkResult[None]:
        return self._each(paths, self.inner.release)

    def pull(
        self, source_url: str, path: str, size_bytes: int, checksum: Checksum | None, note: Note
    ) -> None:
        self.inner.pull(source_url, path, size_bytes, checksum, note)

    def push(
        self, path: str, target_url: str, size_bytes: int, checksum: Checksum | None, note: Note
    ) -> None:
        self.inner.push(path, target_url, size_bytes, checksum, note)

    def close(self) -> None:
        self.inner.close()


class RetriedReader(Closing):
    """`vse.storage.contract.Reader` that opens the file anew where the server let go of it.

    The file must have the same size then, else `SizeMismatch`. `close` ends the pauses of other threads.
    """

    def __init__(self, reader: Reader, reopen: Callable[[], Reader], wanted: str, patience: Patience) -> None:
        self.size_bytes = reader.size_bytes
        self._reader = reader
        self._reopen = reopen
        self._wanted = wanted
        self._patience = patience
        self._lock = threading.Lock()
        self._closed = False

    def pread(self, offset: int, size_bytes: int) -> bytes:
        return self._again(lambda reader: reader.pread(offset, size_bytes))

    def pread_many(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        return self._again(lambda reader: reader.pread_many(ranges))

    def stream(self, offset: int = 0) -> Iterator[memoryview]:
        """As the contract says; goes on at the byte where it broke off."""
        trial = self._patience.begin()
        while True:
            reader = self._current()
            try:
                for piece in reader.stream(offset):
                    offset += len(piece)
                    trial.renew()
                    yield piece
            except VseError as error:
                self._recover(reader, trial, error)
            else:
                return

    def _again(self, ask: Callable[[Reader], T]) -> T:
        trial = self._patience.begin()
        while True:
            reader = self._current()
            try:
                return ask(reader)
            except VseError as error:
                self._recover(reader, trial, error)

    def _current(self) -> Reader:
        with self._lock:
            if self._closed:
                raise BadRequest(self._wanted, "it was closed")
            return self._reader

    def _recover(self, failed: Reader, trial: Trial, error: VseError) -> None:
        """Wait, then replace ``failed`` unless another thread has; raise ``error`` where it is final."""
        reason: VseError | None = error
        while reason is not None:
            if not trial.wait_after(reason):
                raise reason
            with self._lock:
                if self._closed:
                    raise BadRequest(self._wanted, "it was closed")
                if self._reader is not failed:
                    return
            reason = self._reopened(failed)

    def _reopened(self, failed: Reader) -> VseError | None:
        """Put a new reader in the place of ``failed``; return why that is not possible."""
        try:
            reader = self._reopen()
        except VseError as error:
            return error
        self._replace(failed, reader)
        return None

    def _replace(self, failed: Reader, reader: Reader) -> None:
        if reader.size_bytes != self.size_bytes:
            reader.close()
            raise SizeMismatch(
                self._wanted,
                f"it had {self.size_bytes} bytes when it was opened and has {reader.size_bytes} now",
            )
        with self._lock:
            unwanted = self._closed or self._reader is not failed
            if not unwanted:
                self._reader = reader
        with suppress(VseError):
            (reader if unwanted else failed).close()

    def close(self) -> None:
        with self._lock:
            self._closed = True
        self._reader.close()
