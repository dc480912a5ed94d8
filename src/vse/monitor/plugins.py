"""Plug-ins that tell others of a service (seed 002 §4.3.5.3), switched on and off while it runs.

A plug-in is a callable in the entry point group ``vse.monitors``: it takes its options, a table of the
settings, and returns a `Monitor`. One that fails is told of and tried again the next time; it never ends
the service.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import entry_points
from typing import Any, Protocol

from vse.errors import BadSettings, VseError
from vse.monitor.process import ProcessFigures

GROUP = "vse.monitors"


@dataclass(frozen=True, slots=True)
class DatasetFigures:
    """How far a dataset is. ``entries`` are those of its default tree in the files that are here."""

    name: str
    files: int
    staged: int
    corrupt: int
    tree: str
    entries: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Report:
    """What a service tells from time to time; ``transfers`` counts them by their state."""

    service: str
    process: ProcessFigures
    datasets: tuple[DatasetFigures, ...] = ()
    transfers: Mapping[str, int] = field(default_factory=dict)


class Monitor(Protocol):
    """Tells somebody. Used by one thread at a time."""

    def send(self, report: Report) -> None: ...

    def close(self) -> None: ...


Factory = Callable[[Mapping[str, Any]], Monitor]


def _apmon(options: Mapping[str, Any]) -> Monitor:
    from vse.monitor.apmon import ApMon

    return ApMon.from_options(options)


BUILT_IN: dict[str, Factory] = {"apmon": _apmon}


def find(name: str) -> Factory:
    """Return the plug-in of this name; raises `BadSettings` that names those there are."""
    if name in BUILT_IN:
        return BUILT_IN[name]
    installed = {one.name: one for one in entry_points(group=GROUP)}
    wanted = f"use [monitor.plugins.{name}]"
    if name not in installed:
        known = ", ".join(sorted({*BUILT_IN, *installed}))
        raise BadSettings(wanted, f"no plug-in has this name; there are {known}")
    try:
        factory: Factory = installed[name].load()
    except Exception as error:  # whatever the import of a stranger's code runs into
        raise BadSettings(wanted, f"it cannot be loaded ({type(error).__name__}: {error})") from error
    return factory


def _built(name: str, options: Mapping[str, Any]) -> Monitor:
    return find(name)(options)


class Monitors:
    """The plug-ins that are on. `apply` and `send` in one thread."""

    def __init__(self, tell: Callable[[str, VseError], None]) -> None:
        """``tell`` hears the name of a plug-in and what is wrong with it, once until that changes."""
        self._tell = tell
        self._on: dict[str, tuple[dict[str, Any], Monitor]] = {}
        self._told: dict[str, str] = {}

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._on)

    def apply(self, wanted: Mapping[str, dict[str, Any]]) -> None:
        """Switch on what is ``wanted`` (options by name), and off what is not, or has other options."""
        for name, (options, _) in list(self._on.items()):
            if wanted.get(name) != options:
                self._end(name)
        for name, options in wanted.items():
            if name not in self._on:
                monitor = self._guarded(name, partial(_built, name, options))
                if monitor is not None:
                    self._on[name] = (dict(options), monitor)

    def send(self, report: Report) -> None:
        for name, (_, monitor) in list(self._on.items()):
            self._guarded(name, partial(monitor.send, report))

    def close(self) -> None:
        for name in list(self._on):
            self._end(name)

    def _end(self, name: str) -> None:
        _, monitor = self._on.pop(name)
        with contextlib.suppress(Exception):  # it is not used any more
            monitor.close()

    def _guarded(self, name: str, act: Callable[[], Any]) -> Any:
        try:
            answer = act()
        except Exception as error:  # a plug-in is a stranger's code
            found = error if isinstance(error, VseError) else None
            failed = found or BadSettings(
                f"tell the monitor {name}", f"the plug-in raised {type(error).__name__}: {error}"
            )
            if self._told.get(name) != str(failed):
                self._told[name] = str(failed)
                self._tell(name, failed)
            return None
        self._told.pop(name, None)
        return answer
