"""Logical file names: normalised once, here, and trusted everywhere after."""

from __future__ import annotations

import re
import unicodedata
from typing import Self

from vse.errors import BadLfn

MAX_NAME_BYTES = 255
MAX_LFN_BYTES = 2048
_FORBIDDEN = ("Cc", "Cs", "Zl", "Zp")  # lists of names are lines
_SCHEMES = ("lfn:", "alien:")
_is_plain = re.compile(r"(?:/(?!\.\.?(?:/|\Z))[ -.0-~]{1,255})+").fullmatch
"""Whether a name is printable ASCII in normal form: nearly all are, and doors parse them by the million."""


class Lfn(str):
    """A logical file name such as ``/alice/data/2013/LHC13d/AliAOD.root``.

    A string that is absolute, in Unicode NFC (so that two names which only differ in how an accent is
    written are one), without empty, ``.`` or ``..`` parts, without control characters or line
    separators, each part at most 255 bytes of UTF-8 and the whole at most 2048. All else is kept as it
    is: capitals, blanks, trailing dots. Build one from the outside with `parse`; ``Lfn(text)`` itself
    trusts its argument and is for names that were parsed before (rows of our own catalogue).
    """

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Normalise ``text``, or raise `BadLfn` saying which part is wrong.

        Repeated and trailing slashes are dropped; a leading ``lfn:`` or ``alien:`` (with ``//``) too.
        """
        if len(text) <= MAX_LFN_BYTES and _is_plain(text):
            return cls(text)
        name = text
        for scheme in _SCHEMES:
            if name.startswith(scheme):
                name = "/" + name.removeprefix(scheme).lstrip("/")
        shown = f"use {_shown(text)} as a logical file name"
        if not name.startswith("/"):
            raise BadLfn(shown, "it does not start with '/'", "give the whole name, from the root")
        name = unicodedata.normalize("NFC", name)
        parts = [part for part in name.split("/") if part]
        for part in parts:
            _check_part(part, shown)
        whole = "/" + "/".join(parts)
        length = len(whole.encode("utf-8"))
        if length > MAX_LFN_BYTES:
            raise BadLfn(shown, f"it has {length} bytes; at most {MAX_LFN_BYTES} are possible")
        return cls(whole)

    @property
    def parent(self) -> Lfn:
        """The directory that holds this name; the root is its own parent."""
        return Lfn(self.rpartition("/")[0] or "/")

    @property
    def name(self) -> str:
        """The last part; empty for the root."""
        return self.rpartition("/")[2]

    def child(self, name: str) -> Lfn:
        """Return the name of an entry of this directory. ``name`` is trusted."""
        return Lfn(f"{self.rstrip('/')}/{name}")

    def is_below(self, base: str) -> bool:
        """Whether this name is ``base`` itself or lies under it."""
        return base in ("/", self) or self.startswith(base + "/")


def _check_part(part: str, shown: str) -> None:
    if part in (".", ".."):
        raise BadLfn(shown, f"{part!r} is not allowed in it", "give the name without it")
    if any(unicodedata.category(char) in _FORBIDDEN for char in part):
        raise BadLfn(shown, "it holds a control character, a line separator or a lone surrogate")
    length = len(part.encode("utf-8"))
    if length > MAX_NAME_BYTES:
        raise BadLfn(
            shown,
            f"the part {_shown(part)} has {length} bytes; at most {MAX_NAME_BYTES} are possible",
        )


def _shown(text: str) -> str:
    """Quote ``text`` for a message: no control characters, never longer than a line."""
    short = text if len(text) <= 72 else f"{text[:48]}...{text[-16:]}"
    return repr(short)
