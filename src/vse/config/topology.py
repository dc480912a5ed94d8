"""Which storage elements a name stands for at a site: groups, and what sites and countries associate.

The order in which DIRAC resolves them (its ``getDestinationSEList``; seed 003, "Mapping Storages to Sites
and Countries"), but with one answer in every run: where DIRAC shuffles, the order written is kept.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from vse.config.sections import DiracSection, Names
from vse.errors import BadSettings, NoSuchElement

if TYPE_CHECKING:
    from vse.config.settings import ElementSettings, Settings


class SiteStorage(DiracSection):
    """The storage of a site of the grid; `Sites.NAME` with our own `site.name` is this one."""

    se: Names = Field(default=(), alias="SE")
    """The storage elements at the site; the name of a base stands for all that are made from it."""
    associated_ses: dict[str, Names] = Field(default={}, alias="AssociatedSEs")
    """A table: what a name or a group means at this site."""
    country: str = ""
    """Where left out, what stands behind the last dot of the site's name."""


class CountryStorage(DiracSection):
    """The storage of a country."""

    associated_ses: dict[str, Names] = Field(default={}, alias="AssociatedSEs")
    """A table: what a group means at sites of this country that have none of its elements."""
    assigned_to: str = ""
    """Take the associations of this country, where there are none here."""


def elements_for(
    settings: Settings, name: str, site: str = "", *, only_local: bool = False
) -> tuple[str, ...]:
    """Return the storage elements that ``name`` stands for at ``site`` (where empty, at our own).

    In this order: a storage element or an alias is itself; what the site associates with the name, those at
    the site first; the elements of the group, those at the site first. With ``only_local`` a group
    gives but those at the site, and where there are none, what the site's country associates with the
    group, or the country that one is assigned to. The empty name stands for none.

    Raises `NoSuchElement` where the name stands for nothing (there), `BadSettings` for groups or countries
    that go round in a circle.
    """
    if not name:
        return ()
    if name in settings.storage_elements or name in settings.aliases:
        return (name,)
    site = site or settings.site.name
    here = settings.sites.get(site, SiteStorage())
    if here.associated_ses.get(name):
        return _local_first(here.associated_ses[name], here.se)
    members = group_members(settings, name)
    if not only_local:
        return _local_first(members, here.se)
    local = tuple(one for one in members if one in here.se)
    return local or _of_country(settings, name, site, here)


def find_element(settings: Settings, name: str) -> ElementSettings:
    """Return a storage element by its name or another one of it.

    Raises `NoSuchElement`, which names the nearest one, or says what else the name is.
    """
    element = settings.storage_elements.get(settings.aliases.get(name, name))
    if element is not None:
        return element
    wanted = f"find the storage element {name!r}"
    if name in settings.storage_element_groups:
        members = ", ".join(settings.storage_element_groups[name])
        raise NoSuchElement(wanted, f"it is a group, of {members or 'none'}", "name one of its elements")
    if name in settings.storage_element_bases:
        found = "it is a base: elements are made from it, it is none itself"
        raise NoSuchElement(wanted, found, "list the elements: vse se list")
    raise _unknown(settings, name, (), "element")


def groups_of(settings: Settings, name: str) -> list[str]:
    """Return the groups that a storage element is in, by itself or by a group in them."""

    def holds(group: str, above: Sequence[str]) -> bool:
        inner = settings.storage_element_groups.get(group, ())
        return name in inner or any(holds(one, (*above, group)) for one in inner if one not in above)

    return [group for group in settings.storage_element_groups if holds(group, ())]


def group_members(settings: Settings, name: str, above: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the storage elements of a group, and of the groups in it, each once, in the order written.

    A storage element is a group of itself. Raises as `elements_for` does.
    """
    if name in above:
        chain = " -> ".join((*above, name))
        raise BadSettings(f"resolve the group {above[0]}", f"it goes round in a circle: {chain}")
    if name in settings.storage_elements or name in settings.aliases:
        return (name,)
    if name not in settings.storage_element_groups:
        raise _unknown(settings, name, above)
    inner = (group_members(settings, one, (*above, name)) for one in settings.storage_element_groups[name])
    return tuple(dict.fromkeys(one for members in inner for one in members))


def elements_elsewhere(settings: Settings) -> frozenset[str]:
    """Return the storage elements that stand at other sites than ours; those of no site are ours."""
    ours = settings.sites.get(settings.site.name, SiteStorage()).se
    theirs = (one for name, other in settings.sites.items() if name != settings.site.name for one in other.se)
    return frozenset(theirs) - frozenset(ours)


def _of_country(settings: Settings, name: str, site: str, here: SiteStorage) -> tuple[str, ...]:
    """Return what the site's country associates with a name, or the country that one is assigned to."""
    country = here.country or site.rpartition(".")[2]
    asked: list[str] = []
    while country not in asked:
        asked.append(country)
        found = settings.countries.get(country, CountryStorage())
        if found.associated_ses.get(name):
            return _local_first(found.associated_ses[name], here.se)
        if not found.assigned_to:
            raise NoSuchElement(
                f"find a storage element of {name} at {site}",
                f"none of the group is there, and {' -> '.join(asked)} associates none with it",
                f"add AssociatedSEs to [Countries.{country}]",
            )
        country = found.assigned_to
    chain = " -> ".join((*asked, country))
    raise BadSettings(f"find a storage element of {name} at {site}", f"AssignedTo goes in a circle: {chain}")


def _local_first(names: Iterable[str], local: Sequence[str]) -> tuple[str, ...]:
    return tuple(sorted(dict.fromkeys(names), key=lambda one: one not in local))


def _unknown(
    settings: Settings, name: str, above: Sequence[str], kind: str = "element or group"
) -> NoSuchElement:
    groups = settings.storage_element_groups if "group" in kind else ()
    known = [*settings.storage_elements, *settings.aliases, *groups]
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    inside = f" (in the group {above[-1]})" if above else ""
    return NoSuchElement(
        f"find the storage {kind} {name!r}{inside}",
        f"the settings have these: {', '.join(known) or 'none'}",
        f"did you mean {near[0]}?" if near else "add it to [StorageElements] or [StorageElementGroups]",
    )
