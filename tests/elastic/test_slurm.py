"""The facility on a real Slurm: real jobs, the real files, workers that are cancelled."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from support.command_line import ZMUMU
from support.elastic import environment_of, write_proxy
from support.waiting import until
from vse.analysis.engine import AnalysisOptions, Feed, InputFile, analyse
from vse.analysis.script import load_script
from vse.app.vaf import ClusterWorkers
from vse.config.vaf import VafSettings
from vse.errors import WorkersLost

pytestmark = pytest.mark.slow

ENTRIES = 2304
SCRIPT = """
import time
import hist

def process(events):
    time.sleep(0.1)
    seen = hist.Hist.new.Reg(1, 0, 1000, name="mass").Int64()
    seen.fill(events["M"])
    return {"mass": seen, "n": len(events)}
"""


@pytest.fixture
def script(tmp_path: Path) -> Any:
    path = tmp_path / "count.py"
    path.write_text(SCRIPT)
    return load_script(path)


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A client of the facility, made as ``vse analyse --cluster vaf`` makes it."""
    monkeypatch.setenv("VAF_STATE", str(tmp_path / "state"))
    with ClusterWorkers("vaf", VafSettings()) as workers:
        yield workers


def test_a_worker_cancelled_in_the_middle_costs_no_event(on_slurm, make_facility, client, script):
    facility = make_facility(batch="slurm")
    facility.start()
    facility.request(2)
    facility.wait(2, 60)
    cancelled: list[str] = []

    def cancel_one(progress: Any) -> None:
        if not cancelled and progress.entries_done > ENTRIES:
            cancelled.append(next(iter(facility.status()["jobs"])))
            on_slurm.run("scancel", cancelled[0])

    files = [InputFile(f"/real/{path.name}", str(path), size_bytes=path.stat().st_size) for path in ZMUMU]
    options = AnalysisOptions(packet_entries=200, no_workers_s=60)
    result = analyse(script, Feed(files, closed=True), client.client, options, cancel_one)
    assert cancelled
    assert result.workers_lost >= 1
    assert result.complete
    assert result.output["n"] == len(ZMUMU) * ENTRIES == result.entries_processed
    assert {file.entries_done for file in result.files} == {ENTRIES}
    facility.wait(2, 60)
    assert cancelled[0] not in facility.status()["jobs"]


def test_the_analysis_begins_with_the_first_worker_and_later_ones_join(
    on_slurm, make_facility, client, script
):
    facility = make_facility(batch="slurm")
    facility.start()
    asked: list[int] = []

    def ask_for_more(progress: Any) -> None:
        if not asked and progress.entries_done:
            asked.append(progress.entries_done)
            facility.request(2)

    facility.request(1)
    files = [InputFile(f"/real/{n}", str(path)) for n, path in enumerate(ZMUMU * 2)]
    options = AnalysisOptions(packet_entries=200, no_workers_s=60)
    result = analyse(script, Feed(files, closed=True), client.client, options, ask_for_more)
    assert result.entries_processed == 2 * len(ZMUMU) * ENTRIES
    assert result.workers == 2
    assert min(result.entries_by_worker.values()) > 0


def test_workers_that_slurm_cannot_give_are_waited_for_with_a_reason(on_slurm, make_facility):
    facility = make_facility(batch="slurm")
    facility.start()
    facility.request(3)
    facility.wait(2, 60)
    until(lambda: "Resources" in {job["reason"] for job in facility.status()["jobs"].values()})
    with pytest.raises(WorkersLost, match=r"2 came within 0 s; 1 job has not begun \(Resources\)"):
        facility.wait(3, 0)
    told: list[str] = []
    with pytest.raises(WorkersLost, match="2 came within 1 s"):
        facility.wait(3, 1, told.append)
    assert told[0] == "2 of 3 workers; 1 job has not begun (Resources)"
    assert len(told) < 3, "it is told when it changes, and every minute"
    with pytest.raises(WorkersLost, match="3 were asked for"):
        facility.wait(4, 60)


def test_an_idle_facility_shuts_itself_down_and_leaves_no_job(on_slurm, make_facility, tmp_path):
    facility = make_facility(batch="slurm", idle_s=2.0)
    facility.start()
    facility.request(1)
    facility.wait(1, 60)
    until(lambda: not (tmp_path / "state" / "pack.json").exists())
    until(lambda: not on_slurm.run("squeue", "-h").strip())
    assert "shut down: nothing was asked of it" in (tmp_path / "state" / "server.log").read_text()


def test_the_environment_is_loaded_in_order_and_the_proxy_arrives_unseen(
    on_slurm, make_facility, client, tmp_path, home, monkeypatch
):
    proxy = tmp_path / "proxy"
    content = write_proxy(proxy)
    secret = content.decode().splitlines()[-2]
    monkeypatch.setenv("X509_USER_PROXY", str(proxy))
    monkeypatch.setenv("BEARER_TOKEN", "tok3n-of-anna")
    facility = make_facility(batch="slurm")
    (tmp_path / "etc" / "payload").write_text("echo 'export SEEN=payload PASSED=payl0ad-secret'\n")
    (tmp_path / "etc" / "remote.conf").write_text('export SEEN="$SEEN site:remote.conf"\n')
    for name in ("common.before", "remote.before", "remote.conf", "common.after", "remote.after"):
        (home / ".vaf" / name).write_text(f'export SEEN="$SEEN {name}"\n')
    facility.start()
    facility.request(1)
    facility.wait(1, 60)
    told = environment_of(client.client)
    assert told["SEEN"] == ("payload common.before remote.before site:remote.conf common.after remote.after")
    assert told["proxy"] == content.decode()
    assert told["modes"] == [0o600, 0o600, 0o700]
    assert told["token"] == "tok3n-of-anna"
    job = next(iter(facility.status()["jobs"]))
    shown = [
        subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, text=True, check=True).stdout,
        on_slurm.run("scontrol", "show", "job", job),
        on_slurm.run("scontrol", "write", "batch_script", job, "-"),
        *(path.read_text(errors="replace") for path in (tmp_path / "state").rglob("*") if path.is_file()),
        *(
            path.read_bytes().decode(errors="replace")
            for place in ("state", "spool")
            for path in (on_slurm.directory / place).rglob("*")
            if path.is_file()
        ),
    ]
    assert "vse.elastic.join" in shown[1] + shown[2] + shown[0]
    for what in (secret, "tok3n-of-anna", "payl0ad-secret"):
        assert not [text for text in shown if what in text]


def test_jobs_that_die_at_once_are_told_and_not_asked_for_for_ever(on_slurm, make_facility):
    facility = make_facility(batch="slurm", python="/bin/false", backoff_s=0.1, max_deaths=2, idle_s=60)
    facility.start()
    facility.request(1)
    with pytest.raises(WorkersLost, match="2 in a row: jobs end before their worker joins"):
        facility.wait(1, 30)


def test_a_killed_scheduler_finds_the_jobs_that_wait_again(on_slurm, make_facility):
    facility = make_facility(batch="slurm")
    status = facility.start()
    facility.request(3)
    facility.wait(2, 60)
    waiting = {name for name, job in facility.status()["jobs"].items() if not job["running"]}
    assert len(waiting) == 1
    os.kill(status["pid"], signal.SIGKILL)
    os.waitpid(status["pid"], 0)
    assert waiting <= set(facility.start()["jobs"])
    assert facility.wait(2, 50) >= 2
    facility.stop()
    until(lambda: not on_slurm.run("squeue", "-h").strip())
