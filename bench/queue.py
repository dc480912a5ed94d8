"""What the transfer queue costs at ten million files; prints one JSON object.

Files of ten owners, from three sources, to one element. The first million, all of one source, can never
run: its slots are taken. One request waits for 100,000 of them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import sqlalchemy as sa

from vse.db import Database
from vse.db.tables import request_items, requests, transfers
from vse.errors import ServerFault
from vse.model import Lfn
from vse.staging.requests_rows import read_requests
from vse.staging.status import Progress
from vse.staging.values import ItemState, Request
from vse.transfer.instance import new_owner
from vse.transfer.lifecycle import Failed, Policy, State, Succeeded, Transfer, Wanted
from vse.transfer.queue import Queue, Report
from vse.transfer.shares import Slots

FILES = 10_000_000
BATCH = 1_000
"""As requests are taken up: so many in a transaction."""
REQUEST = 100_000
SLOTS = Slots(17, 16, sources={"BUSY": 1})
TURNS = 200
IDLE = 5_000
BROKEN = ServerFault("read it", "it answered 500")


def batches(files: int) -> Iterator[dict[Lfn, Wanted]]:
    """Requests of `REQUEST` files each, by owners in turn; the first tenth from one source."""
    for start in range(0, files, BATCH):
        owner = f"user{start // REQUEST % 10}"
        only = start < files // 10
        yield {
            Lfn(f"/lhc/data/2026/r{start // REQUEST:05}/d{start // BATCH:05}/file{n:07}.root"): Wanted(
                1_000_000, n, "", "BUSY" if only else ("NORTH", "SOUTH")[n % 2], share=owner
            )
            for n in range(BATCH)
        }


def median_ms(work: Callable[[], object], times: int) -> tuple[float, float]:
    """Return the median and the greatest of ``times`` runs."""
    taken = []
    for _ in range(times):
        began_s = time.perf_counter()
        work()
        taken.append((time.perf_counter() - began_s) * 1e3)
    return statistics.median(taken), max(taken)


def resident_mib() -> tuple[float, float]:
    """Return the memory of this process that is its own, and all that is resident (with mapped files)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    sizes = {
        line.split(":")[0]: line.split()[1] for line in lines if line.startswith("Rss") or "VmRSS" in line
    }
    return int(sizes["RssAnon"]) / 1024, int(sizes["VmRSS"]) / 1024


def turns(queue: Queue, running: list[Transfer], me: str) -> Callable[[], None]:
    """Return a turn: one running file ends (every tenth badly), and the next is claimed."""
    numbers = iter(range(10**9))

    def turn() -> None:
        one = running.pop(0)
        event = Failed(BROKEN) if next(numbers) % 10 == 9 else Succeeded("u", one.size_bytes)
        queue.report(me, [Report(one.id, one.attempts, event)])
        running.extend(queue.claim(me, 1, SLOTS))

    return turn


def idle_requests(database: Database, count: int) -> None:
    """Add requests that nothing happens to."""
    row = {
        "destination": "HERE",
        "owner": "idle",
        "priority": 5,
        "note": "",
        "state": "active",
        "approval": "none",
        "approval_note": "",
        "created_s": 0.0,
    }
    with database.write() as connection:
        connection.execute(requests.insert(), [{**row, "query": f"idle{n}"} for n in range(count)])


def large_request(database: Database, first: int) -> Request:
    """Make the files from transfer ``first`` on those of one request, as if it had asked for them."""
    row = {"destination": "HERE", "owner": "large", "priority": 5, "note": "", "state": "active"}
    row |= {"approval": "none", "approval_note": "", "created_s": 0.0, "query": "large"}
    item = transfers.c
    with database.write() as connection:
        connection.execute(requests.insert(), [row])
        (made,) = read_requests(connection, requests.c.query == "large")
        ours = item.id.between(first, first + REQUEST - 1)
        columns = (sa.literal(made.id), item.lfn, item.size_bytes, item.id, sa.literal(ItemState.WAITING))
        names = ["request_id", "lfn", "size_bytes", "transfer_id", "state"]
        connection.execute(request_items.insert().from_select(names, sa.select(*columns).where(ours)))
    return made


def fill(url: str, files: int) -> None:
    """Queue the files; print how many a second, over all and at the end."""
    database = Database.open(url)
    queue = Queue(database, Policy())
    taken = []
    for batch in batches(files):
        began_s = time.perf_counter()
        queue.enqueue("HERE", batch)
        taken.append(time.perf_counter() - began_s)
    database.close()
    tenth = taken[-len(taken) // 10 :]
    print(json.dumps([files / sum(taken), len(tenth) * BATCH / sum(tenth)]))


def measure(database: Database, files: int) -> dict[str, float]:
    queue = Queue(database, Policy(backoff_s=1000.0))
    me = new_owner()
    found: dict[str, float] = {}
    busy, *running = queue.claim(me, 17, SLOTS)
    assert busy.source_se == "BUSY"  # it never ends: all behind it have to be passed over
    turn = turns(queue, running, me)

    claimed: list[float] = []
    for _ in range(TURNS):
        one = running.pop(0)
        queue.report(me, [Report(one.id, one.attempts, Succeeded("u", one.size_bytes))])
        began_s = time.perf_counter()
        running += queue.claim(me, 1, SLOTS)
        claimed.append((time.perf_counter() - began_s) * 1e3)
    found["claim_ms"] = statistics.median(claimed)
    found["claim_max_ms"] = max(claimed)
    found["turn_ms"], _ = median_ms(turn, TURNS)
    total = queue.tallies()[State.QUEUED].files
    ids = [files // 2, files - 1, files * 9 // 10, files // 9]
    asked = list(queue.get(ids).values())
    found["position_ms"] = max(median_ms(lambda one=one: queue.ahead(one), 15)[0] for one in asked)
    progress = Progress(database)
    found["rate_ms"], _ = median_ms(lambda: progress.rate("HERE"), 15)
    found["eta_ms"] = max(median_ms(lambda one=one: progress.arrival(one), 15)[0] for one in asked)
    furthest = max(queue.ahead(one).files for one in asked)
    assert furthest <= total + len(running)
    found["anonymous_mib"], found["resident_mib"] = resident_mib()
    large = large_request(database, files * 2 // 5)
    (status,) = progress.status([large])
    assert (sum(status.files.values()), status.eta is None) == (REQUEST, False)
    found["request_eta_ms"], _ = median_ms(lambda: progress.status([large]), 15)
    idle_requests(database, IDLE)
    found["turn_idle_ms"], _ = median_ms(turn, TURNS)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--fill", metavar="URL", help=argparse.SUPPRESS)
    options = parser.parse_args()
    files = FILES // 10 if options.quick else FILES
    if options.fill:
        fill(options.fill, files)
        return
    with tempfile.TemporaryDirectory() as scratch:
        url = f"sqlite:///{scratch}/vse.db"
        # In a process of its own, whose memory is not that of who works on the queue.
        child = [sys.executable, "-m", "bench.queue", "--fill", url, *(["--quick"] if options.quick else [])]
        done = subprocess.run(child, stdout=subprocess.PIPE, text=True, check=True)
        database = Database.open(url)
        found = measure(database, files)
        found["enqueue"], found["enqueue_last_tenth"] = json.loads(done.stdout)
        size_bytes = (Path(scratch) / "vse.db").stat().st_size
        database.close()
    rows = (
        ("enqueue", "files/s", 50_000, "higher"),
        ("enqueue_last_tenth", "files/s", 50_000, "higher"),
        ("claim_ms", "ms", 5, "lower"),
        ("turn_ms", "ms", None, "lower"),
        ("turn_idle_ms", "ms", None, "lower"),
        ("position_ms", "ms", 20, "lower"),
        ("rate_ms", "ms", 20, "lower"),
        ("eta_ms", "ms", 20, "lower"),
        ("request_eta_ms", "ms", 20, "lower"),
        ("anonymous_mib", "MiB", 100, "lower"),
        ("resident_mib", "MiB", None, "lower"),
    )
    figures = [
        {"name": name, "value": found[name], "unit": unit, "bar": bar, "better": better}
        for name, unit, bar, better in rows
    ]
    per_file = size_bytes / files
    print(json.dumps({"figures": figures, "files": files, "bytes_per_file": per_file, **found}))


if __name__ == "__main__":
    main()
