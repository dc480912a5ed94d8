"""Decodes the datagrams of ApMon by the rules of XDR, knowing nothing of how ours are made."""

from __future__ import annotations

import struct
from typing import NamedTuple


class Datagram(NamedTuple):
    head: str
    instance: int
    sequence: int
    cluster: str
    node: str
    values: dict[str, str | int | float]


def decode(data: bytes) -> Datagram:
    position = 0

    def number(form: str) -> int | float:
        nonlocal position
        (value,) = struct.unpack_from(form, data, position)
        position += struct.calcsize(form)
        return value

    def string() -> str:
        nonlocal position
        length = int(number(">I"))
        text = data[position : position + length]
        padding = data[position + length : position + length + (-length % 4)]
        assert padding == b"\0" * (-length % 4)
        position += length + len(padding)
        return text.decode()

    head = string()
    instance, sequence = int(number(">i")), int(number(">i"))
    cluster, node = string(), string()
    values: dict[str, str | int | float] = {}
    for _ in range(int(number(">i"))):
        name, kind = string(), number(">i")
        values[name] = string() if kind == 0 else number({2: ">i", 5: ">d"}[int(kind)])
    assert position in (len(data), len(data) - 4)  # a time may follow
    return Datagram(head, instance, sequence, cluster, node, values)
