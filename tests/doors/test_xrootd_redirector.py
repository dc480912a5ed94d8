"""Opening a missing file through root://: a real xrootd over the link tree, our redirector, real clients."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import structlog
import uproot

from support.command_line import ZMUMU
from support.xrootd_site import CLIENT, XrootdSite, xrdcp, xrdfs, xrootd_site
from vse.app.xrootd import Served
from vse.doors.xrootd.wire import Call, Failure, Status
from vse.model import Lfn, NewAccess
from vse.transfer.lifecycle import State

pytestmark = pytest.mark.slow
DATA = bytes(range(256)) * 4000


@pytest.fixture(scope="module")
def clients() -> Iterator[None]:
    """What the Python client reads once, when it is loaded."""
    before = dict(os.environ)
    os.environ.update(CLIENT)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def one() -> Iterator[XrootdSite]:
    with xrootd_site() as site:
        yield site


@pytest.fixture
def served(one: XrootdSite) -> XrootdSite:
    one.start_xrootd("redirect")
    return one


def read(url: str) -> bytes:
    from XRootD import client
    from XRootD.client.flags import OpenFlags

    with client.File() as file:
        status, _ = file.open(url, OpenFlags.READ, timeout=60)
        assert status.ok, status.message
        status, data = file.read()
        assert status.ok, status.message
        return bytes(data)


def failure(url: str) -> str:
    from XRootD import client
    from XRootD.client.flags import OpenFlags

    status, _ = client.File().open(url, OpenFlags.READ, timeout=60)
    assert not status.ok
    return str(status.message)


# -- reading -------------------------------------------------------------------------------------


def test_a_missing_file_is_staged_and_then_read(served: XrootdSite, tmp_path: Path, clients: None) -> None:
    lfns = [served.add(f"file {number} ü.bin", DATA + bytes([number])) for number in range(3)]
    with served.redirecting():
        assert xrdcp(served.url(lfns[0]), tmp_path / "one") == (0, "")
        assert (tmp_path / "one").read_bytes() == DATA + b"\0"
        assert read(served.url(lfns[1], direct=True)) == DATA + b"\1"  # the redirector's own address
        assert xrdcp(f"root://127.0.0.1:{served.redirector_port}/{lfns[2]}", tmp_path / "two") == (0, "")
        assert (tmp_path / "two").read_bytes() == DATA + b"\2"
    assert served.site.links.path(lfns[0]).read_bytes() == DATA + b"\0"
    assert xrdcp(served.url(lfns[0]), tmp_path / "again") == (0, "")  # what is here needs no redirector


def test_uproot_reads_a_tree_that_was_missing(served: XrootdSite, clients: None) -> None:
    lfn = served.add("zmumu.root", ZMUMU[0].read_bytes())
    with (
        served.redirecting(),
        uproot.open(f"{served.url(lfn)}", handler=uproot.source.xrootd.XRootDSource, timeout=60) as file,
    ):
        name = next(key for key, kind in file.classnames().items() if kind == "TTree")
        there = file[name].arrays(library="np")
    with uproot.open(ZMUMU[0]) as file:
        local = file[name].arrays(library="np")
    assert there.keys() == local.keys() and len(local)
    assert all(np.array_equal(there[key], local[key]) for key in local)


def test_many_openers_over_one_and_many_connections_cause_one_transfer(
    served: XrootdSite, tmp_path: Path, clients: None
) -> None:
    lfn = served.add("wanted.bin", DATA)
    with served.redirecting(moving=False) as redirector, ThreadPoolExecutor(28) as pool:
        bound = [pool.submit(read, served.url(lfn)) for _ in range(20)]  # one process: one connection
        copied = [pool.submit(xrdcp, served.url(lfn), tmp_path / str(number)) for number in range(6)]
        served.await_(lambda: redirector.connections >= 7, "every client has come to the redirector")
        served.await_(lambda: served.rows()[0] == 1, "the file is queued")
        with served.moving():
            assert all(one.result() == DATA for one in bound)
            assert all(one.result() == (0, "") for one in copied)
    assert all((tmp_path / str(number)).read_bytes() == DATA for number in range(6))
    assert served.rows() == (1, 1, 1)


def test_who_reads_is_noted(served: XrootdSite) -> None:
    lfn = served.add("noted.bin", DATA)
    before_s = time.time()
    with served.redirecting():
        assert xrdcp(served.url(lfn), Path("/dev/null"))[0] == 0
    accessed_s = served.accessed_s(lfn)
    assert accessed_s is not None and before_s <= accessed_s <= time.time()


def test_a_slow_file_is_waited_for_beyond_the_time_an_open_is_held(served: XrootdSite, clients: None) -> None:
    lfn = served.add("slow.bin", DATA)
    with served.redirecting(moving=False, hold_s=0.3), ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read, served.url(lfn))
        served.await_(lambda: served.rows()[0] == 1, "the file is queued")
        with pytest.raises(TimeoutError):
            reading.result(2.5)  # it has been told to wait, and asked again, twice
        with served.moving():
            assert reading.result(30) == DATA
    assert served.rows() == (1, 1, 1)


# -- failures ------------------------------------------------------------------------------------


def test_a_failure_reaches_the_client_with_its_reason_and_is_mended(
    served: XrootdSite, tmp_path: Path, clients: None
) -> None:
    served.deny_for(3600.0)
    lfn = served.add("broken.bin", DATA, write=False)
    with served.redirecting():
        code, said = xrdcp(served.url(lfn), tmp_path / "out")
        assert code and "cannot stage /lhc/data/broken.bin" in said and "No such file" in said
        assert "cannot stage /lhc/data/broken.bin" in failure(served.url(lfn))
        assert served.rows()[0] == 1 and served.rows()[1] == 1  # the second was told what the first found
        served.put(lfn, DATA)
        assert "cannot stage /lhc/data/broken.bin" in failure(served.url(lfn))
        served.ahead_s = 3601.0
        served.await_(lambda: xrdcp(served.url(lfn), tmp_path / "out")[0] == 0, "the mended file comes")
    assert (tmp_path / "out").read_bytes() == DATA


def test_that_changed_settings_wait_for_a_restart_is_in_the_log(one: XrootdSite) -> None:
    serving = Served(one.site, moving=False)
    ready = threading.Event()
    with structlog.testing.capture_logs() as logs:
        thread = threading.Thread(target=serving.run, args=(lambda _: ready.set(),))
        thread.start()
        try:
            assert ready.wait(20)
            settings = one.root / "vse.toml"
            settings.write_text(settings.read_text() + "# changed\n")
            one.await_(lambda: bool(logs), "the change is told")
        finally:
            serving.stop()
            thread.join(20)
    assert [one["event"] for one in logs] == ["settings.wait-for-restart"]
    assert "restart vse serve xrootd" in logs[0]["todo"]


def test_a_corrupt_source_is_never_read(served: XrootdSite, tmp_path: Path) -> None:
    lfn = served.add("lied.bin", DATA)
    served.put(lfn, DATA[:-1] + b"?")
    with served.redirecting():
        code, said = xrdcp(served.url(lfn), tmp_path / "out")
    assert code and "adler32" in said and "[3012]" in said
    assert not served.site.links.path(lfn).exists()


def test_an_unknown_name_is_not_found(served: XrootdSite, tmp_path: Path) -> None:
    with served.redirecting():
        code, said = xrdcp(served.url("/lhc/data/nowhere"), tmp_path / "out")
    assert code and "[3011]" in said and "not in the catalogue" in said
    assert served.rows() == (0, 0, 0)


def test_what_others_may_not_read_is_refused(served: XrootdSite, tmp_path: Path) -> None:
    lfn = served.add("secret.bin", DATA)
    changed = served.site.catalogue.change_access([NewAccess(lfn, mode=0o640)])
    assert not changed.failed
    with served.redirecting():
        code, said = xrdcp(served.url(lfn), tmp_path / "out")
    assert code and "[3010]" in said and "0640" in said
    assert served.rows() == (0, 0, 0)


def test_a_copy_that_the_storage_lost_is_staged_again(served: XrootdSite, tmp_path: Path) -> None:
    lfn = served.add("lost.bin", DATA)
    with served.redirecting():
        assert xrdcp(served.url(lfn), tmp_path / "out")[0] == 0
        (served.root / "storage" / lfn[1:]).unlink()  # the link stays, and leads nowhere
        assert xrdcp(served.url(lfn), tmp_path / "out") == (0, "")
    assert (tmp_path / "out").read_bytes() == DATA
    assert served.rows()[1] == 2


def test_nothing_can_be_changed(served: XrootdSite, tmp_path: Path) -> None:
    lfn = served.add("kept.bin", DATA)
    (tmp_path / "new").write_bytes(b"new")
    with served.redirecting():
        assert xrdcp(served.url(lfn), tmp_path / "out")[0] == 0
        for port in (served.redirector_port, served.data_port):
            for words in (("rm", f"/vse{lfn}"), ("mv", f"/vse{lfn}", "/vse/x"), ("mkdir", "/vse/d")):
                assert xrdfs(port, *words)[0] != 0, words
            url = f"root://127.0.0.1:{port}//vse{lfn}"
            assert xrdcp(str(tmp_path / "new"), url)[0] != 0
            assert xrdfs(port, "truncate", f"/vse{lfn}", "0")[0] != 0
    assert (served.root / "storage" / lfn[1:]).read_bytes() == DATA
    assert served.site.links.path(lfn).is_symlink()


# -- names and prepare ---------------------------------------------------------------------------


def test_names_are_described_without_staging_them(served: XrootdSite) -> None:
    lfn = served.add("named.bin", DATA)
    with served.redirecting():
        _, said = xrdfs(served.data_port, "stat", f"/vse{lfn}")
        assert f"Size:   {len(DATA)}" in said and "Offline" in said
        _, said = xrdfs(served.redirector_port, "ls", "-l", "/vse/lhc/data")
        assert "/vse/lhc/data/named.bin" in said and str(len(DATA)) in said
        _, said = xrdfs(served.redirector_port, "ls", "/vse/lhc")
        assert said.split() == ["/vse/lhc/data"]
        entry = served.site.catalogue.stat([lfn]).one(lfn)
        _, said = xrdfs(served.redirector_port, "query", "checksum", f"/vse{lfn}")
        assert said.split() == ["adler32", f"{entry.adler32:08x}"]
    assert served.rows() == (0, 0, 0)


@pytest.mark.parametrize("through", ["xrootd", "redirector"])
def test_prepare_and_its_query_reach_the_service(served: XrootdSite, through: str) -> None:
    lfns = [served.add(f"{number}.bin", DATA) for number in range(30)]
    lost = served.add("lost.bin", DATA, write=False)
    paths = [f"/vse{lfn}" for lfn in (*lfns, lost)]

    def ask(*more: str) -> dict[str, dict[str, object]]:
        code, said = xrdfs(port, "query", "prepare", number, *paths, *more)
        assert code == 0, said
        return {one["path"]: one for one in json.loads(said)["responses"]}

    with served.redirecting(moving=False):
        port = served.data_port if through == "xrootd" else served.redirector_port
        code, said = xrdfs(port, "prepare", "-s", *paths, "/vse/lhc/nowhere")
        assert code == 0
        number = said.split()[0]
        assert served.rows() == (31, 0, 1)
        told = ask("/vse/lhc/nowhere")
        assert not told["/vse/lhc/nowhere"]["path_exists"]
        assert all(told[path]["requested"] and not told[path]["online"] for path in paths)
        with served.moving():
            served.await_(lambda: all(ask()[path]["online"] for path in paths[:-1]), "the files come")
            served.await_(lambda: bool(ask()[paths[-1]]["error_text"]), "the lost one is told")
    assert "No such file" in str(ask_error(served, lost))


def ask_error(served: XrootdSite, lfn: Lfn) -> object:
    return served.site.queue.of_lfn(lfn)[0].error


def test_a_prepare_is_cancelled(served: XrootdSite) -> None:
    lfn = served.add("unwanted.bin", DATA)
    with served.redirecting(moving=False):
        number = xrdfs(served.redirector_port, "prepare", "-s", f"/vse{lfn}")[1].split()[0]
        assert xrdfs(served.redirector_port, "prepare", "-a", number)[0] == 0
        assert served.site.queue.of_lfn(lfn)[0].state is State.CANCELLED
        assert xrdfs(served.redirector_port, "prepare", "-a", number)[0] != 0


# -- clients and redirectors that die ----------------------------------------------------------------


def test_a_client_that_goes_away_leaves_nothing(served: XrootdSite) -> None:
    lfn = served.add("forsaken.bin", DATA)
    with served.redirecting(moving=False) as redirector:
        process = subprocess.Popen(["xrdcp", "-f", served.url(lfn), "/dev/null"], stderr=subprocess.DEVNULL)
        desk = redirector.desk
        assert desk is not None
        served.await_(lambda: desk.waited_for == 1 and served.rows()[0] == 1, "it waits")
        process.kill()
        process.wait(10)
        served.await_(lambda: redirector.connections == 0 and desk.waited_for == 0, "it is forgotten")
        with served.moving():
            assert xrdcp(served.url(lfn), Path("/dev/null")) == (0, "")
    assert served.rows() == (1, 1, 1)


def test_clients_outlive_a_redirector_that_is_killed(served: XrootdSite, tmp_path: Path) -> None:
    lfn = served.add("patient.bin", DATA)
    process = served.serve("--no-stager")
    with ThreadPoolExecutor(4) as pool:
        copying = [pool.submit(xrdcp, served.url(lfn), tmp_path / str(number)) for number in range(4)]
        served.await_(lambda: served.rows()[0] == 1, "the file is queued")
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        served.serve()
        assert [one.result()[0] for one in copying] == [0] * 4
    assert all((tmp_path / str(number)).read_bytes() == DATA for number in range(4))
    assert served.rows()[0] == 1 and served.rows()[1] == 1


# -- talking nonsense ----------------------------------------------------------------------------


def connected(port: int) -> socket.socket:
    one = socket.create_connection(("127.0.0.1", port), 10.0)
    one.sendall(struct.pack(">iiiii", 0, 0, 0, 4, 2012))
    assert len(one.recv(16, socket.MSG_WAITALL)) == 16
    return one


def answer(one: socket.socket, call: int, body: bytes = b"", parameters: bytes = b"") -> tuple[int, bytes]:
    one.sendall(struct.pack(">2sH16si", b"ab", call, parameters, len(body)) + body)
    stream, status, length = struct.unpack(">2sHi", one.recv(8, socket.MSG_WAITALL))
    assert stream == b"ab"
    return status, one.recv(length, socket.MSG_WAITALL) if length else b""


def test_nonsense_is_answered_or_hung_up_on_and_harms_nobody(one: XrootdSite) -> None:
    lfn = one.add("fine.bin", DATA)
    with one.redirecting():
        for hello in (b"GET / HTTP/1.1\r\n\r\n\r\n", struct.pack(">iiiii", 0, 0, 0, 4, 2013)):
            with socket.create_connection(("127.0.0.1", one.redirector_port), 10.0) as other:
                other.sendall(hello)
                assert other.recv(100) == b""
        with connected(one.redirector_port) as other:
            assert answer(other, Call.PING) == (Status.OK, b"")
            for call, body in ((9999, b""), (Call.PREPARE, b""), (Call.OPEN, b""), (Call.QUERY, b"x")):
                assert answer(other, call, body)[0] == Status.ERROR
            for path in (b"relative", b"/a/../b", b"/\xff\xfe", b"/" + b"x" * 3000, b"/a\nb"):
                status, told = answer(other, Call.OPEN, path)
                assert status == Status.ERROR
                assert struct.unpack(">i", told[:4])[0] in (Failure.ARG_INVALID, Failure.NOT_FOUND)
            status, told = answer(other, Call.OPEN, f"/vse{lfn}".encode())
            assert (status, told[4:]) == (Status.REDIRECT, one.url(lfn).encode())
            other.sendall(struct.pack(">2sH16si", b"ab", Call.OPEN, b"", 2**30))
            assert other.recv(100) == b""
