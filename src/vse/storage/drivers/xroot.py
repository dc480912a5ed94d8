"""The ``root`` and ``roots`` protocols of XRootD, by its own client library (the extra ``xrootd``).

Names are sent as they are: the protocol has no escapes. A URL of ours escapes what no URL may hold, and
is read back the same way; for plain names it is what every other client takes, too. What else holds of
names is told by `XrootNames`. Credentials are those the library finds in the environment.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from urllib.parse import quote, unquote, urlsplit

from vse import errors
from vse.config.settings import ProtocolSettings
from vse.model import BulkResult, Checksum, Space
from vse.storage.contract import Capabilities, Locality, Note, StoredFile
from vse.storage.drivers import xroot_tape
from vse.storage.drivers.file_upload import PARTIAL_DIRECTORY
from vse.storage.drivers.in_bulk import each
from vse.storage.drivers.undeclared import Undeclared
from vse.storage.drivers.xroot_client import checked, error_of, library
from vse.storage.drivers.xroot_copy import third_party
from vse.storage.drivers.xroot_names import XrootNames
from vse.storage.drivers.xroot_reader import XrootReader
from vse.storage.drivers.xroot_upload import XrootUpload

DEFAULT_PORT = 1094
_SCHEMES = {"root": "root", "xroot": "root", "roots": "roots", "xroots": "roots"}
_AT_ONCE = 8
_SAFE = "/-._~!$&'()*+,;=:@"  # what a path may hold unescaped (RFC 3986 §3.3)


class XrootDriver(Undeclared):
    """`vse.storage.contract.Driver` of one server or redirector.

    ``no_progress_s``: how long the server may send nothing. A server that refuses connections fails at
    once; one that does not answer within ten seconds.

    Which checksums there are is the server's: one it does not compute is refused with `Unsupported` when
    it is asked. A server without tape takes requests to stage, and its files are on disk already.
    """

    capabilities = Capabilities(
        write=True,
        remove=True,
        list=True,
        rename=True,
        space=True,
        checksums=frozenset({"adler32", "crc32c", "md5"}),
        make_directory=True,
        stage=True,
        pull=frozenset({"root", "xroot"}),
        push=frozenset({"root", "xroot"}),
    )

    def __init__(self, settings: ProtocolSettings, no_progress_s: float = 60.0) -> None:
        wanted = f"use the protocol section {settings.section!r}"
        scheme = _SCHEMES.get(settings.protocol or "root")
        if scheme is None:
            raise errors.BadSettings(wanted, f"its Protocol {settings.protocol!r} is not root or roots")
        if not settings.host:
            raise errors.BadSettings(wanted, "it has no Host", "give the server's name")
        if settings.token_file is not None:
            raise errors.BadSettings(
                wanted,
                "the root protocol takes no TokenFile",
                "give the token in the environment, as BEARER_TOKEN_FILE",
            )
        self.protocol = scheme
        self._host = settings.host.lower().strip("[]")
        self._port = settings.port or DEFAULT_PORT
        self._partials = f"{settings.path.rstrip('/')}/{PARTIAL_DIRECTORY}/"
        self._no_progress_s = no_progress_s
        self._made: XrootNames | None = None

    @property
    def _server_url(self) -> str:
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{self.protocol}://{host}:{self._port}"

    @property
    def _names(self) -> XrootNames:
        if self._made is None:
            self._made = XrootNames(self._server_url, self._partials, self._no_progress_s)
        return self._made

    def url(self, path: str) -> str:
        return f"{self._server_url}/{quote(path, safe=_SAFE)}"

    def path_of(self, url: str) -> str:
        wanted = f"find the path in {url!r}"
        protocol, host, port, path = _parts(url, wanted)
        if (protocol, host, port) != (self.protocol, self._host, self._port):
            raise errors.BadRequest(wanted, f"it is not a URL of {self._server_url}")
        return path

    def stat(self, paths: Sequence[str]) -> BulkResult[StoredFile]:
        return each(paths, self._names.stat, at_once=_AT_ONCE)

    def open(self, path: str) -> XrootReader:
        names = self._names
        wanted = f"read {names.raw_url(path)}"
        file = library().File()
        # READ, said expressly, is what lets the library go on at another server when one dies.
        flags = names.flags.OpenFlags.READ
        checked(file.open(names.raw_url(names.check(path)), flags, timeout=names.timeout_s), wanted)
        status, found = file.stat(timeout=names.timeout_s)
        if not status.ok:
            file.close(timeout=1)
            raise error_of(status, wanted)
        return XrootReader(file, wanted, found.size, self._no_progress_s)

    def put(self, path: str, size_bytes: int, checksum: Checksum | None = None) -> XrootUpload:
        names = self._names
        wanted = f"write {names.raw_url(path)}"
        if size_bytes < 0:
            raise errors.BadRequest(wanted, f"a file cannot have {size_bytes} bytes")
        self._check_free(path, wanted)
        return XrootUpload(names, path, size_bytes, checksum)

    def _check_free(self, path: str, wanted: str) -> None:
        if self._names.exists(path, wanted):
            raise errors.AlreadyExists(wanted, "the name is taken", "files are write-once: remove it first")

    def list(self, path: str) -> Iterator[StoredFile]:
        names = self._names
        wanted = f"list {names.raw_url(path)}"
        here = path.rstrip("/")
        flags = names.flags.DirListFlags.STAT
        status, answer = names.files.dirlist(names.check(here or "/"), flags, timeout=names.timeout_s)
        if not status.ok:
            if not names.stat(path, wanted).is_directory:
                raise errors.BadRequest(wanted, "it is a file")
            raise error_of(status, wanted)
        for child in answer:
            if child.name.startswith(PARTIAL_DIRECTORY):
                continue
            found = child.statinfo
            if found is None:  # a broken link, or gone meanwhile
                continue
            is_directory = bool(found.flags & names.flags.StatInfoFlags.IS_DIR)
            size_bytes = None if is_directory else found.size
            yield StoredFile(f"{here}/{child.name}", size_bytes, float(found.modtime))

    def remove(self, paths: Sequence[str]) -> BulkResult[None]:
        return each(paths, self._names.remove, at_once=_AT_ONCE)

    def rename(self, source: str, target: str) -> None:
        names = self._names
        wanted = f"rename {names.raw_url(source)} to {target}"
        names.stat(source, wanted)
        names.publish(source, target, wanted)

    def make_directory(self, path: str) -> None:
        self._names.make_directory(path, f"make the directory {self._names.raw_url(path)}")

    def checksum(self, paths: Sequence[str], algorithm: str) -> BulkResult[Checksum]:
        if algorithm not in self.capabilities.checksums:
            self._undeclared(f"compute {algorithm}")
        return each(paths, lambda path: self._names.checksum(path, algorithm), at_once=_AT_ONCE)

    def space(self, path: str) -> Space:
        names = self._names
        wanted = f"measure the space of {names.raw_url(path)}"
        code = names.flags.QueryCode.SPACE
        answer = names.ask(wanted, names.files.query, code, names.check(path))
        text = answer.rstrip(b"\0 \n").decode("ascii", "replace")
        told = dict(item.partition("=")[::2] for item in text.split("&"))
        total, free = (_number(told.get(key)) for key in ("oss.space", "oss.free"))
        if total is None and free is None:
            raise errors.ServerFault(wanted, f"the server says {text!r}")
        return Space(total, free)

    def stage(self, paths: Sequence[str], lifetime_s: float) -> BulkResult[str]:
        """The protocol has no word for ``lifetime_s``: a file stays until the server needs the room."""
        return xroot_tape.stage(self._names, paths)

    def poll(self, paths: Sequence[str]) -> BulkResult[Locality]:
        return xroot_tape.poll(self._names, paths)

    def release(self, paths: Sequence[str]) -> BulkResult[None]:
        return xroot_tape.release(self._names, paths)

    def pull(
        self, source_url: str, path: str, size_bytes: int, checksum: Checksum | None, note: Note
    ) -> None:
        names = self._names
        wanted = f"have {self._server_url} copy {source_url} to {path}"
        source = _raw(source_url, wanted)
        self._check_free(path, wanted)
        partial = names.new_partial()
        try:
            third_party(source, names.raw_url(partial), wanted, self._no_progress_s, note)
            names.verify(partial, size_bytes, [checksum] if checksum else [], wanted)
            names.publish(partial, path, wanted)
        except BaseException:
            names.discard(partial)
            raise

    def push(
        self, path: str, target_url: str, size_bytes: int, checksum: Checksum | None, note: Note
    ) -> None:
        """The protocol knows no push: the server of ``target_url`` is told to pull."""
        wanted = f"copy {self._names.raw_url(path)} to {target_url}"
        protocol, host, port, target = _parts(target_url, wanted)
        section = ProtocolSettings.model_validate({"Protocol": protocol, "Host": host, "Port": port})
        there = XrootDriver(section, self._no_progress_s)
        # Which part of that server is an element's is not known here: the partial file lies beside.
        there._partials = f"{target.rpartition('/')[0]}/{PARTIAL_DIRECTORY}-"
        there.pull(self.url(path), target, size_bytes, checksum, note)

    def close(self) -> None:
        """The connection itself is the process's and goes when it was idle; see `xroot_client`."""
        if self._made is not None:
            self._made.forget()


def _parts(url: str, wanted: str) -> tuple[str, str, int, str]:
    """Return protocol, host, port and unescaped path of a root URL; raise `BadRequest` where it is none."""
    try:
        parts = urlsplit(url)
        protocol, host = _SCHEMES[parts.scheme], (parts.hostname or "").lower()
        port = parts.port or DEFAULT_PORT
    except (KeyError, ValueError) as error:
        raise errors.BadRequest(wanted, "it is no root, xroot, roots or xroots URL") from error
    if not host:
        raise errors.BadRequest(wanted, "it names no host")
    if parts.query or parts.fragment:
        raise errors.BadRequest(wanted, "it holds a query or a fragment")
    path = unquote(parts.path)
    return protocol, host, port, path[1:] if path.startswith("//") else path or "/"


def _raw(url: str, wanted: str) -> str:
    """Return a root URL as the library takes it: the path unescaped, arguments kept."""
    address, mark, arguments = url.partition("?")
    protocol, host, port, path = _parts(address, wanted)
    netloc = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return f"{protocol}://{netloc}/{path}{mark}{arguments}"


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None
