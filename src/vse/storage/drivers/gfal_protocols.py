"""What gfal2's plugins can do, protocol by protocol, and how each wants its names."""

from __future__ import annotations

from typing import NamedTuple


class Spoken(NamedTuple):
    """One protocol as gfal2 speaks it.

    ``escaped``: names are given as parts of a URL; the other plugins take them as they are.
    ``listed_escaped``: they come back so in listings. ``slashes``: what stands between the server and the
    path. ``checksums``: those the plugin or the server computes. ``removable``: what is there can be
    removed, and directories made. ``writable``: files can be made, too, and renamed. ``copied``: protocols
    of a second server that files are fetched from and sent to. ``staged``: files may be on tape.
    ``refused``: what a name may not end with; listings cut it off.
    """

    escaped: bool = False
    listed_escaped: bool = False
    slashes: str = ""
    checksums: frozenset[str] = frozenset({"adler32"})
    removable: bool = False
    writable: bool = False
    copied: frozenset[str] = frozenset()
    staged: bool = False
    refused: str = ""


_ROOT = Spoken(
    slashes="/",
    checksums=frozenset({"adler32", "md5", "crc32c"}),
    removable=True,
    writable=True,
    copied=frozenset({"root", "xroot"}),
    staged=True,
)
_WEB = Spoken(escaped=True, listed_escaped=True, checksums=frozenset({"adler32", "md5"}), refused=" ")
_TABLE: dict[str, Spoken] = {
    "file": Spoken(
        checksums=frozenset({"adler32", "md5"}), removable=True, writable=True, copied=frozenset({"file"})
    ),
    "root": _ROOT,
    "xroot": _ROOT,
    "roots": Spoken(slashes="/"),
    "gsiftp": Spoken(
        escaped=True,
        checksums=frozenset({"adler32", "md5", "sha256"}),
        removable=True,
        writable=True,
        copied=frozenset({"gsiftp"}),
        refused=" ",
    ),
    "srm": Spoken(staged=True),
    **dict.fromkeys(("http", "dav"), _WEB),
    # XRootD's HTTP door renames to names as they stand in gfal2's question, escapes and all.
    **dict.fromkeys(("https", "davs"), _WEB._replace(removable=True, copied=frozenset({"https", "davs"}))),
    **dict.fromkeys(("s3", "s3s"), Spoken(escaped=True, listed_escaped=True)),
}


def spoken(protocol: str) -> Spoken:
    """Return what is known of a protocol: of one not in the table, that it can be read."""
    return _TABLE.get(protocol, Spoken())
