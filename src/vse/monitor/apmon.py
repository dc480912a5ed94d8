"""MonALISA's datagrams (ApMon) for the status of a service and its datasets (seed 002 §4.3.5.3, C.2.2).

One UDP datagram, big-endian XDR: string ``v:2.17.02-pyp:PASSWORD``, int32 instance, int32 sequence, string
cluster, string node, int32 count, then for each value: string name, int32 type (0 string, 2 int32, 5
double), the value. Strings have their length before them and are padded to four bytes; a datagram has at
most 1440 bytes, and what does not fit goes into the next one.
"""

from __future__ import annotations

import math
import random
import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Self
from urllib.parse import unquote, urlsplit

from vse.errors import BadSettings, SourceUnavailable
from vse.monitor.plugins import DatasetFigures, Report

VERSION = "2.17.02-pyp"
PORT = 8884
MOST_BYTES = 1440
_MOST_TEXT_BYTES = 512
_STRING, _INT32, _DOUBLE = 0, 2, 5
_FETCH_S = 10.0
_WANTED = "use [monitor.plugins.apmon]"
_OPTIONS = {"url", "prefix", "password", "node"}

Value = str | int | float


class Receiver(NamedTuple):
    """A MonALISA service."""

    host: str
    port: int = PORT
    password: str = ""


def xdr_string(text: str) -> bytes:
    data = text.encode()
    return struct.pack(">I", len(data)) + data + b"\0" * (-len(data) % 4)


def xdr_value(value: Value) -> bytes:
    """Return type and value. A number that no int32 holds goes as a double; one that is none, as 0."""
    if isinstance(value, str):
        text = value.encode()[:_MOST_TEXT_BYTES].decode(errors="ignore")
        return struct.pack(">i", _STRING) + xdr_string(text)
    if isinstance(value, int) and -(2**31) <= value < 2**31:
        return struct.pack(">ii", _INT32, value)
    number = float(value)
    return struct.pack(">id", _DOUBLE, number if math.isfinite(number) else 0.0)


def datagrams(
    password: str, instance: int, sequence: int, cluster: str, node: str, values: Mapping[str, Value]
) -> Iterator[bytes]:
    """Yield the datagrams that tell ``values``, numbered from ``sequence``."""
    names = xdr_string(cluster) + xdr_string(node)
    head = xdr_string(f"v:{VERSION}:{password}")
    room = MOST_BYTES - len(head) - len(names) - 12
    groups: list[list[bytes]] = [[]]
    used = 0
    for name, value in values.items():
        piece = xdr_string(name) + xdr_value(value)
        if groups[-1] and used + len(piece) > room:
            groups.append([])
            used = 0
        groups[-1].append(piece)
        used += len(piece)
    for number, group in enumerate(groups, start=sequence):
        yield (
            head
            + struct.pack(">ii", instance, number)
            + names
            + struct.pack(">i", len(group))
            + b"".join(group)
        )


def receivers_of(url: str, password: str = "") -> tuple[Receiver, ...]:
    """Return where ``apmon://[:PASSWORD@]HOST[:8884]``, or the file at an http URL, tells to send to.

    Raises `BadSettings`, and `SourceUnavailable` where the file cannot be fetched.
    """
    wanted = "use monitor.plugins.apmon.url"
    parts = urlsplit(url)
    if parts.scheme in ("http", "https"):
        return parse_destinations(_fetch(url))
    try:
        port = parts.port or PORT
    except ValueError as error:
        raise BadSettings(wanted, str(error)) from error
    if parts.scheme != "apmon" or not parts.hostname:
        todo = "write apmon://HOST, apmon://:PASSWORD@HOST:8884, or the http URL of a list of servers"
        raise BadSettings(wanted, f"{parts.scheme or 'what stands there'!r} leads to no server", todo)
    return (Receiver(parts.hostname, port, password or unquote(parts.password or "")),)


def parse_destinations(text: str) -> tuple[Receiver, ...]:
    """Read ApMon's configuration: ``HOST[:PORT] [PASSWORD]`` a line, '#' before comments.

    Its options (``xApMon_...``) are passed over. Raises `BadSettings` where no server is in it.
    """
    found = []
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if not words or words[0].lower().startswith("xapmon_"):
            continue
        host, _, port = words[0].partition(":")
        if host and (port.isdigit() or not port) and len(words) <= 2:
            found.append(Receiver(host, int(port or PORT), words[1] if len(words) > 1 else ""))
    if not found:
        raise BadSettings("use the list of MonALISA servers", "it names none", "lines are HOST:PORT PASSWORD")
    return tuple(found)


def _fetch(url: str) -> str:
    import urllib3

    try:
        answer = urllib3.request("GET", url, timeout=_FETCH_S, retries=2)
    except urllib3.exceptions.HTTPError as error:
        raise SourceUnavailable("fetch the list of MonALISA servers", type(error).__name__) from error
    if answer.status != 200:
        raise SourceUnavailable("fetch the list of MonALISA servers", f"the answer was {answer.status}")
    return answer.data.decode(errors="replace")


class ApMon:
    """Sends a report to every server: ``PREFIX_status``, and ``PREFIX_datasets`` with a node each."""

    def __init__(self, receivers: Sequence[Receiver], prefix: str, node: str = "") -> None:
        self._receivers = tuple(receivers)
        self._prefix = prefix
        self._node = node or socket.getfqdn()
        self._instance = random.randrange(2**31)
        self._sequence = 0
        self._sockets: dict[int, socket.socket] = {}

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Self:
        """Options: ``url`` and ``prefix`` (C.2.2: apmonurl, apmonprefix), ``password``, ``node``."""
        unknown = set(options) - _OPTIONS
        if unknown:
            found, known = ", ".join(sorted(unknown)), ", ".join(sorted(_OPTIONS))
            raise BadSettings(
                "use [monitor.plugins.apmon]", f"it has no option {found}", f"there are {known}"
            )
        for name in ("url", "prefix"):
            if not options.get(name):
                raise BadSettings(_WANTED, f"{name} is missing", "add it")
        receivers = receivers_of(str(options["url"]), str(options.get("password", "")))
        return cls(receivers, str(options["prefix"]), str(options.get("node", "")))

    def send(self, report: Report) -> None:
        """Raises `SourceUnavailable` where a server's name cannot be resolved; the others are told."""
        self._send(f"{self._prefix}_status", self._node, status_values(report))
        for dataset in report.datasets:
            self._send(f"{self._prefix}_datasets", dataset.name[:_MOST_TEXT_BYTES], dataset_values(dataset))

    def _send(self, cluster: str, node: str, values: Mapping[str, Value]) -> None:
        failed: list[str] = []
        count = 0
        for receiver in self._receivers:
            pieces = list(datagrams(receiver.password, self._instance, self._sequence, cluster, node, values))
            count = len(pieces)
            try:
                for piece in pieces:
                    self._deliver(receiver, piece)
            except OSError as error:
                failed.append(f"{receiver.host}:{receiver.port} ({error.strerror or error})")
        self._sequence = (self._sequence + count) % 2**31
        if failed:
            raise SourceUnavailable("tell MonALISA", ", ".join(failed), "see monitor.plugins.apmon.url")

    def _deliver(self, receiver: Receiver, data: bytes) -> None:
        family, kind, protocol, _, address = socket.getaddrinfo(
            receiver.host, receiver.port, type=socket.SOCK_DGRAM
        )[0]
        if family not in self._sockets:
            self._sockets[family] = socket.socket(family, kind, protocol)
        self._sockets[family].sendto(data, address)

    def close(self) -> None:
        for one in self._sockets.values():
            one.close()
        self._sockets.clear()


def status_values(report: Report) -> dict[str, Value]:
    """Return what afdsmgrd told of itself (seed 002 §4.3.5.3): memory in KiB, times in seconds."""
    process = report.process
    values: dict[str, Value] = {
        "rss": process.resident_bytes // 1024,
        "vsize": process.virtual_bytes // 1024,
        "real_sec": process.wall_s,
        "user_sec": process.user_s,
        "sys_sec": process.system_s,
        "delta_real_sec": process.delta_wall_s,
        "delta_user_sec": process.delta_user_s,
        "delta_sys_sec": process.delta_system_s,
        "pcpu": process.processor_percent,
        "delta_pcpu": process.delta_processor_percent,
    }
    return values | {f"transfers_{state}": files for state, files in dict(report.transfers).items()}


def dataset_values(dataset: DatasetFigures) -> dict[str, Value]:
    """Return what afdsmgrd told of a dataset (seed 002 §4.3.5.3); size in bytes."""
    return {
        "name": dataset.name,
        "files": dataset.files,
        "staged": dataset.staged,
        "corrupt": dataset.corrupt,
        "tree": dataset.tree,
        "events": dataset.entries,
        "size": float(dataset.size_bytes),
    }
