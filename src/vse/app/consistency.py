"""Compare the catalogue with what a storage element holds, report, and act only when told to.

What is dark, lost or of another size is kept as rows of the run, which are the evidence of the next one:
a dark file is removed only when a run long enough ago saw it as well (CMS's rule), and nothing is done at
all where too much is wrong (ATLAS's): then it is more likely that the listing or the settings are.
"""

from __future__ import annotations

import gzip
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, Literal, TypeVar, cast

from vse.app.evidence import Evidence
from vse.app.site import Site
from vse.catalogue.consistency import Comparison, Finding, Held, Known, Limits, Tally, Verdict
from vse.catalogue.port import NewReplica
from vse.errors import BadRequest, VseError, cannot_read
from vse.model import Lfn, Located, Replica, ReplicaState
from vse.storage.element import StorageElement

_BATCH = 1_000
_ROOT = Lfn("/")
_MARKS = {
    Verdict.LOST: ReplicaState.LOST,
    Verdict.DIFFERING: ReplicaState.SUSPECT,
    Verdict.FOUND: ReplicaState.AVAILABLE,
}
T = TypeVar("T")
Phase = Literal["catalogue before", "storage", "catalogue after", "comparing", "acting"]


@dataclass(slots=True)
class Checked:
    """What a run found and did.

    ``refused``: verdicts about which nothing was done, with the reason. ``waiting``: dark files that no
    earlier run has seen long enough ago. ``unlisted``: directories that could not be listed; nothing below
    them was judged. ``failed``: paths that could not be mended.
    """

    run: int
    se: str
    tally: Tally
    committed: bool
    refused: dict[Verdict, str] = field(default_factory=dict)
    removed: int = 0
    removed_bytes: int = 0
    marked: int = 0
    waiting: int = 0
    unlisted: dict[str, VseError] = field(default_factory=dict)
    failed: dict[str, VseError] = field(default_factory=dict)

    @property
    def consistent(self) -> bool:
        tally = self.tally
        return not (tally.dark or tally.lost or tally.differing or tally.found or self.unlisted)


def check(
    site: Site,
    se: str,
    *,
    commit: bool = False,
    base: Lfn = _ROOT,
    listing: Path | None = None,
    tell: Callable[[Phase, int], None] = lambda *_: None,
) -> Checked:
    """Compare below ``base``, keep the findings, and with ``commit`` mend what may be mended.

    ``listing``: a text file of the site's own dump, one ``path[ size [modified]]`` a line (``.gz`` too), in
    place of asking the storage. Its paths are as the storage has them. ``tell`` gets each phase and how many
    files it has seen so far.
    """
    element = site.elements.get(se)
    settings = site.settings.consistency
    began_s = site.clock()
    evidence = Evidence(site.database)
    run = evidence.begin(element.name, base, began_s)
    tally = Tally()
    checked = Checked(run, element.name, tally, commit)
    with Comparison(site.root) as comparison:
        tally.known = comparison.look_before(
            _told("catalogue before", _known(site, element, base, began_s), tell)
        )
        held = _listed(element, base, listing) if listing else _walked(element, base, comparison, checked)
        tally.held = comparison.look_at_storage(_told("storage", held, tell))
        comparison.look_after(_told("catalogue after", _known(site, element, base, began_s), tell))
        found = comparison.findings(began_s - settings.grace_s)
        for some in _batches(_told("comparing", found, tell)):
            for finding in some:
                tally.count(finding)
            evidence.add(run, some)
    evidence.end(run, site.clock(), tally)
    checked.refused = Limits(settings.most_dark_fraction, settings.most_lost_fraction).refusals(tally)
    if commit:
        _act(site, element, evidence, checked, began_s - settings.dark_age_s, tell)
    evidence.keep_only(run, settings.keep_runs, began_s - settings.dark_age_s)
    return checked


# -- the three looks -----------------------------------------------------------------------------------


def _known(site: Site, element: StorageElement, base: Lfn, now_s: float) -> Iterator[Known]:
    """Yield every copy that the catalogue knows at the element; first those of what is in the trash.

    These are as if just made: a copy that is there is not dark, and one that is not is nobody's loss.
    """
    names = {element.name, *(alias for alias, to in site.elements.aliases.items() if to == element.name)}
    stored_path = element.stored_paths()
    for one in site.catalogue.expired(math.inf):
        for replica in one.replicas if one.trashed.lfn.is_below(base) else ():
            if replica.se in names:
                path = _path(stored_path, replica, one.guid)
                yield Known(path, one.trashed.lfn, one.size_bytes or 0, now_s, False)
    for located in site.catalogue.find(base, "*"):
        for replica in located.replicas:
            if replica.se in names:
                yield _copy(stored_path, located, replica, now_s)


def _copy(
    stored_path: Callable[[Lfn, bytes | None, str | None], str],
    located: Located,
    replica: Replica,
    now_s: float,
) -> Known:
    entry = located.entry
    path = _path(stored_path, replica, entry.guid)
    moving = replica.state not in (ReplicaState.AVAILABLE, ReplicaState.SUSPECT, ReplicaState.LOST)
    since_s = now_s if moving else entry.created_s
    return Known(path, entry.lfn, entry.size_bytes or 0, since_s, replica.state is ReplicaState.LOST)


def _path(
    stored_path: Callable[[Lfn, bytes | None, str | None], str], replica: Replica, guid: bytes | None
) -> str:
    try:
        return stored_path(replica.lfn, guid, replica.url)
    except BadRequest:  # it cannot be there: shown as lost under its name
        return replica.lfn


def _walked(element: StorageElement, base: Lfn, comparison: Comparison, checked: Checked) -> Iterator[Held]:
    """Yield what the storage holds; a directory that cannot be listed is left out of the judgement."""
    directories = [base]
    while directories:
        directory = directories.pop()
        try:
            for stored in element.list(directory):
                if stored.is_directory:
                    directories.append(element.lfn_in(stored))
                else:
                    yield Held(stored.path, stored.size_bytes, stored.modified_s)
        except VseError as error:
            path = element.stored_path(directory)
            comparison.leave_out(path)
            checked.unlisted[path] = error


def _listed(element: StorageElement, base: Lfn, listing: Path) -> Iterator[Held]:
    root, below = (f"{element.stored_path(lfn).rstrip('/')}/" for lfn in (_ROOT, base))
    first, ours = "", False
    try:
        with _opened(listing) as lines:
            for number, line in enumerate(lines, 1):
                words = line.rstrip("\n").rsplit(None, 2)
                held = _line(words) if words else None
                if words and held is None:
                    raise BadRequest(
                        f"read the listing {listing}",
                        f"line {number} is not a path with a size and a time: {line.strip()!r}",
                        "write each as: /path size modified (bytes, Unix seconds); '-' for what is not known",
                    )
                if held is None:
                    continue
                first = first or held.path
                ours = ours or held.path.startswith(root)
                if held.path.startswith(below):
                    yield held
    except OSError as error:
        raise cannot_read(f"read the listing {listing}", error) from error
    if first and not ours:
        raise BadRequest(
            f"compare {element.name} with the listing {listing}",
            f"no line of it is below {root}, where the element has its files; the first is of {first}",
            "write each path as the storage has it, or name the element that the listing is of",
        )


def _line(words: list[str]) -> Held | None:
    """Return what ``path size modified`` says; '-' stands for what is not known."""
    if len(words) != 3 or not words[0].startswith("/"):
        return None
    try:
        size = None if words[1] == "-" else int(words[1])
        return Held(words[0], size, None if words[2] == "-" else float(words[2]))
    except ValueError:
        return None


def _opened(path: Path) -> AbstractContextManager[IO[str]]:
    if path.suffix == ".gz":
        return cast("AbstractContextManager[IO[str]]", gzip.open(path, "rt", encoding="utf-8"))
    return path.open(encoding="utf-8")


# -- acting --------------------------------------------------------------------------------------------


def _act(
    site: Site,
    element: StorageElement,
    evidence: Evidence,
    checked: Checked,
    seen_before_s: float,
    tell: Callable[[Phase, int], None],
) -> None:
    done = 0
    for verdict, state in _MARKS.items():
        if verdict in checked.refused:
            continue
        for some in _batches(evidence.findings(checked.run, verdict)):
            _mark(site, element, some, state, checked)
            evidence.acted(checked.run, [one.path for one in some])
            done += len(some)
            tell("acting", done)
    if Verdict.DARK in checked.refused:
        return
    for some in _batches(evidence.findings(checked.run, Verdict.DARK)):
        old = evidence.seen_before(checked.run, some, seen_before_s)
        checked.waiting += len(some) - len(old)
        evidence.acted(checked.run, _remove(site, element, old, checked))
        done += len(some)
        tell("acting", done)


def _mark(
    site: Site, element: StorageElement, findings: list[Finding], state: ReplicaState, checked: Checked
) -> None:
    """Set the state of copies that are still known; the rest of what is known of them stays."""
    names = [Lfn(one.lfn) for one in findings if one.lfn]
    changed = [
        NewReplica(located.entry.lfn, replica.se, replica.url, state)
        for located in site.catalogue.resolve(names).ok.values()
        for replica in located.replicas
        if site.elements.get(replica.se).name == element.name and replica.state is not state
    ]
    result = site.catalogue.add_replicas(changed)
    checked.marked += len(result.ok)
    checked.failed.update(result.failed)


def _remove(site: Site, element: StorageElement, findings: list[Finding], checked: Checked) -> list[str]:
    """Remove dark files, except what the catalogue has come to know; return the paths that are gone."""
    by_name: dict[Lfn, Finding] = {}
    guids: dict[str, bytes | None] = {}
    for one in findings:
        try:
            place = element.place_of_path(one.path)
        except VseError as error:
            checked.failed[one.path] = error
            continue
        name = place.lfn or Lfn(one.path)
        by_name[name], guids[name] = one, place.guid
    known = {lfn for lfn in site.catalogue.resolve([*by_name]).ok if guids[lfn] is None}
    result = element.remove([lfn for lfn in by_name if lfn not in known], guids)
    checked.failed.update({by_name[Lfn(name)].path: error for name, error in result.failed.items()})
    gone = [by_name[Lfn(name)] for name in result.ok]
    checked.removed += len(gone)
    checked.removed_bytes += sum(one.held_bytes or 0 for one in gone)
    return [one.path for one in gone]


def _told(phase: Phase, items: Iterable[T], tell: Callable[[Phase, int], None]) -> Iterator[T]:
    number = 0
    for number, item in enumerate(items, 1):
        if number % _BATCH == 0:
            tell(phase, number)
        yield item
    tell(phase, number)


def _batches(items: Iterable[Finding]) -> Iterator[list[Finding]]:
    source = iter(items)
    while batch := list(islice(source, _BATCH)):
        yield batch
