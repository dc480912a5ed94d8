"""Is a file readable? Real ROOT files, broken ones, and readers that crash, hang and overeat."""

from __future__ import annotations

import os
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.waiting import until
from vse.errors import Interrupted, Unreadable
from vse.model import Contents, Lfn
from vse.transfer.abort import Abort
from vse.transfer.verification import Readers, reader_command

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
LFN = Lfn("/lhc/file.root")


@pytest.fixture(scope="module")
def readers() -> Iterator[Readers]:
    with Readers(1, 30.0) as pool:
        yield pool


def check(readers: Readers, path: Path, tree: str = "", lfn: Lfn = LFN) -> Contents | None:
    return readers.check(lfn, path, tree, Abort())


@pytest.mark.parametrize(
    ("name", "tree", "contents"),
    [
        ("uproot-Zmumu.root", "", ("events", 2304)),
        ("uproot-Zmumu-lzma.root", "events", ("events", 2304)),
        ("uproot-Zmumu-zstd.root", "", ("events", 2304)),
        ("uproot-Zmumu-lz4.root", "", ("events", 2304)),
        ("uproot-Zmumu-uncompressed.root", "", ("events", 2304)),
        ("nano_dy.root", "", ("Events", 40)),
        ("nanoAOD_2015_CMS_Open_Data_ttbar.root", "Events", ("Events", 200)),
    ],
)
def test_real_files_tell_their_tree_and_entries(
    readers: Readers, name: str, tree: str, contents: tuple[str, int]
) -> None:
    assert check(readers, DATA / name, tree) == Contents(*contents)


def test_a_name_with_a_colon_and_without_suffix_is_a_path_and_nothing_else(
    readers: Readers, tmp_path: Path
) -> None:
    path = tmp_path / "12:34 events.part"
    path.write_bytes((DATA / "uproot-Zmumu.root").read_bytes())
    assert check(readers, path) == Contents("events", 2304)


def test_a_tree_that_was_asked_for_and_is_missing_is_named_with_those_that_are_there(
    readers: Readers,
) -> None:
    with pytest.raises(Unreadable, match=r"no tree 'aodTree' \(it has events\)"):
        check(readers, DATA / "uproot-Zmumu.root", "aodTree")


def test_a_sound_file_without_a_tree_is_no_error(readers: Readers, tmp_path: Path) -> None:
    import uproot

    with uproot.recreate(tmp_path / "plain.root") as file:
        file["note"] = "no tree in here"
    assert check(readers, tmp_path / "plain.root") == Contents("", 0)


@pytest.mark.parametrize("part", [0.0001, 0.01, 0.3, 0.7, 0.97, 0.9999])
@pytest.mark.parametrize("name", ["uproot-Zmumu.root", "nano_dy.root"])
def test_a_truncated_file_is_unreadable(readers: Readers, tmp_path: Path, name: str, part: float) -> None:
    whole = (DATA / name).read_bytes()
    path = tmp_path / "cut.root"
    path.write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(Unreadable, match="cannot use /lhc/file"):
        check(readers, path)


def test_a_file_with_zeroed_baskets_is_unreadable(readers: Readers, tmp_path: Path) -> None:
    """What a cache that lost blocks makes of a file: the size is right, the middle is gone."""
    whole = bytearray((DATA / "uproot-Zmumu.root").read_bytes())
    middle = slice(1000, len(whole) * 3 // 4)
    whole[middle] = bytes(len(whole[middle]))
    path = tmp_path / "zeroed.root"
    path.write_bytes(whole)
    with pytest.raises(Unreadable):
        check(readers, path)


@pytest.mark.parametrize("content", [b"", b"roo", b"<html>404</html>" * 100, b"root" + bytes(4000)])
def test_what_is_no_root_file_is_unreadable_under_that_name_only(
    readers: Readers, tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "x"
    path.write_bytes(content)
    with pytest.raises(Unreadable):
        check(readers, path)
    assert check(readers, path, lfn=Lfn("/lhc/readme.txt")) is None


def fake(tmp_path: Path, body: str) -> tuple[str, ...]:
    """A reader that does its worst with files named bad, and answers for all others."""
    script = tmp_path / "reader.py"
    script.write_text(
        "import json, os, sys, time\n"
        "print('{}', flush=True)\n"
        "for line in sys.stdin:\n"
        "    if 'bad' in json.loads(line)['path']:\n"
        + textwrap.indent(textwrap.dedent(body), " " * 8)
        + "\n    print(json.dumps({'tree': 'T', 'entries': os.getpid()}), flush=True)\n"
    )
    return (sys.executable, str(script))


def test_a_reader_that_crashes_is_a_failed_file_and_the_next_file_gets_a_new_reader(tmp_path: Path) -> None:
    with Readers(1, 30.0, fake(tmp_path, "os.kill(os.getpid(), 11)")) as readers:
        first = check(readers, Path("/good"))
        with pytest.raises(Unreadable, match=r"the reader crashed \(SIGSEGV\) on it"):
            check(readers, Path("/bad"))
        second = check(readers, Path("/good"))
    assert first is not None
    assert second is not None
    assert first.entries != second.entries  # process ids


def test_a_reader_that_just_ends_or_talks_nonsense_is_a_failed_file(tmp_path: Path) -> None:
    with (
        Readers(1, 30.0, fake(tmp_path, "sys.exit(3)")) as readers,
        pytest.raises(Unreadable, match="ended \\(exit code 3\\)"),
    ):
        check(readers, Path("/bad"))
    with (
        Readers(1, 30.0, fake(tmp_path, "print('segfault soon'); sys.stdout.flush()")) as readers,
        pytest.raises(Unreadable, match="the reader crashed"),
    ):
        check(readers, Path("/bad"))


def test_a_reader_that_hangs_is_ended_in_time(tmp_path: Path) -> None:
    with Readers(1, 0.3, fake(tmp_path, "time.sleep(3600)")) as readers:
        began_s = time.monotonic()
        with pytest.raises(Unreadable, match=r"did not come to an end within 0\.3 s"):
            check(readers, Path("/bad"))
        assert time.monotonic() - began_s < 5


def test_the_start_of_a_reader_does_not_count_for_its_first_file(tmp_path: Path) -> None:
    command = fake(tmp_path, "pass")
    script = Path(command[1])
    script.write_text("import time; time.sleep(1.0)\n" + script.read_text())
    with Readers(1, 0.3, command) as readers:
        assert check(readers, Path("/good")).tree == "T"


def test_a_reader_that_hangs_is_ended_when_the_move_is(tmp_path: Path) -> None:
    abort = Abort()
    pipe = tmp_path / "began"
    os.mkfifo(pipe)
    body = f"open({str(pipe)!r}, 'w').close(); time.sleep(3600)"

    def stop() -> None:
        pipe.read_text()  # returns when the reader is at the file
        abort.fire(Interrupted("go on", "stopped"))

    thread = threading.Thread(target=stop)
    thread.start()
    with (
        Readers(1, 600.0, fake(tmp_path, body)) as readers,
        pytest.raises(Interrupted, match="stopped"),
    ):
        readers.check(LFN, Path("/bad"), "", abort)
    thread.join()


@pytest.mark.slow
def test_a_reader_that_takes_too_much_memory_is_a_failed_file(tmp_path: Path) -> None:
    """A basket of 150 MB once decompressed: the real reader, with little memory."""
    import numpy as np
    import uproot

    path = tmp_path / "bomb.root"
    with uproot.recreate(path, compression=uproot.ZLIB(1)) as file:
        file.mktree("t", {"x": np.int8}).extend({"x": np.zeros(150_000_000, dtype=np.int8)})
    assert path.stat().st_size < 10_000_000
    with Readers(1, 60.0, reader_command(memory_bytes=400 * 1024**2)) as readers:
        with pytest.raises(Unreadable, match="memory"):
            check(readers, path)
        assert check(readers, DATA / "uproot-Zmumu.root") == Contents("events", 2304)


@pytest.mark.slow
def test_no_reader_outlives_its_stager(tmp_path: Path) -> None:
    """After a kill -9 of the stager its reader sees the end of its input, and ends."""
    import subprocess

    code = (
        "import os, signal; from vse.transfer.verification import Readers\n"
        "pool = Readers(1, 30.0); pool.warm(); reader = pool._free.get()\n"
        "print(reader._process.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=30, check=False)
    pid = int(done.stdout)
    until(lambda: not _alive(pid), what="the reader ends with its pool")


def _alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
