"""What a person means by a name on the command line: an LFN, a copy of one, a URL, a path of this machine.

::

    /lhc/a.root            an LFN, or a path of this machine (see `read`)
    lfn:/lhc/a.root        an LFN in any case
    /lhc/a.root@TAPE       its copy at a storage element (seed 004 §IV.1: "command file1@SE1 file2@SE2")
    root://host//a.root    a URL
    ./a.root, ~/a, a.root  a path of this machine; file:///tmp/a.root in any case
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from vse.app.site import Site
from vse.errors import BadRequest
from vse.model import Lfn

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_ELEMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class Place(NamedTuple):
    """One end of a copy: exactly one of ``lfn``, ``url`` and ``path`` is set; ``se`` only with ``lfn``."""

    lfn: Lfn | None = None
    se: str = ""
    url: str = ""
    path: Path | None = None

    def __str__(self) -> str:
        if self.lfn is not None:
            return f"{self.lfn}@{self.se}" if self.se else self.lfn
        return self.url or str(self.path)


def read(site: Site, text: str, *, written_to: bool = False) -> Place:
    """Return what ``text`` means at this site.

    An absolute name is an LFN where the catalogue knows it (``written_to``: or its directory), else a path
    where this machine does, else an LFN. Raises `BadRequest` where both know it, `NoSuchElement` after an @.
    """
    if text.startswith("file:"):
        return Place(path=Path(unquote(urlsplit(text).path)))
    if _URL.match(text) and not text.startswith(("lfn://", "alien://")):
        return Place(url=text)
    if not text.startswith(("/", "lfn:", "alien:")):
        return Place(path=Path(text).expanduser())
    lfn, se = split_name(site, text, written_to=written_to)
    if se or not text.startswith("/"):
        return Place(lfn=lfn, se=se)
    known, there = _known(site, lfn, written_to), _there(Path(text), written_to)
    if known and there:
        raise BadRequest(
            f"tell what {text} is",
            "the catalogue and this machine both know it",
            f"write lfn:{text} or file:{text}",
        )
    return Place(path=Path(text)) if there else Place(lfn=lfn)


def real_place(site: Site, lfn: Lfn) -> Lfn:
    """Return the name that ``lfn`` really has or would get, where a link is on its way.

    Storages know no links: what is written below one goes to where it leads.
    """
    above = lfn
    while above != "/":
        above = above.parent
        led = site.catalogue.access([above]).ok.get(above)
        if led is not None:
            return Lfn(led.lfn.rstrip("/") + lfn[len(above.rstrip("/")) :])
    return lfn


def split_name(site: Site, text: str, *, written_to: bool = False) -> tuple[Lfn, str]:
    """Return the LFN and the storage element (or ``""``) of ``LFN[@SE]``; names may hold an @ themselves.

    The name of a group stands for any copy at one of its elements, and where it is ``written_to`` for the
    first that can be.
    """
    name, at, se = text.rpartition("@")
    if not at or not _ELEMENT.fullmatch(se):
        return Lfn.parse(text), ""
    if se not in site.elements:
        whole = Lfn.parse(text)
        if whole in site.lookup.stat([whole]).ok:
            return whole, ""
    if written_to:
        return Lfn.parse(name), site.writable(se).name
    names = site.names_in(se)
    return Lfn.parse(name), se if len(names) > 1 else next(iter(names))


def _known(site: Site, lfn: Lfn, written_to: bool) -> bool:
    asked = [lfn, lfn.parent] if written_to and lfn.parent != "/" else [lfn]
    return bool(site.lookup.stat(asked).ok)


def _there(path: Path, written_to: bool) -> bool:
    return path.exists() or (written_to and path.parent != Path("/") and path.parent.exists())
