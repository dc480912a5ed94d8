"""The stager's own cost: many tiny files from memory to a directory, and big ones against the bare driver.

Tiny files show what a transfer costs beside its bytes, from the first to the last; each is claimed, read,
verified, published durably, registered and settled. A big file is moved by the whole stager and by a loop
over the two drivers, in turn.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import threading
import time
import zlib
from pathlib import Path

from vse.config.settings import DataManagement, ElementSettings
from vse.model import Checksum, Lfn, NewFile
from vse.staging.values import FileStaged
from vse.storage.drivers.memory_store import MemoryFile, forget_stores, store_at
from vse.storage.element import StorageElement

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # the site is that of the tests

from support.staging_site import BASE, StagingSite, file_element

TINY_BYTES = 512


def memory_element() -> StorageElement:
    section = {"Protocol": "mem", "PluginName": "Memory", "Host": "bench", "Path": "/"}
    settings = {"Name": "MEMORY", "AccessProtocols": "mem", "WriteProtocols": "mem", "Mem": section}
    return StorageElement(ElementSettings.model_validate(settings), DataManagement())


def fill(files: dict[Lfn, bytes]) -> None:
    """Put files into the memory element; those with the same bytes share them."""
    forget_stores()
    shared: dict[int, MemoryFile] = {}
    for lfn, data in files.items():
        file = shared.setdefault(id(data), MemoryFile(data, time.time()))
        store_at("bench").add(lfn, file, f"write {lfn}")


def site_at(scratch: Path, slots: int) -> StagingSite:
    scratch.mkdir(exist_ok=True)
    elements = [memory_element(), file_element("LOCAL", scratch / "local")]
    return StagingSite(scratch, elements=elements, settings={"slots": slots, "slots_per_source": slots})


def tiny(scratch: Path, count: int, slots: int) -> list[dict[str, object]]:
    site = site_at(scratch, slots)
    data = os.urandom(TINY_BYTES)
    names = [Lfn(f"{BASE}/d{number // 1000:03}/f{number:06}.dat") for number in range(count)]
    fill(dict.fromkeys(names, data))
    site.catalogue.register(NewFile(lfn, len(data), zlib.adler32(data), "MEMORY") for lfn in names)
    ends_s: list[float] = []
    cpu_s: list[float] = []
    site.news = _Ends(ends_s, cpu_s)  # type: ignore[assignment]
    began_s = time.perf_counter()
    request = site.ask()
    asked_s = time.perf_counter() - began_s
    began_s = time.perf_counter()
    site.stager().run(threading.Event(), [request])
    took_s = time.perf_counter() - began_s
    assert len(ends_s) == count, f"{len(ends_s)} of {count} files came"
    part = max(1, count // 5)
    first_s = cpu_s[2 * part - 1] - cpu_s[part - 1]  # the first fifth warms up
    last_s = cpu_s[-1] - cpu_s[-part - 1]
    site.close()
    return [
        {"name": f"{count:,} files of {TINY_BYTES} bytes", "value": count / took_s, "unit": "files/s",
         "bar": 300, "better": "higher"},
        {"name": "processor time of a file: the last fifth / the second", "value": last_s / first_s,
         "unit": "x", "bar": 1.25, "better": "lower"},
        {"name": "processor time of a file", "value": (cpu_s[-1] - cpu_s[0]) / count * 1000, "unit": "ms"},
        {"name": "asking for them", "value": count / asked_s, "unit": "files/s"},
    ]  # fmt: skip


class _Ends(list):  # type: ignore[type-arg]
    """News, of which only the times are kept."""

    def __init__(self, ends_s: list[float], cpu_s: list[float]) -> None:
        super().__init__()
        self._ends_s, self._cpu_s = ends_s, cpu_s

    def append(self, news: object) -> None:
        if isinstance(news, FileStaged):
            self._ends_s.append(time.perf_counter())
            self._cpu_s.append(time.process_time())


def big(scratch: Path, size_bytes: int, runs: int) -> list[dict[str, object]]:
    site = site_at(scratch, 1)
    data = os.urandom(2**20) * (size_bytes // 2**20)
    adler32 = zlib.adler32(data)
    checksum = Checksum.adler32(adler32)
    names = [Lfn(f"{BASE}/big{number}.dat") for number in range(runs)]
    bare = [Lfn(f"{BASE}/bare{number}.dat") for number in range(runs)]
    fill(dict.fromkeys([*names, *bare], data))
    site.catalogue.register(NewFile(lfn, len(data), adler32, "MEMORY") for lfn in [*names, *bare])
    source, local = site.elements.get("MEMORY"), site.elements.get("LOCAL")
    times: dict[str, list[float]] = {"stager": [], "bare": []}
    for number, (ours, theirs) in enumerate(zip(names, bare, strict=True)):
        for mine in (number % 2 == 0, number % 2 != 0):
            os.sync()
            if mine:
                request = site.ask(ours.name)
                began_s = time.perf_counter()
                site.stager().run(threading.Event(), [request])
                times["stager"].append(time.perf_counter() - began_s)
                continue
            began_s = time.perf_counter()
            with source.open(theirs) as reader, local.put(theirs, len(data), checksum) as upload:
                for piece in reader.stream():
                    upload.write(piece)
                upload.commit()
            times["bare"].append(time.perf_counter() - began_s)
    site.close()
    stager_s, bare_s = statistics.median(times["stager"]), statistics.median(times["bare"])
    return [
        {"name": f"a file of {size_bytes // 2**20} MiB: stager / bare drivers", "value": bare_s / stager_s,
         "unit": "x", "bar": 0.9, "better": "higher"},
        {"name": "by the stager", "value": size_bytes / 2**20 / stager_s, "unit": "MiB/s"},
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.transfers", description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--count", type=int, default=0)
    options = parser.parse_args()
    count = options.count or (3_000 if options.quick else 100_000)
    size_bytes, runs = (256 * 2**20, 3) if options.quick else (1024 * 2**20, 5)
    scratch = Path(tempfile.mkdtemp(prefix="vse-bench-"))
    try:
        figures = tiny(scratch / "tiny", count, 8)
        figures += big(scratch / "big", size_bytes, runs)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    print(json.dumps({"figures": figures, "files": count, "size_bytes": size_bytes, "runs": runs}))


if __name__ == "__main__":
    main()
