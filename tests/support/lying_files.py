"""An HTTP server that serves files, and lies about them as it is told."""

from __future__ import annotations

from collections import Counter
from contextlib import AbstractContextManager

from support.file_server import FileServer, serving


class LyingServer(FileServer):
    """``lies``: for a path what `FileServer` knows; missing is honesty. ``asked``: how often, by path."""

    def __init__(self, files: dict[str, bytes], lies: dict[str, str]) -> None:
        super().__init__(files)
        self.lies = lies
        self.asked: Counter[str] = Counter()

    def lie_for(self, path: str, *, body: bool) -> str:
        self.asked[path] += 1
        lie = self.lies.get(path, "")
        return "" if lie == "500" and not body else lie


def lying_server(files: dict[str, bytes], lies: dict[str, str]) -> AbstractContextManager[LyingServer]:
    return serving(LyingServer(files, lies))
