"""Datasets as a user has them: frozen, shown, verified, compared, analysed, taken in and given out."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from support.command_line import Command, TwoSites

pytestmark = pytest.mark.slow

SCRIPT = """
import hist

def process(events):
    return hist.Hist.new.Reg(10, 0, 120, name="m").Double().fill(events["M"])
"""
COLLECTION = Path(__file__).parents[1] / "catalogue" / "data" / "collection.root"


@pytest.fixture
def muons(vse: Command, zmumu) -> Command:
    """A site with the five real files, frozen as muons@1."""
    assert vse("register", *map(str, zmumu), "--to", "/lhc/data").code == 0
    made = vse("dataset", "create", "muons", "/lhc/data/*.root", "--json")
    assert made.code == 0, made.err
    assert json.loads(made.out)["entries"] == 5 * 2304
    return vse


def stored(vse: Command, name: str) -> Path:
    return vse.directory / "storage" / "lhc" / "data" / name


def states(vse: Command, *words: str) -> dict[str, str]:
    done = vse("dataset", "verify", *words, "--json")
    return {one["lfn"].rpartition("/")[2]: one["state"] for one in map(json.loads, done.lines)}


def test_show_tells_each_file(muons: Command, zmumu):
    shown = [json.loads(line) for line in muons("dataset", "show", "muons", "--json").lines]
    assert [one["lfn"] for one in shown] == sorted(f"/lhc/data/{path.name}" for path in zmumu)
    for one in shown:
        path = stored(muons, one["lfn"].rpartition("/")[2])
        assert one["url"] == one["local_url"] == f"file://{path}"
        assert (one["size_bytes"], one["tree"], one["entries"]) == (path.stat().st_size, "events", 2304)
        assert (one["staged"], one["corrupt"], one["source_url"]) == (True, False, None)
    totals = json.loads(muons("dataset", "show", "muons", "--summary", "--json").out)
    assert (totals["files"], totals["entries"], totals["staged"]) == (5, 11520, 5)


def test_verify_finds_what_is_wrong_and_marks_it(muons: Command, zmumu, tmp_path):
    names = sorted(path.name for path in zmumu)
    assert set(states(muons, "muons").values()) == {"ok"}
    rotten, cut, gone = names[:3]
    good = stored(muons, rotten).read_bytes()
    stored(muons, rotten).write_bytes(b"no ROOT file at all".ljust(len(good)))
    stored(muons, cut).write_bytes(stored(muons, cut).read_bytes()[:-100])
    stored(muons, gone).unlink()
    found = states(muons, "muons")
    assert (found[rotten], found[cut], found[gone]) == ("corrupt", "corrupt", "elsewhere")
    assert found[names[4]] == "ok"
    told = muons("dataset", "verify", "muons", "--checksums")
    assert told.code == 8
    assert rotten in told.err
    assert told.out == "muons: 2 corrupt, 1 elsewhere, 2 ok.\n"
    flags = {
        one["lfn"].rpartition("/")[2]: one["corrupt"]
        for one in map(json.loads, muons("dataset", "show", "muons", "--json").lines)
    }
    assert [name for name in names if flags[name]] == [rotten, cut]
    (tmp_path / "a.py").write_text(SCRIPT)
    result = json.loads(
        muons("analyse", str(tmp_path / "a.py"), "muons;Mode=local", "-o", str(tmp_path / "r"), "--json").out
    )
    assert [one["lfn"] for one in result["missing"] if "corrupt" in one["error"]] == [
        f"/lhc/data/{rotten}",
        f"/lhc/data/{cut}",
    ]
    stored(muons, rotten).write_bytes(good)
    assert states(muons, "muons")[rotten] == "ok"
    again = [json.loads(line) for line in muons("dataset", "show", "muons", "--json").lines]
    assert [one["corrupt"] for one in again if one["lfn"].endswith(rotten)] == [False]


def test_versions_differ_and_a_dataset_from_its_query(muons: Command, zmumu):
    assert "no difference" in muons("dataset", "diff", "muons").err
    assert muons("register", str(zmumu[0]), "--to", "/lhc/data/more").code == 0
    grown = muons("dataset", "diff", "muons@1").lines
    assert [line.split("\t")[:2] for line in grown] == [["+", f"/lhc/data/more/{zmumu[0].name}"]]
    muons("dataset", "create", "muons", "/lhc/data/*lz*.root")
    as_json = [json.loads(one) for one in muons("dataset", "diff", "muons@1", "muons@2", "--json").lines]
    assert sorted(one["kind"] for one in as_json) == ["added", "removed", "removed", "removed"]
    assert muons("dataset", "rm", "muons").code == 2
    assert muons("dataset", "rm", "muons@1").code == 0
    assert [line.split("\t")[0] for line in muons("dataset", "list").lines] == ["muons@2"]
    assert muons("dataset", "show", "muons@1").code == 3


def test_nothing_new_makes_no_version(muons: Command, zmumu, tmp_path):
    again = muons("dataset", "create", "muons", "/lhc/data/*.root")
    assert again.out.startswith("muons@1 is unchanged: 5 files"), again
    assert json.loads(muons("dataset", "create", "muons", "/lhc/data/*.root", "--json").out)["unchanged"]
    assert muons("register", str(zmumu[0]), "--to", "/lhc/data/more").code == 0
    made = json.loads(muons("dataset", "create", "muons", "/lhc/data/*.root", "--json").out)
    assert (made["version"], made["unchanged"]) == (2, False)
    (tmp_path / "list").write_text("/lhc/data/more\n/lhc/far 12\n")
    assert muons("dataset", "import", str(tmp_path / "list"), "taken").out.startswith("taken@1: 2 files")
    assert "taken@1 is unchanged" in muons("dataset", "import", str(tmp_path / "list"), "taken").out
    assert [line.split("\t")[0] for line in muons("dataset", "list").lines] == [
        "muons@1",
        "muons@2",
        "taken@1",
    ]


def test_lists_go_out_and_come_in(muons: Command, tmp_path):
    for kind in ("jsonl", "text", "coffea"):
        path = tmp_path / f"list.{kind}"
        assert muons("dataset", "export", "muons", "--format", kind, "-o", str(path)).code == 0
        taken = muons("dataset", "import", str(path), f"back-{kind}", "--json")
        assert json.loads(taken.out)["files"] == 5, taken.err
        assert "no difference" in muons("dataset", "diff", "muons", f"back-{kind}").err
    names = muons("dataset", "export", "muons", "--names").lines
    assert [line.split()[0] for line in names] == sorted(
        one["lfn"] for one in map(json.loads, muons("dataset", "show", "muons", "--json").lines)
    )
    remote = muons("dataset", "export", "muons;Mode=remote", "-o", str(tmp_path / "none"))
    assert remote.code == 3
    assert not (tmp_path / "none").exists()


def test_coffea_reads_what_is_exported(muons: Command, tmp_path):
    processor = pytest.importorskip("coffea.processor")
    from coffea.nanoevents import BaseSchema

    class Count(processor.ProcessorABC):
        def process(self, events):
            return {"events": len(events)}

        def postprocess(self, accumulator):
            return accumulator

    muons("dataset", "export", "muons;Mode=local", "--format", "coffea", "-o", str(tmp_path / "f.json"))
    run = processor.Runner(processor.IterativeExecutor(status=False), schema=BaseSchema)
    fileset = json.loads((tmp_path / "f.json").read_text())
    assert run(fileset, processor_instance=Count())["events"] == 5 * 2304


def test_a_legacy_collection_is_taken_in(vse: Command):
    assert "--key" in vse("dataset", "import", str(COLLECTION), "old").err
    assert vse("dataset", "import", str(COLLECTION), "old", "--key", "dataset").code == 0
    first, second, third = map(json.loads, vse("dataset", "show", "old", "--json").lines)
    assert first["lfn"] == "/alice/data/2010/LHC10h/000139510/ESDs/pass2/AOD086/0001/AliAOD.root"
    assert (first["size_bytes"], first["entries"], first["tree"]) == (1001, 51, "/aodTree")
    assert (first["known"], first["staged"], second["corrupt"]) == (False, False, True)
    assert third["member"] == "AliESDs.root"
    assert third["source_url"] == "alien:///alice/sim/LHC10d1/117222/001/root_archive.zip#AliESDs.root"
    assert set(states(vse, "old").values()) == {"missing"}


def test_a_bad_list_leaves_nothing(vse: Command, tmp_path):
    path = tmp_path / "list"
    path.write_text("/lhc/a\n" * 3 + "what is this\n")
    done = vse("dataset", "import", str(path), "bad")
    assert done.code == 2
    assert "line 4" in done.err
    assert vse("dataset", "list").lines == []


def test_members_of_archives_are_analysed(vse: Command, zmumu, tmp_path):
    with zipfile.ZipFile(tmp_path / "root_archive.zip", "w") as archive:
        archive.write(zmumu[0], "AliESDs.root")
    assert vse("register", str(tmp_path / "root_archive.zip"), "--to", "/lhc/zip").code == 0
    (tmp_path / "a.py").write_text(SCRIPT)
    query = "Find;BasePath=/lhc/zip;FileName=root_archive.zip#AliESDs.root"
    done = vse("analyse", str(tmp_path / "a.py"), query, "-o", str(tmp_path / "r"), "--json")
    assert json.loads(done.out)["entries_processed"] == 2304, done.err


def test_a_named_query_is_staged_and_told_by_mode(two_sites: TwoSites, zmumu, tmp_path):
    for path in zmumu[:2]:
        two_sites.add(path, path.name)
    two_sites.publish()
    vse = two_sites.vse
    assert vse("dataset", "create", "far", two_sites.query, "--by-query").code == 0

    def shown(query):
        return [json.loads(line) for line in vse("dataset", "show", query, "--json").lines]

    assert shown("far;Mode=local") == []
    remote, cache = shown("far;Mode=remote"), shown("far;Mode=cache")
    assert all(one["url"].startswith("http") and not one["staged"] for one in remote)
    assert [one["url"] for one in cache] == [f"file://{two_sites.here(one['lfn'])}" for one in cache]
    (tmp_path / "a.py").write_text(SCRIPT)
    analyse = ("analyse", str(tmp_path / "a.py"), "-o", str(tmp_path / "r"), "--json")
    none_here = json.loads(vse(*analyse, "far;Mode=local").out or "{}")
    assert not none_here.get("entries_processed")
    staged = vse("stage", "far", "--json")
    assert staged.code == 0, staged.err
    assert [one["staged"] for one in shown("far;Mode=local")] == [True, True]
    assert json.loads(vse(*analyse, "far;Mode=local").out)["entries_processed"] == 2 * 2304
    assert sorted(vse("find", "far").lines) == [one["lfn"] for one in cache]


def test_a_bad_query_is_pointed_at(vse: Command):
    done = vse("stage", "Data;Period=LHC10h;Variant=AOD086;Run=1-x;Pass=2")
    assert done.code == 2
    lines = done.err.splitlines()
    assert lines[2].index("^") == lines[1].index("1-x")
