"""A staging command of the site's own (seed 002 §4.3.5.1, §4.3.5.2, C.2: stagecmd).

Each file is a process group of its own, whose standard output goes to a file. Nothing but the line it
writes there counts, whatever its exit code: "since the external command might crash when opening corrupted
files, the operation is considered successful only if a specific string has been produced"::

    OK <url> Tree: <tree> EndpointUrl: <url> Size: <bytes> Events: <entries>
    FAIL <url> Reason: <why>
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO
from urllib.parse import quote

from vse.catalogue.port import Catalogue
from vse.config.settings import ExternalSettings
from vse.errors import NoPlan, NoSuchEntry, SizeMismatch, SourceUnavailable, Stalled, StorageFault
from vse.model import Contents, Entry, NewFile
from vse.staging.afdsmgrd_conf import SHARE
from vse.storage.element import Elements
from vse.transfer.instance import dead, judged, name_of
from vse.transfer.lifecycle import Transfer
from vse.transfer.mover import Job, Live, MayRead, Moved, Mover

_KEY = re.compile(r"(?:^|\s)(Tree|EndpointUrl|Size|Events|Reason):", re.IGNORECASE)
_NAMES = "URLTOSTAGE|TREENAME|SOURCEURL|LFN|SIZE"
_VARIABLE = re.compile(rf"\$(?:({_NAMES})\b|\{{({_NAMES})\}})")
_READ_BYTES = 256 * 1024
_TOLD_BYTES = 300
_KILL_AFTER_S = 2.0
"""Less than a stager waits for a move that it has ended."""
_LOOK_S = 0.05
_LEFT_S = 86400.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What the line says. ``size_bytes`` and ``entries`` are None where it gives no number."""

    ok: bool
    url: str
    tree: str = ""
    endpoint: str = ""
    size_bytes: int | None = None
    entries: int | None = None
    reason: str = ""


def parse_answer(output: str) -> Answer | None:
    """Return what the last line of ``output`` that begins with OK or FAIL says; None where none does.

    The fields may come in any order, with or without blanks behind the colon, or not at all. Total: any text
    gives an answer or None.
    """
    found = None
    for line in output.replace("\0", "").splitlines():
        word, _, rest = line.strip().partition(" ")
        if word in ("OK", "FAIL"):
            found = (word == "OK", rest)
    if found is None:
        return None
    ok, rest = found
    pieces = _KEY.split(rest)
    fields = {key.lower(): value.strip() for key, value in zip(pieces[1::2], pieces[2::2], strict=True)}
    return Answer(
        ok,
        pieces[0].strip(),
        fields.get("tree", ""),
        fields.get("endpointurl", ""),
        _number(fields.get("size", "")),
        _number(fields.get("events", "")),
        fields.get("reason", ""),
    )


def _number(text: str) -> int | None:
    match = re.match(r"\d{1,18}(?!\S)", text, re.ASCII)
    return int(match.group()) if match else None


def words_of(command: str, values: Mapping[str, str]) -> list[str]:
    """Split a command as a shell does and put the values of its ``$VARIABLES`` into the words.

    Names get into single words as they are, however they look: no shell and no second pass sees them.
    """

    def put(match: re.Match[str]) -> str:
        return values.get(match.group(1) or match.group(2), "")

    return [_VARIABLE.sub(put, word) for word in shlex.split(command)]


class External:
    """Runs the command for the files that are to come by it; serves any number of threads."""

    def __init__(
        self, settings: ExternalSettings, elements: Elements, catalogue: Catalogue, directory: Path
    ) -> None:
        """``directory`` is where the output of running commands is kept, and who runs."""
        self._settings = settings
        self._elements = elements
        self._catalogue = catalogue
        self._directory = directory
        self._destinations = frozenset(map(elements.name_of, settings.destinations))
        self._sources = frozenset(map(elements.name_of, settings.sources))

    def sweep(self) -> int:
        """End commands whose stager was killed; return how many. Others would run beside their successors.

        What those of other boots, containers and machines left cannot be judged, and goes when it is old:
        who writes it still has it open.
        """
        ended = 0
        self._forget_old()
        for record in self._directory.glob("*.run"):
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                told = json.loads(record.read_text("utf-8"))
                if not dead([told["owner"]]):
                    continue
                if not dead([told["leader"]]):
                    ended += 1
                    _kill_group(int(told["pid"]), signal.SIGKILL)
                record.unlink(missing_ok=True)
                record.with_suffix(".out").unlink(missing_ok=True)
        return ended

    def _forget_old(self) -> None:
        oldest_s = time.time() - _LEFT_S
        for path in self._directory.glob("*.*"):
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                if path.suffix not in (".run", ".out") or path.stat().st_mtime >= oldest_s:
                    continue
                record = path.with_suffix(".run")
                if record.exists() and judged([json.loads(record.read_text("utf-8"))["owner"]]):
                    continue
                record.unlink(missing_ok=True)
                record.with_suffix(".out").unlink(missing_ok=True)

    def takes(self, job: Job) -> bool:
        """Whether a transfer comes by the command."""
        if not self._settings.command:
            return False
        first = job.sources[0].se if job.sources else ""
        return job.transfer.destination in self._destinations or first in self._sources

    def move(self, job: Job, live: Live, mover: Mover, may_read: MayRead) -> Moved:
        """Let the command bring a file; raises what it says stood in the way.

        A file whose size the catalogue knows is verified here as one that was found at its destination;
        one that the catalogue does not know (of a list of afdsmgrd) is registered as the line describes it.
        """
        transfer = job.transfer
        url = self._url(transfer)
        live.begin(None)
        live.read_through()  # what the command does shows no bytes
        answer = self._run(transfer, self._values(job, url), live)
        live.whole.check()
        if not answer.ok:
            why = answer.reason or "it gives no reason"
            raise SourceUnavailable(f"stage {transfer.lfn}", f"the staging command says FAIL: {why}"[:500])
        known = self._known(transfer)
        usual = self._elements.get(transfer.destination).local_path(transfer.lfn)
        if known is not None and usual is not None and usual.exists():
            asked = replace(transfer, size_bytes=known.size_bytes or 0, adler32=known.adler32)
            verified = mover.move(Job(asked, (), job.destination), live, may_read)
            if verified is not None:
                return verified._replace(source=url, url=_stored_url(transfer, answer.endpoint))
        local = _listed_path(transfer) or usual
        stored = _stored_url(transfer, answer.endpoint)
        size_bytes = self._size(transfer, answer, known.size_bytes if known else None, local)
        contents = Contents(answer.tree, answer.entries) if answer.entries is not None else None
        if known is None:
            new = NewFile(transfer.lfn, size_bytes, None, transfer.destination, stored)
            self._catalogue.register([new]).one(transfer.lfn)
        return Moved(url, size_bytes, contents, local, stored)

    def _url(self, transfer: Transfer) -> str:
        if transfer.given_source:
            return transfer.given_source
        element = self._elements.get(transfer.destination)
        local = element.local_path(transfer.lfn)
        url = str(local) if local else element.registration_url(transfer.lfn)
        if not url:
            raise NoPlan(f"stage {transfer.lfn}", f"{transfer.destination} gives it no URL")
        return url

    def _values(self, job: Job, url: str) -> dict[str, str]:
        transfer = job.transfer
        return {
            "URLTOSTAGE": url,
            "TREENAME": transfer.tree,
            "SOURCEURL": job.sources[0].url if job.sources else url,
            "LFN": str(transfer.lfn),
            "SIZE": str(transfer.size_bytes),
        }

    def _known(self, transfer: Transfer) -> Entry | None:
        try:
            return self._catalogue.stat([transfer.lfn]).one(transfer.lfn)
        except NoSuchEntry:
            return None

    def _size(self, transfer: Transfer, answer: Answer, known: int | None, local: Path | None) -> int:
        """Return the size that all agree on: the line, the file where it can be seen, the catalogue."""
        told = {"the catalogue says": known, "the staging command says": answer.size_bytes}
        if local is not None:
            with contextlib.suppress(OSError):
                told[f"{local} has"] = local.stat().st_size
        sizes = {words: size for words, size in told.items() if size is not None}
        if not sizes:
            raise SizeMismatch(f"stage {transfer.lfn}", "the staging command says OK, but no Size")
        if len(set(sizes.values())) > 1:
            found = ", ".join(f"{words} {size}" for words, size in sizes.items())
            raise SizeMismatch(f"stage {transfer.lfn}", f"sizes in bytes differ: {found}")
        return next(iter(sizes.values()))

    # -- the process -----------------------------------------------------------------------------

    def _run(self, transfer: Transfer, values: Mapping[str, str], live: Live) -> Answer:
        words = words_of(self._settings.command, values)
        base = self._directory / f"{transfer.id}.{transfer.attempts}.{os.getpid()}"
        record, output = base.with_suffix(".run"), base.with_suffix(".out")
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            with output.open("w+b") as out:
                process = _start(words, out)
                record.write_text(_record(process.pid), "utf-8")
                timed_out = self._wait(process, live)
                live.whole.check()
                return _read(out, transfer, process.returncode, timed_out, self._settings.timeout_s)
        except OSError as error:
            found = f"{' '.join(words[:1])}: {error.strerror or error}"
            raise StorageFault("run the staging command", found, "see stager.external.command") from error
        finally:
            for path in (record, output):
                path.unlink(missing_ok=True)

    def _wait(self, process: subprocess.Popen[bytes], live: Live) -> bool:
        """Wait for the end of the command, and see to it; return whether it took too long."""
        limit_s = self._settings.timeout_s
        until_s = time.monotonic() + limit_s if limit_s else None
        try:
            while process.poll() is None:
                if live.whole.reason is not None:
                    return False
                if until_s is not None and time.monotonic() > until_s:
                    return True
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_LOOK_S)
            return False
        finally:
            _end_group(process)


def _listed_url(transfer: Transfer) -> str:
    """Return the URL that a list of afdsmgrd has for a file; empty for a file of others."""
    return (transfer.given_source or "") if transfer.share == SHARE else ""


def _stored_url(transfer: Transfer, endpoint: str) -> str | None:
    """Return the URL of the copy for the catalogue: the one told, else the one that a list has for it.

    It is that of the whole file, without an anchor. None where the LFN says enough.
    """
    listed, anchor, member = _listed_url(transfer).partition("#")
    told = endpoint.removesuffix(anchor + member) or listed
    if told.startswith("/"):
        return f"file://{quote(told)}" if listed else None
    scheme, is_url, _ = told.partition("://")
    return told if is_url and scheme not in ("alien", "lfn") else None


def _listed_path(transfer: Transfer) -> Path | None:
    """Return the path on this machine that a list has for a file; None where it has none."""
    listed = _listed_url(transfer).partition("#")[0]
    return Path(listed.removeprefix("file://")) if listed.startswith(("/", "file:///")) else None


def _start(words: Sequence[str], out: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        list(words),
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _record(pid: int) -> str:
    return json.dumps({"owner": name_of(os.getpid()), "leader": name_of(pid), "pid": pid})


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End what is left of the command's group: ask first, then make it."""
    _kill_group(process.pid, signal.SIGTERM)
    deadline_s = time.monotonic() + _KILL_AFTER_S
    while _group_lives(process) and time.monotonic() < deadline_s:
        time.sleep(_LOOK_S)
    _kill_group(process.pid, signal.SIGKILL)
    process.wait()


def _group_lives(process: subprocess.Popen[bytes]) -> bool:
    process.poll()
    try:
        os.killpg(process.pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _kill_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _read(out: IO[bytes], transfer: Transfer, code: int | None, timed_out: bool, timeout_s: float) -> Answer:
    size = out.seek(0, os.SEEK_END)
    out.seek(max(0, size - _READ_BYTES))
    text = out.read(_READ_BYTES).decode(errors="replace")
    wanted = f"stage {transfer.lfn} with the staging command"
    if timed_out:
        raise Stalled(wanted, f"it did not end within {timeout_s:g} s", "raise stager.external.timeout_s")
    answer = parse_answer(text)
    if answer is None:
        last = " ".join(text.split())[-_TOLD_BYTES:]
        said = f"its last words: {last!r}" if last else "it wrote nothing"
        how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        raise SourceUnavailable(wanted, f"it ended without a line OK or FAIL ({how}); {said}")
    return answer


class MoverBeside:
    """`vse.transfer.mover.Mover`, or the command for what is to come by it."""

    def __init__(self, mover: Mover, external: External) -> None:
        self._mover = mover
        self._external = external

    def move(self, job: Job, live: Live, may_read: MayRead) -> Moved | None:
        if self._external.takes(job):
            return self._external.move(job, live, self._mover, may_read)
        return self._mover.move(job, live, may_read)
