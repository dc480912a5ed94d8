"""Hosts and sites of workers and of copies, told from addresses and URLs so that they can be compared."""

from __future__ import annotations

import functools
import socket
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from vse.analysis.locality import ANYWHERE, Place
from vse.analysis.runs import InputFile


@functools.lru_cache(maxsize=4096)
def host_of(url: str) -> str:
    """Return the host of a URL or of a worker's address; empty for a path of a file system.

    A name becomes its first address, as workers are known by theirs; where it has none it stays a name.
    """
    host = (urlsplit(url).hostname or "") if "://" in url and not url.startswith("zip:") else ""
    return _address(host) if host else ""


@functools.lru_cache(maxsize=4096)
def _address(host: str) -> str:
    try:
        return str(socket.getaddrinfo(host, None, proto=socket.IPPROTO_TCP)[0][4][0])
    except OSError:
        return host


def site_of(host: str, sites: Mapping[str, str]) -> str:
    """Return the site of a host by a map of hosts, domains, or first parts of addresses; or empty."""
    if not host or not sites:
        return ""
    for name, site in sites.items():
        if host in (name, _address(name)) or host.endswith(f".{name.lstrip('.')}"):
            return site
        if name.endswith(".") and host.startswith(name):
            return site
    return ""


def places_of(file: InputFile, sites: Mapping[str, str]) -> Sequence[Place]:
    """Return where the copies of a file are, for the packetizer."""
    urls = dict.fromkeys((file.url, *file.sources))
    places = tuple(Place(host, site_of(host, sites), url) for url in urls for host in (host_of(_root(url)),))
    return places if len(places) > 1 or places[0].host else ANYWHERE


def _root(url: str) -> str:
    """Return what of a URL says its host, so that a million files ask once."""
    scheme, found, rest = url.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}" if found and scheme != "zip" else ""
