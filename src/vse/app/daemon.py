"""The staging daemon: restartable at any moment, several side by side, its settings changed live.

A change of the settings makes a new `Generation` that takes the work from then on, while the one before
ends what it moves with the settings that this was begun with: so every setting can change, and no running
transfer notices. Settings that are wrong let nobody take work until they are mended (seed 002 §4.3.5.2:
"in case of errors in the configuration file the daemon remains up and running but pauses its operations").
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from vse.app.generation import Chore, Generation
from vse.app.site import Site
from vse.app.stager_figures import MoveFigures
from vse.app.starting import notify, signature
from vse.config.load import FILE_NAME, Loaded
from vse.config.settings import Settings
from vse.errors import BadSettings, VseError
from vse.model import Clock
from vse.monitor.events import Events
from vse.monitor.metrics import Metrics
from vse.monitor.plugins import DatasetFigures, Monitors, Report
from vse.monitor.process import ProcessFigures, began_s, look, resident_bytes
from vse.staging.services import Service, Services
from vse.staging.values import ItemState, News
from vse.transfer.instance import new_owner

_LOOK_S = 1.0
"""How often the settings are looked at."""
_BEAT_S = 5.0
_REVIVE_MAX_S = 30.0
_FIXED = ("database", "doors")
"""Sections that a running process cannot change: its connections and its doors are open."""
_REPORTED_REQUESTS = 100

Signature = tuple[object, ...]


class Daemon:
    """Runs the stager of a site. `run` once; all else is inside."""

    def __init__(
        self,
        reread: Callable[[], Loaded],
        loaded: Loaded,
        *,
        metrics: Metrics,
        tell: Callable[[News], None] = lambda _: None,
        chores: Sequence[Chore] = (),
        quiet: bool = False,
        clock: Clock = time.time,
        look_s: float = _LOOK_S,
    ) -> None:
        """``reread`` reads the settings anew and raises what is wrong with them; ``loaded`` are those of now.

        ``quiet``: no events, whatever the settings say. Raises the errors of settings that cannot be
        worked with.
        """
        self._reread = reread
        self._quiet = quiet
        self._clock = clock
        self._look_s = look_s
        self._tell, self._chores = tell, tuple(chores)
        self._first = loaded.settings
        self._signature = _signature(loaded)
        self._path = loaded.root / FILE_NAME
        self._began_s = began_s()
        self.name = new_owner()
        self.events = Events(enabled=loaded.settings.monitor.events and not quiet, service=self.name)
        self._figures = MoveFigures(metrics, clock)
        self._loaded = loaded
        self._old: list[Generation] = []
        self._problem: VseError | None = None
        self._notes = ""
        self._heavy = False
        self._revive_s, self._failed_s = 1.0, 0.0
        self._beat_failed = False
        self._row = Service.of_process(self.name, "stager", clock())
        self._site = Site.open(loaded, clock)
        """For looking at rows, while generations come and go."""
        try:
            self._services = Services(self._site.database, clock)
            self._now = self._generation(loaded)
        except BaseException:
            self._site.close()
            raise

    # -- life ------------------------------------------------------------------------------------

    def run(self, stop: threading.Event) -> None:
        """Work until ``stop``; then running transfers are put back, and nothing of this process is left."""
        self._now.start()
        self._beat()
        self.events.tell("service.started", kind="stager", pid=os.getpid())
        telling = threading.Thread(target=self._report, args=(stop,), name="vse-monitors", daemon=True)
        telling.start()
        notify("READY=1")
        beat_s = 0.0
        try:
            while not stop.wait(self._look_s):
                self._look()
                if time.monotonic() >= beat_s:
                    self._beat()
                    beat_s = time.monotonic() + _BEAT_S
        finally:
            stop.set()
            notify("STOPPING=1")
            for one in (*self._old, self._now):
                one.end()
            with contextlib.suppress(VseError):
                self._services.leave(self.name)
            telling.join(_BEAT_S)
            self._site.close()
            self.events.tell("service.ended", kind="stager")

    def _generation(self, loaded: Loaded) -> Generation:
        Site.open_existing(loaded).close()  # where its file is gone, no new and empty one takes its place
        return Generation(loaded, self._clock, self.events, self._figures, self._tell, self._chores)

    def _look(self) -> None:
        """See whether the settings have changed, and to what has ended."""
        changed = _signature(self._loaded)
        if changed != self._signature:
            self._signature = changed
            self._reload()
        ended = [one for one in self._old if not one.running or not one.alive]
        for one in ended:
            self._old.remove(one)
            one.end()
        if ended:
            del one, ended
            _give_memory_back()
        if not self._now.alive:
            self._revive()

    # -- settings --------------------------------------------------------------------------------

    def _reload(self) -> None:
        try:
            loaded = self._reread()
            settings, notes = live_part(self._first, loaded.settings)
            loaded = replace(loaded, settings=settings)
            fresh = None if settings == self._loaded.settings else self._generation(loaded)
        except VseError as error:
            self._pause(error)
            return
        except Exception as error:  # whatever else a file can bring about, what runs goes on
            found = f"{type(error).__name__}: {error}"
            self._pause(BadSettings(f"use {self._path}", found, "this is a defect of VSE: please report it"))
            return
        self._notes = notes
        if notes:
            self.events.tell("settings.wait-for-restart", sections=notes)
        self._loaded = loaded
        if fresh is None:
            self._now.go_on()
        else:
            self._now.retire()
            self._old.append(self._now)
            self._now = fresh
            self.events.enabled = loaded.settings.monitor.events and not self._quiet
            fresh.start()
        if self._problem is not None:
            notify("STATUS=working")
        self._problem = None
        self.events.tell("settings.applied", changed=fresh is not None)
        self._beat()

    def _pause(self, error: VseError) -> None:
        """Take no more work; what runs goes on."""
        self._problem = error
        self._now.hold()
        self.events.tell("service.paused", error, settings=str(self._path))
        notify(f"STATUS=paused: {error}")
        self._beat()

    def _revive(self) -> None:
        """Start a stager anew that an error has ended (the database was away), after a pause that grows."""
        now_s = time.monotonic()
        if not self._failed_s:
            self._failed_s = now_s
            error = self._now.error
            told = error if isinstance(error, VseError) else VseError("go on staging", repr(error))
            self.events.tell("service.failed", told, again_in_s=self._revive_s)
        if now_s - self._failed_s < self._revive_s:
            return
        self._failed_s = 0.0
        self._revive_s = min(_REVIVE_MAX_S, self._revive_s * 2)
        try:
            fresh = self._generation(self._loaded)
        except VseError as error:
            self.events.tell("service.failed", error, again_in_s=self._revive_s)
            return
        self._now.end()
        self._now = fresh
        if self._problem is not None:
            fresh.hold()
        fresh.start()

    # -- telling ---------------------------------------------------------------------------------

    def _beat(self) -> None:
        """Write down how we are, for other processes to see."""
        monitor = self._loaded.settings.monitor
        memory_bytes = resident_bytes()
        self._weigh(memory_bytes, monitor.memory_bytes)
        row = replace(
            self._row,
            state="paused" if self._problem else "working",
            problem=self._problem,
            notes=self._notes,
            settings_s=self._now.began_s,
            memory_bytes=memory_bytes,
            memory_limit_bytes=monitor.memory_bytes,
            slots=self._loaded.settings.stager.slots,
            running=sum(one.running for one in (self._now, *self._old)),
        )
        try:
            self._services.beat(row)
        except VseError as error:
            if not self._beat_failed:
                self.events.tell("service.unheard", error)
            self._beat_failed = True
            return
        self._beat_failed = False
        if self._now.alive and time.monotonic() - self._failed_s > _REVIVE_MAX_S:
            self._revive_s = 1.0

    def _weigh(self, memory_bytes: int, limit_bytes: int) -> None:
        heavy = 0 < limit_bytes < memory_bytes
        if heavy and not self._heavy:
            found = f"{memory_bytes} bytes are resident, the limit is {limit_bytes}"
            error = VseError("stay below monitor.memory_bytes", found, "restart it when that suits")
            self.events.tell("service.heavy", error, memory_bytes=memory_bytes, limit_bytes=limit_bytes)
        self._heavy = heavy or (self._heavy and memory_bytes > 0.9 * limit_bytes > 0)

    def _report(self, stop: threading.Event) -> None:
        """Tell the plug-ins, as the settings of now say."""
        monitors = Monitors(lambda name, error: self.events.tell("monitor.failed", error, plugin=name))
        before: ProcessFigures | None = None
        due_s, on = 0.0, ()  # type: tuple[float, tuple[str, ...]]
        while True:
            settings = self._loaded.settings.monitor
            monitors.apply(settings.plugins)
            if monitors.names != on:
                on, due_s = monitors.names, 0.0
            if on and time.monotonic() >= due_s:
                due_s = time.monotonic() + settings.every_s
                before = look(self._began_s, before)
                monitors.send(self._what(before))
            if stop.wait(self._look_s):
                break
        monitors.close()

    def _what(self, process: ProcessFigures) -> Report:
        """Return what plug-ins are told; without what the database does not answer."""
        lists, site = self._now.repository, self._site
        datasets = lists.figures if lists is not None else ()
        with contextlib.suppress(VseError):
            requests = site.staging.list(open_only=True, limit=_REPORTED_REQUESTS)
            datasets += tuple(
                DatasetFigures(
                    one.request.query,
                    one.total_files,
                    one.here_files,
                    one.files[ItemState.FAILED],
                    "",
                    0,
                    one.total_bytes,
                )
                for one in site.progress.status(requests)
            )
            tallies = {str(state): one.files for state, one in site.queue.tallies().items()}
            return Report(self.name, process, datasets, tallies)
        return Report(self.name, process, datasets)


def live_part(first: Settings, new: Settings) -> tuple[Settings, str]:
    """Return ``new`` with what cannot change in a running process as in ``first``, and what that is."""
    changed = [name for name in _FIXED if getattr(first, name) != getattr(new, name)]
    changed_metrics = first.monitor.metrics != new.monitor.metrics
    kept = new.model_copy(update={name: getattr(first, name) for name in changed})
    return kept, ", ".join([*changed, *(["monitor.metrics"] if changed_metrics else [])])


def _give_memory_back() -> None:
    """Free what a generation has left: its parts know each other, and malloc keeps what its threads had.

    Else each change of the settings would leave megabytes behind.
    """
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # a C library that is not glibc
        ctypes.CDLL(None).malloc_trim(0)


def _signature(loaded: Loaded) -> Signature:
    """Return what changes with the files that the settings are in."""
    return tuple(map(signature, (loaded.root / FILE_NAME, *loaded.settings.dirac.cfg)))
