"""Templates of names, such as ``/rucio/{scope}/{rest...}``: read a name by one, make one, follow a prefix."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

_TOKEN = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(\.\.\.)?\}")
_BOUNDARIES = "/:"


class Template:
    """Text with placeholders.

    ``{name}`` stands for one or more characters other than '/', as few as will do; ``{name...}``, which
    must be the end, for one or more of any. Raises `ValueError`, for the person who wrote it, where a
    brace is no placeholder's, a placeholder comes twice, or two stand side by side (nobody could tell
    where one ends).
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._tokens = _tokens(text)
        self.placeholders = tuple(token[0] for token in self._tokens if isinstance(token, tuple))
        self._whole = _regex(self._tokens)
        self._parts = [_regex(part) for part in _split(self._tokens)]

    @property
    def tail(self) -> str:
        """What follows the last '/' or ':' of the text."""
        return re.split(f"[{_BOUNDARIES}]", self.text)[-1]

    @property
    def endless(self) -> bool:
        """Whether it ends in a placeholder for any characters."""
        return self.text.endswith("...}")

    def read(self, name: str) -> dict[str, str] | None:
        """Return what the placeholders stand for in ``name``; None where it does not match."""
        found = self._whole.fullmatch(name)
        return None if found is None else found.groupdict()

    def fill(self, values: Mapping[str, str]) -> str:
        """Return the name with these values."""
        return "".join(token if isinstance(token, str) else values[token[0]] for token in self._tokens)

    def read_directory(self, directory: str) -> dict[str, str] | None:
        """Return what is known of the placeholders in every name at or below ``directory``.

        The value of an endless placeholder is then a beginning of it, up to a '/'. None where no such
        name can match.
        """
        if not self.text.startswith("/"):
            return None
        known: dict[str, str] = {}
        given = [part for part in directory.split("/") if part]
        for number, value in enumerate(given):
            if number >= len(self._parts):
                return None
            regex = self._parts[number]
            if self.endless and number == len(self._parts) - 1:
                return _begun(known, regex, "/".join(given[number:]))
            found = regex.fullmatch(value)
            if found is None:
                return None
            known.update(found.groupdict())
        return known

    def fill_directory(self, known: Mapping[str, str]) -> str:
        """Return what all names with these values (of `read_directory`) begin with, up to a '/' or ':'.

        A '/' at the end is left out, except of the root; a ':' is kept.
        """
        text = ""
        for token in self._tokens:
            if isinstance(token, tuple) and token[0] not in known:
                text = text[: 1 + max(text.rfind(mark) for mark in _BOUNDARIES)]
                break
            text += token if isinstance(token, str) else known[token[0]]
        return text if text == "/" else text.rstrip("/") or text[:1]


_Tokens = list[str | tuple[str, bool]]


def _tokens(text: str) -> _Tokens:
    tokens: _Tokens = []
    end = 0
    for found in _TOKEN.finditer(text):
        if found.start() > end:
            tokens.append(text[end : found.start()])
        elif tokens:
            raise ValueError(f"{text!r}: two placeholders stand side by side before {found.group()}")
        tokens.append((found.group(1), found.group(2) is not None))
        end = found.end()
    if end < len(text):
        tokens.append(text[end:])
    literals = "".join(token for token in tokens if isinstance(token, str))
    if "{" in literals or "}" in literals:
        raise ValueError(f"{text!r}: a brace is no placeholder's; write {{name}} or, at the end, {{name...}}")
    names = [token[0] for token in tokens if isinstance(token, tuple)]
    if len(set(names)) != len(names):
        raise ValueError(f"{text!r}: a placeholder comes twice")
    if any(isinstance(token, tuple) and token[1] for token in tokens[:-1]):
        raise ValueError(f"{text!r}: a placeholder with '...' is not at its end")
    return tokens


def _regex(tokens: Sequence[str | tuple[str, bool]]) -> re.Pattern[str]:
    pieces = []
    for token in tokens:
        if isinstance(token, str):
            pieces.append(re.escape(token))
        else:
            pieces.append(f"(?P<{token[0]}>{'.+' if token[1] else '[^/]+?'})")
    return re.compile("".join(pieces), re.DOTALL)


def _split(tokens: _Tokens) -> list[_Tokens]:
    """Return the tokens of each part between slashes; empty parts are left out."""
    parts: list[_Tokens] = [[]]
    for token in tokens:
        if isinstance(token, tuple):
            parts[-1].append(token)
            continue
        first, *others = token.split("/")
        if first:
            parts[-1].append(first)
        parts.extend([other] if other else [] for other in others)
    return [part for part in parts if part]


def _begun(known: dict[str, str], regex: re.Pattern[str], value: str) -> dict[str, str] | None:
    """Read the last parts, whose endless placeholder ``value`` may only begin, or not reach."""
    found = regex.fullmatch(value)
    if found is not None:
        return known | found.groupdict()
    return known if regex.fullmatch(f"{value}/x") else None
