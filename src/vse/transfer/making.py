"""The step between download and upload of a file that is made out of another one (seed 002 §4.3.5.6)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple, Protocol

from vse.model import Checksum, Contents, Entry
from vse.storage.contract import CHUNK_BYTES, Upload
from vse.transfer.abort import Abort

Fetch = Callable[[Upload], None]
"""Writes the whole source file into an upload, comparing size and checksum."""


class Made(NamedTuple):
    """A made and verified file at ``path``; ``provenance`` tells how it was made of the file ``source``."""

    path: Path
    size_bytes: int
    checksum: Checksum
    contents: Contents | None
    source: Entry
    provenance: str

    def pieces(self) -> Iterator[bytes]:
        with self.path.open("rb") as file:
            while piece := file.read(CHUNK_BYTES):
                yield piece


class Making(Protocol):
    """Makes one file."""

    def made(self, fetch: Fetch, url: str, abort: Abort) -> AbstractContextManager[Made]:
        """Fetch the source, which is at ``url``, and make the file; it is there while the block runs.

        Raises `FilterFailed`, `Stalled`, what ``fetch`` raises, or what ``abort`` was fired with. Nothing
        remains at the end of the block.
        """
        ...

    def same(self, made: Made, path: Path, abort: Abort) -> Made | None:
        """Return the file at ``path`` where it holds what ``made`` does; None where it does not."""
        ...
