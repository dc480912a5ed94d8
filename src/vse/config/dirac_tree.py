"""What of a DIRAC configuration is ours, and where in the settings it lies."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from vse.config.dirac_cfg import Cfg, parse
from vse.config.elements import DataManagement
from vse.config.remarks import Remark
from vse.config.sections import Key, Tree
from vse.errors import BadSettings

_RESOURCES = ("StorageElementBases", "StorageElements", "StorageElementGroups", "Countries")
_SITE_KEYS = ("SE", "AssociatedSEs")
_COUNTRY_KEYS = ("AssociatedSEs", "AssignedTo")


class Laid(NamedTuple):
    """A part of the settings from a DIRAC configuration, and where each key of it was written."""

    tree: Tree
    origins: dict[Key, str]
    remarks: list[Remark]


def read(path: Path) -> Laid:
    """Read a DIRAC configuration and return what of it is ours, as it lies in vse.toml.

    Taken are /Resources/{StorageElements, StorageElementBases, StorageElementGroups, Sites, Countries} and
    /Operations/Defaults/DataManagement; the first four may also stand at the top. Raises `BadSettings`.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadSettings(
            f"read DIRAC's configuration {path}", str(error), "see [dirac] in vse.toml"
        ) from error
    return _Laying(parse(text, str(path)), path).laid()


class _Laying:
    def __init__(self, cfg: Cfg, path: Path) -> None:
        self._cfg = cfg
        self._path = path
        self._laid = Laid({}, {}, [])

    def laid(self) -> Laid:
        for above in (("Resources",), ()):
            for name in _RESOURCES:
                self._lay((*above, name), (name,), above)
            self._sites((*above, "Sites"))
        self._shared_options()
        self._countries()
        self._data_management()
        return self._laid

    def _lay(self, source: Key, target: Key, above: Key = ()) -> None:
        """Lay the section at ``source`` of the file at ``target`` of the settings."""
        section = _at(self._cfg.tree, source)
        if section is None:
            return
        if _at(self._laid.tree, target) is not None:
            where = f"{self._place(source)}"
            raise BadSettings(f"read {where}", f"{target[-1]} stands in this file twice", "put both into one")
        here = self._laid.tree
        for name in target[:-1]:
            here = here.setdefault(name, {})
        here[target[-1]] = section
        for key in _keys(section, ()):
            self._laid.origins[(*target, *key)] = self._place((*source, *key))
        self._laid.origins[target] = self._place(source)

    def _sites(self, source: Key) -> None:
        """Lay the sites, which stand below the grids they belong to."""
        for grid, sites in (_at(self._cfg.tree, source) or {}).items():
            for name, site in sites.items() if isinstance(sites, dict) else ():
                if isinstance(site, dict):
                    for key in _SITE_KEYS:
                        self._lay_one((*source, grid, name, key), ("Sites", name, key))

    def _countries(self) -> None:
        for name, country in self._laid.tree.get("Countries", {}).items():
            for key in [key for key in country if key not in _COUNTRY_KEYS]:
                del country[key]
                self._laid.origins.pop(("Countries", name, key), None)

    def _shared_options(self) -> None:
        """Give ChecksumType, which may stand beside the elements, to all that do not say it themselves."""
        elements = self._laid.tree.get("StorageElements", {})
        options = {key: value for key, value in elements.items() if not isinstance(value, dict)}
        for key, value in options.items():
            del elements[key]
            place = self._laid.origins.pop(("StorageElements", key))
            if key != "ChecksumType":
                todo = "preferences stand in /Operations/Defaults/DataManagement, options in their element"
                raise BadSettings(f"use {place}", f"{key} stands in StorageElements itself", todo)
            for table in ("StorageElementBases", "StorageElements"):
                for name, element in self._laid.tree.get(table, {}).items():
                    if isinstance(element, dict) and not {key, "BaseSE", "Alias"} & set(element):
                        element[key] = value
                        self._laid.origins[(table, name, key)] = place

    def _data_management(self) -> None:
        """Lay the preferences of protocols; everything else there is about other things than storage."""
        source = ("Operations", "Defaults", "DataManagement")
        known = [str(info.alias) for info in DataManagement.model_fields.values()]
        others: list[str] = []
        for key in _at(self._cfg.tree, source) or {}:
            if key in known:
                self._lay_one((*source, key), ("DataManagement", key))
                continue
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.85)
            if near:
                found = f"unknown key {key!r} in DataManagement"
                raise BadSettings(f"use {self._place((*source, key))}", found, f"did you mean {near[0]!r}?")
            others.append(key)
        if others:
            text = f"not about storage elements, and not used: {', '.join(others)}"
            self._laid.remarks.append(Remark(self._place(source), text))
        for name, section in (_at(self._cfg.tree, ("Operations",)) or {}).items():
            if name != "Defaults":
                self._remark_on_operations(("Operations", name), section)

    def _remark_on_operations(self, path: Key, section: object) -> None:
        for key, inner in section.items() if isinstance(section, dict) else ():
            if key == "DataManagement" and any(one.endswith("Protocols") for one in inner):
                text = f"not used, only /Operations/Defaults is: /{'/'.join(path)}/DataManagement"
                self._laid.remarks.append(Remark(self._place((*path, key)), text))
            else:
                self._remark_on_operations((*path, key), inner)

    def _lay_one(self, source: Key, target: Key) -> None:
        """Lay an option or a section, and the sections above it."""
        above = _at(self._cfg.tree, source[:-1]) or {}
        if source[-1] not in above:
            return
        value = above[source[-1]]
        here = self._laid.tree
        for length, name in enumerate(target[:-1], start=1):
            here = here.setdefault(name, {})
            self._laid.origins.setdefault(target[:length], self._place(source[:-1]))
        here[target[-1]] = value
        self._laid.origins[target] = self._place(source)
        for key in _keys(value, ()) if isinstance(value, dict) else ():
            self._laid.origins[(*target, *key)] = self._place((*source, *key))

    def _place(self, key: Key) -> str:
        return f"{self._path}:{self._cfg.lines[key]}"


def lay_under(tree: Tree, origins: dict[Key, str], laid: Laid) -> None:
    """Put into ``tree`` what of ``laid`` it does not say itself, and tell of each key where it came from."""

    def fill(own: Tree, given: Mapping[str, Any], path: Key) -> None:
        for name, value in given.items():
            key = (*path, name)
            if name not in own:
                own[name] = {} if isinstance(value, dict) else value
                origins[key] = laid.origins.get(key, "")
            if isinstance(value, dict) and isinstance(own[name], dict):
                fill(own[name], value, key)

    fill(tree, laid.tree, ())


def _at(tree: Mapping[str, Any], path: Key) -> Tree | None:
    """Return a section by its path, None where there is none."""
    here: Any = tree
    for name in path:
        here = here.get(name) if isinstance(here, Mapping) else None
    return here if isinstance(here, dict) else None


def _keys(tree: Mapping[str, Any], above: Key) -> Iterator[Key]:
    for name, value in tree.items():
        yield (*above, name)
        if isinstance(value, Mapping):
            yield from _keys(value, (*above, name))
