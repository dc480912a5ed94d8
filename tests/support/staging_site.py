"""A site for tests: a remote element full of files, a local one, a catalogue, and stagers.

Run as a program it is a stager of its own (`start_stager`), to be killed at any time. Among its settings,
``waits`` has it begin at a line of its input, ``pattern`` says what it asks for, and ``sources`` names other
elements than REMOTE, each in its directory.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support.databases import ensure_sqlite
from vse.catalogue.sql import SqlCatalogue
from vse.config.settings import DataManagement, ElementSettings, StagerSettings
from vse.db import Database
from vse.model import Contents, FindQuery, Lfn, NewFile
from vse.staging.approval import ApprovalRule
from vse.staging.requests import Staging
from vse.staging.stager import Parts, Stager
from vse.staging.status import Progress
from vse.staging.values import FileFailed, FileStaged, News
from vse.staging.why import Explainer
from vse.storage.drivers import Terms
from vse.storage.element import Elements, StorageElement
from vse.transfer.lifecycle import Policy
from vse.transfer.queue import Queue
from vse.transfer.verification import NoVerifier, Readers, Verifier

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
BASE = "/lhc/data"
FAST = {"backoff_s": 0.01, "backoff_max_s": 0.05, "slots": 4, "lease_s": 30.0, "verify": "checksum"}


def file_element(name: str, path: Path, **options: Any) -> StorageElement:
    path.mkdir(parents=True, exist_ok=True)
    settings = {"Name": name, "File": {"Protocol": "file", "Path": str(path)}, **options}
    return StorageElement(ElementSettings.model_validate(settings), DataManagement())


def http_element(name: str, port: int, no_progress_s: float = 60.0) -> StorageElement:
    section = {"Protocol": "http", "PluginName": "HTTP", "Host": "127.0.0.1", "Port": port, "Path": "/"}
    settings = {"Name": name, "WriteAccess": False, "Web": section}
    return StorageElement(
        ElementSettings.model_validate(settings), DataManagement(), terms=Terms(no_progress_s)
    )


class StagingSite:
    """Everything of a site in one directory; opening it twice is two processes of one site."""

    def __init__(
        self,
        root: Path,
        *,
        elements: list[StorageElement] | None = None,
        settings: dict[str, Any] | None = None,
        clock: Callable[[], float] = time.time,
        verifier: Verifier | None = None,
        url: str = "",
        approval: ApprovalRule | None = None,
    ) -> None:
        self.root = root
        self.clock = clock
        self.settings = StagerSettings.model_validate({**FAST, **(settings or {})})
        self.database = Database.open(url or ensure_sqlite(root / "vse.db"))
        self.catalogue = SqlCatalogue(self.database, clock)
        self.elements = Elements(elements or [self.remote_element(), self.local_element()])
        self.queue = Queue(self.database, Policy.of(self.settings), clock)
        self.staging = Staging(
            database=self.database,
            names=self.catalogue,
            catalogue=self.catalogue,
            elements=self.elements,
            queue=self.queue,
            clock=clock,
            approval=approval,
        )
        self.progress = Progress(self.database, clock, self.settings)
        self.explainer = Explainer(
            database=self.database,
            names=self.catalogue,
            elements=self.elements,
            queue=self.queue,
            progress=self.progress,
        )
        if verifier is None:
            contents = self.settings.verify == "contents"
            verifier = Readers(2, self.settings.verify_timeout_s) if contents else NoVerifier()
        self.verifier = verifier
        self.news: list[News] = []

    def remote_element(self) -> StorageElement:
        return file_element("REMOTE", self.root / "remote", WriteAccess=False)

    def local_element(self) -> StorageElement:
        return file_element("LOCAL", self.root / "local")

    # -- files -----------------------------------------------------------------------------------

    def local(self, lfn: str) -> Path:
        return self.root / "local" / lfn.lstrip("/")

    def remote(self, lfn: str) -> Path:
        return self.root / "remote" / lfn.lstrip("/")

    def add(self, files: dict[str, bytes], se: str = "REMOTE", *, write: bool = True) -> list[Lfn]:
        """Put files below `BASE` at the remote element, and register them."""
        names = {Lfn.parse(f"{BASE}/{name}"): data for name, data in files.items()}
        for lfn, data in names.items():
            if write:
                self.remote(lfn).parent.mkdir(parents=True, exist_ok=True)
                self.remote(lfn).write_bytes(data)
        result = self.catalogue.register(
            NewFile(lfn, len(data), zlib.adler32(data), se) for lfn, data in names.items()
        )
        assert not result.failed
        return list(names)

    def add_replica(self, lfn: Lfn, data: bytes, se: str) -> None:
        result = self.catalogue.register([NewFile(lfn, len(data), zlib.adler32(data), se)])
        assert not result.failed

    # -- work ------------------------------------------------------------------------------------

    def stager(self) -> Stager:
        parts = Parts(self.catalogue, self.catalogue, self.elements, self.queue, self.staging, self.verifier)
        return Stager(parts, self.settings, self.news.append, self.clock)

    def ask(self, pattern: str = "*", owner: str = "anna", tree: str = "") -> int:
        query = FindQuery(tree, base=Lfn.parse(BASE), pattern=pattern)
        return self.staging.request(query, owner, "LOCAL").id

    def stage(self, pattern: str = "*", tree: str = "") -> int:
        """Ask for the files and work until the request has ended."""
        request = self.ask(pattern, tree=tree)
        self.work([request])
        return request

    def work(self, until: list[int] | None) -> None:
        self.stager().run(threading.Event(), until)

    def close(self) -> None:
        self.verifier.close()
        self.elements.close()
        self.database.close()

    # -- what came of it -------------------------------------------------------------------------

    def partials(self) -> list[Path]:
        return [path for path in (self.root / "local").rglob("*.part") if path.is_file()]

    def staged(self) -> list[FileStaged]:
        return [one for one in self.news if isinstance(one, FileStaged)]

    def failed(self) -> list[FileFailed]:
        return [one for one in self.news if isinstance(one, FileFailed)]

    def contents(self, lfn: Lfn) -> Contents | None:
        return self.catalogue.resolve([lfn]).one(lfn).contents

    def places(self, lfn: Lfn) -> list[str]:
        return [replica.se for replica in self.catalogue.resolve([lfn]).one(lfn).replicas]


def start_stager(root: Path, settings: dict[str, Any], **pipes: int) -> subprocess.Popen[bytes]:
    """Start a stager of a site; it says when it is ready. ``pipes`` are those of `subprocess.Popen`."""
    words = [sys.executable, "-m", "support.staging_site", str(root), json.dumps(settings)]
    return subprocess.Popen(words, cwd=Path(__file__).parents[1], **pipes)  # type: ignore[call-overload,no-any-return]


def main() -> None:
    root, settings = Path(sys.argv[1]), json.loads(sys.argv[2])
    port, waits = settings.pop("web_port", None), settings.pop("waits", False)
    pattern = settings.pop("pattern", "*")
    sources = [file_element(name, root / name.lower()) for name in settings.pop("sources", ())]
    sources += [http_element("WEB", port)] if port else []
    elements = [*sources, file_element("LOCAL", root / "local")] if sources else None
    site = StagingSite(root, elements=elements, settings=settings)
    request = site.ask(pattern)
    print("ready", flush=True)
    if waits:
        sys.stdin.readline()
    site.work([request])
    site.close()


if __name__ == "__main__":
    main()
