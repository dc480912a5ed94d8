"""Reads the configuration of afdsmgrd (seed 002 C.2), and says it in the words of vse.toml. Pure.

The file may be shared with PROOF and xrootd: directives of others are passed over, as afdsmgrd did.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from vse.errors import BadSettings

SHARE = "afdsmgrd"
"""The owner whose fair share the files of lists count for."""
ELEMENT = "AFDSMGRD"
"""What the storage element is called that the files come to, where nothing else is said."""

_SET = re.compile(r"set\s+(\w+)\s*=\s*(.*)")
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)\})")
_COMMENT = re.compile(r"\s#\s.*$")
_CLASSES = {
    "[:alpha:]": "a-zA-Z",
    "[:digit:]": "0-9",
    "[:alnum:]": "a-zA-Z0-9",
    "[:upper:]": "A-Z",
    "[:lower:]": "a-z",
    "[:space:]": r"\s",
    "[:blank:]": r" \t",
    "[:xdigit:]": "0-9A-Fa-f",
    "[:punct:]": r"!-/:-@\[-`{-~",
}
_TEXTS = {
    "dsmgrd.stagecmd": "command",
    "dsmgrd.notifyplugin": "plugin",
    "dsmgrd.apmonurl": "apmon_url",
    "dsmgrd.apmonprefix": "apmon_prefix",
}
_NUMBERS = {
    "dsmgrd.sleepsecs": "sleep_s",
    "dsmgrd.scandseveryloops": "scan_every_loops",
    "dsmgrd.parallelxfrs": "parallel",
    "dsmgrd.cmdtimeoutsecs": "timeout_s",
    "dsmgrd.corruptafterfails": "corrupt_after",
}
_RULES = ("dsmgrd.urlregex", "dsmgrd.urlregex2", "dsmgrd.urlregex3", "dsmgrd.urlregex4")


@dataclass(frozen=True, slots=True)
class Configuration:
    """What a file says, with afdsmgrd's own defaults. ``rules``: expression and substitute, in order.

    ``ignored``: directives of others that stand in it, by name, once each.
    """

    repository: str = ""
    purge: bool = False
    rules: tuple[tuple[str, str], ...] = ()
    sleep_s: int = 30
    scan_every_loops: int = 10
    parallel: int = 8
    command: str = "/bin/false"
    timeout_s: int = 0
    corrupt_after: int = 0
    plugin: str = ""
    apmon_url: str = ""
    apmon_prefix: str = ""
    ignored: tuple[str, ...] = ()


def parse(text: str, name: str = "afdsmgrd.conf") -> Configuration:
    """Read a configuration; of a directive given twice the last one holds.

    Raises `BadSettings` with the line for a value that cannot be: afdsmgrd paused until it was mended.
    """
    variables: dict[str, str] = {}
    values: dict[str, object] = {}
    rules: dict[str, tuple[str, str]] = {}
    ignored: dict[str, None] = {}
    for number, line in _logical_lines(text):
        where = f"use {name}, line {number}"
        setting = _SET.fullmatch(line)
        if setting:
            variables[setting.group(1)] = _filled(setting.group(2).strip(), variables)
            continue
        word, _, rest = _filled(line, variables).partition(" ")
        value = rest.strip()
        if word in _RULES:
            rules[word] = _rule(where, value)
        elif word in _NUMBERS:
            values[_NUMBERS[word]] = _number(where, word, value)
        elif word in _TEXTS:
            values[_TEXTS[word]] = value
        elif word == "dsmgrd.purgenoopds":
            values["purge"] = _truth(where, value)
        elif word == "xpd.stagereqrepo":
            values["repository"] = value.split()[0].removeprefix("dir:") if value else ""
        else:
            ignored[word] = None
    ordered = tuple(rules[word] for word in _RULES if word in rules)
    return Configuration(rules=ordered, ignored=tuple(ignored), **values)  # type: ignore[arg-type]


def _logical_lines(text: str) -> list[tuple[int, str]]:
    """Return the lines that say something, with their numbers; a backslash at the end joins the next one."""
    found: list[tuple[int, str]] = []
    joined, first = "", 0
    for number, line in enumerate(text.splitlines(), start=1):
        first = first or number
        bare = _COMMENT.sub("", line.replace("\t", " ")).strip()
        if bare.endswith("\\"):
            joined += bare[:-1].rstrip() + " "
            continue
        whole = (joined + bare).strip()
        if whole and not whole.startswith("#"):
            found.append((first, whole))
        joined, first = "", 0
    if joined.strip():
        found.append((first, joined.strip()))
    return found


def _filled(text: str, variables: dict[str, str]) -> str:
    """Put variables in; what is none (``$URLTOSTAGE``, ``$1``) stays."""
    return _VARIABLE.sub(lambda one: variables.get(one.group(1) or one.group(2), one.group()), text)


def _number(where: str, word: str, value: str) -> int:
    if not value.isascii() or not value.isdigit():
        raise BadSettings(where, f"{word} takes a number, not {value!r}")
    return int(value)


def _truth(where: str, value: str) -> bool:
    if value.lower() not in ("true", "false", "1", "0", "yes", "no"):
        raise BadSettings(where, f"dsmgrd.purgenoopds takes true or false, not {value!r}")
    return value.lower() in ("true", "1", "yes")


def _rule(where: str, value: str) -> tuple[str, str]:
    regex, _, subst = value.partition(" ")
    if not subst.strip():
        raise BadSettings(where, "urlregex takes an expression and what is put in its place")
    for posix, python in _CLASSES.items():
        regex = regex.replace(posix, python)
    try:
        re.compile(regex)
    except re.error as error:
        raise BadSettings(where, f"{regex!r} is no regular expression: {error}") from error
    return regex, subst.strip()


# -- as settings -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Section:
    """A table of vse.toml: its header, and for each key the value as TOML and what it was called before."""

    name: str
    keys: dict[str, tuple[str, str]]


def sections_of(configuration: Configuration, element: str = ELEMENT) -> list[Section]:
    """Return what vse.toml is to say for a site to go on as with afdsmgrd.

    A plug-in is a compiled one there: MonALISA's is ours, where its URL and prefix are given.
    """
    one = configuration
    rules = ", ".join(f"{{ regex = {_toml(a)}, subst = {_toml(b)} }}" for a, b in one.rules)
    found = [
        Section(
            "afdsmgrd",
            {
                "repository": (_toml(one.repository), "xpd.stagereqrepo"),
                "destination": (_toml(element), ""),
                "purge": (str(one.purge).lower(), "dsmgrd.purgenoopds"),
                "url_rules": (f"[{rules}]", "dsmgrd.urlregex"),
                "scan_every_s": (
                    repr(float(max(1, one.sleep_s * one.scan_every_loops))),
                    "dsmgrd.sleepsecs x dsmgrd.scandseveryloops",
                ),
            },
        ),
        Section(
            "stager",
            {
                "slots": (str(max(1, one.parallel)), "dsmgrd.parallelxfrs"),
                "max_failures": (str(one.corrupt_after), "dsmgrd.corruptafterfails; 0: for ever"),
            },
        ),
        Section(
            "stager.external",
            {
                "command": (_toml(one.command), "dsmgrd.stagecmd"),
                "timeout_s": (repr(float(one.timeout_s)), "dsmgrd.cmdtimeoutsecs"),
                "destinations": (f"[{_toml(element)}]", ""),
            },
        ),
    ]
    if one.plugin and one.apmon_url and one.apmon_prefix:
        options = {
            "url": (_toml(one.apmon_url), "dsmgrd.apmonurl"),
            "prefix": (_toml(one.apmon_prefix), "dsmgrd.apmonprefix"),
        }
        found.append(Section("monitor.plugins.apmon", options))
    return found


def element_of(configuration: Configuration, element: str = ELEMENT) -> list[Section]:
    """Return the storage element that the files come to, as far as the first rule tells where that is.

    It is for looking only: what writes there is the site's own command, which also tells the URLs of what it
    wrote: these need not be what an LFN would make.
    """
    subst = configuration.rules[0][1] if configuration.rules else "/"
    url = urlsplit(subst.partition("$")[0])
    access = dict.fromkeys(("WriteAccess", "RemoveAccess"), ("false", "")) | {"UseCatalogURL": ("true", "")}
    head = Section(f"StorageElements.{element}", {"BackendType": (_toml("afdsmgrd"), ""), **access})
    if url.scheme in ("root", "xroot") and url.hostname:
        keys = {"Protocol": _toml("root"), "Host": _toml(url.hostname), "Path": _toml("/")}
        keys |= {"Port": str(url.port)} if url.port else {}
        return [head, Section(f"{head.name}.XROOT", {key: (value, "") for key, value in keys.items()})]
    path = url.path.rstrip("/") if url.scheme in ("", "file") else ""
    keys = {"Protocol": _toml("file"), "Path": _toml(path or "/"), "Access": _toml("local")}
    return [head, Section(f"{head.name}.File", {key: (value, "") for key, value in keys.items()})]


def _toml(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def lay_over(text: str, sections: list[Section]) -> str:
    """Return a vse.toml with the keys of ``sections`` set; everything else in it stays as it is written.

    A key that stands there on one line is replaced, others are added below the header of their table.
    """
    lines = text.splitlines()
    for section in sections:
        _lay(lines, section)
    return "\n".join(lines).rstrip("\n") + "\n"


def _lay(lines: list[str], section: Section) -> None:
    header = re.compile(rf"\s*\[\s*{re.escape(section.name)}\s*\]\s*(#.*)?")
    at = next((number for number, line in enumerate(lines) if header.fullmatch(line)), None)
    written = {key: _line(key, *value) for key, value in section.keys.items()}
    if at is None:
        lines += ["", f"[{section.name}]", *written.values()]
        return
    end = next((n for n in range(at + 1, len(lines)) if lines[n].lstrip().startswith("[")), len(lines))
    for number in range(at + 1, end):
        key = lines[number].partition("=")[0].strip()
        if key in written:
            lines[number] = written.pop(key)
    lines[at + 1 : at + 1] = list(written.values())


def _line(key: str, value: str, before: str) -> str:
    return f"{key} = {value}" + (f"  # {before}" if before else "")
