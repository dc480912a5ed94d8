"""Write docs/drivers.md of what passed (docs/driver-record.json): ``make drivers``."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any, TypeAlias

from vse.config.settings import ProtocolSettings
from vse.storage.contract import Capabilities
from vse.storage.drivers import DRIVERS, PLUGINS, build

INTRODUCTION = """\
# Drivers

<!-- Written by `make drivers` of what passed; a test holds it equal to what the code declares. -->

What each driver can do. A capability is declared if and only if it works: the conformance suite
(`vse.testing.drivers`) runs over every driver with the real servers named here, holds each declared
capability to what `vse.storage.contract` promises, and expects a refusal for each other. The table is made
of what passed ([driver-record.json](driver-record.json)). Every driver can look, read, read ranges and
stream. `vse se check NAME` proves the same on your own storage.

Two things are said here that a server may still refuse: which checksums it computes, and (over HTTP) to tell
its space. **srm is not proved**: no SRM server can be had to test with; its row is what the code declares, by
the calls that root is tested with. Tape is proved by XRootD's prepare and query, for xroot and gfal. The WLCG
tape REST API is not spoken: no server of it can be had.
"""

TRAPS = """
## Traps of servers

- **nginx**: set `client_body_temp_path` to a directory on the file system that holds the files. Elsewhere it
  copies each upload from one disk to the other, and leaves `NAME.0000000004` beside the target when that
  disk is full. It lists no names that begin with a dot.
- **XRootD 5.5 over HTTP** now and then crashes, goes silent or breaks its TLS; VSE asks again, and
  `xroot` to the same server has none of it. Its suite is run by `make drivers`, not by `make test`.
- **S3** is read in requests of 4 MiB, four at a time; each has to be through within `no_progress_s`, so that
  a line of less than 16 MiB in this time counts as silent.
- **Write-once** is kept by the server or the kernel where it can be: `file`, `volumes`, `s3` (conditional
  PUT), VSE's own door, `sftp`. With `xroot` all of VSE take turns by a lock file. Over other HTTP servers and
  gfal the name is looked at, then taken: of two processes that do so in the same milliseconds one replaces
  the other.
- **What a killed writer leaves** lies in `.vse-partial` at the top of the element and is in no listing.
  `vse serve` clears it: at once on mounted storage (a lock tells who lives), after a day on servers. A
  third-party copy that was *pushed* has its partial file beside the target, as `.vse-partial-...`: that one
  stays.
"""

RECORD = Path(__file__).resolve().parents[1] / "docs/driver-record.json"

UNPROVED = frozenset({("gfal", "srm")})
"""For these no server can be had."""

Proved: TypeAlias = dict[str, bool | frozenset[str]]

SHOWN: dict[str, tuple[tuple[str, dict[str, Any]], ...]] = {
    "file": (("file", {}),),
    "volumes": (("volumes", {"Volumes": [{"Path": "/mnt/one", "Size_bytes": 1}]}),),
    "http": (("http", {}), ("davs", {})),
    "xroot": (("root", {}),),
    "s3": (("s3", {"Bucket": "bucket"}),),
    "gfal": (("srm", {}), ("gsiftp", {}), ("root", {}), ("davs", {}), ("file", {})),
    "fsspec": (("file", {}), ("sftp", {}), ("memory", {})),
    "memory": (("mem", {}),),
}
"""The protocols of each driver that the table shows, with the settings that they cannot do without."""

COLUMNS = (
    "write",
    "remove",
    "list",
    "rename",
    "make_directory",
    "link",
    "space",
    "checksums",
    "local_paths",
    "stage",
    "pull",
    "push",
)


def capabilities(driver: str, protocol: str, settings: dict[str, Any]) -> Capabilities:
    """Return what the driver declares that is built for a section of one protocol."""
    plugin = next(name for name, one in PLUGINS.items() if one.driver == driver and _speaks(one, protocol))
    given = {"Section": plugin, "PluginName": plugin, "Protocol": protocol, "Path": "/data"}
    host = {} if protocol in ("file", "memory", "mem", "volumes") else {"Host": "se.example.org"}
    return build(ProtocolSettings.model_validate(given | host | settings), 1.0).capabilities


def _speaks(plugin: Any, protocol: str) -> bool:
    return not plugin.protocols or protocol in plugin.protocols


def cell(value: bool | frozenset[str]) -> str:
    if isinstance(value, bool):
        return "yes" if value else ""
    return ", ".join(sorted(value))


def declared(driver: str, protocol: str, settings: dict[str, Any]) -> Proved:
    """Return the capabilities that are declared, each with its value."""
    can = capabilities(driver, protocol, settings)
    return {name: value for name in COLUMNS if (value := getattr(can, name))}


def recorded() -> dict[tuple[str, str], tuple[Proved, list[str]]]:
    """Return what was proved of each driver and protocol by all of its suites, and the servers it was."""
    proved: dict[tuple[str, str], Proved] = defaultdict(dict)
    servers: dict[tuple[str, str], set[str]] = defaultdict(set)
    for row in json.loads(RECORD.read_text()):
        of = (row["driver"], row["protocol"])
        servers[of].add(row["server"])
        for name, value in row["proved"].items():
            more = value if isinstance(value, bool) else frozenset(value) | proved[of].get(name, frozenset())
            proved[of][name] = more
    return {of: (proved[of], sorted(servers[of])) for of in servers}


def rows() -> list[tuple[str, str, Proved, str]]:
    """Return driver, protocol, what it can do, and what that was proved with."""
    known = recorded()
    found = []
    for driver in DRIVERS:
        for protocol, settings in SHOWN[driver]:
            if (driver, protocol) in UNPROVED:
                found.append((driver, protocol, declared(driver, protocol, settings), "nothing"))
            else:
                proved, servers = known.get((driver, protocol), ({}, ["nothing"]))
                found.append((driver, protocol, proved, ", ".join(servers)))
    return found


def page() -> str:
    headings = ("driver", "protocol", *(name.replace("_", " ") for name in COLUMNS), "proved with")
    lines = [INTRODUCTION.rstrip("\n"), "", f"| {' | '.join(headings)} |", f"|{'---|' * len(headings)}"]
    for driver, protocol, can, servers in rows():
        cells = (driver, protocol, *(cell(can.get(name, False)) for name in COLUMNS), servers)
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", "## Names in the settings", "", "| PluginName | driver | protocols |", "|---|---|---|"]
    for name, plugin in PLUGINS.items():
        driver = plugin.driver or f"refused: {plugin.refused}"
        lines.append(f"| `{name}` | {driver} | {', '.join(plugin.protocols) or 'any, named in Protocol'} |")
    return "\n".join(lines) + "\n" + TRAPS


if __name__ == "__main__":
    print(page(), end="")
