"""What a driver does not declare, it refuses: the base that gives every optional method that answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from vse.errors import Unsupported
from vse.model import BulkResult, Checksum, Space
from vse.storage.contract import Capabilities, Locality, Note, StoredFile, Upload


class Undeclared:
    """Base of drivers. Each method here belongs to a capability and raises `Unsupported` without it."""

    protocol: str = ""
    capabilities: Capabilities = Capabilities()

    def _undeclared(self, what: str) -> NoReturn:
        raise Unsupported(f"{what} by {self.protocol}", "this driver cannot do that")

    def put(self, path: str, size_bytes: int, checksum: Checksum | None = None) -> Upload:
        self._undeclared("write")

    def list(self, path: str) -> Iterator[StoredFile]:
        self._undeclared("list")

    def remove(self, paths: Sequence[str]) -> BulkResult[None]:
        self._undeclared("remove")

    def rename(self, source: str, target: str) -> None:
        self._undeclared("rename")

    def checksum(self, paths: Sequence[str], algorithm: str) -> BulkResult[Checksum]:
        self._undeclared(f"compute {algorithm}")

    def space(self, path: str) -> Space:
        self._undeclared("tell the space")

    def local_path(self, path: str) -> Path:
        self._undeclared("open by path")

    def make_directory(self, path: str) -> None:
        self._undeclared("make a directory")

    def link(self, existing: str, path: str) -> None:
        self._undeclared("link")

    def stage(self, paths: Sequence[str], lifetime_s: float) -> BulkResult[str]:
        self._undeclared("stage")

    def poll(self, paths: Sequence[str]) -> BulkResult[Locality]:
        self._undeclared("poll")

    def release(self, paths: Sequence[str]) -> BulkResult[None]:
        self._undeclared("release")

    def pull(
        self, source_url: str, path: str, size_bytes: int, checksum: Checksum | None, note: Note
    ) -> None:
        self._undeclared("pull a third-party copy")

    def push(
        self, path: str, target_url: str, size_bytes: int, checksum: Checksum | None, note: Note
    ) -> None:
        self._undeclared("push a third-party copy")
