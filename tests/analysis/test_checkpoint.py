"""A client that dies, and one that is told to wait or to stop: nothing lost, nothing twice."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.analysis_site import ZMUMU, input_file, needs_data
from support.waiting import until
from vse.analysis.checkpoint import Checkpoint, KeptFile, Ranges
from vse.analysis.engine import AnalysisOptions, Control, Feed, analyse
from vse.analysis.result import AnalysisResult, Progress
from vse.analysis.script import Script, ScriptSource, load_script
from vse.errors import BadRequest, ScriptFailed

Write = Callable[[str], Script]

SLOW = """
import time
def process(events):
    time.sleep(0.05)
    return {"entries": len(events), "numbers": events.Event.to_list()}
"""
PROGRAM = """
import sys
from pathlib import Path
from vse.analysis.cluster import LocalWorkers
from vse.analysis.engine import AnalysisOptions, Feed, InputFile, analyse
from vse.analysis.script import load_script

def main():
    files = [InputFile("/lhc/" + Path(path).name, path) for path in sys.argv[3:]]
    options = AnalysisOptions(packet_entries=50, partial_every_s=0.1, checkpoint_every_s=0.1)
    with LocalWorkers(2) as workers:
        workers.client.wait_for_workers(2)
        analyse(load_script(sys.argv[1]), Feed(files, closed=True), workers.client, options,
                checkpoint=Path(sys.argv[2]))

if __name__ == "__main__":
    main()
"""


def test_ranges_are_as_few_as_can_be() -> None:
    ranges = Ranges()
    for start, stop in ((10, 20), (30, 40), (0, 5), (20, 30), (50, 60), (5, 10)):
        ranges.add(start, stop)
    assert list(ranges) == [(0, 40), (50, 60)]
    assert list(Ranges([(0, 4), (6, 8)])) == [(0, 4), (6, 8)]


def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path) -> None:
    source = ScriptSource("/a.py", "def process(events): return 1\n")
    path = tmp_path / "one.checkpoint"
    kept = Checkpoint.at(path, source)
    assert (kept.entries, kept.output) == (0, None)
    kept.add("/lhc/a", KeptFile("", 100, 5), 0, 40)
    kept.write({"n": 40})
    again = Checkpoint.at(path, source)
    assert (again.entries, again.output) == (40, {"n": 40})
    assert list(again.files["/lhc/a"].ranges) == [(0, 40)]
    assert path.stat().st_mode & 0o077 == 0
    with pytest.raises(BadRequest, match="of another script"):
        Checkpoint.at(path, ScriptSource("/a.py", "def process(events): return 2\n"))
    for tree, entries, size_bytes in (("other", 100, 5), ("", 101, 5), ("", 100, 6)):
        with pytest.raises(BadRequest, match="not the file that is in it"):
            again.check("/lhc/a", tree, entries, size_bytes)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(BadRequest, match="damaged"):
        Checkpoint.at(path, source)


@pytest.mark.slow
@needs_data
def test_a_killed_client_goes_on_from_its_checkpoint(client: Any, tmp_path: Path) -> None:
    program, script, checkpoint = (tmp_path / name for name in ("program.py", "slow.py", "it.checkpoint"))
    program.write_text(PROGRAM)
    script.write_text(SLOW)
    loaded = load_script(script)
    paths = [str(path) for path in ZMUMU]
    process = subprocess.Popen([sys.executable, program, script, checkpoint, *paths])
    until(
        lambda: checkpoint.exists() and Checkpoint.at(checkpoint, loaded.source).entries >= 1000,
        process=process,
    )
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = Checkpoint.at(checkpoint, loaded.source).entries
    assert 1000 <= before < 2304 * len(ZMUMU)
    feed = Feed([input_file(path) for path in ZMUMU], closed=True)
    result = analyse(loaded, feed, client, AnalysisOptions(packet_entries=50), checkpoint=checkpoint)
    assert result.complete
    assert result.entries_resumed == before
    assert result.entries_processed == result.output["entries"] == 2304 * len(ZMUMU)
    assert sum(result.entries_by_worker.values()) == 2304 * len(ZMUMU) - before
    numbers = sorted(result.output["numbers"])
    assert numbers == sorted(numbers[:: len(ZMUMU)] * len(ZMUMU))
    assert result.checkpoint == checkpoint, "it is the caller's to remove, once the result is kept"
    assert Checkpoint.at(checkpoint, loaded.source).entries == 2304 * len(ZMUMU)


WITH_POST = "def process(events):\n    return {{'n': len(events)}}\n{}def postprocess(output):\n    {}\n"


@pytest.mark.slow
@needs_data
def test_a_defect_in_postprocess_costs_no_event(client: Any, write_script: Write, tmp_path: Path) -> None:
    path, files = tmp_path / "it.checkpoint", [input_file(one) for one in ZMUMU]

    def run(text: str) -> AnalysisResult:
        feed = Feed(files, closed=True)
        return analyse(write_script(text), feed, client, AnalysisOptions(), checkpoint=path)

    with pytest.raises(ScriptFailed, match="ZeroDivisionError") as caught:
        run(WITH_POST.format("", "return 1 / 0"))
    assert f"correct postprocess, and that alone, and go on from {path}" in caught.value.todo
    with pytest.raises(BadRequest, match="of another script"):
        run("import math\n" + WITH_POST.format("", "return output"))
    result = run(WITH_POST.format("# it is right now\n", "return {'twice': 2 * output['n']}"))
    assert result.entries_resumed == 2304 * len(ZMUMU)
    assert result.output == {"twice": 2 * 2304 * len(ZMUMU)}


@pytest.mark.slow
@needs_data
def test_stop_gives_what_there_is_and_the_rest_can_follow(
    client: Any, write_script: Write, tmp_path: Path
) -> None:
    script, control, path = write_script(SLOW), Control(), tmp_path / "it.checkpoint"
    files = [input_file(one) for one in ZMUMU]

    def stop(progress: Progress) -> None:
        if progress.entries_done > 2000:
            control.stop()

    options = AnalysisOptions(packet_entries=100, progress_every_s=0.02)
    result = analyse(
        script, Feed(files, closed=True), client, options, stop, control=control, checkpoint=path
    )
    assert not result.complete
    assert 2000 < result.entries_processed == result.output["entries"] < 2304 * len(ZMUMU)
    unopened = {lfn for lfn, _ in result.broken}
    done = {item.lfn: item.entries_done + item.entries_failed for item in result.files}
    assert {lfn: done[lfn] for lfn in done if lfn not in unopened} == {
        file.lfn: 2304 for file in files if file.lfn not in unopened
    }
    assert {item.failure.message for item in result.failed} == {
        "the analysis was stopped before it was processed"
    }
    rest = analyse(script, Feed(files, closed=True), client, options, checkpoint=path)
    assert rest.complete
    assert rest.entries_resumed == result.entries_processed
    assert rest.output["entries"] == 2304 * len(ZMUMU)


@pytest.mark.slow
@needs_data
def test_a_pause_hands_out_nothing_and_shows_what_there_is(client: Any, write_script: Write) -> None:
    script, control = write_script(SLOW), Control()
    seen: list[int] = []
    shown: list[tuple[int, int]] = []

    def watch(progress: Progress) -> None:
        seen.append(progress.entries_done)
        if len(seen) == 5:
            control.pause()
        if len(seen) > 60 and seen[-1] == progress.entries_merged == seen[-10]:
            control.resume()

    feed = Feed([input_file(path) for path in ZMUMU], closed=True)
    options = AnalysisOptions(packet_entries=100, progress_every_s=0.02, partial_every_s=0.2)
    resumer = threading.Timer(30, control.resume)
    resumer.start()
    result = analyse(
        script,
        feed,
        client,
        options,
        watch,
        control=control,
        on_partial=lambda output, progress: shown.append((output["entries"], progress.entries_merged)),
    )
    resumer.cancel()
    assert result.output["entries"] == 2304 * len(ZMUMU)
    standing = max(seen.count(value) for value in set(seen) if value < 2304 * len(ZMUMU))
    assert standing >= 10
    assert shown
    assert all(entries == merged for entries, merged in shown)
    assert [entries for entries, _ in shown] == sorted(entries for entries, _ in shown)
