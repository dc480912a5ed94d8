"""Upstreams as a site's people meet them: commands, warnings, and figures for Prometheus."""

from __future__ import annotations

import json
import threading

import pytest
import urllib3

from support.command_line import InProcess
from support.databases import ensure_sqlite
from vse.app.door import build_door
from vse.app.site import Site
from vse.config.load import load
from vse.model import Lfn

TOML = """
[site]
name = "here"

[StorageElements.DISK.File]
Protocol = "file"
Path = "{place}/storage"

[upstreams.list]
type = "dump"
url = "{place}/files.csv"
fresh_s = {fresh_s}
{more}
"""
FILES = "lfn,size,se\n/lhc/a.root,1000,FAR\n/lhc/b.root,2000,FAR\n"


@pytest.fixture
def place(tmp_path):
    (tmp_path / "files.csv").write_text(FILES)
    (tmp_path / "storage").mkdir()
    ensure_sqlite(tmp_path / "var/vse.db")
    write(tmp_path)
    return tmp_path


def write(place, fresh_s=86400, more=""):
    (place / "vse.toml").write_text(TOML.format(place=place, fresh_s=fresh_s, more=more))


@pytest.fixture
def vse(place):
    return InProcess(place)


def test_prefetch_then_nobody_is_asked(vse, place):
    done = vse("upstream", "prefetch", "/lhc")
    assert (done.code, done.out) == (0, done.out)
    assert done.out.startswith("2 files of 3.0 kB are known here; 1 query took")
    again = json.loads(vse("upstream", "prefetch", "Find;BasePath=/lhc;FileName=a*", "--json").out)
    assert (again["files"], again["size_bytes"], again["queries"]) == (1, 1000, 0)
    assert json.loads(vse("upstream", "prefetch", "/lhc", "--again", "--json").out)["queries"] == 1
    (place / "files.csv").unlink()
    assert vse("find", "/lhc/*.root").lines == ["/lhc/a.root", "/lhc/b.root"]
    failed = vse("upstream", "prefetch", "/lhc", "--again")
    assert (failed.code, "is not there" in failed.err) == (9, True)


def test_list_and_status_say_how_upstreams_fare(vse):
    assert vse("upstream", "list").lines[0].endswith("never asked")
    vse("find", "/lhc/*.root")
    vse("find", "/lhc/*.root")
    (row,) = [json.loads(line) for line in vse("upstream", "list", "--json").lines]
    assert (row["hits"], row["misses"], row["queries"], row["failures"]) == (1, 1, 1, 0)
    assert row["hit_rate"] == 0.5
    assert "50.0 % of 2 answered here; 1 query took" in vse("upstream", "list").out
    assert "upstream list: 50.0 % of 2 answered here" in vse("status").err


def test_one_that_failed_is_left_alone_by_the_next_command(vse, place):
    write(place, more="backoff_s = 100")
    (place / "files.csv").write_text("lfn,size\n/half")
    first = vse("find", "/lhc/*.root")
    assert (first.code, "ends in the middle of line 2" in first.err) == (9, True)
    (place / "files.csv").write_text(FILES)
    second = vse("find", "/lhc/*.root")
    assert (second.code, "it failed once and is asked again in" in second.err) == (9, True)
    assert "failing" in vse("upstream", "list").out


def test_offline_serves_what_is_here_and_says_so(vse, place):
    write(place, fresh_s=0.000001)
    assert vse("find", "/lhc/*.root").err == ""
    found = vse("--offline", "find", "/lhc/*.root")
    assert found.lines == ["/lhc/a.root", "/lhc/b.root"]
    assert "Upstream list is not asked" in found.err
    assert "--offline" in found.err
    write(place, fresh_s=0.000001, more="offline = true")
    found = vse("find", "/lhc/*.root")
    assert "upstreams.list.offline" in found.err
    nothing = vse("find", "/never/asked/*")
    assert (nothing.code, nothing.out) == (9, "")


def test_prefetch_without_an_upstream(vse, place):
    (place / "vse.toml").write_text(TOML.format(place=place, fresh_s=1, more="").partition("[upstreams")[0])
    done = vse("upstream", "prefetch", "/lhc")
    assert (done.code, "no upstream" in done.err) == (2, True)


@pytest.fixture
def door(place):
    with Site.open(load(place / "vse.toml", {})) as site:
        server = build_door(site)
        ready = threading.Event()
        urls = []
        thread = threading.Thread(
            target=lambda: server.run(ready=lambda url: (urls.append(url), ready.set())), daemon=True
        )
        thread.start()
        assert ready.wait(20)
        yield site, urls[0]
        server.stop()
        thread.join(20)


def test_figures_are_told_to_those_with_the_token_only(door):
    site, url = door
    list(site.lookup.find(Lfn("/lhc"), "*.root"))
    list(site.lookup.find(Lfn("/lhc"), "*.root"))
    http = urllib3.PoolManager(retries=False)
    assert http.request("GET", f"{url}/metrics").status == 401
    wrong = http.request("GET", f"{url}/metrics", headers={"Authorization": "Bearer wrong"})
    assert wrong.status == 403
    token = site.settings.doors.http.token_file.read_text().strip()
    told = http.request("GET", f"{url}/metrics", headers={"Authorization": f"Bearer {token}"})
    assert (told.status, told.headers["content-type"].split(";")[0]) == (200, "text/plain")
    lines = told.data.decode().splitlines()
    assert 'vse_upstream_hits_total{upstream="list"} 1.0' in lines
    assert 'vse_upstream_misses_total{upstream="list"} 1.0' in lines
    assert 'vse_upstream_up{upstream="list"} 1.0' in lines
