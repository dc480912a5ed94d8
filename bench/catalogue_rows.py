"""The files of the catalogue's benchmarks, and the memory that reading them takes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vse.model import Lfn, NewFile

FILES_A_DIRECTORY = 100
ROUNDS = 5
NAMES_A_CALL = 10_000
LOOK_EVERY = 50_000


def place(number: int) -> tuple[str, str]:
    run, event = divmod(number, FILES_A_DIRECTORY)
    return f"/lhc/data/2013/run{run:06d}", f"events_{event:05d}.root"


def new_files(start: int, end: int) -> Iterator[NewFile]:
    for number in range(start, end):
        path, name = place(number)
        yield NewFile(Lfn(f"{path}/{name}"), number, number, "TORINO", guid=number.to_bytes(16, "big"))


def private_mib() -> float:
    """Memory that is this process's own; pages of a mapped database are the system's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon"))
