"""The facility on this machine and over ssh, and what becomes of it when its scheduler is killed."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
from dataclasses import replace

import pytest

from servers.sftp import sftp
from support.command_line import ZMUMU, Command, clean_environment
from support.elastic import environment_of
from support.waiting import until
from vse.app.init import init_site
from vse.app.vaf import ClusterWorkers
from vse.config.vaf import VafSettings
from vse.elastic.pack import make_pack
from vse.elastic.server import ask
from vse.errors import BadRequest, Denied, WorkersLost

pytestmark = pytest.mark.slow


def test_the_commands_of_the_seed(tmp_path, home):
    init_site(tmp_path / "site", name="test")
    vse = Command(tmp_path / "site")
    (home / ".vaf" / "local.conf").write_text("export FRAMEWORK=v5-05-38\n")
    variables = {"VAF_STATE": str(tmp_path / "state"), "HOME": str(home)}
    missing = vse("vaf", "count", "--once", environment=variables)
    assert (missing.code, "Start one: vse vaf start" in missing.err) == (11, True)
    try:
        assert vse("vaf", "start", environment=variables).code == 0
        assert vse("vaf", "start", environment=variables).code == 0
        assert vse("vaf", "request", "1", environment=variables).code == 0
        waited = vse("vaf", "wait", "1", "--timeout", "30", environment=variables)
        assert waited.out == "1 worker is there.\n"
        assert vse("vaf", "count", "--once", environment=variables).out == "1\n"
        until(lambda: "working" in vse("vaf", "status", environment=variables).out)
        entered = vse("vaf", "enter", "printenv", "FRAMEWORK", environment=variables)
        assert entered.out == "v5-05-38\n"
        script = tmp_path / "count.py"
        script.write_text("def process(events):\n    return {'n': len(events)}\n")
        assert vse("register", *map(str, ZMUMU), "--to", "/real").code == 0
        words = ("analyse", str(script), "/real/*.root", "--cluster", "vaf", "--json")
        done = vse(*words, environment=variables)
        assert done.code == 0, done.err
        assert '"entries_processed": 11520' in done.out
    finally:
        stopped = vse("vaf", "stop", environment=variables)
    assert stopped.code == 0
    assert not (tmp_path / "state" / "pack.json").exists()


def test_to_stop_it_during_an_analysis_is_told_in_a_few_words(tmp_path, home):
    init_site(tmp_path / "site", name="test")
    vse = Command(tmp_path / "site")
    variables = {"VAF_STATE": str(tmp_path / "state"), "HOME": str(home)}
    script = tmp_path / "slow.py"
    script.write_text(
        "import time\ndef process(events):\n    time.sleep(0.2)\n    return {'n': len(events)}\n"
    )
    assert vse("register", *map(str, ZMUMU), "--to", "/real").code == 0
    words = ("--set", "analysis.packet_target_s=0.01", "analyse", str(script), "/real/*.root")
    try:
        assert vse("vaf", "start", environment=variables).code == 0
        assert vse("vaf", "request", "1", environment=variables).code == 0
        running = subprocess.Popen(
            [sys.executable, "-m", "vse.cli", *words, "--cluster", "vaf"],
            cwd=vse.directory,
            env={**clean_environment(), **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        until((vse.directory / "results" / "checkpoint").exists, process=running)
    finally:
        stopped = vse("vaf", "stop", environment=variables)
    assert stopped.code == 0, stopped.err
    _, err = running.communicate(timeout=60)
    assert running.returncode == 11
    assert "the scheduler is gone" in err
    assert "Traceback" not in err
    assert len(err.splitlines()) < 8, err


def test_the_key_is_for_its_user_only_and_nobody_joins_without_it(make_facility, tmp_path):
    facility = make_facility()
    address = facility.start()["address"]
    state = tmp_path / "state"
    assert {stat.S_IMODE(path.stat().st_mode) for path in state.rglob("*") if path.is_file()} == {0o600}
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    with pytest.raises(Denied, match="no certificate"), ClusterWorkers(address, VafSettings()) as strange:
        assert strange.client
    with pytest.raises(WorkersLost):
        ask(replace(make_pack("other"), address=address), "status", timeout_s=3)
    with pytest.raises(BadRequest):
        assert ClusterWorkers("http://nowhere", VafSettings()).client


def test_a_directory_that_others_may_read_is_refused(make_facility, tmp_path):
    (tmp_path / "state").mkdir(mode=0o755)
    with pytest.raises(Denied, match="chmod 700"):
        make_facility().start()


def test_a_killed_scheduler_is_started_again_with_the_same_wish(make_facility):
    facility = make_facility()
    status = facility.start()
    facility.request(1)
    facility.wait(1, 30)
    os.kill(status["pid"], signal.SIGKILL)
    os.waitpid(status["pid"], 0)
    with pytest.raises(WorkersLost, match="Start it: vse vaf start"):
        facility.status()
    again = facility.start()
    assert again["name"] == status["name"]
    assert facility.wait(1, 30) == 1


def test_a_worker_that_is_killed_is_replaced_and_what_it_left_is_gone(make_facility, tmp_path, monkeypatch):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    facility = make_facility()
    facility.start()
    facility.request(1)
    facility.wait(1, 30)
    before = set(facility.status()["jobs"])
    pattern = f"vse.elastic.worker [0-9]+ {scratch}"
    nanny = subprocess.run(["pgrep", "-f", pattern], capture_output=True, check=True)
    os.kill(int(nanny.stdout.split()[0]), signal.SIGKILL)
    until(lambda: set(facility.status()["jobs"]) - before)
    facility.wait(1, 30)
    facility.stop()
    assert len(list(scratch.glob("vaf-*"))) <= 1  # the killed one could not tidy up


def test_a_worker_at_the_end_of_an_ssh_connection(make_facility, tmp_path, monkeypatch):
    monkeypatch.setenv("VAF_STATE", str(tmp_path / "state"))
    assert shutil.which("ssh"), "ssh is missing: install Debian's openssh-client"
    with sftp() as server:
        key = ("-i", str(server.key_file))
        options = (*key, "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null")
        facility = make_facility(
            batch="ssh",
            hosts=f"{server.user}@127.0.0.1:{server.port}",
            options=options,
            python=sys.executable,
        )
        facility.start()
        facility.request(1)
        facility.wait(1, 30)
        with ClusterWorkers("vaf", VafSettings()) as workers:
            assert "SSH_CONNECTION" in environment_of(workers.client)
        (job,) = facility.status()["jobs"]
        assert job in _processes()
        facility.stop()
        until(lambda: job not in _processes())


def _processes() -> str:
    return subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, text=True, check=True).stdout
