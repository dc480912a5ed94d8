"""A day of staging in a minute: the real decisions, in a world that is made up.

What becomes of a transfer (`lifecycle.handle`), when it is tried again (`Policy`), who comes next
(`shares`) and when it should come (`eta.forecast`) are what a site runs; sources, users, failures, and time
are not. The same world and seed give the same day.
"""

from __future__ import annotations

import gc
import heapq
import math
import random
from bisect import bisect_left
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from vse.errors import ServerFault
from vse.model import Lfn
from vse.staging.eta import (
    ANCHORED,
    ANCHORS_S,
    Ahead,
    Awaited,
    Estimate,
    History,
    forecast,
    latest_of,
)
from vse.staging.eta_cost import Sample
from vse.transfer.lifecycle import Claimed, Due, Failed, Policy, State, Succeeded, Transfer, handle
from vse.transfer.shares import Lane, Slots, Usage, next_place

DAY_S = 86_400.0
_HERE = "HERE"
_BUCKET = 64
_KEPT = 300
_EVERY = 8
_POLICY = Policy(max_failures=6, backoff_s=20.0, backoff_max_s=600.0)
_BROKEN = ServerFault("read the file", "the source answered 500")


class SimulatedSource(NamedTuple):
    """A storage element that files come from.

    ``wobble``: the standard deviation of the logarithm of its rate over the day; ``failing``: the part of
    attempts that fail; ``part``: of all files, those that are there.
    """

    name: str
    slots: int
    bytes_per_s: float
    file_s: float
    failing: float
    wobble: float
    part: float


SOURCES = (
    SimulatedSource("NEAR", 40, 80e6, 0.3, 0.002, 0.15, 0.45),
    SimulatedSource("FAR", 36, 20e6, 1.5, 0.01, 0.3, 0.30),
    SimulatedSource("TAPE", 14, 60e6, 8.0, 0.005, 0.25, 0.08),
    SimulatedSource("FLAKY", 24, 30e6, 2.0, 0.12, 0.3, 0.17),
)
USERS: Mapping[str, float] = {"anna": 8, "ben": 4, "chiara": 3, "dmitri": 2, "eva": 1, "production": 12}
"""How much each of them asks for, against the others."""


@dataclass(frozen=True, slots=True)
class World:
    """What is simulated. ``look_s``: how often the state is written down, and forecasts are asked for."""

    files: int = 1_000_000
    sources: tuple[SimulatedSource, ...] = SOURCES
    users: Mapping[str, float] = field(default_factory=lambda: dict(USERS))
    slots: int = 64
    policy: Policy = _POLICY
    asking_s: float = DAY_S * 22 / 24
    look_s: float = 300.0
    median_bytes: float = 60e6
    seed: int = 1


class Asked(NamedTuple):
    """A request of the simulated day."""

    when_s: float
    owner: str
    priority: int
    files: int


class Forecasted(NamedTuple):
    """What was said of a file, or of the end of a request, and when it came."""

    told_s: float
    kind: str
    said: Estimate
    took_s: float
    queued: int


class Look(NamedTuple):
    """The state at a time: queued files and bytes, and what has come since the last look."""

    when_s: float
    queued: int
    queued_bytes: int
    running: dict[str, int]
    done_bytes: dict[str, int]
    by_user: dict[str, float]
    queued_by_user: dict[str, int]


@dataclass(slots=True)
class Day:
    """What came out."""

    looks: list[Look] = field(default_factory=list)
    forecasts: list[Forecasted] = field(default_factory=list)
    waits_s: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    done: int = 0
    failed: int = 0
    attempts: int = 0
    unmeasured: int = 0
    ended_s: float = 0.0


def world_of(files: int, seed: int = 1) -> World:
    """Return the world of `World`, with slots for another number of files in the same day."""
    part = files / 1_000_000
    sources = tuple(one._replace(slots=max(2, round(one.slots * part))) for one in SOURCES)
    return World(files=files, sources=sources, slots=max(4, round(64 * part)), seed=seed)


def simulate(world: World) -> Day:
    """Return a day of `world.files` files, and what follows until the queue is empty."""
    collecting = gc.isenabled()
    gc.disable()  # nothing here is cyclic, and the queue is a million objects to look through in vain
    try:
        return _Run(world).run()
    finally:
        if collecting:
            gc.enable()


def asked(world: World, chance: random.Random) -> list[Asked]:
    """Return requests in bursts, more by day than by night, in order, of `world.files` files in all."""
    users, weights = list(world.users), list(world.users.values())
    found: list[Asked] = []
    left = world.files
    while left > 0:
        # a burst: somebody asks several times within minutes
        begin_s = chance.random() * world.asking_s
        if chance.random() > 0.55 + 0.45 * math.sin(2 * math.pi * (begin_s / DAY_S - 0.3)):
            continue
        (owner,) = chance.choices(users, weights)
        (priority,) = chance.choices((3, 5, 7), (1, 6, 2))
        for _ in range(chance.randint(1, 6)):
            files = min(left, max(1, int(chance.lognormvariate(math.log(world.files / 2000), 1.4))))
            if files <= 0:
                break
            found.append(Asked(begin_s + chance.expovariate(1 / 240), owner, priority, files))
            left -= files
    return sorted(found)


class _Counted:
    """Queued files and bytes of a lane by stretches of places: what is before a place, without a search."""

    __slots__ = ("buckets",)

    def __init__(self) -> None:
        self.buckets: dict[int, list[int]] = {}

    def add(self, place: int, files: int, size_bytes: int) -> None:
        bucket = place // _BUCKET
        known = self.buckets.get(bucket)
        if known is None:
            known = self.buckets[bucket] = [0, 0]
        known[0] += files
        known[1] += size_bytes
        if not known[0]:
            del self.buckets[bucket]

    def before(self, place: int, from_place: int) -> tuple[float, float]:
        """Return files and bytes before ``place``; nothing is left before ``from_place``."""
        last = place // _BUCKET
        some = [found for bucket, found in self.buckets.items() if bucket < last]
        half = self.buckets.get(last, (0, 0))
        start = max(last * _BUCKET, min(from_place, place))
        part = (place - start) / max((last + 1) * _BUCKET - start, 1)
        return (
            sum(one[0] for one in some) + half[0] * part,
            sum(one[1] for one in some) + half[1] * part,
        )


class _Run:
    """The state of a simulation while it runs."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._chance = random.Random(world.seed)
        self._slots = Slots(world.slots, world.slots, sources={one.name: one.slots for one in world.sources})
        self._sources = {one.name: one for one in world.sources}
        self._pace = {one.name: 0.0 for one in world.sources}
        self._lanes: dict[int, dict[str, list[tuple[int, int, Transfer]]]] = {}
        self._virtual: dict[Lane, int] = defaultdict(int)
        self._last: dict[tuple[int, str], int] = defaultdict(int)
        self._counted: dict[Lane, _Counted] = defaultdict(_Counted)
        self._usage_of: dict[tuple[str, str], int] = defaultdict(int)
        self._running: dict[int, Transfer] = {}
        self._events: list[tuple[float, int, str, object]] = []
        self._number = 0
        self._request_of: list[int] = []
        self._left_of: list[int] = []
        self._recent: deque[Sample] = deque(maxlen=_KEPT)
        self._long_ago: list[Sample] = []
        self._watched: dict[int, list[tuple[float, Estimate, int]]] = {}
        self._watched_requests: dict[int, list[tuple[float, Estimate, int]]] = {}
        self._last_of: dict[int, dict[str, Transfer]] = defaultdict(dict)
        self._open: dict[int, tuple[str, int]] = {}
        self._queued = [0, 0]
        self._done_bytes: dict[str, int] = defaultdict(int)
        self._by_user: dict[str, float] = defaultdict(float)
        self._queued_by: dict[str, int] = defaultdict(int)
        self._day = Day()

    # -- time ------------------------------------------------------------------------------------

    def run(self) -> Day:
        for number, one in enumerate(asked(self._world, self._chance)):
            self._at(one.when_s, "asked", (number, one))
            self._left_of.append(one.files)
        self._at(self._world.look_s, "look", None)
        while self._events:
            now_s, _, kind, what = heapq.heappop(self._events)
            if kind == "end":
                self._end(what, now_s)  # type: ignore[arg-type]
            elif kind == "asked":
                self._ask(what, now_s)  # type: ignore[arg-type]
            elif kind == "due":
                after, _ = handle(what, Due(), now_s, self._world.policy)  # type: ignore[arg-type]
                self._put(after)
            else:
                self._look(now_s)
                if self._events:
                    self._at(now_s + self._world.look_s, "look", None)
                continue
            self._claim(now_s)
            self._day.ended_s = now_s
        return self._day

    def _at(self, when_s: float, kind: str, what: object) -> None:
        self._number += 1
        heapq.heappush(self._events, (when_s, self._number, kind, what))

    # -- the queue -------------------------------------------------------------------------------

    def _ask(self, what: tuple[int, Asked], now_s: float) -> None:
        number, request = what
        names = [one.name for one in self._world.sources]
        (mostly,) = self._chance.choices(names, [one.part for one in self._world.sources])
        sigma, middle = 1.0, math.log(self._world.median_bytes)
        for _ in range(request.files):
            source = mostly if self._chance.random() < 0.7 else self._chance.choice(names)
            size_bytes = int(self._chance.lognormvariate(middle, sigma)) + 1
            key = len(self._request_of)
            self._request_of.append(number)
            place = self._place(Lane(_HERE, source, request.priority), request.owner)
            self._put(_new(key, request, source, size_bytes, place, now_s))
        self._open[number] = (request.owner, request.priority)

    def _place(self, lane: Lane, share: str) -> int:
        """As `vse.transfer.buckets.Books.place` does it with rows."""
        if not self._lanes.get(lane.priority, {}).get(lane.source_se):
            same = [place for one, place in self._virtual.items() if one.priority == lane.priority]
            self._virtual[lane] = max(same, default=0)
        key = (lane.priority, share)
        place = self._last[key] = next_place(self._virtual[lane], self._last[key])
        return place

    def _put(self, one: Transfer) -> None:
        source = one.source_se or ""
        lane = self._lanes.setdefault(one.priority, {}).setdefault(source, [])
        heapq.heappush(lane, (one.place, one.id, one))
        self._last_of[self._request_of[one.id]][source] = one  # places of a request's files only grow
        self._count(one, 1)

    def _count(self, one: Transfer, number: int) -> None:
        lane = Lane(_HERE, one.source_se or "", one.priority)
        self._counted[lane].add(one.place, number, number * one.size_bytes)
        self._queued[0] += number
        self._queued[1] += number * one.size_bytes
        self._queued_by[one.share] += number

    def _claim(self, now_s: float) -> None:
        if len(self._running) >= self._world.slots or not self._queued[0]:
            return
        usage = Usage(self._slots, self._usage_of)
        for priority in sorted(self._lanes):
            lanes = self._lanes[priority]
            heads = [(lane[0], name) for name, lane in lanes.items() if lane and usage.free(_HERE, name)]
            heapq.heapify(heads)
            while heads:
                (place, _, one), name = heapq.heappop(heads)
                if not usage.take(_HERE, name):
                    continue
                heapq.heappop(lanes[name])
                self._virtual[Lane(_HERE, name, priority)] = place
                self._start(one, name, now_s)
                if lanes[name]:
                    heapq.heappush(heads, (lanes[name][0], name))

    # -- the world -------------------------------------------------------------------------------

    def _start(self, one: Transfer, name: str, now_s: float) -> None:
        self._count(one, -1)
        running, _ = handle(one, Claimed("sim"), now_s, self._world.policy)
        if running.attempts == 1:
            self._day.waits_s[one.priority].append(now_s - one.created_s)
        self._running[one.id] = running
        self._usage_of[_HERE, name] += 1
        source = self._sources[name]
        pace = math.exp(self._pace[name] + self._chance.gauss(0.0, 0.25))
        lasts_s = (source.file_s + one.size_bytes / source.bytes_per_s) * pace
        fails = self._chance.random() < source.failing
        if fails:
            lasts_s *= self._chance.random()
        self._at(now_s + lasts_s, "end", (running, fails))

    def _end(self, what: tuple[Transfer, bool], now_s: float) -> None:
        before, fails = what
        name = before.source_se or ""
        del self._running[before.id]
        self._usage_of[_HERE, name] -= 1
        self._day.attempts += 1
        event = Failed(_BROKEN, "sim") if fails else Succeeded("sim", before.size_bytes)
        after, _ = handle(before, event, now_s, self._world.policy)
        self._by_user[before.share] += now_s - (before.started_s or now_s)
        if after.state is State.WAITING:
            place = self._place(Lane(_HERE, name, after.priority), after.share)
            self._at(after.not_before_s, "due", replace(after, place=place))
            return
        if after.state is State.DONE:
            self._day.done += 1
            self._done_bytes[name] += after.size_bytes
            sample = _sample(after, now_s, after.size_bytes)
            self._recent.append(sample)
            if self._day.done % _EVERY == 0:
                self._long_ago.append(sample)
        else:
            self._day.failed += 1
        self._heard(self._watched.pop(after.id, ()), "file", now_s)
        request = self._request_of[after.id]
        self._left_of[request] -= 1
        if not self._left_of[request]:
            self._open.pop(request, None)
            self._last_of.pop(request, None)
            self._heard(self._watched_requests.pop(request, ()), "request", now_s)

    def _heard(self, told: object, kind: str, now_s: float) -> None:
        for told_s, said, queued in told:  # type: ignore[attr-defined]
            self._day.forecasts.append(Forecasted(told_s, kind, said, now_s - told_s, queued))

    # -- looking ---------------------------------------------------------------------------------

    def _look(self, now_s: float) -> None:
        running: dict[str, int] = defaultdict(int)
        for one in self._running.values():
            running[one.source_se or ""] += 1
        look = Look(
            now_s,
            self._queued[0],
            self._queued[1],
            dict(running),
            dict(self._done_bytes),
            dict(self._by_user),
            {name: number for name, number in self._queued_by.items() if number},
        )
        self._day.looks.append(look)
        self._done_bytes.clear()
        self._by_user.clear()
        hours = self._world.look_s / 3600
        for name, source in self._sources.items():
            keeps = math.exp(-hours / 2)
            pushed = source.wobble * math.sqrt(1 - keeps * keeps)
            self._pace[name] = self._pace[name] * keeps + self._chance.gauss(0.0, pushed)
        if self._queued[0]:
            self._tell(now_s)

    def _tell(self, now_s: float) -> None:
        """Ask when some files, and a request, will come; and keep the answers."""
        moving = [_sample(one, now_s, 0) for one in self._running.values()]
        history = History.of(self._recent, moving, anchors(self._long_ago, now_s))
        if history is None:
            self._day.unmeasured += 1
            return
        lanes = [lane for some in self._lanes.values() for lane in some.values() if lane]
        weights = [len(lane) for lane in lanes]
        for lane in self._chance.choices(lanes, weights, k=3):
            _, key, one = self._chance.choice(lane)
            self._watch(self._watched, key, self._awaited(one, 1), history, now_s)
        if self._open:
            request = self._chance.choice(list(self._open))
            files = self._left_of[request]
            said = [
                forecast(history, self._awaited(one, files), self._slots, self._world.policy)
                for one in self._last_of[request].values()
            ]
            if found := latest_of([one for one in said if one]):
                told = (now_s, found, self._queued[0])
                self._watched_requests.setdefault(request, []).append(told)

    def _watch(
        self,
        watched: dict[int, list[tuple[float, Estimate, int]]],
        key: int,
        awaited: Awaited,
        history: History,
        now_s: float,
    ) -> None:
        said = forecast(history, awaited, self._slots, self._world.policy)
        if said is not None:
            watched.setdefault(key, []).append((now_s, said, self._queued[0]))

    def _awaited(self, one: Transfer, files: int) -> Awaited:
        ahead = []
        for lane, counted in self._counted.items():
            if lane.priority <= one.priority:
                place = one.place if lane.priority == one.priority else 1 << 60
                ahead.append(
                    Ahead(lane.source_se, lane.priority, *counted.before(place, self._virtual[lane]))
                )
        for name in self._sources:
            some = [other for other in self._running.values() if other.source_se == name]
            ahead.append(Ahead(name, 0, len(some), sum(other.size_bytes for other in some) / 2))
        return Awaited(one.source_se or "", one.size_bytes, ahead, one.share, one.priority, files)


def anchors(long_ago: Sequence[Sample], now_s: float) -> list[Sample]:
    """Return samples of certain times before, as a site reads them from its database."""
    found: list[Sample] = []
    for ago_s in ANCHORS_S:
        start = bisect_left(long_ago, now_s - ago_s, key=lambda one: one.ended_s)
        stop = min(len(long_ago), start + ANCHORED)
        found += [long_ago[n] for n in range(start, stop) if long_ago[n].ended_s <= now_s - ago_s / 2]
    return found


def _new(key: int, request: Asked, source: str, size_bytes: int, place: int, now_s: float) -> Transfer:
    lfn = Lfn("/simulated")
    head = (key, lfn, _HERE, request.priority, request.owner, size_bytes, None, "", None, State.QUEUED)
    return Transfer(*head, place, now_s, 0, 0, 0, None, source, None, None, None, now_s, None, None, None)


def _sample(one: Transfer, now_s: float, size_bytes: int) -> Sample:
    return Sample(
        one.started_s or 0.0,
        now_s,
        size_bytes,
        one.source_se or "",
        one.created_s,
        one.share,
        one.priority,
        one.failures,
    )
