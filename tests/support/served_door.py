"""VSE's own HTTP door over a temporary directory, as a server to test clients with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from vse.config.settings import ProtocolSettings
from vse.doors.http.access import DoorAccess
from vse.doors.http.app import create_app
from vse.doors.http.files import DoorFiles
from vse.storage.drivers.file import FileDriver
from vse.testing.door import running_door

TOKEN = "the-token-of-this-test"


class Served(NamedTuple):
    """A door, and the directory that it serves as ``/data``."""

    url: str
    directory: Path
    token_file: Path

    def section(self, **changes: object) -> ProtocolSettings:
        parts = urlsplit(self.url)
        given = {"Host": parts.hostname, "Port": parts.port, "TokenFile": str(self.token_file)}
        return ProtocolSettings(**{"Section": "HTTP", "Path": "/data"} | given | changes)


@contextmanager
def serving(tmp_path: Path) -> Iterator[Served]:
    """Serve a new directory below ``tmp_path``, to holders of the token, for reading and writing."""
    directory = tmp_path / "served"
    directory.mkdir()
    token_file = tmp_path / "token"
    token_file.write_text(f"{TOKEN}\n")
    files = DoorFiles(FileDriver(ProtocolSettings(Section="File", Path=str(directory))), str(directory))
    app = create_app(DoorAccess("token", "token", TOKEN), files)
    with running_door(app) as url:
        yield Served(url, directory, token_file)
