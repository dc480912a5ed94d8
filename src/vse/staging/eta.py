"""When will it be here? A forecast from what was measured and what is queued ahead, with error bars. Pure.

What a file costs is time in a slot: so much for each file and so much for each byte, by its source, as
measured. The queue ahead is then work in seconds, which the slots carry off: first the better priorities,
within one the sources side by side, none with more slots than it has (`drain_s`). On top of that comes
what nobody knows: rates change, files of others overtake, a file fails and comes again. How much of each
there was lately is known, so it is drawn from that `DRAWS` times; nine draws in ten lie below
``Estimate.high_s``, one in ten below ``Estimate.low_s``: the true time should lie between in four cases of
five. Nothing measured yet is no estimate. Where a file is
unlike any that was measured, the bounds span what it may cost by the file and by the byte.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from vse.staging.eta_cost import Cost, Sample, cost_of, middle
from vse.staging.eta_flow import Work, drain_s
from vse.transfer.lifecycle import PRIORITY, Policy
from vse.transfer.shares import Slots

DRAWS = 200
_GAP_S = 60.0
_NOW = 64
_BLOCK = 16
_LIKE = 8
_WORST_OVERTAKING = 0.9
_CHAIN = 8
_RHYTHM = 4.0
_LESS = 0.35
_UNLIKE = 0.35
_WORST_UNSEEN = 0.95
_GRAIN = 1.1
_KNOWN = 1.2
_READINGS = (-0.75, 1.75)
"""Three draws in ten take a cost by the file alone, three by the byte alone, and the others lie between."""


class Rate(NamedTuple):
    """What all slots together carried while they last had work."""

    bytes_per_s: float
    files_per_s: float


class Estimate(NamedTuple):
    """Seconds from now; the true time lies between ``low_s`` and ``high_s`` in four cases of five."""

    low_s: float
    likely_s: float
    high_s: float


class Ahead(NamedTuple):
    """Files of one source and priority that are to come before.

    Priority 0: they are moving; ``size_bytes`` is what is left of them.
    """

    source_se: str
    priority: int
    files: float
    size_bytes: float


class Awaited(NamedTuple):
    """What is waited for, behind ``ahead``: the last file, of ``size_bytes``, of ``files`` that may fail.

    ``wait_s``: it is not tried before that (a back-off).
    """

    source_se: str
    size_bytes: float
    ahead: Sequence[Ahead]
    share: str = ""
    priority: int = PRIORITY
    files: int = 1
    wait_s: float = 0.0


# -- what was measured ---------------------------------------------------------------------------


def busy(samples: Sequence[Sample]) -> list[Sample]:
    """Return the latest samples, newest first, back to a gap of a minute: an idle night is no slow one."""
    latest: list[Sample] = []
    start_s = math.inf
    for one in sorted(samples, key=lambda sample: -sample.ended_s):
        if latest and one.ended_s < start_s - _GAP_S:
            break
        latest.append(one)
        start_s = min(start_s, one.started_s)
    return latest


def measure(samples: Sequence[Sample]) -> Rate | None:
    """Return the rate over the latest busy time; None where nothing was moved in it."""
    latest = busy(samples)
    total = sum(one.size_bytes for one in latest)
    if not latest or total <= 0:
        return None
    span_s = max(latest[0].ended_s - min(one.started_s for one in latest), 1e-3)
    return Rate(total / span_s, len(latest) / span_s)


class _Block(NamedTuple):
    """Samples next to each other in time: how slow they were, as a logarithm, against what they cost."""

    when_s: float
    slowness: float


@dataclass(frozen=True, slots=True)
class History:
    """What the latest transfers, and some of long before, tell. Made by `History.of`."""

    rate: Rate | None
    done: tuple[Sample, ...]
    before: tuple[tuple[Sample, ...], ...]
    cost: Cost
    costs: dict[str, Cost]
    scatter: tuple[float, ...]
    blocks: tuple[_Block, ...]
    slots_used: float
    slots_seen: float
    failing: float
    seen_s: float

    @classmethod
    def of(
        cls, done: Sequence[Sample], moving: Sequence[Sample] = (), long_ago: Sequence[Sample] = ()
    ) -> History | None:
        """Return what the latest transfers tell that are ``done``, and those that still run; None for none.

        ``long_ago``: some of earlier times, from which it is seen how rates change.
        """
        if not done:
            return None
        recent = sorted(done, key=lambda one: -one.ended_s)
        ordered = recent + sorted(long_ago, key=lambda one: -one.ended_s)
        pooled = cost_of(recent)
        by_source: dict[str, list[Sample]] = {}
        for one in ordered:  # a source that was not read lately is known from before
            by_source.setdefault(one.source_se, []).append(one)
        costs = {name: cost_of(some[:_NOW]) for name, some in by_source.items() if len(some) >= 3}

        def expected_s(one: Sample) -> float:
            return max(costs.get(one.source_se, pooled).of(1, one.size_bytes), 1e-9)

        scatter = tuple(sorted(one.lasted_s / expected_s(one) for one in recent))
        blocks = []
        for start in range(0, len(ordered), _BLOCK):
            some = ordered[start : start + _BLOCK]
            took_s, cost_s = sum(o.lasted_s for o in some), sum(map(expected_s, some))
            blocks.append(_Block(some[len(some) // 2].ended_s, math.log(took_s / cost_s)))
        used, seen = _concurrency(busy([*recent, *moving]))
        failures = sum(one.failures for one in recent)
        return cls(
            measure([*recent, *moving]),
            tuple(recent),
            tuple(_stretches(long_ago)),
            pooled,
            costs,
            scatter,
            tuple(blocks),
            used,
            seen,
            failures / (failures + len(recent)),
            max(one.ended_s for one in recent) - min(one.started_s for one in ordered),
        )

    def cost_from(self, source_se: str) -> Cost:
        return self.costs.get(source_se, self.cost)

    def drift(self, horizon_s: float) -> float:
        """Return by how much (a standard deviation of the logarithm) rates change within ``horizon_s``."""
        near: list[tuple[float, float]] = []
        for number, one in enumerate(self.blocks):
            for other in self.blocks[number + 1 : number + 40]:
                apart_s = max(abs(one.when_s - other.when_s), 1e-3)
                near.append((abs(math.log(apart_s / max(horizon_s, 1e-3))), one.slowness - other.slowness))
        least = 0.15 + 0.6 / math.sqrt(len(self.done))
        if not near:
            return least
        near.sort(key=lambda pair: pair[0])
        some = near[: max(10, len(near) // 8)]
        return max(least, 1.48 * middle(abs(change) for _, change in some))

    def overtaking(
        self, awaited: Awaited, horizon_s: float, overall: float, chance: random.Random
    ) -> list[float]:
        """Return which part of what went before earlier files had come after them, for as many as are alike.

        Half of it as it is now, half as it was in the stretches of before: bursts come and go.
        """
        latest = _overtaken(self.done, awaited, horizon_s, overall)
        before: list[float] = []
        for some in self.before:
            before += _overtaken(some, awaited, horizon_s, overall)[:8]
        if not latest:
            return before
        return latest + chance.choices(before, k=len(latest)) if before else latest


def _overtaken(done: Sequence[Sample], awaited: Awaited, horizon_s: float, overall: float) -> list[float]:
    """Return that part for some of the transfers ``done``: of the same owner and priority where possible.

    Where few of the priority moved, it is what better ones took of all slots.
    """
    ranked = [one for one in done if one.priority == awaited.priority]
    if len(ranked) < _LIKE:
        span_s = max(one.ended_s for one in done) - min(one.started_s for one in done)
        better_s = sum(one.lasted_s for one in done if one.priority < awaited.priority)
        return [min(1.0, better_s / max(span_s * overall, 1e-9))]
    owned = [one for one in ranked if one.share == awaited.share]
    alike = owned if len(owned) >= _LIKE else ranked
    long = [one for one in alike if one.started_s - one.created_s >= horizon_s / 3]
    alike = long if len(long) >= _LIKE else alike
    found: list[float] = []
    times = [(one.started_s, one.created_s, one.lasted_s) for one in done]
    for one in alike[:: max(1, len(alike) // 24)]:
        asked_s, begun_s = one.created_s, one.started_s
        before_s = later_s = 0.0
        for started_s, created_s, lasted_s in times:
            if asked_s < started_s < begun_s:
                before_s += lasted_s
                if created_s > asked_s:
                    later_s += lasted_s
        if before_s > 0:
            found.append(later_s / before_s)
    return found


def _stretches(long_ago: Sequence[Sample]) -> Iterator[tuple[Sample, ...]]:
    """Cut samples of several times apart, where there is a gap of more than a minute between them."""
    some: list[Sample] = []
    for one in sorted(set(long_ago), key=lambda one: one.ended_s):
        if some and one.ended_s - some[-1].ended_s > _GAP_S:
            yield tuple(some)
            some = []
        some.append(one)
    if some:
        yield tuple(some)


def _concurrency(latest: Sequence[Sample]) -> tuple[float, float]:
    """Return how many moved at once: on average over the busy time, and at its height (nine tenths of it)."""
    from_s, to_s = min(one.ended_s for one in latest), max(one.ended_s for one in latest)
    if to_s - from_s < 1e-3:
        return float(len(latest)), float(len(latest))
    edges = sorted([(max(one.started_s, from_s), 1) for one in latest] + [(o.ended_s, -1) for o in latest])
    spans: dict[int, float] = {}
    number, last_s, total_s = 0, from_s, 0.0
    for when_s, change in edges:
        spans[number] = spans.get(number, 0.0) + when_s - last_s
        total_s += number * (when_s - last_s)
        number, last_s = number + change, when_s
    left_s = 0.1 * (to_s - from_s)
    for height in sorted(spans, reverse=True):
        left_s -= spans[height]
        if left_s <= 0:
            return max(total_s / (to_s - from_s), 0.1), float(max(height, 1))
    return max(total_s / (to_s - from_s), 0.1), 1.0


# -- the forecast --------------------------------------------------------------------------------


def forecast(
    history: History | None, awaited: Awaited, slots: Slots, policy: Policy, draws: int = DRAWS
) -> Estimate | None:
    """Return when what is awaited will be there; None where nothing was measured. Same input, same answer."""
    if history is None:
        return None
    base, least, most = _bases(history, awaited, slots)
    chance = random.Random(draws)
    parts = history.overtaking(awaited, base.wait_s, float(slots.overall), chance)
    wait_s = base.wait_s / (1.0 - min(middle(parts), _WORST_OVERTAKING)) if parts else base.wait_s
    # Laplace's rule of succession: how likely what comes is like nothing in as many stretches as were seen.
    # Where one owner asked for all of it, others are not expected as much.
    unlike = min(_UNLIKE, 1.0 / (history.seen_s / (_RHYTHM * max(wait_s, 1e-3)) + 2.0))
    unlike *= 0.3 if len({one.share for one in history.done} | {awaited.share}) == 1 else 1.0
    files = sum(one.files for one in awaited.ahead)
    sigma = math.hypot(history.drift(max(base.wait_s, base.own_s)), _GRAIN / math.sqrt(files + 1.0))
    unknown = most.wait_s + most.own_s > _KNOWN * (least.wait_s + least.own_s)

    def read() -> _Base:
        return least.towards(most, chance.uniform(*_READINGS)) if unknown else base

    ends_s = sorted(
        _draw(chance, read(), history, awaited, policy, _part(chance, parts, unlike), sigma)
        for _ in range(draws)
    )
    low, likely, high = (ends_s[round(part * (draws - 1))] for part in (0.1, 0.5, 0.9))
    return Estimate(low, likely, high)


def remaining(history: History | None, one: Sample, size_bytes: int) -> Estimate | None:
    """Return when a running transfer of ``size_bytes`` ends that has moved what ``one`` says."""
    left = 1.0 - min(1.0, one.size_bytes / size_bytes) if size_bytes else 0.0
    cost = history.cost_from(one.source_se) if history else Cost(0.0, 0.0)
    known, (least_s, most_s) = cost.of(1, size_bytes), cost.bounds(1, size_bytes)
    if one.size_bytes > 0 and left < 1.0:
        paced_s = one.lasted_s / (1.0 - left)
        whole_s = paced_s if not history else paced_s * (1 - left) + known * left
    elif history:
        whole_s = known
    else:
        return None
    spread = history.scatter if history else (0.5, 1.0, 2.0)
    quantile = [spread[round(part * (len(spread) - 1))] for part in (0.1, 0.5, 0.9)]
    likely_s = whole_s * left
    weight = left * left if one.size_bytes > 0 else left  # its own pace counts as far as it has come
    low_s = max(0.0, likely_s - weight * (known - least_s)) * min(quantile[0], 0.85)
    high_s = (likely_s + weight * (most_s - known)) * max(quantile[2], 1.2)
    return Estimate(low_s, likely_s, high_s + 0.05 * whole_s)


_Reading = Callable[[Cost, float, float], float]
"""What so many files of so many bytes cost."""


class _Base(NamedTuple):
    """A forecast before chance: the wait for a slot, and the time in it."""

    wait_s: float
    own_s: float
    slack: float

    def towards(self, other: _Base, part: float) -> _Base:
        """Return what lies between, in logarithms: 0 or less is this one, 1 or more the other."""
        part = min(1.0, max(0.0, part))
        times = ((self.wait_s, other.wait_s), (self.own_s, other.own_s))
        between = [max(one, 1e-3) ** (1 - part) * max(two, 1e-3) ** part for one, two in times]
        return _Base(between[0] if other.wait_s else 0.0, between[1], self.slack)

    @classmethod
    def of(cls, history: History, awaited: Awaited, slots: Slots, reading: _Reading) -> _Base:
        works = _works(history, awaited.ahead, slots, reading)
        own_s = reading(history.cost_from(awaited.source_se), 1, awaited.size_bytes)
        ahead_files = sum(one.files for one in awaited.ahead)
        overall = float(slots.overall)
        idle = min(1.0, history.slots_used / history.slots_seen)
        seen = min(history.slots_seen, overall)
        saturated = seen >= 0.8 * overall or ahead_files <= seen
        effective = max(1.0, overall * idle if saturated else math.sqrt(seen * overall) * idle)
        slack = 0.0 if saturated else 0.5 * math.log(overall / seen)
        of_source = sum(one.files for one in awaited.ahead if one.source_se == awaited.source_se)
        if ahead_files < overall and of_source < slots.from_source(awaited.source_se):
            return cls(0.0, own_s, slack)  # a slot is free
        mine = [one for one in works if one.source_se == awaited.source_se]
        others = [one for one in works if one.source_se != awaited.source_se]
        flow_s = drain_s(
            [*others, *(mine or [Work(awaited.priority, 1e-6, overall, awaited.source_se)])],
            awaited.source_se,
            effective,
        )
        cap = min(effective, float(slots.from_source(awaited.source_se)))
        mean_s = sum(one.left_s for one in works) / max(ahead_files, 1.0) if works else own_s
        head_s = (cap - 1) / (2 * cap) * mean_s  # when the last slot is got, the others are half through
        return cls(max(0.0, flow_s - head_s), own_s, slack)


def _bases(history: History, awaited: Awaited, slots: Slots) -> tuple[_Base, _Base, _Base]:
    """Return the likely one, and those of the least and of the most that files may cost."""
    readings: tuple[_Reading, ...] = (Cost.of, lambda cost, *of: cost.bounds(*of)[0])
    readings += (lambda cost, *of: cost.bounds(*of)[1],)
    likely, least, most = (_Base.of(history, awaited, slots, one) for one in readings)
    return likely, least, most


def _works(history: History, ahead: Sequence[Ahead], slots: Slots, reading: _Reading) -> list[Work]:
    return [
        Work(
            one.priority,
            reading(history.cost_from(one.source_se), one.files, one.size_bytes),
            float(min(slots.from_source(one.source_se), slots.overall)),
            one.source_se,
        )
        for one in ahead
        if one.files > 0
    ]


def _part(chance: random.Random, parts: Sequence[float], unlike: float) -> float:
    """Return a part that overtakes: one of those that were seen, or a greater one, or none at all."""
    if chance.random() < unlike:
        return _WORST_UNSEEN * math.sqrt(chance.random())
    part = min(chance.choice(parts) if parts else 0.0, _WORST_OVERTAKING)
    return float(part * chance.random() ** _LESS)  # part of those that overtook were counted as ahead


def _draw(
    chance: random.Random,
    base: _Base,
    history: History,
    awaited: Awaited,
    policy: Policy,
    overtaken: float,
    sigma: float,
) -> float:
    """Return one way in which it may come out."""
    slow = math.exp(chance.gauss(0.0, sigma) + chance.uniform(-1.0, 1.0) * base.slack)
    wait_s = max(awaited.wait_s, base.wait_s * slow / (1.0 - overtaken))

    def own_s() -> float:
        return base.own_s * slow * chance.choice(history.scatter)

    end_s = wait_s + own_s()
    failing, alive, extra_s = history.failing, float(awaited.files), 0.0
    for again in range(1, _CHAIN):
        alive *= failing
        if policy.max_failures and again >= policy.max_failures:
            break
        if chance.random() > -math.expm1(-alive):
            break
        if awaited.files == 1:
            end_s += policy.wait_s(again) + own_s()
        else:  # the last of them to fail did so at about this time
            extra_s += policy.wait_s(again) + own_s()
            began_s = (wait_s + base.own_s) * chance.random() ** (1.0 / max(alive, 1.0))
            end_s = max(end_s, began_s + extra_s)
    return end_s


def covered(true_s: Sequence[float], estimates: Sequence[Estimate]) -> float:
    """Return the part of the true times that lie within their intervals."""
    inside = [one.low_s <= true <= one.high_s for true, one in zip(true_s, estimates, strict=True)]
    return sum(inside) / len(inside) if inside else math.nan


def pinball(true_s: Sequence[float], told_s: Sequence[float], part: float) -> float:
    """Return the mean pinball loss (s) of quantiles ``told_s`` at ``part``: the less the better."""
    lost = [
        part * (true - told) if true >= told else (1 - part) * (told - true)
        for true, told in zip(true_s, told_s, strict=True)
    ]
    return sum(lost) / len(lost) if lost else math.nan


def latest_of(estimates: Sequence[Estimate]) -> Estimate | None:
    """Return when the last of several will be there that are independent enough; None for none."""
    if not estimates:
        return None
    return Estimate(*(max(parts) for parts in zip(*estimates, strict=True)))


ANCHORS_S = tuple(300.0 * 2**number for number in range(9))
"""How long ago rates are looked at beside the latest: up to a day."""
ANCHORED = 48
"""How many samples of each."""
