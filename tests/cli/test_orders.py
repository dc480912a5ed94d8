"""Keys and signals of a running command, on a real terminal."""

from __future__ import annotations

import os
import pty
import select
import signal
import sys
import termios
import time
from collections.abc import Iterator
from typing import NamedTuple

import pytest

PROGRAM = """
import sys, threading
from vse.cli.orders import Orders
ended = threading.Event()
with Orders({"p": lambda: print("turned", flush=True), "s": ended.set}) as orders:
    print("keys" if orders.has_keys else "no keys", flush=True)
    ended.wait(30)
print("ended", flush=True)
sys.stdin.readline()
"""


class Terminal(NamedTuple):
    pid: int
    descriptor: int

    def read_until(self, wanted: bytes) -> bytes:
        seen, until = b"", time.monotonic() + 60
        while wanted not in seen and time.monotonic() < until:
            if select.select([self.descriptor], [], [], 0.1)[0]:
                seen += os.read(self.descriptor, 1000)
        assert wanted in seen, seen
        return seen

    def echoes(self) -> bool:
        return bool(termios.tcgetattr(self.descriptor)[3] & termios.ECHO)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    pid, descriptor = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-c", PROGRAM])  # noqa: S606 - our own program
    try:
        yield Terminal(pid, descriptor)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(descriptor)


def test_keys_work_at_once_and_the_terminal_is_left_as_it_was(terminal: Terminal) -> None:
    terminal.read_until(b"keys")
    assert not terminal.echoes()
    os.write(terminal.descriptor, b"xP")
    terminal.read_until(b"turned")
    os.write(terminal.descriptor, b"s")
    seen = terminal.read_until(b"ended")
    assert b"turned" not in seen
    assert terminal.echoes()


@pytest.mark.parametrize("end", [signal.SIGUSR2, signal.SIGTERM])
def test_signals_say_the_same(terminal: Terminal, end: signal.Signals) -> None:
    terminal.read_until(b"keys")
    os.kill(terminal.pid, signal.SIGUSR1)
    terminal.read_until(b"turned")
    os.kill(terminal.pid, end)
    terminal.read_until(b"ended")
    assert terminal.echoes()
