"""What people do wrong, or find wrong, at the command line: told in words, with what to do, and a code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support.command_line import Command, InProcess, clean_environment

pytestmark = pytest.mark.slow

SCRIPT = "def process(events):\n    return {'n': len(events)}\n"


@pytest.fixture
def site(vse: Command) -> InProcess:
    """A site with a file, and in its directory a script and a file that is in the way."""
    here = InProcess(vse.directory)
    for name, text in (("a.txt", "hello"), ("script.py", SCRIPT), ("plain", "")):
        (here.directory / name).write_text(text)
    assert here("register", "a.txt", "--to", "/lhc/me").code == 0
    return here


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("get", "/lhc/me/a.txt", "plain"), 7, "cannot get /lhc/me/a.txt: plain: it is a file"),
        (("analyse", "script.py", "/lhc/me/a.txt", "-o", "plain"), 7, "plain: it is a file"),
        (("bench", "vaf", "--plots", "plain"), 7, "cannot draw the figures: plain: it is a file"),
        (("bench", "staging", "-o", "plain/x"), 7, "plain/x: Not a directory. Name another directory"),
        (("demo", "--directory", "plain"), 7, "plain: it is a file. Name another directory"),
        (("ls", "/lhc/mee"), 3, "it is not in the catalogue. Look for it: vse ls, vse find"),
        (("stage", "muons"), 3, "this site has none of that name. List them: vse dataset list"),
        (("stage", "/lhc/me/a.txt", "--to", "LOCL-DISK"), 3, "Did you mean LOCAL-DISK?"),
        (("stage", "/lhc/me/a.txt", "--pin", "soon"), 2, "Write it as 90s, 30m, 12h, 7d or 2w"),
        (("--set", "stager.slts=4", "ls", "/"), 2, "there is no setting 'slts'. Did you mean 'slots'?"),
        (("--site", "nowhere", "ls", "/"), 3, "there is no vse.toml. Make one: vse init nowhere"),
        (("statsu",), 2, "No such command 'statsu'. Did you mean 'status'"),
        (("status", "--wach"), 2, "No such option: --wach"),
        (("register", "new\nline", "--to", "/lhc/me"), 2, r"'/lhc/me/new\nline' as a logical file name"),
        (("analyse", "none.py", "/lhc/me"), 2, "cannot load the script none.py: No such file"),
        (("status", "abc"), 2, "Invalid value for 'REQUEST': Input should be a valid integer, not 'abc'"),
        (("status", "--every", "soon"), 2, "'--every': Input should be a valid number, not 'soon'"),
        (("request", "list", "--limit", "0"), 2, "not '0'"),
        (("--set", "stager.slots=x", "ls", "/"), 2, "Input should be a valid integer, not 'x'"),
        (("register", "none", "--to", "/x"), 2, "it is not a file. Name files"),
        (("cp", "none", "/x"), 2, "it is not there. Name a file of this machine, or an LFN"),
        (("dataset", "import", "none", "d"), 2, "No such file or directory. Name a file of this machine"),
        (("catalogue", "load", "none.csv"), 2, "No such file or directory. Name a file of this machine"),
        (("catalogue", "load", "none.jsonl"), 2, "load none.jsonl: No such file or directory. Name a file"),
        (("catalogue", "load", "none.parquet"), 2, "No such file or directory. Name a file of this machine"),
        (("consistency", "LOCAL-DISK", "--listing", "none"), 2, "No such file or directory. Name a file"),
        (("stager", "import", "none"), 2, "No such file or directory. Name a file of this machine"),
        (("status", "9"), 2, "there is no such request. See them all with 'vse request list --all'"),
    ],
)
def test_what_was_wanted_found_and_to_do(
    site: InProcess, words: tuple[str, ...], code: int, said: str
) -> None:
    (site.directory / "new\nline").write_text("x")
    before = sorted(site.directory.rglob("*.html"))
    done = site(*words)
    assert done.code == code, done.err
    assert said in done.err
    assert "Traceback" not in done.err
    assert "fault of VSE" not in done.err
    assert sorted(site.directory.rglob("*.html")) == before


def test_an_import_shows_no_password(site: InProcess) -> None:
    """Neither of what is new, nor of what stands beside it in vse.toml."""
    (site.directory / "afdsmgrd.conf").write_text(
        "xpd.stagereqrepo dir:/lists\ndsmgrd.stagecmd /bin/true\ndsmgrd.notifyplugin libapmon.so\n"
        "dsmgrd.apmonurl apmon://:geheim@monitor.example.org:8884\ndsmgrd.apmonprefix MY::SITE\n"
    )
    settings = site.directory / "vse.toml"
    settings.write_text(settings.read_text() + '[monitor.plugins.own]\n"password" = "geheim too"\n')
    shown = site("stager", "import", "afdsmgrd.conf")
    assert shown.code == 0, shown.err
    assert "geheim" not in shown.out + shown.err
    assert 'url = "apmon://:***@monitor.example.org:8884"' in shown.out
    assert '"password" = "***"' in shown.out
    assert site("stager", "import", "afdsmgrd.conf", "--write").code == 0
    assert "apmon://:geheim@monitor.example.org:8884" in settings.read_text()
    assert "geheim" not in site("config", "show").out


def test_one_is_no_plural(site: InProcess) -> None:
    assert site("register", "plain", "--to", "/lhc/one").out == "1 file registered at LOCAL-DISK.\n"
    assert site("pin", "/lhc/one", "--for", "1d").out == "1 file stays at LOCAL-DISK for 1d.\n"
    assert "d@1: 1 file, 0 B." in site("dataset", "create", "d", "/lhc/one").out
    assert "1 copy known, 1 file held" in site("consistency", "LOCAL-DISK", "--base", "/lhc/one").out
    assert site("catalogue", "dump", "all.csv", "--base", "/lhc/one").err == "1 row written.\n"


def test_names_that_are_odd_are_names(site: InProcess) -> None:
    for name in ("with space é.txt", "[red]*?'\".txt", "-n.txt"):
        (site.directory / name).write_text(name)
        done = site("register", "--to", "/lhc/odd", "--", name)
        assert done.code == 0, done.err
        assert site("cat", f"/lhc/odd/{name}").out == name
        assert site("stat", f"/lhc/odd/{name}0").err.startswith(f"error: cannot describe /lhc/odd/{name}0: ")


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", [("--help",), ("find", "/lhc"), ("find", "/lhc", "--json"), ("config", "show")]
)
def test_an_answer_for_which_there_is_no_room(site: InProcess, words: tuple[str, ...]) -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123 - a device
        done = started(site.directory, words, stdout=full)
    assert done.returncode == 7
    assert done.stderr == (
        "error: cannot write what was asked for: No space left on device. "
        "Make room on the disk that it goes to\n"
    )


@pytest.mark.slow
def test_an_answer_that_nobody_reads(site: InProcess) -> None:
    """The pipe is closed: ended like every other program; or standard output is: nothing to say."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = started(site.directory, ("config", "show"), stdout=writing)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")
    for words in (("status",), ("se", "show", "LOCAL-DISK", "--json")):
        done = started(site.directory, words, preexec_fn=lambda: os.close(1))
        assert done.returncode == 0
        assert "error" not in done.stderr


@pytest.mark.slow
def test_a_directory_of_somebody_else(site: InProcess, tmp_path: Path) -> None:
    """A place that cannot be written is told before anything is done for it."""
    (tmp_path / "theirs").mkdir(mode=0o555)
    rights = "-dac_override,-dac_read_search"
    almighty = os.geteuid() == 0
    prefix = ("setpriv", f"--bounding-set={rights}", f"--inh-caps={rights}") if almighty else ()
    done = started(site.directory, ("get", "/lhc/me/a.txt", str(tmp_path / "theirs")), prefix=prefix)
    assert done.returncode == 7
    assert "theirs: you may not write in it. Name another directory" in done.stderr


@pytest.mark.slow
def test_a_cluster_without_a_certificate_is_refused_at_once(site: InProcess) -> None:
    words = ("analyse", "script.py", "/lhc/me/a.txt", "--cluster", "tls://127.0.0.1:1")
    done = started(site.directory, words, stdout=subprocess.DEVNULL, timeout=20)
    assert done.returncode == 5
    assert done.stderr.startswith("error: cannot use the cluster tls://127.0.0.1:1: there is no certificate")
    assert "Traceback" not in done.stderr


def started(
    directory: Path, words: tuple[str, ...], *, prefix: tuple[str, ...] = (), **more: Any
) -> subprocess.CompletedProcess[str]:
    """Run ``vse`` as a process; ``more`` goes to `subprocess.run`."""
    return subprocess.run(
        [*prefix, sys.executable, "-m", "vse.cli", *words],
        **{"timeout": 60, **more},
        cwd=directory,
        env=clean_environment(),
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
