"""HTCondor, by its own bindings (PyPI ``htcondor``).

The submit description is checked against them. No daemon of HTCondor was there to run it with: untested.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from vse.elastic.batch.port import JobSeen, Order
from vse.errors import SourceUnavailable, Unsupported

_RUNNING, _HELD, _ENDED = {2, 6, 7}, 5, {3, 4}


class HTCondor:
    """Jobs take the pack with them, encrypted; no file system has to be shared."""

    def __init__(self, order: Order) -> None:
        self._order = order
        try:
            import htcondor2
        except ImportError as error:
            todo = "install it: pip install htcondor"
            raise Unsupported("use HTCondor", "its Python bindings are not installed", todo) from error
        self._bindings: Any = htcondor2

    def description(self) -> Any:
        """Return the `htcondor2.Submit` of a job."""
        return self._bindings.Submit(describe(self._order))

    def submit(self, count: int) -> list[str]:
        told = self._ask("submit", lambda schedd: schedd.submit(self.description(), count=count))
        return [f"{told.cluster()}.{told.first_proc() + number}" for number in range(count)]

    def list(self) -> list[JobSeen]:
        wanted = ["ClusterId", "ProcId", "JobStatus", "HoldReason"]
        constraint = f'VafFacility == "{self._order.name}"'
        ads = self._ask("query", lambda schedd: schedd.query(constraint=constraint, projection=wanted))
        return [
            JobSeen(
                f"{ad['ClusterId']}.{ad['ProcId']}",
                ad["JobStatus"] in _RUNNING,
                ad.get("HoldReason", "held") if ad["JobStatus"] == _HELD else "",
            )
            for ad in ads
            if ad["JobStatus"] not in _ENDED
        ]

    def cancel(self, jobs: Sequence[str]) -> None:
        action = self._bindings.JobAction.Remove
        self._ask("cancel", lambda schedd: schedd.act(action, list(jobs)))

    def _ask(self, wanted: str, call: Callable[[Any], Any]) -> Any:
        """The bindings raise whatever they like; it becomes one error of ours."""
        try:
            return call(self._bindings.Schedd())
        except Exception as error:
            raise SourceUnavailable(f"{wanted} jobs of HTCondor", str(error)) from error


def describe(order: Order) -> dict[str, str]:
    """Return the submit description; names are quoted as HTCondor's new syntax of arguments wants."""
    _, *arguments = order.command(order.pack.name)
    description = {
        "universe": "vanilla",
        "executable": order.python,
        "transfer_executable": "false",
        "arguments": _quoted(arguments),
        "environment": _quoted(["VAF_JOB=$(ClusterId).$(ProcId)"]),
        "should_transfer_files": "YES",
        "when_to_transfer_output": "ON_EXIT",
        "transfer_output_files": '""',
        "transfer_input_files": str(order.pack),
        "encrypt_input_files": str(order.pack),
        "output": f"{order.logs}/$(ClusterId).$(ProcId).log",
        "error": f"{order.logs}/$(ClusterId).$(ProcId).log",
        "request_cpus": str(order.cores),
        "My.VafFacility": f'"{order.name}"',
    }
    if order.memory_bytes:
        description["request_memory"] = f"{-(-order.memory_bytes // 2**20)}MB"
    if order.walltime_s:
        description["+MaxRuntime"] = str(order.walltime_s)
    for option in order.options:
        name, _, value = option.partition("=")
        description[name.strip()] = value.strip()
    return description


def _quoted(words: Sequence[str]) -> str:
    """Quote words for ``arguments`` and ``environment``: spaces and quotes stay inside their word."""
    inner = " ".join(
        "'" + word.replace("'", "''") + "'" if not word or set(word) & set(" \t'") else word for word in words
    )
    return '"' + inner.replace('"', '""') + '"'
