"""A dataset comes from another site: staged, explained, interrupted, refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time

import pytest
import uproot

from support.command_line import Command, TwoSites
from support.waiting import until
from vse.app.init import init_site
from vse.demo import remote

pytestmark = pytest.mark.slow


def files_below(directory) -> list[str]:
    """Every file under a final name; VSE's own partial files are no such names."""
    return sorted(
        str(path.relative_to(directory))
        for path in directory.rglob("*")
        if path.is_file() and ".vse-partial" not in path.parts
    )


def test_a_dataset_is_staged_once_and_verified(two_sites: TwoSites, zmumu):
    lfns = [two_sites.add(path, path.name) for path in zmumu]
    two_sites.publish()
    done = two_sites.vse("stage", two_sites.query)
    assert done.code == 0, done.err
    assert "5 of 5 files are here" in done.out
    for lfn, path in zip(sorted(lfns), zmumu, strict=True):
        assert two_sites.here(lfn).read_bytes() == path.read_bytes()
        with uproot.open(two_sites.link(lfn)) as file:
            assert file["events"].num_entries == 2304
    again = two_sites.vse("stage", two_sites.query, "--json")
    assert again.code == 0
    assert json.loads(again.out)["files"]["here"] == 5
    why = json.loads(two_sites.vse("why", lfns[0], "--json").out)
    assert [copy["se"] for copy in why["copies"]] == ["LOCAL-DISK", remote.ELEMENT]
    assert why["reads"][0]["se"] == "LOCAL-DISK"
    assert len(why["transfers"][0]["attempts"]) == 1


def test_bad_files_do_not_stop_the_good_ones(two_sites: TwoSites, zmumu, tmp_path):
    """A truncated file and one whose bytes changed after it was registered: each with its reason."""
    truncated = tmp_path / "truncated.root"
    truncated.write_bytes(zmumu[0].read_bytes()[:60_000])
    good = two_sites.add(zmumu[0], "good.root")
    cut = two_sites.add(truncated, "cut.root")
    rotten = two_sites.add(zmumu[1], "rotten.root")
    two_sites.publish()
    with two_sites.stored(rotten).open("r+b") as file:
        file.seek(5000)
        file.write(b"rotten")
    done = two_sites.vse("--set", "stager.backoff_s=0.05", "stage", two_sites.query)
    assert done.code == 10
    assert "1 of 3 files are here" in done.out
    assert files_below(two_sites.local / "storage") == [good[1:]]
    assert not two_sites.link(cut).exists()
    assert "will try again: cannot " in done.err
    assert "given up: cannot " in done.err
    for lfn, reason in ((cut, "given-up"), (rotten, "given-up")):
        why = json.loads(two_sites.vse("why", lfn, "--json").out)
        (transfer,) = why["transfers"]
        assert len(transfer["attempts"]) == 3
        assert transfer["transfer"]["error"]["code"] == reason
    text = two_sites.vse("why", rotten).out
    assert "adler32" in text
    assert "attempt 3" in text
    status = two_sites.vse("status", "1")
    assert "cut.root" in status.out
    assert "rotten.root" in status.out


def test_names_stay_known_when_the_upstream_is_away(tmp_path, zmumu):
    far, near = tmp_path / "remote", tmp_path / "site"
    remote.make_remote(far)
    init_site(near, name="test", remote=remote.as_remote(far))
    sites = TwoSites(far, near, Command(near))
    lfn = sites.add(zmumu[0], "one.root")
    with remote.RemoteProcess(far, remote.WideAreaLink(0.0, 1e9)):
        sites.publish()
        assert sites.vse("find", sites.query).lines == [lfn]
    cached = sites.vse("find", sites.query)
    assert (cached.lines, cached.err) == ([lfn], "")
    stale = sites.vse("--set", "upstreams.remote.fresh_s=0.001", "find", sites.query)
    assert stale.lines == [lfn]
    assert cached.code == 0
    unknown = sites.vse("find", "/other")
    assert unknown.code == 9
    assert "remote" in unknown.err
    failed = sites.vse("--set", "stager.max_failures=1", "stage", sites.query)
    assert failed.code == 10
    assert "refused" in failed.err.lower()


@pytest.mark.parametrize("way", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "kill-9"])
def test_stopped_in_the_middle_it_goes_on(tmp_path, zmumu, way):
    """Nothing half-written has a final name, and the same command ends what was begun."""
    far, near = tmp_path / "remote", tmp_path / "site"
    remote.make_remote(far)
    init_site(near, name="test", remote=remote.as_remote(far))
    sites = TwoSites(far, near, Command(near))
    lfns = [sites.add(path, f"{number}-{path.name}") for number in range(6) for path in zmumu]
    with remote.RemoteProcess(far, remote.WideAreaLink(0.0, 2e6)):
        sites.publish()
        process = sites.vse.start("stage", sites.query)
        until(lambda: files_below(near / "storage"))
        os.kill(process.pid, way)
        _, err = process.communicate(timeout=30)
        if way == signal.SIGINT:
            assert process.returncode == 130
            assert b"goes on" in err
        arrived = files_below(near / "storage")
        assert 0 < len(arrived) < len(lfns)
        for name in arrived:
            assert (near / "storage" / name).read_bytes() == (far / "storage" / name).read_bytes()
    partials = near / "storage" / ".vse-partial"
    until(lambda: all(time.time() - path.stat().st_mtime > 1 for path in partials.iterdir()))
    with remote.RemoteProcess(far, remote.WideAreaLink(0.0, 1e9)):
        done = sites.vse("stage", sites.query, "--json")
    assert done.code == 0, done.err
    assert files_below(near / "storage") == sorted(lfn[1:] for lfn in lfns)
    assert list(partials.iterdir()) == []


def test_two_processes_stage_the_same_dataset_and_each_file_comes_once(two_sites: TwoSites, zmumu):
    lfns = [two_sites.add(path, f"{number}-{path.name}") for number in range(4) for path in zmumu]
    two_sites.publish()
    both = [two_sites.vse.start("stage", two_sites.query) for _ in range(2)]
    for process in both:
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
    attempts = [
        len(json.loads(two_sites.vse("why", lfn, "--json").out)["transfers"][0]["attempts"])
        for lfn in lfns[:5]
    ]
    assert attempts == [1] * 5
    assert files_below(two_sites.local / "storage") == sorted(lfn[1:] for lfn in lfns)


def test_a_full_disk_is_said_and_nothing_partial_remains(two_sites: TwoSites, zmumu, tmp_path):
    assert os.geteuid() == 0, "this test mounts a small file system, which takes root"
    lfn = two_sites.add(zmumu[0], "one.root")
    two_sites.publish()
    storage = two_sites.local / "storage"
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(storage)], check=True)
    try:
        done = two_sites.vse("--set", "stager.max_failures=1", "stage", two_sites.query)
        assert done.code == 10
        assert "one.root" in done.err
        assert "room" in done.err or "space" in done.err
        assert files_below(storage) == []
        assert not two_sites.link(lfn).is_symlink()
    finally:
        subprocess.run(["umount", str(storage)], check=True)
