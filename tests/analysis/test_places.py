"""Who gets what, on real workers of two hosts: near files first, cuts at clusters, a black hole nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import uproot

from support.analysis_site import input_file, run
from support.foreign_cluster import WORKER, Foreign, foreign_cluster
from vse.analysis.engine import InputFile
from vse.analysis.places import host_of
from vse.analysis.script import Script

pytestmark = pytest.mark.slow
Write = Callable[[str], Script]

HOSTS = ("127.0.0.1", "127.0.0.2")
WHO = """
import time
from distributed import get_worker
def process(events):
    time.sleep(0.05)
    now, who = time.time(), get_worker().address
    span = (events.attrs["entrystart"], events.attrs["entrystop"])
    return {"did": [(now, who, events.attrs["lfn"], *span)], "n": len(events)}
"""


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Foreign]:
    with foreign_cluster(tmp_path_factory.mktemp("two"), WORKER, WORKER, hosts=HOSTS) as cluster:
        yield cluster


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with uproot.recreate(tmp_path / "numbers.root") as file:
        tree = file.mktree("events", {"x": "int64"})
        for start in range(0, 12_000, 300):
            tree.extend({"x": np.arange(start, start + 300)})
    return tmp_path / "numbers.root"


def test_a_worker_takes_the_files_of_its_own_host_before_any_other(
    two: Foreign, write_script: Write, path: Path
) -> None:
    files = [
        InputFile(f"/{host}/{number}", f"file://{host}{path}", entries=12_000, size_bytes=1000)
        for number in range(6)
        for host in HOSTS
    ]
    result = run(write_script(WHO), files, two.client, packet_entries=12_000)
    assert result.output["n"] == len(files) * 12_000
    for worker in two.workers:
        own = [host_of(worker) in lfn for _, who, lfn, *_ in sorted(result.output["did"]) if who == worker]
        assert own == sorted(own, reverse=True), "another host's file came before one of its own"
        assert own[:1] == [True]


def test_packets_end_where_the_clusters_of_the_file_do(two: Foreign, write_script: Write, path: Path) -> None:
    result = run(write_script(WHO), [input_file(path)], two.client, packet_target_s=0.1)
    spans = sorted((start, stop) for *_, start, stop in result.output["did"])
    assert result.output["n"] == 12_000
    assert len(spans) > 3
    assert all(stop % 300 == 0 for _, stop in spans[1:]), spans


def test_a_black_hole_is_drained_and_the_report_names_it(
    two: Foreign, write_script: Write, path: Path
) -> None:
    script = write_script(
        WHO.replace("    time.sleep(0.05)\n", "    library() if '127.0.0.2' in get_worker().address else 0\n")
        + "def library():\n    raise ImportError('libHole.so: cannot open shared object file')\n"
    )
    files = [InputFile(f"/lhc/{number}", str(path), entries=12_000) for number in range(5)]
    result = run(script, files, two.client, packet_entries=1000)
    hole = next(worker for worker in two.workers if host_of(worker) == "127.0.0.2")
    assert result.complete
    assert result.output["n"] == result.entries_processed == 60_000
    assert {who for _, who, *_ in result.output["did"]} == set(two.workers) - {hole}
    reason = "my_script.py:10: ImportError: libHole.so: cannot open shared object file"
    assert result.drained == [(hole, reason)]
    assert result.to_dict()["drained"] == [{"worker": hole, "error": reason}]
    (effort,) = [one for one in result.efforts if one.name == hole]
    assert (effort.drained, effort.entries, effort.packets) == (reason, 0, 0)
    assert effort.failures >= 5
