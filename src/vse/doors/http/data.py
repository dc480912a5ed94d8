"""``/data/<LFN>``: files as a WebDAV subset. Which method does what, and what it needs."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from vse.doors.http.access import Need
from vse.doors.http.bodies import send_file
from vse.doors.http.digests import Digests
from vse.doors.http.exchange import Disconnected, Exchange, Refused, is_data, lfn_of, scope_host
from vse.doors.http.files import DoorFiles, OpenFiles
from vse.doors.http.threads import batches, blocking
from vse.doors.http.uploads import RefusedUploads, put_file
from vse.doors.http.webdav import HEAD, TAIL, responses
from vse.errors import (
    AlreadyExists,
    BadRequest,
    Denied,
    NoSuchFile,
    NotFound,
    Unsupported,
    VseError,
)
from vse.model import Clock, Lfn, Space
from vse.storage.contract import StoredFile
from vse.storage.drivers.os_errors import mapped

_MAX_XML_BYTES = 1024 * 1024
_LISTED_AT_ONCE = 1000
_XML = (b"content-type", b'application/xml; charset="utf-8"')


@dataclass(slots=True)
class DataTree:
    """The tree of files, and what its requests share. One for each event loop."""

    files: DoorFiles
    clock: Clock = time.time
    read: Callable[[Lfn], None] = lambda _: None
    """Told of every file that is read, or a part of it."""
    open_files: OpenFiles = field(init=False)
    digests: Digests = field(default_factory=Digests)
    refused_uploads: RefusedUploads = field(default_factory=RefusedUploads)

    def __post_init__(self) -> None:
        self.open_files = OpenFiles(self.files)

    async def serve(self, exchange: Exchange) -> None:
        """Answer a request, whose right to be answered was checked before."""
        method = METHODS.get(exchange.method)
        if method is None:
            found = f"{exchange.method[:20]} is not one of {ALLOW}"
            refused = Unsupported("answer the request", found)
            raise Refused(405, refused, [(b"allow", ALLOW.encode())])
        try:
            await method.answer(self, exchange)
        except VseError as error:
            lfn = exchange.lfn()
            raise self.files.in_lfn_terms(error, method.verb, lfn) from error


async def _get(tree: DataTree, exchange: Exchange) -> None:
    await send_file(exchange, tree.open_files, tree.digests)
    tree.read(exchange.lfn())


async def _head(tree: DataTree, exchange: Exchange) -> None:
    lfn = exchange.lfn()
    try:
        await send_file(exchange, tree.open_files, tree.digests)
    except BadRequest:
        # A directory: Rucio wants 200 for the prefix it is given.
        if not (await _stat(tree.files, lfn)).is_directory:
            raise
        await exchange.start(200, [(b"content-type", b"httpd/unix-directory")])
        await exchange.body(b"", more=False)


async def _put(tree: DataTree, exchange: Exchange) -> None:
    try:
        await put_file(exchange, tree.files)
    except (VseError, Refused, Disconnected):
        with contextlib.suppress(VseError):
            tree.refused_uploads.note(exchange.peer, exchange.lfn(), tree.clock())
        raise


async def _delete(tree: DataTree, exchange: Exchange) -> None:
    lfn = exchange.lfn()
    await exchange.drop_body(_MAX_XML_BYTES)
    if lfn == "/":
        raise Refused(403, Denied("remove /", "it is the root of the files"))
    await blocking(tree.files.confirm_inside, lfn.parent)
    await _stat(tree.files, lfn)
    tree.refused_uploads.confirm_meant(exchange.peer, lfn, tree.clock())
    path = tree.files.path(lfn)
    (await blocking(tree.files.driver.remove, [path])).one(path)
    await exchange.answer(204)


async def _make_collection(tree: DataTree, exchange: Exchange) -> None:
    lfn = exchange.lfn()
    if await exchange.read_body(_MAX_XML_BYTES):
        raise Refused(415, BadRequest(f"make the directory {lfn}", "a body means nothing here"))
    await blocking(tree.files.confirm_inside, lfn)
    await blocking(_mkdir, tree.files, lfn)
    await exchange.answer(201)


def _mkdir(files: DoorFiles, lfn: Lfn) -> None:
    wanted = f"make the directory {lfn}"
    path = files.path(lfn)
    found = files.driver.stat([path])
    if not isinstance(found.failed.get(path), NoSuchFile | None):
        raise found.failed[path]
    try:
        files.local(lfn).mkdir()
    except FileExistsError:
        raise Refused(405, AlreadyExists(wanted, "the name is taken"), [(b"allow", ALLOW.encode())]) from None
    except (FileNotFoundError, NotADirectoryError):
        missing = NoSuchFile(wanted, "its parent is no directory", "make the parent first")
        raise Refused(409, missing) from None
    except OSError as error:
        raise mapped(wanted, error) from error


async def _move(tree: DataTree, exchange: Exchange) -> None:
    source, target = exchange.lfn(), _destination(exchange)
    await exchange.drop_body(_MAX_XML_BYTES)
    if "/" in (source, target):
        raise Refused(403, Denied(f"move {source} to {target}", "the root of the files stays"))
    await blocking(tree.files.confirm_inside, source.parent)
    await blocking(tree.files.confirm_inside, target)
    await _stat(tree.files, source)
    try:
        parent = await _stat(tree.files, target.parent)
    except NotFound:
        parent = None
    if parent is None or not parent.is_directory:
        raise Refused(409, NoSuchFile(f"move {source} to {target}", "there is no directory for it"))
    await blocking(tree.files.driver.rename, tree.files.path(source), tree.files.path(target))
    await exchange.answer(201)


def _destination(exchange: Exchange) -> Lfn:
    """Return the LFN of the Destination header: a path, or a URL of this very door (else 502)."""
    text = exchange.header("destination")
    wanted = "move the file"
    if not text:
        raise BadRequest(wanted, "the request has no Destination", "send where to as 'Destination: URL'")
    try:
        url = urlsplit(text)
    except ValueError:
        raise BadRequest(wanted, f"the Destination {text[:200]!r} is no URL") from None
    if url.netloc and url.netloc.lower() != urlsplit(scope_host(exchange.scope)).netloc.lower():
        raise Refused(502, BadRequest(wanted, "the Destination is at another server"))
    if url.query or url.fragment or not is_data(url.path):
        raise BadRequest(wanted, f"the Destination {text[:200]!r} is no file of this door")
    return lfn_of(url.path)


async def _options(_tree: DataTree, exchange: Exchange) -> None:
    await exchange.drop_body(_MAX_XML_BYTES)
    await exchange.answer(200, [(b"dav", b"1"), (b"allow", ALLOW.encode()), (b"ms-author-via", b"DAV")])


async def _propfind(tree: DataTree, exchange: Exchange) -> None:
    lfn = exchange.lfn()
    depth = exchange.header("depth") or "1"
    # The answer always holds all that is known, so which properties were asked for need not be read.
    await exchange.drop_body(_MAX_XML_BYTES)
    if depth not in ("0", "1"):
        refused = Denied(f"list {lfn}", f"Depth {depth[:20]!r} is not served", "ask with Depth 0 or 1")
        raise Refused(403, refused)
    await blocking(tree.files.confirm_inside, lfn)
    stored = await _stat(tree.files, lfn)
    space = await blocking(_space, tree.files, lfn) if stored.is_directory else None
    await exchange.start(207, [_XML])
    await exchange.body(HEAD + responses([(lfn, stored)], space), more=True)
    if stored.is_directory and depth == "1":
        path = tree.files.path(lfn)
        async with contextlib.aclosing(
            batches(lambda: tree.files.driver.list(path), _LISTED_AT_ONCE)
        ) as listed:
            async for batch in listed:
                named = [(lfn.child(child.path.rstrip("/").rpartition("/")[2]), child) for child in batch]
                await exchange.body(responses(named, space), more=True)
    await exchange.body(TAIL, more=False)


async def _stat(files: DoorFiles, lfn: Lfn) -> StoredFile:
    path = files.path(lfn)
    return (await blocking(files.driver.stat, [path])).one(path)


def _space(files: DoorFiles, lfn: Lfn) -> Space | None:
    try:
        return files.driver.space(files.path(lfn))
    except Unsupported:
        return None


@dataclass(frozen=True, slots=True)
class Method:
    """What a method needs and who answers it; ``verb`` completes 'cannot ... LFN'."""

    need: Need
    verb: str
    answer: Callable[[DataTree, Exchange], Awaitable[None]]


METHODS: dict[str, Method] = {
    "GET": Method(Need.READ, "read", _get),
    "HEAD": Method(Need.READ, "read", _head),
    "PROPFIND": Method(Need.READ, "list", _propfind),
    "OPTIONS": Method(Need.READ, "describe", _options),
    "PUT": Method(Need.WRITE, "write", _put),
    "DELETE": Method(Need.WRITE, "remove", _delete),
    "MKCOL": Method(Need.WRITE, "make the directory", _make_collection),
    "MOVE": Method(Need.WRITE, "move", _move),
}
ALLOW = ", ".join(METHODS)
