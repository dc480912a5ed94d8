"""The command line as a user has it: a process, its output, its exit code."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from vse.app.init import init_site
from vse.app.register import register_stored
from vse.app.site import Site
from vse.cli.main import run
from vse.config.load import load
from vse.demo import remote
from vse.model import Lfn, NewFile

REAL_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
ZMUMU = sorted(REAL_DATA.glob("uproot-Zmumu*.root"))


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


@dataclass(frozen=True)
class Command:
    """``vse`` in a directory."""

    directory: Path

    def __call__(
        self, *words: str, environment: dict[str, str] | None = None, timeout_s: float = 120
    ) -> Answer:
        done = subprocess.run(
            [sys.executable, "-m", "vse.cli", *words],
            cwd=self.directory,
            env={**clean_environment(), **(environment or {})},
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
        out = done.stdout.decode(errors="replace")
        return Answer(done.returncode, out, done.stderr.decode(errors="replace"))

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "vse.cli", *words],
            cwd=self.directory,
            env=clean_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )


@dataclass(frozen=True)
class InProcess(Command):
    """``vse`` in this process: the same words, output and exit code, without a second to start."""

    def __call__(self, *words: str, **_: object) -> Answer:
        out, err, before = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.StringIO(), sys.argv
        sys.argv = ["vse", *words]
        try:
            with (
                contextlib.chdir(self.directory),
                contextlib.redirect_stdout(out),
                contextlib.redirect_stderr(err),
                pytest.raises(SystemExit) as ended,
            ):
                run()
        finally:
            sys.argv = before
        out.flush()
        written: bytes = out.buffer.getvalue()
        return Answer(int(ended.value.code or 0), written.decode(), err.getvalue())


def add_element(site: Path, name: str, directory: str, *, writable: bool = True) -> None:
    """Give a site one more storage element, in a directory of its own."""
    (site / directory).mkdir()
    with (site / "vse.toml").open("a") as settings:
        settings.write(
            f'\n[StorageElements.{name}]\nBackendType = "local"\nWriteAccess = {str(writable).lower()}\n'
            f"\n[StorageElements.{name}.File]\n"
            f'Protocol = "file"\nPath = "{directory}"\nAccess = "local"\n'
        )


def site_with_files_far(root: Path, names: Sequence[str]) -> InProcess:
    """Make a site that knows files of ten zero bytes each, at an element FAR in its directory ``far``."""
    init_site(root, name="test")
    add_element(root, "FAR", "far", writable=False)
    for name in names:
        (root / f"far{name}").parent.mkdir(parents=True, exist_ok=True)
        (root / f"far{name}").write_bytes(bytes(10))
    with Site.open(load(root / "vse.toml")) as site:
        assert not site.catalogue.register(NewFile(Lfn(name), 10, 655361, "FAR") for name in names).failed
    return InProcess(root)


def register_numbers(vse: Command, place: Path, files: int, entries: int) -> None:
    """Register files below /lhc whose trees ``events`` count on: ``x`` is 0 to ``files * entries`` in all."""
    import numpy as np
    import uproot

    paths = [place / f"{number}.root" for number in range(files)]
    for number, path in enumerate(paths):
        with uproot.recreate(path) as file:
            file["events"] = {"x": np.arange(number * entries, (number + 1) * entries)}
    assert vse("register", *map(str, paths), "--to", "/lhc").code == 0


def clean_environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("VSE_")} | {
        "COLUMNS": "200"
    }


@dataclass
class TwoSites:
    """A remote site that serves files, and a local one that knows it."""

    remote: Path
    local: Path
    vse: Command

    def add(self, source: Path, name: str) -> Lfn:
        """Put a file on the remote storage; `publish` makes the remote catalogue know it."""
        lfn = Lfn.parse(f"{remote.REAL_BASE}/{name}")
        target = self.stored(lfn)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        return lfn

    def stored(self, lfn: Lfn) -> Path:
        return self.remote / "storage" / lfn[1:]

    def here(self, lfn: Lfn) -> Path:
        return self.local / "storage" / lfn[1:]

    def link(self, lfn: Lfn) -> Path:
        return self.local / "vse" / lfn[1:]

    def publish(self) -> None:
        with Site.open(load(self.remote / "vse.toml")) as site:
            element = site.elements.get(remote.ELEMENT)
            assert not register_stored(site, element, remote.REAL_BASE, contents=False).failed

    @property
    def query(self) -> str:
        return f"Find;BasePath={remote.REAL_BASE};FileName=*.root"
