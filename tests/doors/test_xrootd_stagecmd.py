"""A missing file brought by the program that xrootd runs for it, and prepares by its plug-in."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from support.command_line import InProcess
from support.xrootd_site import XrootdSite, xrdcp, xrdfs, xrootd_site
from vse.app.xrootd_setup import failure_file, setup_for, take_spool, write_setup
from vse.errors import BadRequest
from vse.model import Lfn

pytestmark = pytest.mark.slow
DATA = bytes(range(256)) * 4000


@pytest.fixture
def one() -> Iterator[XrootdSite]:
    with xrootd_site() as site:
        yield site


def placed(one: XrootdSite, lfn: Lfn) -> Path:
    return one.directory / "tree" / "vse" / lfn[1:]


def test_many_openers_of_a_missing_file_run_one_program_and_all_read_it(
    one: XrootdSite, tmp_path: Path
) -> None:
    lfn = one.add("wanted.bin", DATA)
    one.start_xrootd("stagecmd")
    with ThreadPoolExecutor(6) as pool:
        copying = [pool.submit(xrdcp, one.url(lfn), tmp_path / str(number)) for number in range(6)]
        assert [job.result() for job in copying] == [(0, "")] * 6
    assert all((tmp_path / str(number)).read_bytes() == DATA for number in range(6))
    assert one.rows() == (1, 1, 1)
    assert placed(one, lfn).readlink() == one.root / "storage" / lfn[1:]
    assert (one.root / "storage" / lfn[1:]).owner() == (one.directory / "run").owner()

    (one.root / "storage" / lfn[1:]).unlink()  # evicted: the link is left over
    assert xrdcp(one.url(lfn), tmp_path / "again") == (0, "")
    assert (tmp_path / "again").read_bytes() == DATA


def test_a_failure_ends_the_open_with_its_reason_written_down_and_is_mended(
    one: XrootdSite, tmp_path: Path
) -> None:
    lfn = one.add("broken.bin", DATA, write=False)
    one.start_xrootd("stagecmd")
    code, said = xrdcp(one.url(lfn), tmp_path / "out")
    assert code and "[3011]" in said
    assert "No such file" in failure_file(placed(one, lfn)).read_text()
    one.put(lfn, DATA)
    one.give_away()
    one.await_(lambda: xrdcp(one.url(lfn), tmp_path / "out")[0] == 0, "the mended file", within_s=40)
    assert (tmp_path / "out").read_bytes() == DATA
    assert not failure_file(placed(one, lfn)).exists()


def test_many_prepares_arrive_and_their_query_answers(one: XrootdSite) -> None:
    """In bursts below the 64 programs beyond which xrootd itself loses prepares."""
    lfns = [one.add(f"{number:03d}.bin", b"%d" % number) for number in range(90)]
    one.start_xrootd("stagecmd")
    for known in (45, 90):
        script = "\n".join(f"prepare -s /vse{lfn}" for lfn in lfns[known - 45 : known])
        subprocess.run(
            ["xrdfs", f"127.0.0.1:{one.data_port}"], input=script.encode(), capture_output=True, check=True
        )
        one.await_(lambda known=known: one.rows()[0] == known, "every prepare is a transfer", within_s=40)
    with one.moving():
        one.await_(
            lambda: one.site.catalogue.resolve([lfns[-1]]).one(lfns[-1]).replicas[0].se == "LOCAL", "come"
        )
    code, said = xrdfs(one.data_port, "query", "prepare", "any", f"/vse{lfns[0]}", "/vse/lhc/nowhere")
    assert code == 0
    first, second = json.loads(said)["responses"]
    assert first["online"] and not second["path_exists"]


def test_the_program_stages_alone_and_leaves_its_reason(one: XrootdSite, tmp_path: Path) -> None:
    vse = InProcess(one.root)
    good, bad = one.add("good.bin", DATA), one.add("bad.bin", DATA, write=False)
    target = tmp_path / "deep" / "good.bin"
    target.parent.mkdir()
    failure_file(target).write_text("of yesterday")
    assert vse("xrootd", "stage", f"/vse{good}", str(target)).code == 0
    assert target.read_bytes() == DATA and not failure_file(target).exists()

    assert vse("xrootd", "stage", f"/vse{bad}", str(tmp_path / "bad")).code == 2
    assert "No such file" in failure_file(tmp_path / "bad").read_text()
    assert vse("xrootd", "stage", "/vse/../x", str(tmp_path / "mad")).code == 2
    assert failure_file(tmp_path / "mad").exists()
    answer = InProcess(tmp_path)("xrootd", "stage", "/a", str(tmp_path / "lost"))  # no site here
    assert answer.code == 2 and failure_file(tmp_path / "lost").exists()


def test_the_program_waits_no_longer_than_it_may(one: XrootdSite, tmp_path: Path) -> None:
    lfn = one.add("late.bin", DATA)
    words = ("xrootd", "stage", "--no-move", "--timeout", "0.6", f"/vse{lfn}", str(tmp_path / "late"))
    assert InProcess(one.root)(*words).code == 2
    assert "has not come within" in failure_file(tmp_path / "late").read_text()
    with one.moving():
        assert InProcess(one.root)(*words[:3], *words[5:]).code == 0
    assert (tmp_path / "late").read_bytes() == DATA
    assert one.rows()[0] == 1


def test_what_was_written_down_is_asked_for_once(one: XrootdSite, tmp_path: Path) -> None:
    lfn = one.add("noted.bin", DATA)
    (tmp_path / "1.request").write_text(f"7\nstage\n/vse{lfn}\n.\n")
    (tmp_path / "2.request").write_text("8\ndance\n.\n")
    (tmp_path / "3.request").write_text(f"9\nstage\n/vse{lfn}")  # still being written
    told = list(take_spool(one.site, tmp_path))
    assert [(what, type(error)) for what, error in told] == [("8 dance", BadRequest)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["3.request"]
    (tmp_path / "1.request").write_text(f"7\nstage\n/vse{lfn}\n.\n")  # as after a kill before it was removed
    assert not list(take_spool(one.site, tmp_path))
    assert one.rows() == (1, 0, 1)


# -- the configuration -----------------------------------------------------------------------------


def test_the_link_tree_is_never_exported_for_writing(one: XrootdSite) -> None:
    for mode in ("redirect", "stagecmd"):
        setup = setup_for(one.site, mode, one.directory)  # type: ignore[arg-type]
        write_setup(setup, "xrootd")
        lines = setup.configuration.read_text().splitlines()
        exports = [line for line in lines if line.startswith("all.export")]
        assert exports and all(line.split()[-1] == "r/o" for line in exports)
        assert not [line for line in lines if "r/w" in line]


def wrong_things(vse: InProcess, *words: str) -> list[str]:
    found = json.loads(vse("xrootd", "check", *words, "--json").out)
    return [one["what"] for one in found if one["todo"]]


def test_config_tells_what_to_start_and_check_what_is_missing(one: XrootdSite) -> None:
    vse = InProcess(one.root)
    one.add("a.bin", DATA)
    written = vse("xrootd", "config", str(one.directory))
    assert written.code == 0 and f"-c {one.directory}/xrootd.cfg" in written.out
    assert "vse -s" in written.out and "serve xrootd" in written.out
    assert "doors.xrootd.data" in vse("xrootd", "config", "--port", "7", str(one.directory)).err

    answer = vse("xrootd", "check", str(one.directory))
    assert answer.code == 2
    assert [line.split(":")[0] for line in answer.lines if line.startswith("no ")] == [
        "no  the redirector",
        "no  the xrootd of doors.xrootd.data",
    ]
    one.start_xrootd("redirect")
    with one.redirecting():
        answer = vse("xrootd", "check", str(one.directory))
        assert answer.code == 0, answer.out
        (one.root / "var" / "vse.db").chmod(0o400)
        (one.root / "storage").chmod(0o700)
        os.chown(one.root / "storage", 0, 0)
        wrong = partial(wrong_things, vse)
        assert wrong() == ["the storage of LOCAL", "the database"]
        assert wrong(str(one.directory)) == ["the storage of LOCAL"], "xrootd itself opens no database here"
        assert vse("xrootd", "config", "--mode", "stagecmd", str(one.directory)).code == 0
        assert wrong(str(one.directory))[:2] == ["the storage of LOCAL", "the database"]
    assert vse("xrootd", "check", "--user", "nobody-at-all").code == 2
