"""Where names lead that go through symbolic links.

A link's target is an LFN or relative to the link's directory, ``..`` in it is taken away by the letter.
Plain names cost nothing here: only those that are not found as they stand are followed.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from vse.catalogue.special_statements import SpecialStatements
from vse.catalogue.sql_rows import join, split
from vse.db.prepared import as_json
from vse.errors import LinkLoop
from vse.model import BulkResult, Lfn

MOST_HOPS = 40
"""As many links as one name may lead over (Linux's limit)."""

T = TypeVar("T")


def upwards(lfn: str) -> Iterator[str]:
    """Yield ``lfn`` and every directory above it, the root last."""
    yield lfn
    while lfn != "/":
        lfn = split(lfn)[0]
        yield lfn


def target_of(link: str, target: str) -> Lfn:
    """Return the name that the link named ``link`` means."""
    return Lfn("/" + posixpath.normpath(posixpath.join(split(link)[0], target)).lstrip("/"))


def real_names(
    driver: Any, statements: SpecialStatements, lfns: Iterable[str], *, follow_last: bool
) -> dict[str, Lfn | LinkLoop]:
    """Return where those of ``lfns`` lead that go through a link; others are left out.

    ``follow_last``: also where the whole name is a link. The name returned need not be there.
    """
    found: dict[str, Lfn | LinkLoop] = {}
    moving = {lfn: Lfn(lfn) for lfn in lfns}
    if not moving or not statements.any_specials.rows(driver):
        return found
    for hop in range(MOST_HOPS + 1):
        places = {
            place: None
            for lfn in moving.values()
            for place in upwards(lfn if follow_last else split(lfn)[0])
            if place != "/"
        }
        rows = statements.specials.rows(driver, as_json(map(split, places)))
        links = {join(row[1], row[2]): row[4] for row in rows if row[3] == "link"}
        moved: dict[str, Lfn] = {}
        for asked, lfn in moving.items() if links else ():
            start = lfn if follow_last else split(lfn)[0]
            on_the_way = [place for place in upwards(start) if place in links]
            if on_the_way:
                link = on_the_way[-1]
                led = target_of(link, links[link]).rstrip("/") + lfn[len(link) :]
                moved[asked] = Lfn(led or "/")
        if hop == MOST_HOPS:
            for asked in moved:
                found[asked] = LinkLoop(
                    f"follow {asked}",
                    f"it leads over more than {MOST_HOPS} links",
                    "look for a circle of links",
                )
            break
        found.update(moved)
        moving = moved
        if not moved:
            break
    return found


def ask_real(
    lfns: Sequence[Lfn],
    reals: Mapping[str, Lfn | LinkLoop],
    call: Callable[[Sequence[Lfn]], BulkResult[T]],
) -> BulkResult[T]:
    """Make a bulk ``call`` with real names; its answers stand under the names that were asked."""
    if not reals:
        return call(lfns)
    leads: dict[Lfn, Lfn] = {}
    result: BulkResult[T] = BulkResult()
    for lfn in lfns:
        real = reals.get(lfn, lfn)
        if isinstance(real, LinkLoop):
            result.failed[lfn] = real
        else:
            leads[lfn] = real
    done = call(list(dict.fromkeys(leads.values())))
    for lfn, real in leads.items():
        if real in done.failed:
            result.failed[lfn] = done.failed[real]
        elif real in done.ok:
            result.ok[lfn] = done.ok[real]
    return result
