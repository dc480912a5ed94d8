"""Dataset queries (seed 002 §4.3.6.1): a dataset's name is a question to the catalogue.

::

    Find;BasePath=/lhc/data;FileName=*.root            every file below a directory whose name matches
    Data;Period=LHC10h;Variant=AOD086;Run=139505-139510,139437;Pass=pass2
    Sim;Period=LHC10d1;Variant=ESDs;Run=117222
    muons                                              a dataset of this site, or muons@2, a version of it
    /lhc/data/*.root                                   short for a Find

Each may say ``Tree=`` (the ROOT tree to read) and ``Mode=local|remote|cache``; a path may not. Case of
the keys, spaces around ';' and '=', and a trailing ';' do not matter.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal, NamedTuple, Self, cast

from vse.errors import BadLfn, BadQuery
from vse.model.lfn import Lfn
from vse.model.runs import BadRun, Runs, parse_runs

_GLOB = re.compile(r"[*?\[]")
_EXAMPLES = {
    "find": "write it as 'Find;BasePath=/lhc/data;FileName=*.root'",
    "data": "write it as 'Data;Period=LHC10h;Variant=AOD086;Run=139505-139510;Pass=pass2'",
    "sim": "write it as 'Sim;Period=LHC10d1;Variant=ESDs;Run=117222'",
}
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*(?:/[A-Za-z0-9_][A-Za-z0-9_.+-]*)*")
_WORD = re.compile(r"[A-Za-z0-9_.+*?-]+")
ROOT = Lfn("/")
_COMMON = ("Tree", "Mode")
_KEYS = {
    "Find": ("BasePath", "FileName", "Anchor", *_COMMON),
    "Data": ("Period", "Variant", "Run", "Pass", *_COMMON),
    "Sim": ("Period", "Variant", "Run", *_COMMON),
}


class Mode(StrEnum):
    """Which URLs a dataset gives (seed 002 §4.3.6.1).

    LOCAL: those of files with a copy here, and no others. REMOTE: those of copies elsewhere, for all files.
    CACHE: those that files have here, or will have, for all files: something fetches them when opened.
    """

    LOCAL = "local"
    REMOTE = "remote"
    CACHE = "cache"


@dataclass(frozen=True, slots=True)
class DatasetQuery:
    """What all kinds have. ``tree`` empty: a file's default tree. ``mode`` None: all files, as they are."""

    tree: str = ""
    mode: Mode | None = None

    @staticmethod
    def parse(text: str) -> DatasetQuery:
        """Parse a query, a dataset's name, or a path (with or without a glob in its last part).

        Raises `BadQuery` that points at the column of the first thing that is wrong.
        """
        stripped = text.strip()
        if stripped.startswith("/"):
            return FindQuery.from_path(stripped)
        head, _, _ = text.partition(";")
        kind = next((kind for kind in _KEYS if kind.lower() == head.strip().lower()), None)
        if kind is None:
            return _named(text, head)
        options = _options(text, len(head) + 1, _KEYS[kind])
        if kind == "Find":
            return FindQuery._from_options(text, options)
        return OfficialQuery._from_options(text, cast("Literal['Data', 'Sim']", kind), options)

    def with_defaults(self, tree: str, mode: Mode | None) -> Self:
        """Return this query with ``tree`` and ``mode`` where it says nothing of them."""
        return replace(self, tree=self.tree or tree, mode=self.mode or mode)

    def overridden(self, tree: str, mode: Mode | None) -> Self:
        """Return this query with ``tree`` and ``mode`` in the place of its own, where they are given."""
        return replace(self, tree=tree or self.tree, mode=mode or self.mode)

    def _common(self) -> str:
        tree = f";Tree={self.tree}" if self.tree else ""
        return f"{tree};Mode={self.mode}" if self.mode else tree


@dataclass(frozen=True, slots=True)
class FindQuery(DatasetQuery):
    """``Find;BasePath=<BASEPATH>;FileName=<FILENAME>[;Anchor=<MEMBER>]``.

    ``base``: the directory under which to look, at any depth. ``pattern``: a shell glob on the last
    part of the name (``*``, ``?``, ``[...]``). ``anchor``: the member to read of files that are zip archives
    (``root_archive.zip#AliESDs.root``).
    """

    base: Lfn = ROOT
    pattern: str = "*"
    anchor: str = ""

    @classmethod
    def from_path(cls, path: str) -> Self:
        head, _, last = path.rpartition("/")
        glob = _GLOB.search(head)
        if glob:
            raise bad_query(path, glob.start(), "a glob is possible in the last part of a name only")
        try:
            if _GLOB.search(last):
                return cls(base=Lfn.parse(head or "/"), pattern=last)
            return cls(base=Lfn.parse(path))
        except BadLfn as error:
            raise bad_query(path, 0, error.found) from error

    @classmethod
    def _from_options(cls, text: str, options: Mapping[str, _Option]) -> Self:
        base = _required(text, options, "BasePath")
        try:
            lfn = Lfn.parse(base.value)
        except BadLfn as error:
            raise bad_query(text, base.column, f"BasePath: {error.found}") from error
        pattern = options.get("FileName", _Option("*", 0))
        if "/" in pattern.value:
            found = "FileName matches the last part of a name; it cannot hold '/'"
            raise bad_query(text, pattern.column + pattern.value.index("/"), found)
        name, slash, member = pattern.value.partition("#")
        anchor = options.get("Anchor", _Option(member, pattern.column + len(name) + 1))
        if slash and not anchor.value:
            raise bad_query(text, anchor.column, "no member of the archive is named behind '#'")
        return cls(*_tree_and_mode(text, options), base=lfn, pattern=name or "*", anchor=anchor.value)

    def __str__(self) -> str:
        anchor = f";Anchor={self.anchor}" if self.anchor else ""
        pattern = self.pattern
        if ";" in self.base or ";" in pattern or "#" in pattern or pattern != pattern.strip():
            return f"{self.base.rstrip('/')}/{pattern}"  # only a path can say so
        slash = "" if self.base == self.base.rstrip() else "/"  # keeps a blank at the end
        return f"Find;BasePath={self.base}{slash};FileName={pattern}{anchor}{self._common()}"


@dataclass(frozen=True, slots=True)
class OfficialQuery(DatasetQuery):
    """``Data;Period=;Variant=;Run=;Pass=`` or ``Sim;Period=;Variant=;Run=``: an experiment's conventions.

    The paths are templates of the settings (`vse.catalogue.conventions`). ``runs`` None: every run;
    ``passing`` is the Pass, with 'pass' before a mere number, empty for Sim.
    """

    kind: Literal["Data", "Sim"] = "Data"
    period: str = ""
    variant: str = ""
    runs: Runs | None = None
    passing: str = ""

    @classmethod
    def _from_options(cls, text: str, kind: Literal["Data", "Sim"], options: Mapping[str, _Option]) -> Self:
        words = ["Period", "Variant", *(["Pass"] if kind == "Data" else [])]
        values = {key: _word(text, key, _required(text, options, key)) for key in words}
        passing = values.get("Pass", "")
        return cls(
            *_tree_and_mode(text, options),
            kind=kind,
            period=values["Period"],
            variant=values["Variant"],
            runs=_runs(text, options.get("Run")),
            passing=f"pass{passing}" if passing[:1].isdigit() else passing,
        )

    def __str__(self) -> str:
        runs = f";Run={self.runs}" if self.runs is not None else ""
        passing = f";Pass={self.passing}" if self.passing else ""
        return f"{self.kind};Period={self.period};Variant={self.variant}{runs}{passing}{self._common()}"


@dataclass(frozen=True, slots=True)
class NamedQuery(DatasetQuery):
    """A dataset of this site by its name; ``version`` None: the newest of a frozen one."""

    name: str = ""
    version: int | None = None

    def __str__(self) -> str:
        version = "" if self.version is None else f"@{self.version}"
        return f"{self.name}{version}{self._common()}"


def dataset_name(text: str) -> str:
    """Return ``text`` as a name that a dataset may have; raise `BadQuery` where it cannot be one."""
    query = DatasetQuery.parse(text)
    if not isinstance(query, NamedQuery) or query.name != text.strip():
        found = (
            "a dataset's name is letters, digits and _ . + - (and / between them), no query and no version"
        )
        raise BadQuery(f"use {text!r} as the name of a dataset", found, "choose another, such as muons_2026")
    return query.name


class _Option(NamedTuple):
    value: str
    column: int


def _named(text: str, head: str) -> NamedQuery:
    name, at, version = head.strip().partition("@")
    start = len(head) - len(head.lstrip())
    if not _NAME.fullmatch(name):
        found = f"a query starts with 'Find', 'Data' or 'Sim', a dataset's name or '/', not {name!r}"
        raise bad_query(text, start, found)
    if at and not (version.isascii() and version.isdigit() and 0 < int(version) < 2**31):
        raise bad_query(text, start + len(name) + 1, f"a version is a number such as {name}@1")
    try:
        options = _options(text, len(head) + 1, _COMMON)
    except BadQuery as error:
        if "unknown key" not in error.found:
            raise
        found = (
            f"a query starts with 'Find', 'Data' or 'Sim', not {name!r}; a dataset takes Tree and Mode only"
        )
        raise bad_query(text, start, found) from error
    return NamedQuery(*_tree_and_mode(text, options), name=name, version=int(version) if at else None)


def _options(text: str, column: int, known: Sequence[str]) -> dict[str, _Option]:
    """Return ``{key: (value, column of the value)}`` of the part of a query from ``column`` on."""
    found: dict[str, _Option] = {}
    for piece in text[column:].split(";"):
        if piece.strip():
            raw_key, equals, raw_value = piece.partition("=")
            start = column + len(piece) - len(piece.lstrip())
            key = next((key for key in known if key.lower() == raw_key.strip().lower()), None)
            if not equals:
                raise bad_query(text, start, f"{piece.strip()!r} has no '='")
            if key is None:
                found_there = f"unknown key {raw_key.strip()!r} (known: {', '.join(known)})"
                raise bad_query(text, start, found_there)
            value_column = column + len(raw_key) + 1 + len(raw_value) - len(raw_value.lstrip())
            if key in found:
                raise bad_query(text, start, f"{key} is given twice")
            if not raw_value.strip():
                raise bad_query(text, column + len(raw_key) + 1, f"{key} is empty")
            found[key] = _Option(raw_value.strip(), value_column)
        column += len(piece) + 1
    return found


def _required(text: str, options: Mapping[str, _Option], key: str) -> _Option:
    if key not in options:
        raise bad_query(text, len(text.rstrip()), f"{key} is missing")
    return options[key]


def _word(text: str, key: str, option: _Option) -> str:
    match = _WORD.match(option.value)
    end = match.end() if match else 0
    if set(option.value) <= {"."}:
        end = 0
    if end < len(option.value):
        raise bad_query(text, option.column + end, f"{key} cannot hold {option.value[end]!r} here")
    return option.value


def _runs(text: str, option: _Option | None) -> Runs | None:
    if option is None:
        return None
    try:
        return parse_runs(option.value)
    except BadRun as error:
        raise bad_query(text, option.column + error.column, f"Run: {error.found}") from error


def _tree_and_mode(text: str, options: Mapping[str, _Option]) -> tuple[str, Mode | None]:
    tree = options["Tree"].value if "Tree" in options else ""
    if "Mode" not in options:
        return tree, None
    value, column = options["Mode"]
    if value.lower() not in list(Mode):
        raise bad_query(text, column, f"Mode is local, remote or cache, not {value!r}")
    return tree, Mode(value.lower())


def bad_query(text: str, column: int, found: str) -> BadQuery:
    """Return the error for what is wrong at ``column`` (from 0) of ``text``; it points there."""
    todo = _EXAMPLES.get(text.partition(";")[0].strip().lower(), _EXAMPLES["find"])
    return BadQuery("understand the query", f"column {column + 1}: {found}\n{pointed(text, column)}", todo)


def pointed(text: str, column: int) -> str:
    """Return two lines: ``text`` (at most about 90 characters around ``column``), and a caret below it."""
    start = max(0, column - 60)
    shown = "".join(char if char.isprintable() else "?" for char in text[start : column + 30])
    before = "..." if start else ""
    after = "..." if column + 30 < len(text) else ""
    return f"  {before}{shown}{after}\n  {' ' * (len(before) + column - start)}^"
