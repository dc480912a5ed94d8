"""What a batch system is to the facility: a place to submit jobs to, that tells of them and cancels them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from vse.errors import SourceUnavailable

_KEPT = (
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "TZ",
    "TMPDIR",
    "PYTHONPATH",
    "LD_LIBRARY_PATH",
    "SLURM_CONF",
    "CONDOR_CONFIG",
    "SSH_AUTH_SOCK",
)


class JobSeen(NamedTuple):
    """A job that has not ended; ``reason`` says why it waits, in the batch system's own words."""

    id: str
    running: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Order:
    """What a job runs and needs.

    ``name`` marks the jobs of one facility; ``pack`` is a file of the user's own (0600) that tells a worker
    where its scheduler is and the key to it; ``logs`` is a directory. ``memory_bytes`` 0: not said.
    """

    name: str
    python: str
    pack: Path
    logs: Path
    cores: int = 1
    memory_bytes: int = 0
    walltime_s: int = 0
    queue: str = ""
    options: tuple[str, ...] = ()

    def command(self, pack: str) -> list[str]:
        """Return the argument list of a worker; no secret is in it."""
        return [self.python, "-m", "vse.elastic.join", pack]


class Batch(Protocol):
    """A failure of any call is a `SourceUnavailable` (retryable) that carries what the other side said."""

    def submit(self, count: int) -> list[str]:
        """Submit ``count`` jobs; return their ids."""

    def list(self) -> list[JobSeen]:
        """Return the facility's jobs that have not ended, whoever submitted them."""

    def cancel(self, jobs: Sequence[str]) -> None:
        """End jobs; those that have ended already are no error."""


def clean_environment(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return what of the environment a batch system may keep and show: no token, no password."""
    return {
        name: value
        for name, value in (os.environ if environment is None else environment).items()
        if name in _KEPT or name.startswith("LC_")
    }


def run_program(command: Sequence[str], text: str = "", timeout_s: float = 60.0) -> str:
    """Run a program of the batch system with ``text`` on its input; return what it prints."""
    wanted = f"run {command[0]}"
    try:
        done = subprocess.run(
            command,
            input=text,
            check=False,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            env=clean_environment(),
        )
    except FileNotFoundError as error:
        raise SourceUnavailable(wanted, "there is no such program here", "install it") from error
    except subprocess.TimeoutExpired as error:
        raise SourceUnavailable(wanted, f"no answer within {timeout_s:.0f} s") from error
    if done.returncode != 0:
        raise SourceUnavailable(wanted, done.stderr.strip() or f"it ended with {done.returncode}")
    return done.stdout
