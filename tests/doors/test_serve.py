"""The door as a process: it says where it is, and it ends when told, also in the middle of a transfer."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from vse.doors.http.access import DoorAccess
from vse.doors.http.app import create_app
from vse.doors.http.serve import HttpServer
from vse.errors import BadSettings

PROGRAM = """
import sys
from vse.config.settings import ProtocolSettings
from vse.doors.http.access import DoorAccess
from vse.doors.http.app import create_app
from vse.doors.http.files import DoorFiles
from vse.doors.http.serve import HttpServer
from vse.storage.drivers.file import FileDriver
base = sys.argv[1]
driver = FileDriver(ProtocolSettings.model_validate({"Section": "file", "Path": base}))
app = create_app(DoorAccess("anonymous", "none"), DoorFiles(driver, base))
HttpServer(app).run(ready=lambda url: print(url, flush=True))
print("ended well", flush=True)
"""


@contextmanager
def door_process(base: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    command = [sys.executable, "-c", PROGRAM, str(base)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_within_two_seconds(tmp_path: Path, number: signal.Signals) -> None:
    with (tmp_path / "big").open("wb") as file:
        file.truncate(1 << 32)
    with (
        door_process(tmp_path) as (process, url),
        urllib.request.urlopen(f"{url}/data/big") as reading,  # noqa: S310 - our own door
    ):
        reading.read(1000)  # and now this client is slow
        begin_s = time.monotonic()
        process.send_signal(number)
        output, _ = process.communicate(timeout=20)
        took_s = time.monotonic() - begin_s
    assert process.returncode == 0 and output == "ended well\n"
    assert took_s < 4  # two seconds, and what a busy machine adds


@pytest.mark.slow
def test_a_signal_at_the_very_start_is_not_lost(tmp_path: Path) -> None:
    with door_process(tmp_path) as (process, _url):
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
    assert process.returncode == 0


def test_an_address_that_cannot_be_used_says_so() -> None:
    app = create_app(DoorAccess())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            BadSettings, match=rf"127.0.0.1:{port}.*in use.*[Cc]hoose another doors.http.port"
        ):
            HttpServer(app, port=port)
    with pytest.raises(BadSettings, match=r"cannot open the HTTP door at nowhere\.invalid:0"):
        HttpServer(app, host="nowhere.invalid")


def test_port_0_takes_a_free_one_and_listens_at_once() -> None:
    server = HttpServer(create_app(DoorAccess()))
    port = urlsplit(server.url).port
    assert port
    socket.create_connection(("127.0.0.1", port), timeout=5).close()
    server.stop()
    server.run()
