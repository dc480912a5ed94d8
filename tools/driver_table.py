"""Write docs/drivers.md from the code: ``python tools/driver_table.py > docs/drivers.md``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vse.config.settings import ProtocolSettings
from vse.storage.contract import Capabilities
from vse.storage.drivers import DRIVERS, PLUGINS, build

INTRODUCTION = """\
# Drivers

<!-- Written by tools/driver_table.py; a test holds it equal to the code. -->

What each driver can do. A capability is declared if and only if it works: the conformance suite
(`vse.testing.drivers`) runs over every driver, holds each declared capability to what `vse.storage.contract`
promises, and expects a refusal for each other. gfal is tested on its file, http and root plugins; srm and
gsiftp take the same calls. Every driver can look, read, read ranges and stream. `vse se check NAME` proves
the same on your own storage.
"""

SHOWN: dict[str, tuple[tuple[str, dict[str, Any]], ...]] = {
    "file": (("file", {}),),
    "volumes": (("volumes", {"Volumes": [{"Path": "/mnt/one", "Size_bytes": 1}]}),),
    "http": (("http", {}), ("davs", {})),
    "xroot": (("root", {}),),
    "s3": (("s3", {"Bucket": "bucket"}),),
    "gfal": (("srm", {}), ("gsiftp", {}), ("root", {}), ("davs", {}), ("file", {})),
    "fsspec": (("file", {}), ("sftp", {}), ("http", {})),
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


def rows() -> list[tuple[str, str, Capabilities]]:
    return [
        (driver, protocol, capabilities(driver, protocol, settings))
        for driver in DRIVERS
        for protocol, settings in SHOWN[driver]
    ]


def page() -> str:
    headings = ("driver", "protocol", *(name.replace("_", " ") for name in COLUMNS))
    lines = [INTRODUCTION.rstrip("\n"), "", f"| {' | '.join(headings)} |", f"|{'---|' * len(headings)}"]
    for driver, protocol, can in rows():
        cells = (driver, protocol, *(cell(getattr(can, name)) for name in COLUMNS))
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", "## Names in the settings", "", "| PluginName | driver | protocols |", "|---|---|---|"]
    for name, plugin in PLUGINS.items():
        driver = plugin.driver or f"refused: {plugin.refused}"
        lines.append(f"| `{name}` | {driver} | {', '.join(plugin.protocols) or 'any, named in Protocol'} |")
    return "\n".join(lines) + "\n"


def tested_classes(directory: Path) -> set[str]:
    """Return the driver classes that modules with a conformance test name."""
    texts = [path.read_text() for path in directory.rglob("test_*.py")]
    proved = [text for text in texts if "(DriverConformance)" in text]
    return {name for name in DRIVERS.values() if any(name in text for text in proved)}


if __name__ == "__main__":
    print(page(), end="")
