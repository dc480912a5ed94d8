"""A database that is not there, as on a disk that is not mounted, is never taken for an empty catalogue."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.command_line import Command, InProcess
from support.other_user import as_nobody, open_to_all
from support.waiting import until

pytestmark = pytest.mark.slow

COMMANDS = [
    ("ls", "/"),
    ("find", "/lhc"),
    ("stage", "/lhc/*"),
    ("status",),
    ("register", "a.txt", "--to", "/lhc"),
    ("rm", "/lhc/a.txt"),
    ("why", "/lhc/a.txt"),
    ("doctor",),
    ("doctor", "--fix"),
    ("consistency", "LOCAL-DISK"),
    ("catalogue", "load", "a.csv"),
    ("analyse", "script.py", "/lhc"),
    ("stager", "list"),
    ("xrootd", "check"),
]


@pytest.fixture
def site(vse: Command) -> InProcess:
    """A site that knows a file."""
    here = InProcess(vse.directory)
    (here.directory / "a.txt").write_text("hello")
    (here.directory / "a.csv").write_text("lfn,size_bytes\n/lhc/b,1\n")
    (here.directory / "script.py").write_text("def process(events):\n    return 1\n")
    assert here("register", "a.txt", "--to", "/lhc").code == 0
    return here


@pytest.mark.parametrize("left", [True, False], ids=["an empty mount point", "no directory"])
def test_no_command_makes_a_catalogue_in_the_place_of_one_that_is_away(site: InProcess, left: bool) -> None:
    var, away = site.directory / "var", site.directory / "away"
    var.rename(away)
    if left:
        var.mkdir()
    missing = "it is not there" if left else f"there is no {var}"
    for words in COMMANDS:
        done = site(*words)
        assert done.code == 7, (words, done.out, done.err)
        assert done.err == (
            f"error: cannot open the database {var}/vse.db: {missing}. Mount the disk that it lies on; "
            f"for a new, empty catalogue: vse init {site.directory}\n"
        )
        assert done.out == ""
    assert [*var.glob("*")] == []
    if left:
        var.rmdir()
    away.rename(var)
    assert site("ls", "/lhc").lines == ["a.txt"]


def test_init_makes_the_catalogue_alone_where_the_rest_is_there(site: InProcess) -> None:
    settings = (site.directory / "vse.toml").read_bytes()
    again = site("init", "--name", "other")
    assert (again.code, "is there. Choose another directory" in again.err) == (4, True)
    shutil.rmtree(site.directory / "var")
    made = site("init", "--name", "other")
    assert (made.code, "a new, empty catalogue for the site 'test'" in made.out) == (0, True)
    assert (site.directory / "vse.toml").read_bytes() == settings
    assert site("ls", "/").lines == []
    assert site("register", "--scan", "/lhc").code == 0
    assert site("ls", "/lhc").lines == ["a.txt"]


def test_a_settings_file_written_by_hand_becomes_a_site_by_init(tmp_path: Path) -> None:
    (tmp_path / "vse.toml").write_text(
        f'[database]\nurl = "sqlite:///{tmp_path}/else where/names.db"\n[StorageElements.D.File]\n'
        'Protocol = "file"\nPath = "storage"\n'
    )
    vse = InProcess(tmp_path)
    assert vse("ls", "/").code == 7
    assert vse("init").code == 0
    assert vse("ls", "/").code == 0
    assert (tmp_path / "else where/names.db").exists()
    elsewhere = ("--set", "database.url=sqlite:///third.db")
    assert vse(*elsewhere, "ls", "/").code == 7
    assert vse(*elsewhere, "init").code == 0
    assert vse(*elsewhere, "ls", "/").code == 0


@pytest.mark.parametrize("name", ["LCG.Torino.it", "torino", "T2-IT_1"])
def test_names_of_sites_and_elements_are_those_of_dirac(tmp_path: Path, name: str) -> None:
    vse = InProcess(tmp_path)
    assert vse("init", "--name", name, "--element", f"{name}-DISK").code == 0
    assert f'site.name\t"{name}"' in vse("config", "show").lines
    assert vse("se", "list").out.startswith(f"{name}-DISK\t")
    (tmp_path / "a.txt").write_text("hello")
    assert vse("register", "a.txt", "--to", "/lhc", "--se", f"{name}-DISK").code == 0
    for wrong in ("", ".x", "a/b", "a b", "-x", 'a"b'):
        assert InProcess(tmp_path)("init", str(tmp_path / "n"), f"--name={wrong}").code == 2


@pytest.mark.slow
def test_a_service_waits_for_the_disk(site: InProcess) -> None:
    """Started before that is mounted, as with a wrong vse.toml: it goes on when all is right."""
    (site.directory / "var").rename(site.directory / "away")
    daemon = Command(site.directory).start("serve", "stager")
    try:
        assert daemon.stderr is not None
        told = json.loads(daemon.stderr.readline())
        assert (told["event"], told["error"]["wanted"]) == (
            "service.paused",
            f"open the database {site.directory}/var/vse.db",
        )
        assert not (site.directory / "var").exists()
        (site.directory / "away").rename(site.directory / "var")
        until(lambda: site("stager", "list", "--json").lines)
    finally:
        daemon.terminate()
        daemon.communicate(timeout=20)


@pytest.mark.slow
def test_a_database_that_may_not_be_read_or_is_none(shared: Path) -> None:
    open_to_all(shared)
    (shared / "var").chmod(0o700)
    prefix = "cannot open the database"
    denied = as_nobody(shared, "ls", "/")
    if denied.code:  # else our interpreter lies where nobody may only go with rights over all files
        assert denied.code == 7
        assert f"{prefix} {shared}/var/vse.db: Permission denied. Let nobody" in denied.err
    (shared / "var").chmod(0o777)
    (shared / "var/vse.db").write_text("these are my notes, not a database" * 100)
    for beside in ("-wal", "-shm"):
        (shared / f"var/vse.db{beside}").unlink(missing_ok=True)
    none = InProcess(shared)("ls", "/")
    assert none.code == 7
    assert "file is not a database. See that database.url names the right file" in none.err
    rights = "-dac_override,-dac_read_search"
    closed = shared / "vse.toml"
    closed.chmod(0)
    weak = ["setpriv", f"--bounding-set={rights}", f"--inh-caps={rights}"]
    done = subprocess.run(
        [*weak, sys.executable, "-m", "vse.cli", "ls", "/"],
        cwd=shared, env=os.environ | {"COLUMNS": "300"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "vse.toml: Permission denied. Let root read it, or name another site" in done.stderr
