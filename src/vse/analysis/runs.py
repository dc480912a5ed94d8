"""What an analysis is given: files, options, and a hand on its brake."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from vse.errors import VseError

GIB = 1024**3


@dataclass(frozen=True, slots=True)
class InputFile:
    """A file to analyse.

    ``url``: a local path, or a URL that uproot can open. ``tree`` empty: the file's default tree.
    ``entries`` None: not known, the first worker that opens it tells. ``source`` says where it was
    read from (a storage element), for the report. ``sources``: URLs of further copies, each as good.
    ``dataset``: its name among several, under which the output is kept.
    """

    lfn: str
    url: str
    tree: str = ""
    entries: int | None = None
    size_bytes: int = 0
    source: str = ""
    sources: tuple[str, ...] = ()
    dataset: str = ""


@dataclass(frozen=True, slots=True)
class AnalysisOptions:
    """How to run.

    ``packet_entries`` fixes the size of packets; ``no_workers_s``: how long to wait without any, or
    without the scheduler. ``partial_every_s``: at least so long between two collections of the partial
    results (more where they are large); what a dying worker has not handed over is done again.
    ``stall_s`` and ``stall_factor``: a worker that is silent for so long, and for so many times what its
    work should take, loses it. ``hang_s``: where the script itself is seen to be at one packet for so long,
    and for as many times what it should take, it is said to hang. ``max_output_bytes`` is for the merged
    output. ``sites``: the site of a host or of a domain.
    """

    dataset: str = ""
    packet_target_s: float = 1.0
    max_failed_packets: int = 20
    packet_entries: int | None = None
    strict: bool = False
    tasks_per_worker: int = 2
    no_workers_s: float = 60.0
    progress_every_s: float = 0.2
    partial_every_s: float = 3.0
    checkpoint_every_s: float = 10.0
    stall_s: float = 60.0
    hang_s: float = 10.0
    stall_factor: float = 20.0
    max_output_bytes: int = 2 * GIB
    readers_a_host: int = 0
    sites: Mapping[str, str] = field(default_factory=dict)


class Event(NamedTuple):
    """News for the loop of an analysis."""

    kind: str
    value: Any = None
    task: int = 0


class _Mouth:
    """Speaks events into a loop that may not be there yet. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sink: Callable[[Event], None] | None = None
        self._waiting: list[Event] = []

    def _send(self, event: Event) -> None:
        with self._lock:
            if self._sink is None:
                self._waiting.append(event)
            else:
                self._sink(event)

    def connect(self, sink: Callable[[Event], None]) -> None:
        """Let ``sink`` have what was said so far, and what will be."""
        with self._lock:
            self._sink = sink
            for event in self._waiting:
                sink(event)
            self._waiting = []


class Feed(_Mouth):
    """Files on their way into an analysis. Safe to use from any thread, before and while it runs.

    Whoever fills it must `close` it at the end, also after an error: the analysis waits for that.
    """

    def __init__(self, files: Iterable[InputFile] = (), *, closed: bool = False) -> None:
        super().__init__()
        for file in files:
            self.put(file)
        if closed:
            self.close()

    def put(self, file: InputFile) -> None:
        """Add a file that can be read now."""
        self._send(Event("file", file))

    def fail(self, lfn: str, error: VseError | str) -> None:
        """Tell that a file will not come, and why."""
        self._send(Event("missing", (lfn, str(error))))

    def close(self) -> None:
        """No more files."""
        self._send(Event("closed"))


class Control(_Mouth):
    """A hand on a running analysis. Safe to use from any thread, before and while it runs."""

    def pause(self) -> None:
        """Hand out nothing more; what workers have is finished, and kept."""
        self._send(Event("pause", True))

    def resume(self) -> None:
        self._send(Event("pause", False))

    def stop(self) -> None:
        """End with what there is: the result lists what was not processed as failed."""
        self._send(Event("stop"))
