"""DIRAC's own configuration syntax: nested sections of options, as its ``dirac.cfg`` and ``.cfg`` files have.

    # a comment is a line that begins with a number sign
    Resources
    {
      StorageElements { CERN-USER
        {
          AccessProtocols = root, srm
          AccessProtocols += https
        } }
    }

The rules are those of DIRAC's ``CFG`` class: a line is an option if it has ``=`` (or ``+=``, which appends
after a comma), and its value goes on to the end of the line, ``#`` and ``//`` in it included; of an option
given again the last value holds, in the first one's place. A section given twice in one place is an error,
there as here. Two things are stricter here: an option stands on a line of its own, and its name has no
``/``. One is kinder: double quotes around a whole value are taken off (DIRAC would keep them), so that a
value can begin or end with a blank.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from vse.config.sections import Key, Tree
from vse.errors import BadSettings

_OPTION = re.compile(r"([^={}]*?)\s*(\+?=)\s*(.*)", re.DOTALL)
_BRACES = re.compile(r"([{}])")


class Cfg(NamedTuple):
    """What a text says; options are strings.

    ``lines`` has the line, from 1, of each section and of each option's last value.
    """

    tree: Tree
    lines: dict[Key, int]


def parse(text: str, name: str = "the text") -> Cfg:
    """Read a text; ``name`` is what its errors call it.

    Raises `BadSettings` that names the line for a section that is not closed, closed twice, nameless or
    given twice, and for a line that is neither option nor section.
    """
    reading = _Reading(name)
    for number, line in enumerate(text.split("\n"), start=1):
        bare = line.strip()
        if bare and not bare.startswith("#"):
            reading.take(bare, number)
    return reading.finish()


def render(tree: Mapping[str, Any]) -> str:
    """Write a tree so that `parse` reads the same one again: the inverse of `parse`."""
    return "".join(f"{line}\n" for line in _rendered(tree, ""))


def _rendered(tree: Mapping[str, Any], indent: str) -> list[str]:
    lines: list[str] = []
    for key, value in tree.items():
        if isinstance(value, Mapping):
            lines += [f"{indent}{key}", f"{indent}{{", *_rendered(value, indent + "  "), f"{indent}}}"]
        else:
            quoted = value != value.strip() or value[:1] == value[-1:] == '"'
            lines.append(f'{indent}{key} = "{value}"' if quoted else f"{indent}{key} = {value}")
    return lines


class _Reading:
    """How far a text has been read: the open sections, and a section's name that waits for its brace."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._tree: Tree = {}
        self._lines: dict[Key, int] = {}
        self._open: list[tuple[Key, Tree]] = [((), self._tree)]
        self._waiting: tuple[str, int] | None = None

    def take(self, line: str, number: int) -> None:
        option = _OPTION.fullmatch(line)
        if option:
            self._refuse_waiting()
            self._option(option[1].strip(), option[2], _unquoted(option[3].strip()), number)
            return
        for word in filter(None, map(str.strip, _BRACES.split(line))):
            if word == "{":
                self._begin(number)
            elif word == "}":
                self._refuse_waiting()
                if len(self._open) == 1:
                    raise self._error(number, "this } closes a section that was never opened")
                self._open.pop()
            elif "=" in word:
                raise self._error(number, f"{word!r} stands behind a brace", "give it a line of its own")
            else:
                self._refuse_waiting()
                self._waiting = word, number

    def finish(self) -> Cfg:
        self._refuse_waiting()
        path, _ = self._open[-1]
        if path:
            raise self._error(self._lines[path], f"the section {path[-1]} is not closed", "add its }")
        return Cfg(self._tree, self._lines)

    def _begin(self, number: int) -> None:
        if self._waiting is None:
            raise self._error(number, "this { opens a section that has no name")
        name, named_at = self._waiting
        self._waiting = None
        path, tree = self._open[-1]
        self._refuse_slash(name, named_at)
        if name in tree:
            before = self._lines[(*path, name)]
            raise self._error(named_at, f"{name} is there already, in line {before}", "put both into one")
        tree[name] = {}
        self._lines[(*path, name)] = named_at
        self._open.append(((*path, name), tree[name]))

    def _option(self, name: str, operator: str, value: str, number: int) -> None:
        path, tree = self._open[-1]
        if not name:
            raise self._error(number, "this option has no name")
        self._refuse_slash(name, number)
        old = tree.get(name)
        if isinstance(old, dict):
            raise self._error(number, f"{name} is a section already, in line {self._lines[(*path, name)]}")
        tree[name] = f"{old}, {value}" if operator == "+=" and old else value
        self._lines[(*path, name)] = number

    def _refuse_slash(self, name: str, number: int) -> None:
        if "/" in name:
            raise self._error(number, f"the name {name!r} has a /", "write the sections it stands in")

    def _refuse_waiting(self) -> None:
        if self._waiting is not None:
            word, number = self._waiting
            todo = "write NAME = VALUE, or a { behind the name of a section"
            raise self._error(number, f"{word!r} is neither an option nor a section", todo)

    def _error(self, number: int, found: str, todo: str = "") -> BadSettings:
        return BadSettings(f"read {self._name}:{number}", found, todo)


def _unquoted(value: str) -> str:
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value
