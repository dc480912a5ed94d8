"""The site's own staging command: real shell scripts that answer, hang, crash and talk nonsense."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.staging_site import StagingSite, file_element
from support.waiting import until
from vse.config.settings import ExternalSettings
from vse.model import Lfn
from vse.staging.external import Answer, External, parse_answer, words_of
from vse.staging.stager import Parts, Stager
from vse.transfer.instance import name_of
from vse.transfer.lifecycle import State, Wanted

pytestmark = pytest.mark.slow

OK = 'echo "OK $1 Tree: /aodTree EndpointUrl: root://server//x.root Size: 1234 Events: 77"'


@pytest.mark.parametrize(
    ("output", "wanted"),
    [
        (
            "noise\nOK root://a//b.root Tree: /aodTree EndpointUrl: root://s//b.root Size: 12 Events: 5\n",
            Answer(True, "root://a//b.root", "/aodTree", "root://s//b.root", 12, 5),
        ),
        ("OK b.root Tree:t EndpointUrl:u Size:12 Events:5", Answer(True, "b.root", "t", "u", 12, 5)),
        (
            "OK b.root Tree: EndpointUrl: root://s Size: Events: ",
            Answer(True, "b.root", endpoint="root://s"),
        ),
        ("OK b.root Events: 5 Size: 12", Answer(True, "b.root", "", "", 12, 5)),
        ("OK b.root Size: many Events: -3", Answer(True, "b.root")),
        ("OK a b.root Size: 1", Answer(True, "a b.root", size_bytes=1)),
        ("FAIL b.root Reason: no such file", Answer(False, "b.root", reason="no such file")),
        ("FAIL b.root", Answer(False, "b.root")),
        ("OK a Size: 1\r\nFAIL a Reason: later\nOK a Size: 2\nbye", Answer(True, "a", size_bytes=2)),
        ("OKAY a", None),
        ("it is OK a", None),
        ("", None),
    ],
)
def test_the_line(output, wanted):
    assert parse_answer(output) == wanted


@given(st.text(max_size=300) | st.binary(max_size=300).map(lambda data: data.decode(errors="replace")))
def test_any_output_is_an_answer_or_none(text):
    parse_answer(text)
    parse_answer(f"OK {text}")


words = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=40)


@given(words, words)
def test_names_stay_single_words_whatever_is_in_them(url, tree):
    command = "/bin/stage.sh \"$URLTOSTAGE\" '$TREENAME' --x=${URLTOSTAGE}.$TREENAME $HOME"
    assert words_of(command, {"URLTOSTAGE": url, "TREENAME": tree}) == [
        "/bin/stage.sh",
        url,
        tree,
        f"--x={url}.{tree}",
        "$HOME",
    ]


class ExternalSite(StagingSite):
    """A site whose files come by a script."""

    def script(self, text: str, timeout_s: float = 0.0) -> None:
        path = self.root / "stage.sh"
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        command = f'{path} "$URLTOSTAGE" "$TREENAME"'
        settings = ExternalSettings(command=command, timeout_s=timeout_s, destinations=("LOCAL",))
        self.external = External(settings, self.elements, self.catalogue, self.root / "external")

    def stager(self) -> Stager:
        parts = Parts(
            self.catalogue,
            self.catalogue,
            self.elements,
            self.queue,
            self.staging,
            self.verifier,
            external=self.external,
        )
        return Stager(parts, self.settings, self.news.append, self.clock)

    def put(self, name: str, url: str = "root://server//x.root", tree: str = "/aodTree") -> int:
        lfn = Lfn.parse(name)
        wanted = Wanted(0, None, tree, share="afdsmgrd", given_source=url)
        return self.queue.enqueue("LOCAL", {lfn: wanted})[lfn]

    def state(self, transfer: int) -> State:
        return self.queue.get([transfer])[transfer].state

    def run_until(self, transfer: int, *states: State) -> None:
        stop = threading.Event()
        thread = threading.Thread(target=self.stager().run, args=(stop,))
        thread.start()
        try:
            until(lambda: self.state(transfer) in states, told=lambda: self.queue.get([transfer])[transfer])
        finally:
            stop.set()
            thread.join()

    def left(self) -> list[Path]:
        return list((self.root / "external").glob("*"))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[ExternalSite]:
    one = ExternalSite(
        tmp_path,
        elements=[
            file_element("REMOTE", tmp_path / "remote", WriteAccess=False),
            file_element("LOCAL", tmp_path / "local"),
        ],
        settings={"max_failures": 1},
    )
    yield one
    one.close()


def test_ok_goes_into_the_catalogue_whatever_the_exit_code(site):
    site.script(f"{OK}\nexit 3")
    transfer = site.put("/alice/x.root")
    site.run_until(transfer, State.DONE)
    found = site.catalogue.resolve([Lfn("/alice/x.root")]).one(Lfn("/alice/x.root"))
    assert found.entry.size_bytes == 1234
    assert found.contents == ("/aodTree", 77)
    assert [(one.se, one.url) for one in found.replicas] == [("LOCAL", "root://server//x.root")]
    assert site.left() == []


@pytest.mark.parametrize(
    ("script", "code", "found"),
    [
        ('echo "FAIL $1 Reason: tape is broken"', "source-unavailable", "tape is broken"),
        ("exit 0", "source-unavailable", "ended without a line OK or FAIL (exit code 0); it wrote nothing"),
        ("echo hello; kill -SEGV $$", "source-unavailable", "(signal 11); its last words: 'hello'"),
        ("head -c 3000000 /dev/urandom", "source-unavailable", "ended without a line OK or FAIL"),
        ('echo "OK $1 Tree: t Events: 1"', "size-mismatch", "no Size"),
    ],
)
def test_what_fails_says_why_and_leaves_nothing(site, script, code, found):
    site.script(script)
    transfer = site.put("/alice/x.root")
    site.run_until(transfer, State.FAILED)
    (attempt,) = site.queue.attempts_of(transfer)
    assert attempt.error is not None
    assert attempt.error.code == code
    assert found in str(attempt.error)
    assert site.catalogue.stat([Lfn("/alice/x.root")]).failed
    assert site.left() == []


def test_a_program_that_is_not_there_is_said(site):
    site.script("")
    (site.root / "stage.sh").unlink()
    transfer = site.put("/alice/x.root")
    site.run_until(transfer, State.FAILED)
    (attempt,) = site.queue.attempts_of(transfer)
    assert "No such file" in str(attempt.error)
    assert "stager.external.command" in str(attempt.error)


def test_one_that_hangs_is_ended_with_all_it_started_even_if_it_will_not(site):
    pids = site.root / "pids"
    site.script(f"trap '' TERM\nsleep 1000 &\necho $! $$ > {pids}\nwhile :; do sleep 1; done", timeout_s=0.5)
    transfer = site.put("/alice/x.root")
    site.run_until(transfer, State.FAILED)
    (attempt,) = site.queue.attempts_of(transfer)
    assert attempt.error is not None
    assert attempt.error.code == "stalled"
    for pid in pids.read_text().split():
        assert not Path(f"/proc/{pid}/cmdline").exists() or not Path(f"/proc/{pid}/cmdline").read_bytes()


def test_a_stop_ends_the_command_and_puts_the_file_back(site):
    pid = site.root / "pid"
    site.script(f"echo $$ > {pid}.new; mv {pid}.new {pid}; sleep 1000")
    transfer = site.put("/alice/x.root")
    stop = threading.Event()
    thread = threading.Thread(target=site.stager().run, args=(stop,))
    thread.start()
    until(pid.exists)
    stop.set()
    thread.join()
    assert not Path(f"/proc/{pid.read_text().strip()}").exists()
    now = site.queue.get([transfer])[transfer]
    assert (now.state, now.failures) == (State.QUEUED, 0)


def test_names_are_arguments_not_shell(site):
    site.script(f'printf "%s\\n" "$@" > {site.root}/seen; {OK}')
    hurt = f"root://h//a b'; touch {site.root}/hurt; $(touch {site.root}/hurt) `id`"
    site.run_until(site.put("/alice/x.root", hurt, "$URLTOSTAGE"), State.DONE)
    assert (site.root / "seen").read_text() == f"{hurt}\n$URLTOSTAGE\n"
    assert not (site.root / "hurt").exists()


def test_a_file_of_the_catalogue_is_verified_after_the_command(site):
    (good, bad) = site.add({"good.bin": b"x" * 1000, "bad.bin": b"y" * 1000})
    site.script(
        'mkdir -p "$(dirname "$1")"\nhead -c 1000 /dev/zero | tr "\\0" x > "$1"\n'
        'echo "OK $1 Tree: EndpointUrl: Size: 1000 Events: "'
    )
    assert site.local(good) != site.local(bad)
    site.work([site.ask()])
    assert site.places(good) == ["LOCAL", "REMOTE"]
    assert site.places(bad) == ["REMOTE"]
    assert [one.error.code for one in site.failed()] == ["checksum-mismatch"]


def test_commands_of_a_killed_stager_are_ended_by_the_next(site, tmp_path):
    site.script(OK)
    leader = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    killed = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    owner = name_of(killed.pid)
    killed.kill()
    killed.wait()
    directory = tmp_path / "external"
    directory.mkdir()
    record = f'{{"owner": "{owner}", "leader": "{name_of(leader.pid)}", "pid": {leader.pid}}}'
    (directory / "1.1.7.run").write_text(record)
    (directory / "1.1.7.out").write_text("")
    ours = f'{{"owner": "{name_of(os.getpid())}", "leader": "{name_of(os.getpid())}", "pid": 0}}'
    (directory / "2.1.7.run").write_text(ours)
    assert site.external.sweep() == 1
    assert leader.wait(10) == -9
    assert [one.name for one in directory.iterdir()] == ["2.1.7.run"]


def test_records_of_another_boot_go_when_they_are_old(site, tmp_path):
    site.script(OK)
    directory = tmp_path / "external"
    directory.mkdir()
    other = '{"owner": "another boot/1/1/1/1", "leader": "another boot/1/1/1/1", "pid": 1}'
    ours = f'{{"owner": "{name_of(os.getpid())}", "leader": "{name_of(os.getpid())}", "pid": 0}}'
    for name, text in (("1.1.1", other), ("2.1.1", other), ("3.1.1", ours)):
        (directory / f"{name}.run").write_text(text)
        (directory / f"{name}.out").write_text("")
    (directory / "4.1.1.out").write_text("")  # killed before it wrote the record
    for name in ("1.1.1.run", "1.1.1.out", "3.1.1.run", "3.1.1.out", "4.1.1.out"):
        os.utime(directory / name, (1e9, 1e9))
    site.external.sweep()
    assert sorted(one.name for one in directory.iterdir()) == [
        "2.1.1.out",
        "2.1.1.run",
        "3.1.1.out",
        "3.1.1.run",
    ]
