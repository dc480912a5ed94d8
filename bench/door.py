"""The HTTP door against nginx (or a bare sendfile loop where there is none), in one run on this machine.

A whole-file GET and 64 KiB ranges a second over eight connections. Options: --size-mib, --seconds, --rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

RANGE_BYTES = 64 * 1024
CONNECTIONS = 8
NAME = "/big.bin"

_DOOR = """
import sys
from vse.config.settings import ProtocolSettings
from vse.doors.http.access import DoorAccess
from vse.doors.http.app import create_app
from vse.doors.http.files import DoorFiles
from vse.doors.http.serve import HttpServer
from vse.storage.drivers.file import FileDriver
base = sys.argv[1]
files = DoorFiles(FileDriver(ProtocolSettings(Section="file", Path=base)), base)
server = HttpServer(create_app(DoorAccess(read="anonymous"), files))
server.run(ready=lambda url: print(url, flush=True))
"""

_NGINX = """
worker_processes 1; daemon off; pid {directory}/nginx.pid; error_log {directory}/error.log;
events {{ worker_connections 256; }}
http {{ access_log off; sendfile on; tcp_nodelay on; keepalive_requests 1000000;
  client_body_temp_path {directory}/b; proxy_temp_path {directory}/p;
  fastcgi_temp_path {directory}/f; uwsgi_temp_path {directory}/u; scgi_temp_path {directory}/s;
  server {{ listen 127.0.0.1:{port}; location /data/ {{ alias {base}/; }} }} }}
"""


class Connection:
    """A client that spends as little as possible: one socket, one buffer."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._buffer = bytearray(1024 * 1024)

    def ask(self, first: int | None = None, last: int | None = None) -> None:
        wanted = "" if first is None else f"Range: bytes={first}-{last}\r\n"
        self._socket.sendall(f"GET /data{NAME} HTTP/1.1\r\nHost: x\r\n{wanted}\r\n".encode())

    def take(self) -> int:
        """Read an answer, return the size of its body."""
        view = memoryview(self._buffer)
        filled = 0
        while (end := self._buffer.find(b"\r\n\r\n", 0, filled)) < 0:
            filled += self._socket.recv_into(view[filled:])
        head = bytes(self._buffer[:end]).lower()
        assert head.startswith((b"http/1.1 200", b"http/1.1 206")), head
        length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
        missing = length - (filled - end - 4)
        while missing > 0:
            missing -= self._socket.recv_into(view, min(missing, len(view)))
        return length

    def close(self) -> None:
        self._socket.close()


def whole_file(port: int, size_bytes: int) -> float:
    """Return the MiB/s of one GET of the whole file."""
    connection = Connection(port)
    begin_s = time.perf_counter()
    connection.ask()
    assert connection.take() == size_bytes
    took_s = time.perf_counter() - begin_s
    connection.close()
    return size_bytes / took_s / 2**20


def ranges(port: int, size_bytes: int, seconds: float) -> float:
    """Return the random 64 KiB ranges a second over `CONNECTIONS` that are kept busy."""
    draw = random.Random(1)
    connections = [Connection(port) for _ in range(CONNECTIONS)]
    count, begin_s = 0, time.perf_counter()
    while (took_s := time.perf_counter() - begin_s) < seconds:
        for connection in connections:
            first = draw.randrange(size_bytes - RANGE_BYTES)
            connection.ask(first, first + RANGE_BYTES - 1)
        for connection in connections:
            assert connection.take() == RANGE_BYTES
        count += CONNECTIONS
    for connection in connections:
        connection.close()
    return count / took_s


@contextmanager
def door(base: Path) -> Iterator[int]:
    command = [sys.executable, "-c", _DOOR, str(base)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline().rpartition(":")[2])
        try:
            yield port
        finally:
            process.terminate()


@contextmanager
def nginx(base: Path, directory: Path) -> Iterator[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    settings = directory / "nginx.conf"
    settings.write_text(("user root;" if os.getuid() == 0 else "") + _NGINX.format(**locals()))
    with subprocess.Popen([_nginx() or "nginx", "-c", str(settings)], stderr=subprocess.DEVNULL) as process:
        try:
            for _ in range(100):
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except OSError:
                    time.sleep(0.05)
            yield port
        finally:
            process.terminate()


@contextmanager
def sendfile_loop(base: Path) -> Iterator[int]:
    """The least that can serve the requests of this file, in a thread of its own for each client."""
    path = base / NAME[1:]
    size_bytes = path.stat().st_size
    listening = socket.create_server(("127.0.0.1", 0))

    def serve(client: socket.socket) -> None:
        with client, path.open("rb") as file:
            while request := client.recv(65536):
                first, last, status = 0, size_bytes - 1, b"200 OK"
                if b"Range: bytes=" in request:
                    text = request.split(b"bytes=")[1].split(b"\r\n")[0]
                    (first, last), status = map(int, text.split(b"-")), b"206 Partial Content"
                count = last - first + 1
                client.sendall(b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n" % (status, count))
                while count:
                    sent = os.sendfile(client.fileno(), file.fileno(), first, count)
                    first, count = first + sent, count - sent

    def accept() -> None:
        while True:
            try:
                client, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(client,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listening.getsockname()[1]
    finally:
        listening.close()


def _nginx() -> str | None:
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--size-mib", type=int, default=1024)
    options.add_argument("--seconds", type=float, default=2.0)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--quick", action="store_true")
    given = options.parse_args()
    if given.quick:
        given.size_mib, given.rounds = 256, 1
    size_bytes = given.size_mib * 2**20
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        base = directory / "files"
        base.mkdir()
        with (base / NAME[1:]).open("wb") as file:
            for _ in range(given.size_mib):
                file.write(os.urandom(2**20))
        directory.chmod(0o755)
        other = nginx(base, directory) if _nginx() else sendfile_loop(base)
        rates: dict[str, list[float]] = {"door": [], "other": [], "door_r": [], "other_r": []}
        with door(base) as door_port, other as other_port:
            for port in (door_port, other_port):
                whole_file(port, size_bytes)
            for _ in range(given.rounds):
                for who, port in (("other", other_port), ("door", door_port)):
                    rates[who].append(whole_file(port, size_bytes))
                    rates[f"{who}_r"].append(ranges(port, size_bytes, given.seconds))
    middle = {key: median(values) for key, values in rates.items()}
    peer = "nginx" if _nginx() else "a sendfile loop"
    figures = [
        {"name": f"GET of 1 GiB / {peer}", "value": middle["door"] / middle["other"], "unit": "x"},
        {"name": f"64 KiB ranges / {peer}", "value": middle["door_r"] / middle["other_r"], "unit": "x"},
        {"name": "GET of 1 GiB", "value": middle["door"], "unit": "MiB/s"},
        {"name": "64 KiB ranges", "value": middle["door_r"], "unit": "/s"},
    ]
    print(json.dumps({"figures": figures, "peer": peer, "rates": rates}))


if __name__ == "__main__":
    main()
