"""Where a key stands in a TOML text: parsers drop the line numbers that a good message needs."""

from __future__ import annotations

import re

_PART = re.compile(r"""\s*(?:"((?:\\.|[^"\\])*)"|'([^']*)'|([A-Za-z0-9_-]+))\s*(\.?)""")


def lines_of(text: str) -> dict[tuple[str, ...], int]:
    """Return ``{key path: line number from 1}`` for every table header and key of a valid TOML text."""
    found: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    closing = ""  # the delimiter that ends the multi-line string we are in
    for number, line in enumerate(text.splitlines(), start=1):
        if closing:
            closing = "" if closing in line else closing
            continue
        bare = line.strip()
        if bare.startswith("["):
            path, _ = _key_path(bare.lstrip("["))
            if path:
                table = path
                found.setdefault(table, number)
        else:
            path, rest = _key_path(line)
            if path and rest.startswith("="):
                found.setdefault(table + path, number)
                closing = _opened_string(rest)
    return found


def _key_path(text: str) -> tuple[tuple[str, ...], str]:
    """Split a dotted key off the start of ``text``; return its parts and what follows."""
    parts: list[str] = []
    position = 0
    while match := _PART.match(text, position):
        parts.append(next(group for group in match.groups()[:3] if group is not None))
        position = match.end()
        if not match.group(4):
            break
    return tuple(parts), text[position:].lstrip()


def _opened_string(value: str) -> str:
    for delimiter in ('"""', "'''"):
        if value.count(delimiter) % 2:
            return delimiter
    return ""
