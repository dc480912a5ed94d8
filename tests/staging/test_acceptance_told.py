"""What people are told of what does not come: no room, no name yet, a filter that cannot work."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from support.command_line import ZMUMU, Command, InProcess, site_with_files_far
from vse.staging.filters_skim import skim

pytestmark = pytest.mark.slow
FILES = [f"/lhc/data/{number}.bin" for number in range(4)]


def until(what: Callable[[], object], process_s: float = 60.0) -> None:
    deadline_s = time.monotonic() + process_s
    while not what():
        assert time.monotonic() < deadline_s, "it did not happen in time"
        time.sleep(0.1)


def test_a_request_without_room_says_so_instead_of_a_time_that_never_comes(tmp_path: Path) -> None:
    vse = site_with_files_far(tmp_path / "site", FILES)
    assert vse("quota", "set", "20", "--user", "root").code == 0
    assert vse("stage", "/lhc/data/*.bin", "--no-wait").code == 0
    daemon = Command(vse.directory).start("serve", "stager")
    try:
        until(lambda: "waits for room" in vse("status").out)
        told = json.loads(vse("status", "1", "--json").out)
        assert told["files"]["done"] == 2 and told["files"]["waiting"] == 2
        assert told["eta"] is None
        assert "the user root has 20 B there" in told["reason"]
        assert vse("quota", "set", "1kB", "--user", "root").code == 0
        until(lambda: json.loads(vse("status", "1", "--json").out)["state"] == "done")
    finally:
        daemon.terminate()
        daemon.communicate(timeout=30)


def test_why_knows_what_is_written_back_before_its_name_is_in_the_catalogue(tmp_path: Path) -> None:
    vse = site_with_files_far(tmp_path / "site", FILES[:1])
    (tmp_path / "out.bin").write_bytes(b"x" * 100)
    name = "/lhc/user/anna/out.bin"
    assert vse("stage-out", str(tmp_path / "out.bin"), "--to", "LOCAL-DISK", "--as", name).code == 0
    waiting = vse("why", name)
    assert waiting.code == 0, waiting.err
    assert "transfer to LOCAL-DISK: queued, number 1 in the queue" in waiting.out
    assert "it gets there with its first copy" in waiting.out

    (tmp_path / "out.bin").unlink()
    assert vse("stage-out", str(tmp_path / "out.bin"), "--to", "LOCAL-DISK", "--as", name).code != 0
    daemon = Command(vse.directory).start("serve", "stager")
    try:
        until(lambda: json.loads(vse("status", "1", "--json").out)["state"] == "failed")
    finally:
        daemon.terminate()
        daemon.communicate(timeout=30)
    assert "attempt 1: cannot read" in vse("why", name).out
    told = json.loads(vse("why", name, "--json").out)
    assert told["copies"] == [] and told["transfers"][0]["attempts"][0]["error"]["code"] == "no-such-file"
    assert vse("why", "/lhc/user/anna/never.bin").code != 0


def test_a_name_that_was_removed_is_not_told_of_as_coming(tmp_path: Path) -> None:
    vse = site_with_files_far(tmp_path / "site", FILES[:1])
    assert vse("stage", FILES[0]).code == 0
    assert vse("rm", "--forever", FILES[0]).code == 0
    assert "not in the catalogue" in vse("why", FILES[0]).err


@pytest.mark.parametrize("where", ["M >", "nonsense > 1", "M > 'x'"])
def test_a_skim_says_what_is_wrong_with_its_condition_and_shows_no_traceback(
    tmp_path: Path, where: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        skim(ZMUMU[0], tmp_path / "out.root", "events", ["M"], where)
    said = str(ended.value)
    assert said.startswith(f"its where = {where!r} cannot be asked of the tree: ")
    assert "\n" not in said


def test_a_filter_that_writes_too_much_is_told_of_by_the_name_of_its_limit(tmp_path: Path) -> None:
    vse = site_with_files_far(tmp_path / "site", ["/lhc/data/a.bin"])
    toml = tmp_path / "site" / "vse.toml"
    with toml.open("a") as settings:
        settings.write(
            '[filters.MORE]\nkind = "command"\nmatch = "*.bin"\noutput_bytes = 1000\n'
            'command = ["dd", "if=/dev/zero", "of=$OUT", "bs=4096", "count=10"]\n'
        )
    InProcess(tmp_path / "site")("stage", "/lhc/data/a.FILTER_MORE.bin")
    assert "wrote more than its output_bytes allows" in vse("status", "1").out
