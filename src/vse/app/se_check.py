"""Prove each declared capability of a storage element, on the live storage, with a scratch file.

All happens below one directory of a name that nobody else has, and it is removed at the end.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import NamedTuple

from vse.app.site import Site
from vse.config.settings import ProtocolSettings
from vse.errors import AlreadyExists, ChecksumMismatch, NoPlan, NoSuchFile, ServerFault, Unsupported, VseError
from vse.model import Adler32, Checksum
from vse.storage.contract import Capabilities, Driver
from vse.storage.drivers import build, protocol_of
from vse.storage.element import StorageElement
from vse.storage.placement import path_at

SCRATCH = bytes(range(256)) * 300 + b"\x01\x00"
"""What is written: 76 kB, not all alike."""


class Proof(NamedTuple):
    """What became of one capability. ``works`` is None where it was not tried, and ``found`` says why."""

    section: str
    capability: str
    declared: bool
    works: bool | None
    found: str
    seconds: float


def check(site: Site, element: StorageElement) -> Iterator[Proof]:
    """Yield the proof of each capability of each protocol section, as they are made."""
    wait_s = site.settings.stager.no_progress_s
    for section in element.settings.protocols:
        try:
            driver = build(section, wait_s)
            protocol = protocol_of(section)
        except VseError as error:
            yield Proof(section.section, "connect", True, False, error.found or str(error), 0.0)
            continue
        may = {name: _refusal(element, name, section) for name in ("write", "remove")}
        try:
            yield from _Check(section, f"{section.section} ({protocol})", driver, may).proofs()
        finally:
            driver.close()


def _refusal(element: StorageElement, operation: str, section: ProtocolSettings) -> str:
    """Return why the settings do not let an operation be done by a section; empty if they do."""
    try:
        plan = element.plan("write" if operation == "write" else "remove")
    except NoPlan as error:
        return error.found
    if any(one.section == section.section for one in plan.sections):
        return ""
    return "; ".join(one.reason for one in plan.rejected if one.section == section.section)


class _Check:
    """The proofs of one protocol section."""

    def __init__(
        self, section: ProtocolSettings, shown: str, driver: Driver, refusals: dict[str, str]
    ) -> None:
        self._shown = shown
        self._driver = driver
        self._refusals = refusals
        self._root = path_at(section.path, "/")
        name = f".vse-check-{uuid.uuid4().hex}"
        self._base = path_at(section.path, f"/{name}")
        self._file = f"{self._base}/scratch.bin"
        self._checksum = _adler32(SCRATCH)

    def proofs(self) -> Iterator[Proof]:
        can = self._driver.capabilities
        writable = can.write and not self._refusals["write"] and can.remove and not self._refusals["remove"]
        yield self._try("look", True, self._look)
        if not writable:
            yield from self._untried(can)
            return
        try:
            written = self._try("write", True, self._write)
            yield written
            if written.works:
                yield from self._with_file(can)
        finally:
            self._clear()
        yield self._try("remove", True, self._removed)

    def _untried(self, can: Capabilities) -> Iterator[Proof]:
        reason = self._refusals["write"] or self._refusals["remove"] or "it needs a scratch file"
        yield self._try("list", can.list, self._list_root)
        yield self._try("space", can.space, lambda: self._driver.space(self._root))
        for name, declared in _declared(can):
            if name not in ("list", "space"):
                yield Proof(self._shown, name, declared, None, reason if declared else "", 0.0)

    def _with_file(self, can: Capabilities) -> Iterator[Proof]:
        attempts: dict[str, Callable[[], object]] = {
            "list": self._list,
            "rename": self._rename,
            "space": lambda: self._driver.space(self._base),
            "checksum": self._told_checksum,
            "local paths": lambda: _expect(self._driver.local_path(self._file).read_bytes() == SCRATCH),
            "make directory": lambda: self._driver.make_directory(f"{self._base}/directory"),
            "link": self._link,
            "tape": lambda: self._driver.poll([self._file]).one(self._file),
        }
        yield self._try("read", True, self._read)
        yield self._try("read ranges", True, self._read_ranges)
        yield self._try("write once", True, self._write_once)
        yield self._try("refuse wrong bytes", True, self._refuse_wrong)
        for name, declared in _declared(can):
            if name in attempts:
                yield self._try(name, declared, attempts[name])
            elif name in ("pull", "push"):
                reason = "it takes two storages: see vse se matrix" if declared else ""
                yield Proof(self._shown, name, declared, None, reason, 0.0)

    def _try(self, capability: str, declared: bool, attempt: Callable[[], object]) -> Proof:
        if not declared:
            return Proof(self._shown, capability, False, None, "", 0.0)
        started_s = time.monotonic()
        works: bool | None = True
        found = ""
        try:
            attempt()
        except Unsupported as error:  # a driver speaks for many servers, and not each tells these
            works, found = (None if capability in _SERVERS_OWN else False), error.found
        except VseError as error:
            works, found = False, error.found or str(error)
        except OSError as error:
            works, found = False, error.strerror or str(error)
        return Proof(self._shown, capability, True, works, found, time.monotonic() - started_s)

    # -- attempts ------------------------------------------------------------------------------------

    def _look(self) -> None:
        """The storage answers; a root that is not there yet (object stores) is an answer."""
        for error in self._driver.stat([self._root]).failed.values():
            if not isinstance(error, NoSuchFile):
                raise error

    def _list_root(self) -> None:
        next(iter(self._driver.list(self._root)), None)

    def _write(self) -> None:
        self._put(self._file, SCRATCH, self._checksum)

    def _put(self, path: str, data: bytes, checksum: Checksum) -> None:
        with self._driver.put(path, len(data), checksum) as upload:
            upload.write(data)
            upload.commit()

    def _read(self) -> None:
        with self._driver.open(self._file) as reader:
            _expect(b"".join(bytes(piece) for piece in reader.stream()) == SCRATCH)

    def _read_ranges(self) -> None:
        ranges = [(0, 10), (70_000, 500), (333, 1000)]
        with self._driver.open(self._file) as reader:
            found = reader.pread_many(ranges)
        _expect(found == [SCRATCH[offset : offset + size] for offset, size in ranges])

    def _write_once(self) -> None:
        with suppress(AlreadyExists):
            self._put(self._file, SCRATCH, self._checksum)
            raise ServerFault("write once", "a file was written over")

    def _refuse_wrong(self) -> None:
        with suppress(ChecksumMismatch):
            self._put(f"{self._base}/wrong.bin", SCRATCH, Checksum.adler32(1))
            raise ServerFault("refuse wrong bytes", "a file with another checksum than declared was taken")
        _expect(f"{self._base}/wrong.bin" not in self._driver.stat([f"{self._base}/wrong.bin"]).ok)

    def _list(self) -> None:
        _expect([child.path for child in self._driver.list(self._base)] == [self._file])

    def _rename(self) -> None:
        self._driver.rename(self._file, f"{self._base}/renamed.bin")
        self._driver.rename(f"{self._base}/renamed.bin", self._file)

    def _link(self) -> None:
        self._driver.link(self._file, f"{self._base}/linked.bin")
        _expect(f"{self._base}/linked.bin" in self._driver.stat([f"{self._base}/linked.bin"]).ok)

    def _told_checksum(self) -> None:
        known = {"adler32": self._checksum.value} | {
            name: hashlib.new(name, SCRATCH, usedforsecurity=False).hexdigest() for name in ("md5", "sha256")
        }
        refused: VseError | None = None
        told: list[Checksum] = []
        for algorithm in sorted(self._driver.capabilities.checksums & known.keys()):
            try:
                told.append(self._driver.checksum([self._file], algorithm).one(self._file))
            except Unsupported as error:  # which of them a server computes is its own affair
                refused = error
        for one in told:
            if one.value != known[one.algorithm]:
                raise ServerFault("compare", f"it says {one}, the bytes have {known[one.algorithm]}")
        if not told and refused is not None:
            raise refused

    def _clear(self) -> None:
        """Remove all that may have been left; what is not there is not missed."""
        names = ("scratch.bin", "renamed.bin", "linked.bin", "wrong.bin", "directory")
        with suppress(VseError):
            self._driver.remove([f"{self._base}/{name}" for name in names])
            self._driver.remove([self._base])

    def _removed(self) -> None:
        left = [path for path in (self._file, self._base) if path in self._driver.stat([path]).ok]
        if left:
            raise ServerFault("remove the scratch file", f"still there: {', '.join(left)}")


_SERVERS_OWN = ("space", "checksum")


def _declared(can: Capabilities) -> list[tuple[str, bool]]:
    return [
        ("list", can.list),
        ("rename", can.rename),
        ("space", can.space),
        ("checksum", bool(can.checksums)),
        ("local paths", can.local_paths),
        ("make directory", can.make_directory),
        ("link", can.link),
        ("tape", can.stage),
        ("pull", bool(can.pull)),
        ("push", bool(can.push)),
    ]


def _expect(right: bool) -> None:
    if not right:
        raise ServerFault("check", "it answers, but not what was written")


def _adler32(data: bytes) -> Checksum:
    total = Adler32()
    total.update(data)
    return total.checksum
