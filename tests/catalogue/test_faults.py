"""Several processes on one file, a writer that is killed, and a disk that is full."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from vse.catalogue.metadata import Metadata
from vse.catalogue.sql import SqlCatalogue
from vse.db import Database
from vse.errors import StorageFull
from vse.model import Lfn, NewFile
from vse.model.tags import TagDefinition, TagType

HAMMER_S = float(os.environ.get("VSE_TEST_HAMMER_S", "4"))
"""For how long processes work on one file; 60 to be sure."""

WRITER = """
import sys, time
from vse.catalogue.metadata import Metadata
from vse.catalogue.port import NewReplica
from vse.catalogue.sql import SqlCatalogue
from vse.db import Database
from vse.model import Lfn, NewFile
url, me, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
catalogue = SqlCatalogue(Database.open(url), time.time, trash_s=60 if me == "w2" else 0)
metadata = Metadata(catalogue)
until, turn = time.monotonic() + seconds, 0
while time.monotonic() < until:
    lfns = [Lfn(f"/shared/{turn % 7}/{me}-{turn}-{i}") for i in range(50)]
    assert not catalogue.register([NewFile(lfn, 1, 1, me) for lfn in lfns]).failed
    assert not catalogue.add_replicas([NewReplica(lfn, "BOTH") for lfn in lfns]).failed
    assert not catalogue.remove(lfns[25:]).failed
    catalogue.rename(lfns[0], lfns[0].parent.child(f"renamed-{me}-{turn}"))
    catalogue.note_access(lfns[:25], "BOTH", time.time())
    assert not metadata.set(lfns[1:25], {"run": turn}).failed
    assert not metadata.unset(lfns[1:5], ["run"]).failed
    assert len(catalogue.resolve(lfns[1:25]).ok) == 24
    turn += 1
print(turn)
"""

READER = """
import sys, time
from vse.catalogue.metadata import Metadata
from vse.catalogue.sql import SqlCatalogue
from vse.db import Database
from vse.model import Lfn
url, seconds = sys.argv[1], float(sys.argv[2])
catalogue = SqlCatalogue(Database.open(url), time.time)
until, turn = time.monotonic() + seconds, 0
while time.monotonic() < until:
    found = [located.entry.lfn for located in catalogue.find(Lfn("/"), "*")]
    assert len(set(found)) == len(found)
    catalogue.resolve(found[:1000])
    list(Metadata(catalogue).find(Lfn("/shared"), "*", "run exists"))
    list(catalogue.list(Lfn("/")))
    turn += 1
print(turn)
"""

REGISTER = """
import sys, time
from vse.catalogue.sql import SqlCatalogue
from vse.db import Database
from vse.model import Lfn, NewFile
url, name, files = sys.argv[1], sys.argv[2], int(sys.argv[3])
catalogue = SqlCatalogue(Database.open(url), time.time)
new = [NewFile(Lfn(f"/{name}/{i // 100}/{i}"), i, i, "HERE") for i in range(files)]
print("go", flush=True)
catalogue.register(new)
print("done", flush=True)
"""


def start(script, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/vse.db"


def files_in(catalogue, base):
    return sum(1 for _ in catalogue.find(Lfn(base), "*"))


@pytest.mark.slow
def test_processes_write_and_read_together(url):
    catalogue = SqlCatalogue(Database.open(url), time.time)
    assert catalogue.make_directories([Lfn("/shared")], "root", "root").ok
    Metadata(catalogue).define(Lfn("/shared"), [TagDefinition("run", TagType.INTEGER, Lfn("/shared"), "")])
    running = [start(WRITER, url, name, HAMMER_S) for name in ("w1", "w2")]
    running += [start(READER, url, HAMMER_S) for _ in range(3)]
    turns = []
    for process in running:
        output, errors = process.communicate(timeout=100 + HAMMER_S)
        assert (process.returncode, errors) == (0, "")
        turns.append(int(output))
    assert min(turns) > 0
    assert files_in(catalogue, "/") == 25 * (turns[0] + turns[1])
    with catalogue.database.read() as connection:
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
        assert connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall() == []
    catalogue.database.close()


@pytest.mark.slow
def test_a_register_that_is_killed_leaves_all_or_nothing(url):
    began = time.monotonic()
    process = start(REGISTER, url, "whole", 40_000)
    assert process.stdout.readline() == "go\n"
    began = time.monotonic()
    assert process.stdout.readline() == "done\n"
    whole_s = time.monotonic() - began
    process.communicate()
    catalogue = SqlCatalogue(Database.open(url), time.time)
    killed = 0
    for turn in range(6):
        process = start(REGISTER, url, f"turn{turn}", 40_000)
        assert process.stdout.readline() == "go\n"
        time.sleep(whole_s * (turn + 0.5) / 6)
        os.kill(process.pid, signal.SIGKILL)
        finished = "done" in process.communicate()[0]
        killed += not finished
        left = files_in(catalogue, f"/turn{turn}")
        assert left in ((40_000,) if finished else (0, 40_000))
        present = not catalogue.stat([Lfn(f"/turn{turn}")]).failed
        assert present == (left > 0), "directories go with their files"
    assert killed >= 3
    assert catalogue.register([NewFile(Lfn("/turn0/0/0"), 0, 0, "HERE")]).ok
    assert files_in(catalogue, "/whole") == 40_000
    catalogue.database.close()


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 6 MiB of its own."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "vse-test", place], check=False)
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)  # a test that failed may hold a file open


def test_a_full_disk_is_told_and_loses_nothing(small_disk):
    database = Database.open(f"sqlite:///{small_disk}/vse.db")
    catalogue = SqlCatalogue(database, time.time)
    done = 0
    with pytest.raises(StorageFull, match="the disk is full") as raised:
        for turn in range(100):
            names = [Lfn(f"/data/{turn}/{'x' * 200}{i}") for i in range(500)]
            catalogue.register([NewFile(lfn, 1, 1, "HERE") for lfn in names])
            done += 500
    assert raised.value.retryable
    assert done > 0
    assert files_in(catalogue, "/") == done
    database.close()
    subprocess.run(["mount", "-o", "remount,size=60m", small_disk], check=True)
    catalogue = SqlCatalogue(Database.open(f"sqlite:///{small_disk}/vse.db"), time.time)
    assert catalogue.register([NewFile(Lfn("/data/more"), 1)]).ok
    assert files_in(catalogue, "/") == done + 1
    catalogue.database.close()
