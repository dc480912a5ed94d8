"""Storage elements made from bases, and names that stand for other elements (seed 003: BaseSE, Alias).

Works on the tree as it was written, before its values are checked, so that where each came from is known.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vse.config.sections import Key, Tree
from vse.errors import BadSettings

ELEMENTS = "StorageElements"
BASES = "StorageElementBases"
ALIASES = "StorageElementAliases"


@dataclass
class Resolved:
    """``tree`` is the settings with nothing left to inherit: no BaseSE, no Alias among the elements.

    ``inherited`` tells of each key that an element has from a base where it stands there. ``ignored`` are the
    keys of aliases that have no effect.
    """

    tree: Tree
    inherited: dict[Key, Key] = field(default_factory=dict)
    ignored: list[Key] = field(default_factory=list)


Place = Callable[[Key], str]
"""Says where a key was written."""


def resolve(tree: Mapping[str, Any], place: Place = lambda key: ".".join(key)) -> Resolved:
    """Return the settings with bases and aliases resolved.

    An element has what its base has, option by option and protocol section by protocol section; where both
    have a section of one name, option by option again. What the element says itself holds. As in DIRAC an
    empty option of a section says nothing, and a Path of its own also replaces the base's VOPath. Bases may
    have bases. Resolving twice changes nothing.

    Raises `BadSettings` for a base or an alias that is not there, or that goes round in a circle.
    """
    resolved = Resolved(dict(tree))
    bases, elements = _sections(tree, BASES), _sections(tree, ELEMENTS)
    if not bases and not elements:
        return resolved
    inheriting = _Inheriting(bases, elements, resolved, place)
    resolved.tree[BASES] = {
        name: inheriting.complete((BASES, name), base) if isinstance(base, dict) else base
        for name, base in bases.items()
    }
    aliases = _aliases(tree, elements, place)
    resolved.tree[ELEMENTS] = {
        name: inheriting.complete((ELEMENTS, name), element) if isinstance(element, dict) else element
        for name, element in elements.items()
        if name not in aliases
    }
    for name in aliases:
        rest = elements.get(name, {})
        resolved.ignored += [(ELEMENTS, name, key) for key in rest if key != "Alias"]
    if aliases:
        resolved.tree[ALIASES] = aliases
    if isinstance(tree.get("Sites"), dict):
        resolved.tree["Sites"] = _with_derived(tree["Sites"], elements, aliases)
    return resolved


@dataclass
class _Inheriting:
    bases: Mapping[str, Any]
    elements: Mapping[str, Any]
    resolved: Resolved
    place: Place

    def complete(self, path: Key, own: Tree, below: Sequence[str] = ()) -> Tree:
        """Return a section together with all it inherits; ``below`` are the bases that led here."""
        name = own.get("BaseSE")
        mine = {key: value for key, value in own.items() if key != "BaseSE"}
        if name is None or name == "":
            return {key: _said(value) for key, value in mine.items() if value != ""}
        chain = below or ((path[1],) if path[0] == BASES else ())
        self._check(path, name, chain)
        base_path = (BASES, name)
        inherited = self.complete(base_path, self.bases[name], (*chain, name))
        return {
            key: _said(value) for key, value in self._over(inherited, base_path, mine, path) if value != ""
        }

    def _check(self, path: Key, name: object, chain: Sequence[str]) -> None:
        wanted = f"use the settings {self.place((*path, 'BaseSE'))}"
        if not isinstance(name, str):
            raise BadSettings(wanted, f"BaseSE of {path[1]} is no name", "an element has one base")
        if name in chain:
            circle = " -> ".join((*chain, name))
            raise BadSettings(wanted, f"BaseSE goes round in a circle: {circle}", "take one BaseSE out")
        if isinstance(self.bases.get(name), dict):
            return
        there = ", ".join(self.bases) or "there is none"
        if name in self.elements:
            found = f"BaseSE of {path[1]} names {name}, which is a storage element, not a base"
            raise BadSettings(wanted, found, f"put what both have into [{BASES}] ({there}), and name that")
        near = difflib.get_close_matches(name, self.bases, n=1, cutoff=0.5)
        todo = f"did you mean {near[0]!r}?" if near else f"{BASES}: {there}"
        raise BadSettings(wanted, f"there is no base {name!r} for {' -> '.join((*chain, path[1]))}", todo)

    def _over(self, base: Tree, base_path: Key, own: Tree, path: Key) -> Iterator[tuple[str, Any]]:
        """Yield what lies in ``own`` and what of ``base`` it does not say itself, the base's order first."""
        for key, value in base.items():
            if key not in own:
                self._note((*path, key), (*base_path, key), value)
                yield key, value
            elif isinstance(value, dict) and isinstance(own[key], dict):
                mine = own[key]
                if mine.get("Path"):
                    value = {name: inner for name, inner in value.items() if name != "VOPath"}
                mine = {name: inner for name, inner in mine.items() if inner != ""}
                yield key, dict(self._over(value, (*base_path, key), mine, (*path, key)))
            else:
                yield key, own[key]
        yield from ((key, value) for key, value in own.items() if key not in base)

    def _note(self, path: Key, base_path: Key, value: object) -> None:
        self.resolved.inherited[path] = self.resolved.inherited.get(base_path, base_path)
        if isinstance(value, dict):
            for key, inner in value.items():
                self._note((*path, key), (*base_path, key), inner)


def _said(value: Any) -> Any:
    """Leave the empty options of a section out."""
    return {key: inner for key, inner in value.items() if inner != ""} if isinstance(value, dict) else value


def _sections(tree: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = tree.get(name, {})
    return found if isinstance(found, dict) else {}


def _aliases(tree: Mapping[str, Any], elements: Mapping[str, Any], place: Place) -> dict[str, str]:
    """Return ``{other name: storage element}``, chains followed to their end."""
    direct: dict[str, tuple[Any, Key]] = {
        name: (target, (ALIASES, name)) for name, target in _sections(tree, ALIASES).items()
    }
    for name, element in elements.items():
        if isinstance(element, dict) and element.get("Alias"):
            direct[name] = element["Alias"], (ELEMENTS, name, "Alias")
    for target, key in direct.values():
        if not isinstance(target, str):
            wanted = f"use the settings {place(key)}"
            raise BadSettings(wanted, f"{key[1]} is to be {target!r}, which is no name")
    ends: dict[str, str] = {}
    for name, (target, key) in direct.items():
        chain = [name]
        while target in direct and target not in chain:
            chain.append(target)
            target = direct[target][0]
        wanted = f"use the settings {place(key)}"
        if target in chain:
            circle = " -> ".join((*chain, target))
            raise BadSettings(
                wanted, f"Alias goes round in a circle: {circle}", "let one name a real element"
            )
        if target not in elements:
            near = difflib.get_close_matches(str(target), elements, n=1, cutoff=0.5)
            todo = f"did you mean {near[0]!r}?" if near else f"storage elements: {', '.join(elements)}"
            raise BadSettings(
                wanted, f"{name} is to be {target!r}, and there is no such storage element", todo
            )
        ends[name] = target
    return ends


def _with_derived(sites: Tree, elements: Mapping[str, Any], aliases: Mapping[str, str]) -> Tree:
    """Return the sites; in their SE the name of a base brings the elements made from it, that of an element
    its aliases (as DIRAC's mapping of sites does)."""

    def expanded(names: Any) -> Any:
        listed = [one.strip() for one in names.split(",")] if isinstance(names, str) else names
        if not isinstance(listed, list) or not all(isinstance(one, str) for one in listed):
            return names
        made = [
            name
            for name, element in elements.items()
            if isinstance(element, dict) and element.get("BaseSE") in listed
        ]
        found = dict.fromkeys((*listed, *made))
        return [*found, *(name for name, target in aliases.items() if target in found and name not in found)]

    return {
        name: {**site, "SE": expanded(site["SE"])} if isinstance(site, dict) and "SE" in site else site
        for name, site in sites.items()
    }
