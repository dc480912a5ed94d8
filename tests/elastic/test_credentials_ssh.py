"""Proxy and token on their way to a worker over ssh: nobody who looks on can see them."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import pytest

from servers.sftp import sftp
from support.elastic import environment_of, write_proxy
from support.waiting import until
from vse.app.vaf import ClusterWorkers, Facility
from vse.config.vaf import VafSettings

pytestmark = pytest.mark.slow

ETH_P_ALL = 3
MOST_BYTES = 1 << 17
SEES_WIRE = os.geteuid() == 0
"""Only root may look at what goes over the network."""


class Onlooker:
    """Looks at all command lines and environments of the machine, and at all that goes over its loopback.

    ``seen`` says where any of the secrets was met. It ends with the block.
    """

    def __init__(self, secrets: list[bytes]) -> None:
        self.seen: set[str] = set()
        self.command_lines: set[bytes] = set()
        self.packets = 0
        self._secrets = secrets
        self._over = threading.Event()
        looks = (self._processes, self._packets) if SEES_WIRE else (self._processes,)
        self._threads = [threading.Thread(target=look) for look in looks]

    def __enter__(self) -> Onlooker:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _note(self, where: str, content: bytes) -> None:
        if any(secret in content for secret in self._secrets):
            self.seen.add(where)

    def _processes(self) -> None:
        while not self._over.wait(0.02):
            for process in Path("/proc").glob("[0-9]*"):
                with suppress(OSError):  # it has ended
                    command_line = (process / "cmdline").read_bytes()
                    self.command_lines.add(command_line)
                    self._note("command line", command_line)
                    self._note("environment", (process / "environ").read_bytes())

    def _packets(self) -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.ntohs(ETH_P_ALL)) as wire:
            wire.bind(("lo", 0))
            wire.settimeout(0.1)
            while not self._over.is_set():
                with suppress(TimeoutError):
                    self._note("wire", wire.recv(MOST_BYTES))
                    self.packets += 1


@contextmanager
def ssh_facility(make_facility: Callable[..., Facility]) -> Iterator[Facility]:
    assert shutil.which("ssh"), "ssh is missing: install Debian's openssh-client"
    with sftp() as server:
        key = ("-i", str(server.key_file))
        facility = make_facility(
            batch="ssh",
            hosts=f"{server.user}@127.0.0.1:{server.port}",
            options=(*key, "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"),
            python=sys.executable,
        )
        yield facility
        facility.stop()


def secrets_of(proxy: str, token: str) -> list[bytes]:
    """What must not be seen: the token, and each line of the proxy's key."""
    key = proxy.partition("PRIVATE KEY-----\n")[2].partition("-----END")[0]
    return [token.encode(), *(line.encode() for line in key.split())]


def test_proxy_and_token_reach_a_worker_over_ssh_and_nobody_else(
    make_facility: Callable[..., Facility], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    token, proxy = uuid4().hex, write_proxy(tmp_path / "proxy.pem").decode()
    (tmp_path / "token").touch(0o600)
    (tmp_path / "token").write_text(token)
    monkeypatch.setenv("X509_USER_PROXY", str(tmp_path / "proxy.pem"))
    monkeypatch.setenv("BEARER_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("VAF_STATE", str(tmp_path / "state"))
    secrets = secrets_of(proxy, token)
    assert len(secrets) > 2
    with ssh_facility(make_facility) as facility, Onlooker(secrets) as onlooker:
        address = facility.start()["address"]
        facility.request(1)
        facility.wait(1, 60)
        with ClusterWorkers("vaf", VafSettings()) as workers:
            told = environment_of(workers.client)
    assert "SSH_CONNECTION" in told, "the worker is not at the end of an ssh connection"
    assert (told["proxy"], told["token"], told["modes"]) == (proxy, token, [0o600, 0o600, 0o700])
    assert address.startswith("tls://")
    assert any(b"vse.elastic.worker" in one for one in onlooker.command_lines), "it did not look in time"
    assert onlooker.packets or not SEES_WIRE
    # the only ones that have them: the worker, in its own directory, of which nothing is left now
    assert not onlooker.seen
    for name in ("X509_USER_PROXY", "BEARER_TOKEN_FILE"):
        until(lambda path=Path(told[name]): not path.exists())
    assert not [value for name, value in told.items() if token in str(value) and name != "token"]
    written = [path for path in (tmp_path / "state").rglob("*") if path.is_file()]
    assert written, "there are no logs to look at"
    for path in written:
        content = path.read_bytes()
        assert not [secret for secret in secrets if secret in content], path


def test_an_onlooker_would_see_them(tmp_path: Path) -> None:
    """What the test above rests on: a secret on a command line, in an environment or on the wire is met."""
    secret = uuid4().hex
    with Onlooker([secret.encode()]) as onlooker:
        for where, words, environment in (
            ("command line", [secret], {}),
            ("environment", [], {"TOKEN": secret}),
        ):
            command = [sys.executable, "-c", "input()", *words]
            with subprocess.Popen(command, stdin=subprocess.PIPE, env=os.environ | environment) as process:
                until(lambda where=where: where in onlooker.seen)
                process.kill()
        if SEES_WIRE:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                until(lambda: sender.sendto(secret.encode(), ("127.0.0.1", 9)) and "wire" in onlooker.seen)
    assert onlooker.seen == {"command line", "environment"} | ({"wire"} if SEES_WIRE else set())
