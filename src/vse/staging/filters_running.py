"""Runs a filter over one file, in a process of its own that may crash, hang and overeat.

The file is fetched into a scratch directory, looked into, and handed to the process; what that writes is
looked into like any file that comes. Scratch files of a stager that was killed are swept by the next one,
and its filters end with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

from vse.config.filters import FilterSettings
from vse.errors import FilterFailed, Stalled, StorageFault, Unreadable
from vse.model import Adler32, Checksum, Contents, Entry
from vse.storage.contract import CHUNK_BYTES
from vse.storage.drivers.file_upload import PARTIAL_DIRECTORY, FileUpload, is_alive, sweep
from vse.storage.drivers.os_errors import mapped
from vse.transfer.abort import Abort
from vse.transfer.lifecycle import Transfer
from vse.transfer.making import Fetch, Made
from vse.transfer.verification import Verifier

_GRACE_S = 5.0
"""How long a filter may take to end by itself after SIGTERM."""
_LOOK_S = 0.2
_SAID_BYTES = 2000
_SWEEP_AGE_S = 24 * 3600.0
_MARK = re.compile(r"\$(IN|OUT|TREE)\b")


class Sieve:
    """`vse.transfer.making.Making` by one filter, for one transfer out of the file ``source``."""

    def __init__(
        self,
        name: str,
        settings: FilterSettings,
        transfer: Transfer,
        source: Entry,
        verifier: Verifier,
        scratch: Path,
    ) -> None:
        self._name = name
        self._settings = settings
        self._transfer = transfer
        self._source = source
        self._verifier = verifier
        self._scratch = scratch
        self._wanted = f"make {transfer.lfn} of {source.lfn} by the filter {name!r}"

    @contextmanager
    def made(self, fetch: Fetch, url: str, abort: Abort) -> Iterator[Made]:
        transfer = self._transfer
        with self._guarded(), _scratch_file(self._scratch, transfer.size_bytes, transfer.checksum) as upload:
            fetch(upload)
            partial = cast(Path, upload.partial_path())
            work = partial.with_suffix(".work")
            try:
                work.mkdir(mode=0o700)
                source = work / self._source.lfn.name
                os.link(partial, source)
                yield self._make(work, source, url, abort)
            finally:
                shutil.rmtree(work, ignore_errors=True)

    def _make(self, work: Path, source: Path, url: str, abort: Abort) -> Made:
        lfn, tree = self._transfer.lfn, self._transfer.tree
        before = self._verifier.check(self._source.lfn, source, tree, abort)
        if before is None:  # files are not looked into here; a filter is to be told the tree all the same
            before = self._verifier.check(self._source.lfn, source, tree, abort, "contents")
        plain = tree.rpartition("#")[2] or (before.tree if before else "")
        (work / "out").mkdir()
        target = work / "out" / lfn.name
        self._run(work, source, target, plain, abort)
        if target.is_symlink() or not target.is_file() or not target.stat().st_size:
            raise FilterFailed(self._wanted, "it ended well and wrote nothing to its $OUT", "mend the filter")
        try:
            after = self._verifier.check(lfn, target, "", abort, self._settings.verify)
        except Unreadable as error:
            found = f"what it wrote is no sound file: {error.found}"
            raise FilterFailed(self._wanted, found, "mend the filter, and stage again") from error
        size_bytes, checksum = _sums(target)
        told = self._provenance(url, before, after, size_bytes)
        return Made(target, size_bytes, checksum, after, self._source, told)

    def same(self, made: Made, path: Path, abort: Abort) -> Made | None:
        """See `Making.same`. Two runs of a filter need not write the same bytes: tree and entries count."""
        with self._guarded():
            size_bytes, checksum = _sums(path)
        if checksum != made.checksum:
            try:
                contents = self._verifier.check(self._transfer.lfn, path, "", abort, self._settings.verify)
            except Unreadable:
                return None
            if contents is None or contents != made.contents:
                return None
        return made._replace(path=path, size_bytes=size_bytes, checksum=checksum)

    def _provenance(self, url: str, before: Contents | None, after: Contents | None, size_bytes: int) -> str:
        """Return ``filter:NAME:URL`` and, behind a blank, how the file was made, as JSON."""
        told = {
            "source": self._source.lfn,
            "guid": str(self._source.uuid) if self._source.uuid else None,
            "version": self._settings.version,
            "settings": self._settings.fingerprint,
            "entries_in": before.entries if before else None,
            "entries_out": after.entries if after else None,
            "size_in": self._transfer.size_bytes,
            "size_out": size_bytes,
        }
        return f"filter:{self._name}:{url} {json.dumps(told)}"

    # -- the process ---------------------------------------------------------------------------------

    def _run(self, work: Path, source: Path, target: Path, tree: str, abort: Abort) -> None:
        marks = {"IN": str(source), "OUT": str(target), "TREE": tree}
        settings = self._settings
        order: dict[str, Any] = {
            "kind": settings.kind,
            "source": str(source),
            "target": str(target),
            "tree": tree,
            "command": [_MARK.sub(lambda one: marks[one[1]], part) for part in settings.command],
            "entry": settings.entry or self._name,
            "options": settings.options,
            "branches": list(settings.branches),
            "where": settings.where,
            "memory_bytes": settings.memory_bytes,
            "output_bytes": settings.output_bytes,
        }
        process = _Process(order, work, self._wanted)
        try:
            self._wait(process, abort)
        finally:
            process.end()
        abort.check()
        if process.code:
            said = f"; it said: {process.said}" if process.said else ""
            raise FilterFailed(
                self._wanted, f"it {_ending(process.code)}{said}", "mend the filter, and stage again"
            )

    def _wait(self, process: _Process, abort: Abort) -> None:
        until_s = time.monotonic() + self._settings.timeout_s
        while process.runs():
            abort.check()
            if time.monotonic() > until_s:
                raise Stalled(
                    self._wanted,
                    f"it did not come to an end within {self._settings.timeout_s:g} s",
                    f"raise filters.{self._name}.timeout_s, or see what it waits for",
                )
            process.listen(min(_LOOK_S, max(0.0, until_s - time.monotonic())))

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise mapped(self._wanted, error) from error


class _Process:
    """A filter's process with all that it starts; they are a group of their own."""

    def __init__(self, order: dict[str, Any], work: Path, wanted: str) -> None:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("VSE_")}
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "vse.staging.filters_process", json.dumps(order), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd=work,
                env={**kept, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "TMPDIR": str(work)},
                start_new_session=True,
            )
        except OSError as error:
            raise StorageFault(wanted, error.strerror or str(error)) from error
        self._output = cast(IO[bytes], self._process.stdout)
        self._listens = True
        self._said = b""
        self.code = 0

    @property
    def said(self) -> str:
        """The end of what it wrote to its standard output and error, on one line."""
        return " ".join(self._said.decode(errors="replace").split())[-500:]

    def runs(self) -> bool:
        """Whether it has not ended; its number is kept, so that its group can be ended safely."""
        how = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self._process.pid, how) is None

    def listen(self, wait_s: float) -> None:
        """Take what it says, for so long at most."""
        if not self._listens:
            time.sleep(min(wait_s, 0.02))
            return
        ready, _, _ = select.select([self._output], [], [], wait_s)
        if ready:
            piece = os.read(self._output.fileno(), 65536)
            self._listens = bool(piece)
            self._said = (self._said + piece)[-_SAID_BYTES:]

    def end(self) -> None:
        """End it, first politely, and all that it has left running."""
        if self.runs():
            self._signal(signal.SIGTERM)
            until_s = time.monotonic() + _GRACE_S
            while self.runs() and time.monotonic() < until_s:
                self.listen(_LOOK_S / 4)
        self._signal(signal.SIGKILL)
        self.code = self._process.wait()
        while self._listens and select.select([self._output], [], [], 0)[0]:
            self.listen(0)
        self._output.close()

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)


@contextmanager
def _scratch_file(scratch: Path, size_bytes: int, checksum: Checksum | None) -> Iterator[FileUpload]:
    scratch.mkdir(parents=True, exist_ok=True)
    _sweep(scratch)
    with FileUpload(scratch, "a scratch file", scratch / "never", size_bytes, checksum) as upload:
        yield upload


def _sweep(scratch: Path) -> None:
    """Remove what stagers left that were killed."""
    sweep(scratch, _SWEEP_AGE_S, time.time())
    for work in (scratch / PARTIAL_DIRECTORY).glob("*.work"):
        if not is_alive(work.with_suffix(".part")):
            shutil.rmtree(work, ignore_errors=True)


def _sums(path: Path) -> tuple[int, Checksum]:
    total = Adler32()
    with path.open("rb") as file:
        while piece := file.read(CHUNK_BYTES):
            total.update(piece)
    return total.size_bytes, total.checksum


def _ending(code: int) -> str:
    if code > 0:
        return f"failed (exit code {code})"
    if code == -signal.SIGXFSZ:
        return "wrote more than its output_bytes allows"
    try:
        return f"crashed ({signal.Signals(-code).name})"
    except ValueError:
        return f"crashed (signal {-code})"
