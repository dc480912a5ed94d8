"""A running door and a client that sends exactly what it is told."""

from __future__ import annotations

import http.client
import socket
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from vse.config.settings import ProtocolSettings
from vse.doors.http.files import DoorFiles
from vse.storage.drivers.file import FileDriver

TOKEN = "the-token-of-the-test"


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Site:
    """A running door: where, which files are behind it, and how to speak to it."""

    url: str
    root: Path
    token: str = TOKEN

    def connect(self) -> http.client.HTTPConnection:
        parts = urlsplit(self.url)
        return http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=20)

    def ask(
        self, method: str, path: str, body: object = None, token: str | None = TOKEN, **headers: str
    ) -> Answer:
        """Send a request as it is written (nothing is escaped); header names have ``_`` for ``-``."""
        connection = self.connect()
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        connection.request(method, path, body=body, headers=sent)  # type: ignore[arg-type]
        response = connection.getresponse()
        answer = Answer(
            response.status,
            {name.lower(): value for name, value in response.getheaders()},
            response.read(),
        )
        connection.close()
        return answer

    def head(self, method: str, path: str, *lines: str) -> bytes:
        """Return the head of a request, for those who speak over a socket of their own."""
        start = (f"{method} {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {self.token}")
        return "\r\n".join((*start, *lines, "", "")).encode()

    def dial(self) -> socket.socket:
        parts = urlsplit(self.url)
        return socket.create_connection((str(parts.hostname), parts.port or 80), timeout=20)

    def left_behind(self) -> list[str]:
        """Every file below the storage, also those that the driver hides."""
        return sorted(str(path.relative_to(self.root)) for path in self.root.rglob("*") if path.is_file())


def files_of(root: Path) -> DoorFiles:
    base = str(root)
    return DoorFiles(FileDriver(ProtocolSettings.model_validate({"Section": "file", "Path": base})), base)


MakeSite = Callable[..., Site]


def adler32(data: bytes) -> str:
    return f"{zlib.adler32(data):08x}"
