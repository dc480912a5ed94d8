"""Slurm on loopback: munged, slurmctld and slurmd of Debian's slurm-wlm, with a key of their own.

Needs root. One node, with as many processors as the test wants; the machine's own Slurm is not touched.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

READY_S = 30.0
_PROGRAMS = ("/usr/sbin/munged", "/usr/sbin/slurmctld", "/usr/sbin/slurmd", "/usr/bin/sbatch")
_CONFIG = """ClusterName=vse
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={directory}/munge.socket
CredType=cred/munge
StateSaveLocation={directory}/state
SlurmdSpoolDir={directory}/spool
SlurmctldPidFile={directory}/slurmctld.pid
SlurmdPidFile={directory}/slurmd.pid
SlurmctldLogFile={directory}/slurmctld.log
SlurmdLogFile={directory}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0,defer_batch=0
SlurmdParameters=config_overrides
MpiDefault=none
SwitchType=switch/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
KillWait=2
InactiveLimit=0
ReturnToService=2
MailProg=/bin/true
NodeName=one NodeHostname={host} NodeAddr=127.0.0.1 Port={node} CPUs={processors} State=UNKNOWN
PartitionName=test Nodes=one Default=YES MaxTime=60 State=UP
"""


class Slurm(NamedTuple):
    """A running Slurm: its programs find it through ``environment``; ``directory`` holds its logs."""

    environment: dict[str, str]
    directory: Path

    def run(self, *command: str) -> str:
        """Run one of its programs and return what it prints."""
        done = subprocess.run(
            command,
            check=True,
            capture_output=True,
            text=True,
            timeout=READY_S,
            env=os.environ | self.environment,
        )
        return done.stdout


@contextmanager
def slurm(processors: int = 2) -> Iterator[Slurm]:
    """Run Slurm with one node of so many processors, whatever the machine has."""
    for program in _PROGRAMS:
        assert Path(program).exists(), f"{program} is missing: install Debian's slurm-wlm and munge"
    assert os.geteuid() == 0, "slurmd has to run as root"
    with ExitStack() as stack:
        directory = Path(tempfile.mkdtemp(prefix="vse-slurm-"))
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        directory.chmod(0o755)
        for name in ("state", "spool"):
            (directory / name).mkdir()
        key = directory / "munge.key"
        key.touch(0o600)
        key.write_bytes(secrets.token_bytes(128))
        host = socket.gethostname().split(".")[0]
        controller, node = _free_ports(2)
        config = directory / "slurm.conf"
        config.write_text(
            _CONFIG.format(
                host=host, controller=controller, node=node, processors=processors, directory=directory
            )
        )
        running = Slurm({"SLURM_CONF": str(config)}, directory)
        munge_files = [
            f"--{what}={directory}/munge.{name}"
            for what, name in (
                ("key-file", "key"),
                ("socket", "socket"),
                ("pid-file", "pid"),
                ("log-file", "log"),
                ("seed-file", "seed"),
            )
        ]
        for command in (
            ["/usr/sbin/munged", "--foreground", "--force", "--num-threads=2", *munge_files],
            ["/usr/sbin/slurmctld", "-D", "-c", "-f", str(config)],
            ["/usr/sbin/slurmd", "-D", "-N", "one", "-f", str(config)],
        ):
            stack.enter_context(_daemon(command, running))
            if "munged" in command[0]:
                _wait(lambda: (directory / "munge.socket").exists(), "munged", directory)
        _wait(lambda: "idle" in running.run("sinfo", "-h", "-o", "%T"), "a node", directory)
        try:
            yield running
        finally:  # a job that outlives the controller would wait for it for ever
            running.run("scancel", "--partition=test")
            _wait(lambda: not running.run("squeue", "-h").strip(), "an empty queue", directory)


@contextmanager
def _daemon(command: list[str], running: Slurm) -> Iterator[None]:
    name = Path(command[0]).name
    with (running.directory / f"{name}.out").open("wb") as told:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=told,
            stderr=told,
            env=os.environ | running.environment,
            start_new_session=True,
        )
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


def _wait(ready: Callable[[], bool], what: str, directory: Path) -> None:
    until_s = time.monotonic() + READY_S
    while time.monotonic() < until_s:
        try:
            if ready():
                return
        except subprocess.SubprocessError:
            pass
        time.sleep(0.05)
    logs = "\n".join(f"{log.name}: {log.read_text()[-1500:]}" for log in directory.glob("*.log"))
    outs = "\n".join(f"{log.name}: {log.read_text()[-1500:]}" for log in directory.glob("*.out"))
    raise AssertionError(f"{what} of Slurm was not ready within {READY_S} s\n{logs}\n{outs}")
