"""A section's fsspec file system, the names it wants, and what its exceptions mean."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from vse import errors
from vse.config.settings import ProtocolSettings
from vse.storage.drivers.os_errors import mapped as of_os

Calls = Callable[[str], AbstractContextManager[None]]
"""`FsspecSystem.calls`."""

_WEB = ("http", "https")
_SSH = ("sftp", "ssh")

# The most particular first.
_KINDS: tuple[tuple[type[BaseException], type[errors.VseError]], ...] = (
    (FileNotFoundError, errors.NoSuchFile),
    (NotADirectoryError, errors.NoSuchFile),
    (FileExistsError, errors.AlreadyExists),
    (PermissionError, errors.Denied),
    (IsADirectoryError, errors.BadRequest),
    (NotImplementedError, errors.Unsupported),
    (TimeoutError, errors.Stalled),
    (ConnectionError, errors.SourceUnavailable),
    (EOFError, errors.SourceUnavailable),
)
_STATUSES = {401: errors.Denied, 403: errors.Denied, 404: errors.NoSuchFile, 429: errors.SourceUnavailable}
_REMOTE_LIBRARIES = ("aiohttp", "paramiko", "botocore", "requests", "urllib3", "smbprotocol")


def of_fsspec(wanted: str, error: Exception) -> errors.VseError:
    """Return the error of the tree for what a file system of fsspec raised."""
    status = getattr(error, "status", None)
    if isinstance(status, int):
        kind = _STATUSES.get(status, errors.ServerFault if status >= 500 else errors.BadRequest)
        return kind(wanted, f"the server answered {status}")
    for foreign, ours in _KINDS:
        if isinstance(error, foreign):
            return ours(wanted, type(error).__name__ if not str(error) else _short(error))
    if type(error).__module__.partition(".")[0] in _REMOTE_LIBRARIES:
        return errors.SourceUnavailable(wanted, f"the connection failed ({_short(error)})")
    if isinstance(error, OSError):
        return of_os(wanted, error)
    return errors.ServerFault(wanted, f"the file system failed ({type(error).__name__}: {_short(error)})")


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]


@contextmanager
def mapped(wanted: str) -> Iterator[None]:
    try:
        yield
    except errors.VseError:
        raise
    except Exception as error:
        raise of_fsspec(wanted, error) from error


class FsspecSystem:
    """The file system of a section: built when first used, and again after `close`."""

    def __init__(self, section: ProtocolSettings, protocol: str, no_progress_s: float) -> None:
        self._section = section
        self._no_progress_s = no_progress_s
        self.protocol = protocol
        self.is_web = protocol in _WEB
        port = f":{section.port}" if section.port else ""
        self.netloc = f"{section.host}{port}"
        self._made: Any = None
        # The SSH library loses answers where two threads wait on one channel: one call at a time.
        self._turn = threading.RLock() if protocol in _SSH else nullcontext()

    @contextmanager
    def calls(self, wanted: str) -> Iterator[None]:
        """Hold calls to the file system: errors are the tree's, and threads take turns if they must."""
        with self._turn, mapped(wanted):
            yield

    def made(self) -> Any:
        if self._made is None:
            wanted = f"use the protocol section {self._section.section!r}"
            try:
                import fsspec  # type: ignore[import-untyped]
            except ImportError as error:
                todo = "install it: pip install 'virtual-storage-element[fsspec]'"
                raise errors.BadSettings(wanted, "the library fsspec is not installed", todo) from error
            try:
                with mapped(wanted):
                    self._made = self._fresh(fsspec.filesystem(self.protocol, **self._given()))
            except errors.VseError as error:
                cause = error.__cause__
                if isinstance(cause, (ImportError, ValueError, TypeError)):
                    todo = "install what it names, or mend Protocol and Options"
                    raise errors.BadSettings(wanted, _short(cause), todo) from cause
                raise
        return self._made

    def _given(self) -> dict[str, Any]:
        given: dict[str, Any] = {"skip_instance_cache": True}
        if self.protocol in _SSH:
            given |= dict.fromkeys(("timeout", "banner_timeout", "auth_timeout"), self._no_progress_s)
        if self._section.host and not self.is_web:
            given["host"] = self._section.host
            if self._section.port:
                given["port"] = self._section.port
        return given | self._section.options

    def _fresh(self, made: Any) -> Any:
        """Let it remember no listing, and wait for no server for ever."""
        cache: Any = getattr(made, "dircache", None)
        if hasattr(cache, "use_listings_cache"):
            cache.use_listings_cache = False
        if self.protocol in _SSH:
            made.ftp.get_channel().settimeout(self._no_progress_s)
            # Small requests one after the other: without this, each waits 40 ms for the last one's receipt.
            made.client.get_transport().sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made

    def close(self) -> None:
        made, self._made = self._made, None
        connection: Any = getattr(made, "client", None)
        if callable(getattr(connection, "close", None)):
            connection.close()

    def name(self, path: str) -> str:
        """Return what the file system calls a path."""
        return self.url(path) if self.is_web else path

    def path(self, name: str) -> str:
        """Return the path of what the file system calls ``name``."""
        if "://" in name:
            name = unquote(urlsplit(name).path)
        return "/" + name.strip("/")

    def url(self, path: str) -> str:
        return f"{self.protocol}://{self.netloc}{quote(path)}"

    def path_of(self, url: str) -> str:
        parts = urlsplit(url)
        if (parts.scheme, parts.netloc) != (self.protocol, self.netloc) or parts.query or parts.fragment:
            raise errors.BadRequest(
                f"find the path in {url!r}", f"it is not a URL of {self.protocol}://{self.netloc}"
            )
        return unquote(parts.path) or "/"


def modified_s(info: dict[str, Any]) -> float | None:
    """Return when a file was last written, as far as its description tells."""
    for key in ("mtime", "modified", "last_modified", "LastModified", "created"):
        value = info.get(key)
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, (int, float)):
            return float(value)
    return None
