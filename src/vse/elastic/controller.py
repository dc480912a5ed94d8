"""How many workers to ask a batch system for, and when to stop: decisions only, time is passed in.

The user wishes for a number of workers (PoD's vafreq, seed 002 §4.4.8.3). What is seen of the batch system
and of the scheduler comes in as events; what is to be done comes out as commands. The state is a value that
survives a restart (`to_dict`, `from_dict`); jobs are known by the batch system too, so that none is lost
between a submission and its record.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from vse.elastic.batch.port import JobSeen


@dataclass(frozen=True, slots=True)
class Limits:
    """Times in seconds."""

    idle_s: float = 1800.0
    """Without any task and any client so long, the cluster shuts itself down."""
    idle_client_s: float = 14400.0
    """Likewise with a client that is connected and asks for nothing."""
    pending_s: float = 3600.0
    """A job that has not begun for so long is withdrawn and asked for again."""
    joining_s: float = 180.0
    """A job that runs, and whose worker has not joined for so long, is taken for dead."""
    backoff_s: float = 10.0
    """The pause after a job that died at once, or a failed submission; it doubles with each further one."""
    backoff_max_s: float = 600.0
    max_deaths: int = 5
    """So many jobs in a row that ended before their worker joined: no more are asked for."""
    grace_s: float = 10.0
    """A job that was just submitted may be missing in the batch system's list for so long."""


@dataclass(frozen=True, slots=True)
class Job:
    """One job of the batch system: when it was submitted and first seen to run, whether its worker has ever
    joined, and since when it is gone again."""

    submitted_at: float
    running_since: float | None = None
    joined: bool = False
    left_at: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class State:
    """``drained`` says why no more workers are asked for; empty where they are."""

    wish: int = 0
    jobs: Mapping[str, Job] = field(default_factory=dict)
    deaths: int = 0
    not_before: float = 0.0
    drained: str = ""
    active_at: float = 0.0
    remark: str = ""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], now: float) -> State:
        """Rebuild a state; the time in which nothing ran does not count as idle."""
        jobs = {name: Job(**job) for name, job in data["jobs"].items()}
        return cls(**{**data, "jobs": jobs, "active_at": now})


@dataclass(frozen=True, slots=True)
class Wished:
    """The user wants ``count`` workers in all."""

    count: int


@dataclass(frozen=True, slots=True)
class Submitted:
    jobs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NotSubmitted:
    reason: str


@dataclass(frozen=True, slots=True)
class Looked:
    """What is there now. ``jobs`` None: the batch system did not answer. ``joined``: jobs with a worker."""

    jobs: tuple[JobSeen, ...] | None
    joined: frozenset[str]
    tasks: int = 0
    clients: int = 0


Event = Wished | Submitted | NotSubmitted | Looked


@dataclass(frozen=True, slots=True)
class Submit:
    count: int


@dataclass(frozen=True, slots=True)
class Cancel:
    jobs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ShutDown:
    reason: str


Command = Submit | Cancel | ShutDown


def handle(state: State, event: Event, now: float, limits: Limits) -> tuple[State, list[Command]]:
    """Return the state after ``event`` and what is to be done.

    After a `Submit` the runner answers with `Submitted` or `NotSubmitted` before the next `Looked`.
    """
    if isinstance(event, Wished):
        return _wished(state, event.count, now)
    if isinstance(event, Submitted):
        new = {job: Job(now) for job in event.jobs if job not in state.jobs}
        return replace(state, jobs={**state.jobs, **new}, remark=""), []
    if isinstance(event, NotSubmitted):
        paused = _died(state, 1, now, limits, f"the batch system takes no jobs: {event.reason}")
        return paused, []
    return _looked(state, event, now, limits)


def _wished(state: State, count: int, now: float) -> tuple[State, list[Command]]:
    """A new wish is a new beginning: what was drained is tried again."""
    state = replace(state, wish=count, deaths=0, not_before=0.0, drained="", remark="", active_at=now)
    return _towards_the_wish(state, now)


def _looked(state: State, event: Looked, now: float, limits: Limits) -> tuple[State, list[Command]]:
    awaited = state.wish and not event.joined and not state.drained
    if event.tasks or awaited:
        state = replace(state, active_at=now)
    if now - state.active_at > (limits.idle_client_s if event.clients else limits.idle_s):
        idle_s = now - state.active_at
        commands: list[Command] = [ShutDown(f"nothing was asked of it for {idle_s:.0f} s")]
        if state.jobs:
            commands.insert(0, Cancel(tuple(state.jobs)))
        return replace(state, wish=0, jobs={}), commands
    if event.jobs is None:
        return replace(state, remark="the batch system does not say what it runs"), []
    state = _account(state, event.jobs, event.joined, now, limits)
    state, stale = _withdraw(state, now, limits)
    state, commands = _towards_the_wish(state, now)
    return state, [*stale, *commands]


def _account(
    state: State, seen: tuple[JobSeen, ...], joined: frozenset[str], now: float, limits: Limits
) -> State:
    """Take over what the batch system tells: jobs that began, ended, or were not known after a crash."""
    jobs: dict[str, Job] = {}
    for one in seen:
        job = state.jobs.get(one.id, Job(now))
        if one.running and job.running_since is None:
            job = replace(job, running_since=now)
        here = one.id in joined
        left_at = None if here or not job.joined else job.left_at or now
        jobs[one.id] = replace(job, joined=job.joined or here, left_at=left_at, reason=one.reason)
    deaths, state_deaths = 0, state.deaths
    if any(job.joined and not state.jobs.get(name, job).joined for name, job in jobs.items()):
        state_deaths = 0
    for name, job in state.jobs.items():
        if name in jobs:
            continue
        if job.joined or name in joined:
            continue
        if job.running_since is None and now - job.submitted_at <= limits.grace_s:
            jobs[name] = job
        else:
            deaths += 1
    state = replace(state, jobs=jobs, deaths=state_deaths, remark="")
    if deaths:
        state = _died(state, deaths, now, limits, "jobs end before their worker joins; their logs say why")
    return state


def _died(state: State, count: int, now: float, limits: Limits, reason: str) -> State:
    deaths = state.deaths + count
    pause_s = min(limits.backoff_s * 2 ** min(state.deaths, 30), limits.backoff_max_s)
    drained = f"{deaths} in a row: {reason}" if deaths >= limits.max_deaths else ""
    return replace(state, deaths=deaths, not_before=now + pause_s, drained=drained, remark=reason)


def _withdraw(state: State, now: float, limits: Limits) -> tuple[State, list[Command]]:
    """Cancel what never begins, what begins and never joins, and what has lost its worker."""
    late = [
        name
        for name, job in state.jobs.items()
        if job.running_since is None and now - job.submitted_at > limits.pending_s
    ]
    silent = [
        name
        for name, job in state.jobs.items()
        if job.running_since is not None and not job.joined and now - job.running_since > limits.joining_s
    ]
    left = [
        name
        for name, job in state.jobs.items()
        if job.left_at is not None and now - job.left_at > limits.joining_s
    ]
    gone = {*late, *silent, *left}
    if not gone:
        return state, []
    state = replace(state, jobs={name: job for name, job in state.jobs.items() if name not in gone})
    if silent:
        state = _died(state, len(silent), now, limits, "jobs run and their workers do not join")
    elif late:
        pause = now + limits.backoff_s
        state = replace(state, not_before=max(state.not_before, pause), remark="jobs did not begin")
    return state, [Cancel((*late, *silent, *left))]


def _towards_the_wish(state: State, now: float) -> tuple[State, list[Command]]:
    missing = state.wish - len(state.jobs)
    if missing > 0 and not state.drained and now >= state.not_before:
        return state, [Submit(missing)]
    if missing >= 0:
        return state, []
    # those that give back least: pending ones first, the newest first
    order = sorted(
        state.jobs, key=lambda name: (state.jobs[name].joined, state.jobs[name].running_since is not None)
    )
    gone = order[:-missing]
    kept = {name: job for name, job in state.jobs.items() if name not in gone}
    return replace(state, jobs=kept), [Cancel(tuple(gone))]
