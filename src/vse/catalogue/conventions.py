"""What a query means in terms of finds: pure. The conventions are templates of the settings.

A `Part` is one (base, pattern) that the catalogue can be asked, with what is to be left out of the answer:
conventions say at which depth a file lies, and a find says only below which directory.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import translate
from functools import cached_property

from vse.config.settings import VariantSettings
from vse.errors import BadQuery
from vse.model import FindQuery, Lfn, OfficialQuery, Runs

MOST_FINDS = 1000
"""More runs than this are asked for by one find over all runs of the period."""

_RUN = re.compile(r"\{run(?::[^}]*)?\}")
_ANY_RUN = "\N{INFORMATION SEPARATOR ONE}"
_Match = Callable[[str], re.Match[str] | None]
_YEAR = re.compile(r"[A-Za-z]*([0-9]{2})")


@dataclass(frozen=True)
class Part:
    """A find, and which of its files are meant.

    ``path``: a glob on the whole name, in which ``*`` stands for one part and ``**`` for any number; empty
    where all that the find tells are meant. ``runs``: those that may stand in its place for a run.
    """

    base: Lfn
    pattern: str
    tree: str = ""
    member: str = ""
    path: str = ""
    runs: Runs | None = None

    def accepts(self, lfn: Lfn) -> bool:
        """Whether a file that the find tells of is meant."""
        if not self.path:
            return True
        match = self._match(lfn)
        if match is None:
            return False
        return self.runs is None or not match.re.groups or int(match.group(1)) in self.runs

    def means(self, lfn: Lfn) -> bool:
        """Whether the file would be in this part's answer, were it in the catalogue."""
        return lfn.is_below(self.base) and self._name(lfn.name) is not None and self.accepts(lfn)

    @cached_property
    def _match(self) -> _Match:
        return re.compile(_expression(self.path)).fullmatch

    @cached_property
    def _name(self) -> _Match:
        return re.compile(translate(self.pattern)).match


def parts_of(query: FindQuery | OfficialQuery, variants: Mapping[str, VariantSettings]) -> list[Part]:
    """Return the finds of a query, in the order of runs. Raises `BadQuery` for what no convention covers."""
    if isinstance(query, FindQuery):
        return [Part(query.base, query.pattern, query.tree, query.anchor)]
    variant = variant_of(query, variants)
    templates = variant.data if query.kind == "Data" else variant.sim
    if not templates:
        todo = f"give it paths: datasets.variants.*.{query.kind.lower()} in vse.toml"
        raise BadQuery(
            f"find {query}", f"the settings tell no path of {query.kind} for {query.variant}", todo
        )
    file, _, member = variant.file.partition("#")
    tree = query.tree or variant.tree
    runs: list[int | None] = [None]
    if query.runs is not None and len(query.runs) <= MOST_FINDS:
        runs = list(query.runs)
    found = [
        _part(_filled(query, template, file, run), tree, member, query.runs)
        for run in runs
        for template in templates
    ]
    return list(dict.fromkeys(found))


def variant_of(query: OfficialQuery, variants: Mapping[str, VariantSettings]) -> VariantSettings:
    """Return the convention whose name the variant begins with, the longest such name."""
    beginnings = [name for name in variants if query.variant.lower().startswith(name.lower())]
    if not beginnings:
        known = ", ".join(variants) or "none"
        found = f"the settings have no variant of data called {query.variant!r} (they begin with: {known})"
        raise BadQuery(f"find {query}", found, "write one of them, or add it: [datasets.variants.NAME]")
    return variants[max(beginnings, key=len)]


def _filled(query: OfficialQuery, template: str, file: str, run: int | None) -> str:
    """Return the path with everything in its place; a run that is not told is `_ANY_RUN`."""
    values: dict[str, object] = {
        "period": query.period,
        "pass": query.passing or "*",
        "variant": query.variant,
        "file": file,
        "run": run,
    }
    if "{year" in template:
        match = _YEAR.match(query.period)
        if match is None:
            found = f"the period {query.period!r} does not tell its year, which the path {template!r} needs"
            raise BadQuery(f"find {query}", found, "write it as LHC10h")
        values["year"] = 2000 + int(match.group(1))
    if run is None:
        template = _RUN.sub(_ANY_RUN, template)
    return template.format_map(values)


def _part(path: str, tree: str, member: str, runs: Runs | None) -> Part:
    parts = path.split("/")[1:]
    first = next(
        (place for place, part in enumerate(parts[:-1]) if _ANY_RUN in part or set("*?") & set(part)),
        len(parts) - 1,
    )
    base = Lfn.parse("/" + "/".join(parts[:first]))
    whole = "" if parts[first:-1] == ["**"] else path
    return Part(
        base, parts[-1].replace(_ANY_RUN, "*"), tree, member, whole, runs if _ANY_RUN in path else None
    )


def _expression(path: str) -> str:
    """Return the regular expression of a glob on a whole name; its group, if any, is the run."""
    told: list[str] = []
    for part in path.split("/")[1:]:
        if part == "**":
            told.append("(?:/[^/]+)*")
            continue
        pieces = (
            {"*": "[^/]*", "?": "[^/]", _ANY_RUN: "([0-9]+)"}.get(char, re.escape(char)) for char in part
        )
        told.append("/" + "".join(pieces))
    text = "".join(told)
    first = text.find("([0-9]+)") + len("([0-9]+)")
    return text[:first] + text[first:].replace("([0-9]+)", "[0-9]+")
