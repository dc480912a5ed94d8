"""The settings of the analysis facility: where a user's workers run."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from vse.config.sections import Count, Names, Positive, Section


class VafSettings(Section):
    """`vse vaf`: a user's own workers on a batch system."""

    batch: Literal["local", "slurm", "ssh", "htcondor"] = "local"
    host: str = ""
    """Where workers reach the scheduler; where empty, this machine's address, or 127.0.0.1 for `local`."""
    hosts: Names = ()
    """For `ssh`: `user@host:port` of each machine."""
    python: str = ""
    """The Python of the workers, with VSE in it; where empty, this one."""
    queue: str = ""
    """Slurm's partition."""
    options: tuple[str, ...] = ()
    """More words for sbatch or ssh; for HTCondor, more lines as `name = value`."""
    cores: Count = 1
    """Processors of a job. A worker uses one; the others are for the threads of its libraries."""
    memory_bytes: int = Field(default=0, ge=0)
    """Memory of a job; 0 is what the batch system gives by itself."""
    walltime_s: int = Field(default=0, ge=0)
    """A job ends after so long, and another takes its place; 0 is what the batch system gives by itself."""
    environment: str = ""
    """The directory of the site's environment scripts; where empty, `etc/vaf` of the installation."""
    idle_s: Positive = 1800.0
    """Without tasks and clients so long, the facility shuts itself down."""
    idle_client_s: Positive = 14400.0
    """Likewise with a client that is connected and asks for nothing."""
    pending_s: Positive = 3600.0
    """A job that has not begun for so long is withdrawn and asked for again."""
    joining_s: Positive = 180.0
    """A job that runs, and whose worker has not joined for so long, is taken for dead."""
    backoff_s: Positive = 10.0
    """The pause after a job that died at once; it doubles with each further one."""
    backoff_max_s: Positive = 600.0
    """The longest pause."""
    max_deaths: Count = 5
    """So many jobs in a row that end before their worker joins: no more are asked for."""
    every_s: Annotated[float, Field(ge=0.1)] = 2.0
    """How often the batch system is looked at."""
    wait_s: Positive = 3600.0
    """How long an analysis waits for the first worker."""
