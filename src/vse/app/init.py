"""Make a new site: a directory with a vse.toml that works as it stands."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vse.app.site import Site
from vse.config.load import FILE_NAME, Loaded, load
from vse.errors import AlreadyExists, BadRequest, StorageFault

_NAME = re.compile(r"\w[\w.-]*")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_TEMPLATE = """\
# A VSE site. `vse config show --origin` prints every setting, its value and where it came from.
# Relative paths start at the directory of this file.

[site]
name = {site}

[database]
url = "sqlite:///var/vse.db"        # or postgresql+psycopg://...

# Storage elements have the names and meanings of DIRAC's configuration.
[StorageElements.{element}]
BackendType = "local"

[StorageElements.{element}.File]
Protocol = "file"
Path = {storage}
Access = "local"
{remotes}
[stager]
destination = {element_value}       # where staged files go
slots = 8                           # files on the move at once
max_failures = 3                    # then a file is given up; 0 tries for ever

[linktree]
path = {links}                        # every staged LFN appears below it as a link
{doors}"""

_REMOTE = """
# A storage element elsewhere, and the catalogue that knows its files.
[StorageElements.{element}]
WriteAccess = "Banned"
RemoveAccess = "Banned"

[StorageElements.{element}.HTTP]
Protocol = "http"
Host = {host}
Port = {port}
Path = "/data"
TokenFile = {token_file}

[upstreams.{name}]
type = "vse"
url = {url}
token_file = {token_file}
"""

_DOOR = """
# What `vse serve` offers: files and names over HTTP, to those who hold the token.
[doors.http]
host = "127.0.0.1"
port = {port}
element = {element}
read = "token"
write = "none"
token_file = "var/door.token"
"""


@dataclass(frozen=True, slots=True)
class RemoteSite:
    """Another VSE to take files and names from: its storage element and the token it wants."""

    name: str
    element: str
    host: str
    port: int
    token_file: Path

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"


def init_site(
    directory: Path,
    *,
    name: str,
    element: str = "LOCAL-DISK",
    door_port: int = 0,
    remote: RemoteSite | None = None,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, str] | None = None,
) -> Loaded:
    """Make ``directory`` a site with an empty catalogue, and return its settings.

    ``environment`` and ``flags`` lie over its vse.toml, as in `vse.config.load.load`. Raises `AlreadyExists`
    where it is a site, `BadRequest` for a name that cannot be one, `StorageFault` where it cannot be written.
    """
    for word in (name, element):
        if not _NAME.fullmatch(word):
            found = "names are letters, digits, '_', and behind the first of them '-' and '.'"
            raise BadRequest(f"name a site or element {word!r}", found)
    path = directory.absolute() / FILE_NAME
    text = _TEMPLATE.format(
        site=_toml(name),
        element=element if _BARE.fullmatch(element) else _toml(element),
        element_value=_toml(element),
        storage=_toml("storage"),
        links=_toml("vse"),
        remotes=_remote_section(remote) if remote else "",
        doors=_DOOR.format(port=door_port, element=_toml(element)),
    )
    try:
        for part in ("storage", "vse", "var"):
            (path.parent / part).mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise AlreadyExists(
            f"make a site in {directory}", f"{error.filename} is there", "choose another directory"
        ) from error
    except OSError as error:
        raise StorageFault(
            f"make a site in {directory}", f"{error.strerror}: {error.filename or directory}"
        ) from error
    loaded = load(path, environment, flags)
    _make_catalogue(loaded)
    return loaded


def complete_site(
    directory: Path, environment: Mapping[str, str] | None = None, flags: Mapping[str, str] | None = None
) -> Loaded | None:
    """Make the catalogue of a site that has a vse.toml and not the file of its database, and nothing else.

    None where there is no vse.toml, or nothing is missing.
    """
    path = directory.absolute() / FILE_NAME
    if not path.exists():
        return None
    loaded = load(path, environment, flags)
    with Site.open(loaded) as site:
        file = site.database_file
    if file is None or file.exists():
        return None
    _make_catalogue(loaded)
    return loaded


def _make_catalogue(loaded: Loaded) -> None:
    with Site.open(loaded) as site:
        site.database.close()


def _remote_section(remote: RemoteSite) -> str:
    return _REMOTE.format(
        element=remote.element,
        name=remote.name,
        host=_toml(remote.host),
        port=remote.port,
        url=_toml(remote.url),
        token_file=_toml(str(remote.token_file)),
    )


def _toml(text: str) -> str:
    """Return ``text`` as a TOML basic string (JSON's escapes are a subset of TOML's)."""
    return json.dumps(text, ensure_ascii=False)
