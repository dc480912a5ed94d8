"""What kind of a server is spoken to, where that changes how a file is written or looked at."""

from __future__ import annotations

from vse.errors import BadRequest


class Product:
    """A server as its ``Server`` header names it; nothing is known before its first answer.

    VSE's own door names itself not at all: it takes a name only where it is free, in one step. Others
    replace: nginx and Apache in one step when the last byte has come, XRootD from the first byte on,
    and its MOVE replaces even where ``Overwrite: F`` is asked for.
    """

    def __init__(self) -> None:
        self._name: str | None = None

    def learn(self, header: str | None) -> None:
        self._name = header or ""

    @property
    def known(self) -> bool:
        return self._name is not None

    @property
    def replaces(self) -> bool:
        """Whether it may write over what is there."""
        return bool(self._name)

    @property
    def is_xrootd(self) -> bool:
        """A file is seen under its name from the first byte, and HEAD tells no directory."""
        return (self._name or "").lower().startswith("xrootd")

    def check(self, path: str, url: str) -> None:
        """Raise `BadRequest` for a name that XRootD takes for another file's."""
        if self.is_xrootd and ("?" in path or any(ord(char) < 32 or ord(char) == 127 for char in path)):
            raise BadRequest(
                f"use the name {url}",
                "XRootD carries neither '?' nor control characters in a name",
                "give the file another name",
            )
