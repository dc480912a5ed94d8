"""The staging daemon as its administrator has it: processes, vse.toml, signals, `vse status`."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support import xdr
from support.command_line import Command
from support.waiting import until
from vse.app.daemon import Daemon
from vse.app.init import init_site
from vse.app.site import Site
from vse.config.load import load
from vse.errors import DatabaseBusy
from vse.model import FindQuery, Lfn, NewFile
from vse.monitor.metrics import Metrics
from vse.staging.services import Services
from vse.staging.stager import Stager
from vse.testing.postgresql import fresh_database, start_postgresql, stop_postgresql
from vse.transfer.lifecycle import State

pytestmark = pytest.mark.slow

FAR = """
[StorageElements.FAR]
WriteAccess = false

[StorageElements.FAR.File]
Protocol = "file"
Path = "far"
"""
SLOW = """
[stager.external]
command = '{script} "$URLTOSTAGE" $SIZE {gate}'
destinations = ["LOCAL-DISK"]
"""
SCRIPT = """#!/bin/sh
while [ ! -e "$3" ]; do sleep 0.05; done
mkdir -p "$(dirname "$1")"
head -c "$2" /dev/zero > "$1.new" && mv "$1.new" "$1"
echo "OK $1 Tree: EndpointUrl: Size: $2 Events: "
"""


class Daemons:
    """A site whose files come by a script that waits for a gate to open."""

    def __init__(self, root: Path, database_url: str = "sqlite:///var/vse.db") -> None:
        self.root, self.url = root, database_url
        init_site(root, name="test")
        self.toml = root / "vse.toml"
        self.gate = root / "gate"
        script = root / "bring.sh"
        script.write_text(SCRIPT)
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        written = self.toml.read_text().replace("sqlite:///var/vse.db", database_url)
        self.good = written + FAR + SLOW.format(script=script, gate=self.gate)
        self.toml.write_text(self.good)
        self.site = Site.open(load(self.toml))
        self.vse = Command(root)
        self.logs = 0

    def ask(self, number: int) -> int:
        """Register empty files far away, and ask for them."""
        base = f"/data/{time.monotonic_ns()}"
        files = [NewFile(Lfn(f"{base}/{n}.bin"), 100, 0x00640001, "FAR") for n in range(number)]
        assert not self.site.catalogue.register(files).failed
        query = FindQuery("", base=Lfn(base), pattern="*")
        return self.site.staging.request(query, "anna", "LOCAL-DISK").id

    @contextmanager
    def daemon(self, *flags: str, what: str = "serve stager") -> Iterator[subprocess.Popen[str]]:
        with self.started(*flags, what=what) as process:
            until(
                lambda: any(one.pid == process.pid for one in self.services()) or process.poll() is not None
            )
            yield process

    @contextmanager
    def started(self, *flags: str, what: str = "serve stager") -> Iterator[subprocess.Popen[str]]:
        """Likewise, without waiting until it works."""
        self.logs += 1
        log = (self.root / f"log.{self.logs}").open("w")
        process = subprocess.Popen(
            [sys.executable, "-m", "vse.cli", *flags, *what.split()],
            cwd=self.root,
            stdout=subprocess.DEVNULL,
            stderr=log,
            text=True,
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()
            log.close()

    def events(self, log: int = 0) -> list[dict[str, object]]:
        text = (self.root / f"log.{log or self.logs}").read_text()
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]

    def services(self) -> list[object]:
        return Services(self.site.database, time.time).list()

    def set(self, more: str) -> None:
        """Write new settings as an editor does: another file in the place of the old one."""
        new = self.toml.with_name("vse.toml.new")
        new.write_text(more)
        new.replace(self.toml)

    def in_state(self, state: State) -> int:
        return self.site.queue.tallies()[state].files

    def over(self, request: int) -> bool:
        return self.site.staging.get([request])[0].is_over


@pytest.fixture
def daemons(tmp_path: Path) -> Iterator[Daemons]:
    one = Daemons(tmp_path / "site")
    yield one
    for pid in pids(one):  # of a test that failed
        os.kill(pid, signal.SIGKILL)
    one.site.close()


def test_slots_change_under_load_and_running_transfers_notice_nothing(daemons):
    daemons.set(daemons.good.replace("slots = 8", "slots = 2"))
    with daemons.daemon() as process:
        request = daemons.ask(12)
        until(lambda: daemons.in_state(State.RUNNING) == 2)
        before = {one.id for one in running(daemons)}
        daemons.set(daemons.good.replace("slots = 8", "slots = 5"))
        until(lambda: daemons.in_state(State.RUNNING) == 5)
        assert before <= {one.id for one in running(daemons)}
        daemons.gate.touch()
        until(lambda: daemons.over(request))
        assert daemons.in_state(State.DONE) == 12
        assert all(len(daemons.site.queue.attempts_of(key)) == 1 for key in before)
        assert process.poll() is None


def running(daemons: Daemons) -> list[object]:
    found = daemons.site.queue.get(range(1, 50))
    return [one for one in found.values() if one.state is State.RUNNING]


def test_a_bad_file_pauses_says_why_everywhere_and_lets_running_transfers_end(daemons):
    daemons.set(daemons.good.replace("slots = 8", "slots = 2"))
    with daemons.daemon():
        request = daemons.ask(5)
        until(lambda: daemons.in_state(State.RUNNING) == 2)
        daemons.set(daemons.good.replace("slots = 8", "slotz = 8"))
        until(lambda: daemons.services()[0].state == "paused")
        daemons.gate.touch()
        until(lambda: daemons.in_state(State.DONE) == 2)
        (service,) = daemons.services()
        assert "unknown key 'slotz'" in str(service.problem)
        assert "vse.toml" in str(service.problem)
        paused = next(one for one in daemons.events() if one["event"] == "service.paused")
        assert "slotz" in json.dumps(paused["error"])
        until(lambda: daemons.services()[0].beat_s > service.beat_s)
        assert daemons.in_state(State.QUEUED) == 3  # nothing new has begun
        daemons.set(daemons.good)
        said = daemons.vse("status")  # whatever it was, it reads vse.toml itself: mended by now
        assert said.code == 0
        until(lambda: daemons.over(request))
        assert daemons.services()[0].state == "working"
        assert daemons.in_state(State.DONE) == 5


def test_what_goes_to_an_element_that_is_gone_from_the_file_waits_until_it_is_back(daemons):
    """As while an editor saves the file: it is empty for a moment, and nothing is wrong in it."""
    daemons.gate.touch()
    daemons.toml.write_text("")
    with daemons.daemon():
        request = daemons.ask(5)
        until(lambda: len(daemons.services()) == 1)
        before_s = daemons.services()[0].beat_s
        until(lambda: daemons.services()[0].beat_s > before_s)
        assert daemons.in_state(State.QUEUED) == 5
        daemons.toml.write_text(daemons.good)
        until(lambda: daemons.over(request))
        assert daemons.in_state(State.DONE) == 5
        assert all(not one.failures for one in daemons.site.queue.get(range(1, 50)).values())


@pytest.mark.parametrize("what", ["serve stager", "serve --no-door"])
def test_one_started_with_a_bad_file_waits_until_it_is_right(daemons, what):
    daemons.set(daemons.good.replace("slots = 8", "slotz = 8"))
    daemons.gate.touch()
    with daemons.started(what=what) as process:
        until(lambda: any(one["event"] == "service.paused" for one in daemons.events()), 120.0)
        (paused,) = [one for one in daemons.events() if one["event"] == "service.paused"]
        assert "unknown key 'slotz'" in json.dumps(paused["error"])
        daemons.set("this is no TOML [")
        until(lambda: "not valid TOML" in json.dumps(daemons.events()))
        assert process.poll() is None
        daemons.set(daemons.good)
        until(daemons.services)
        request = daemons.ask(2)
        until(lambda: daemons.over(request))
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert daemons.in_state(State.DONE) == 2


def test_one_that_waits_for_a_right_file_ends_when_told(daemons):
    daemons.set(daemons.good + "\n[pools.NOWHERE]\nsize = 1000\n")
    with daemons.started() as process:
        until(lambda: "NOWHERE" in json.dumps(daemons.events()), 120.0)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


@pytest.fixture
def on_a_server(own_postgresql: str, tmp_path: Path) -> Iterator[Daemons]:
    """A site on a PostgreSQL that a test may stop; it runs again afterwards."""
    with fresh_database(own_postgresql) as url:
        one = Daemons(tmp_path / "site", url)
        one.gate.touch()
        yield one
        for pid in pids(one):  # of a test that failed
            os.kill(pid, signal.SIGKILL)
        one.site.close()


def is_told(daemons: Daemons, event: str) -> bool:
    """Whether a daemon has said that its server is away, and what to do."""
    told = [json.dumps(one) for one in daemons.events() if one["event"] == event]
    return any("see that its server runs" in one for one in told)


@pytest.mark.parametrize("what", ["serve stager", "serve --no-door"])
def test_one_started_while_its_server_is_down_waits_and_serves_what_was_asked_before(on_a_server, what):
    request = on_a_server.ask(3)
    stop_postgresql(on_a_server.url)
    with on_a_server.started(what=what) as process:
        until(lambda: is_told(on_a_server, "service.paused"), process=process)
        start_postgresql(on_a_server.url)
        until(lambda: on_a_server.over(request), process=process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert on_a_server.in_state(State.DONE) == 3


def test_one_whose_server_is_restarted_goes_on_with_what_it_had_in_hand(on_a_server):
    on_a_server.gate.unlink()
    with on_a_server.daemon() as process:
        request = on_a_server.ask(3)
        until(lambda: on_a_server.in_state(State.RUNNING) == 3)
        stop_postgresql(on_a_server.url)
        until(lambda: is_told(on_a_server, "service.failed"), process=process)
        start_postgresql(on_a_server.url)
        on_a_server.gate.touch()
        until(lambda: on_a_server.over(request), process=process)
        assert not [one for one in on_a_server.site.queue.get(range(1, 50)).values() if one.failures]
    assert on_a_server.in_state(State.DONE) == 3


def test_status_of_another_process_tells_of_the_pause(daemons):
    """`vse status` with settings of its own still sees the row."""
    with daemons.daemon():
        daemons.set("this is no TOML [")
        until(lambda: daemons.services()[0].state == "paused")
        elsewhere = daemons.root / "elsewhere.toml"
        elsewhere.write_text(daemons.good)
        for words in (("status",), ("stager", "list")):
            said = daemons.vse("--site", str(elsewhere), *words)
            assert "is paused: cannot read the settings" in said.err
            assert "not valid TOML" in said.err
        listed = daemons.vse("--site", str(elsewhere), "stager", "list", "--json")
        assert json.loads(listed.lines[0])["problem"]["code"] == "bad-settings"


def test_what_needs_a_restart_is_said_and_the_rest_applied(daemons):
    with daemons.daemon():
        changed = daemons.good.replace("sqlite:///var/vse.db", "sqlite:///var/other.db")
        daemons.set(changed.replace("slots = 8", "slots = 3"))
        until(lambda: daemons.services()[0].slots == 3)
        assert daemons.services()[0].notes == "database"
        assert not (daemons.root / "var/other.db").exists()
        elsewhere = daemons.root / "elsewhere.toml"
        elsewhere.write_text(daemons.good)
        assert "needs a restart for: database" in daemons.vse("--site", str(elsewhere), "status").err


def test_sigterm_puts_back_what_runs_and_ends_with_0(daemons):
    with daemons.daemon() as process:
        request = daemons.ask(3)
        until(lambda: daemons.in_state(State.RUNNING) == 3)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert daemons.in_state(State.QUEUED) == 3
    assert daemons.services() == []
    assert not pids(daemons)
    assert daemons.events()[-1]["event"] == "service.ended"
    daemons.gate.touch()
    with daemons.daemon():
        until(lambda: daemons.over(request))
    assert daemons.in_state(State.DONE) == 3


def test_killed_and_started_again_it_goes_on_and_its_commands_are_gone(daemons):
    with daemons.daemon() as process:
        request = daemons.ask(3)
        until(lambda: daemons.in_state(State.RUNNING) == 3 and len(pids(daemons)) == 3)
        process.kill()
        process.wait()
    assert len(pids(daemons)) == 3
    orphans = pids(daemons)
    with daemons.daemon():
        until(lambda: not orphans & pids(daemons))
        daemons.gate.touch()
        until(lambda: daemons.over(request))
    assert daemons.in_state(State.DONE) == 3
    assert not list((daemons.root / "var/scratch/external").glob("*"))


def pids(daemons: Daemons) -> set[int]:
    """The processes of the script that run; not a child of one, which is about to become another program."""
    script = str(daemons.root / "bring.sh").encode()
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if script in (process / "cmdline").read_bytes().split(b"\0")[:2]:
                parent = (process / "stat").read_text().rpartition(")")[2].split()[1]
                found[int(process.name)] = int(parent)
    return {pid for pid, parent in found.items() if parent not in found}


def test_two_daemons_share_the_slots_and_move_each_file_once(daemons):
    daemons.set(daemons.good.replace("slots = 8", "slots = 4"))
    with daemons.daemon(), daemons.daemon():
        until(lambda: len(daemons.services()) == 2)
        request = daemons.ask(20)
        until(lambda: daemons.in_state(State.RUNNING) == 4)
        daemons.gate.touch()
        until(lambda: daemons.over(request))
    assert daemons.in_state(State.DONE) == 20
    assert all(len(daemons.site.queue.attempts_of(key)) == 1 for key in range(1, 21))
    told = [
        one["transfer"] for log in (1, 2) for one in daemons.events(log) if one["event"] == "transfer.done"
    ]
    assert sorted(told) == list(range(1, 21))


def test_metrics_memory_and_a_plugin_switched_on_and_off_while_it_runs(daemons):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver, socket.socket() as free:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(20)
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        free.close()
        daemons.gate.touch()
        with daemons.daemon("--set", f"monitor.metrics={address}", "--set", "monitor.memory_bytes=1000"):
            request = daemons.ask(2)
            until(lambda: daemons.over(request))
            with urllib.request.urlopen(f"http://{address}/metrics") as answer:
                text = answer.read().decode()
            moved = [line for line in text.splitlines() if line.startswith("vse_transfer_attempts_total")]
            assert any('destination="LOCAL-DISK"' in line and 'outcome="done"' in line for line in moved)
            assert 'vse_transfers{state="done"}' in text
            assert "vse_service_memory_bytes{" in text
            assert "vse_transfer_seconds_bucket{" in text
            assert any(one["event"] == "service.heavy" for one in daemons.events())
            port = receiver.getsockname()[1]
            on = f'\n[monitor]\nevery_s = 0.2\n[monitor.plugins.apmon]\nurl = "apmon://127.0.0.1:{port}"\n'
            daemons.set(daemons.good + on + 'prefix = "SITE"\n')
            status = xdr.decode(receiver.recv(4096))
            assert status.cluster == "SITE_status"
            assert status.values["rss"] > 10_000
            daemons.set(daemons.good)
            until(lambda: silent(receiver))


def silent(receiver: socket.socket) -> bool:
    """Whether nothing comes for a second."""
    receiver.settimeout(1.0)
    try:
        while True:
            receiver.recv(4096)
            return False
    except TimeoutError:
        return True


def test_a_stager_that_an_error_ended_is_started_again_and_systemd_is_told(daemons, monkeypatch):
    real, errors = Stager.run, iter([DatabaseBusy("look at the queue", "it stayed locked")])

    def run(self: Stager, stop: threading.Event, until: list[int] | None = None) -> None:
        for error in errors:
            raise error
        real(self, stop, until)

    monkeypatch.setattr(Stager, "run", run)
    daemons.gate.touch()
    stop, address = threading.Event(), str(daemons.root / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(address)
        systemd.settimeout(20)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        metrics, loaded = Metrics(), load(daemons.toml)
        daemon = Daemon(lambda: load(daemons.toml), loaded, metrics=metrics, quiet=True, look_s=0.05)
        thread = threading.Thread(target=daemon.run, args=(stop,))
        thread.start()
        assert systemd.recv(100) == b"READY=1"
        request = daemons.ask(2)
        until(lambda: daemons.over(request))
        stop.set()
        thread.join(20)
        assert systemd.recv(100) == b"STOPPING=1"
    assert not thread.is_alive()
    assert daemons.in_state(State.DONE) == 2


def test_all_in_one_serves_and_stages_and_ends_with_0(daemons):
    daemons.gate.touch()
    with daemons.daemon(what="serve") as process:
        request = daemons.ask(2)
        until(lambda: daemons.over(request))
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_a_site_moves_over_from_afdsmgrd_with_its_own_script(daemons):
    """The whole way: import of a configuration, lists in a directory, the command, flags, purge."""
    storage, lists = daemons.root / "aaf", daemons.root / "datasets"
    (lists / "default/anna").mkdir(parents=True)
    script = daemons.root / "af-verify.sh"
    script.write_text(
        "#!/bin/sh\n"
        'case "$1" in *bad*) echo "FAIL $1 Reason: not there"; exit 0;; *) ;; esac\n'
        'mkdir -p "$(dirname "$1")"; echo hello > "$1"\n'
        'echo "OK $1 Tree: $2 EndpointUrl: root://pool//$1 Size: 6 Events: 42"; exit 9\n'
    )
    script.chmod(0o755)
    conf = daemons.root / "afdsmgrd.conf"
    conf.write_text(
        f"xpd.stagereqrepo {lists}\ndsmgrd.purgenoopds true\n"
        f"dsmgrd.urlregex alien://(.*)$ {storage}$1\ndsmgrd.sleepsecs 1\ndsmgrd.scandseveryloops 1\n"
        f'dsmgrd.parallelxfrs 3\ndsmgrd.stagecmd {script} "$URLTOSTAGE" "$TREENAME"\n'
        "dsmgrd.cmdtimeoutsecs 60\ndsmgrd.corruptafterfails 2\nxrd.port 1094\n"
    )
    before = daemons.toml.read_text()
    shown = daemons.vse("stager", "import", str(conf))
    assert shown.code == 0, shown.err
    assert "+slots = 3  # dsmgrd.parallelxfrs" in shown.out
    assert "Nothing is written yet" in shown.err
    assert daemons.toml.read_text() == before
    assert daemons.vse("stager", "import", str(conf), "--write").code == 0
    assert daemons.vse("stager", "import", str(conf)).out.strip().endswith("says all of it already.")
    assert daemons.toml.with_name("vse.toml.before").read_text() == before
    good, bad = lists / "default/anna/good.txt", lists / "default/anna/bad.txt"
    good.write_text("alien:///alice/1.root tree:/aodTree\nalien:///alice/2.root\n")
    bad.write_text("alien:///alice/1.root tree:/aodTree\nalien:///alice/bad.root\n")
    with daemons.daemon():
        until(lambda: not good.exists())
        status = bad.with_name("bad.txt.status.jsonl")
        until(lambda: status.exists() and '"corrupt": true' in status.read_text())
    assert bad.exists()
    found = daemons.site.catalogue.resolve([Lfn("/alice/1.root")]).one(Lfn("/alice/1.root"))
    assert found.contents == ("/aodTree", 42)
    (replica,) = found.replicas
    assert (replica.se, replica.url) == ("AFDSMGRD", f"root://pool//{storage}/alice/1.root")
    assert (storage / "alice/1.root").read_text() == "hello\n"
    rows = [json.loads(line) for line in status.read_text().splitlines()]
    assert [row["state"] for row in rows] == ["staged", "corrupt"]
    assert "not there" in rows[1]["error"]
