"""Names at a site of one's own: init, register, ls, stat, find, cat, get, config, doctor."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import uproot

from support.command_line import Command

pytestmark = pytest.mark.slow


def test_a_new_site_works_as_it_stands(tmp_path, zmumu):
    here = Command(tmp_path)
    made = here("init", "mine", "--name", "torino", "--element", "TORINO-DISK")
    assert made.code == 0
    assert "TORINO-DISK" in made.out
    assert here("init", "mine").code == 4
    vse = Command(tmp_path / "mine")
    assert vse("ls", "/").out == ""
    assert vse("doctor").code == 0
    assert vse("register", str(zmumu[0]), "--to", "/lhc/data").code == 0
    assert vse("ls", "/lhc/data").lines == [zmumu[0].name]


def test_what_is_registered_is_a_path(vse, zmumu):
    done = vse("register", *map(str, zmumu), "--to", "/lhc/zmumu", "--json")
    assert done.code == 0
    assert json.loads(done.out)["ok"] == [f"/lhc/zmumu/{path.name}" for path in zmumu]
    for path in zmumu:
        link = vse.directory / "vse/lhc/zmumu" / path.name
        assert link.is_symlink()
        assert link.read_bytes() == path.read_bytes()
    with uproot.open(link) as file:
        assert file["events"].num_entries == 2304
    found = [json.loads(line) for line in vse("find", "/lhc/zmumu/*lz*.root", "--json").lines]
    assert [Path(one["lfn"]).name for one in found] == ["uproot-Zmumu-lz4.root", "uproot-Zmumu-lzma.root"]
    assert {(one["tree"], one["entries"]) for one in found} == {("events", 2304)}


def test_names_with_blanks_unicode_and_a_thousand_characters(vse, tmp_path):
    directory = "/lhc/with blanks/größe #1 100%/" + "/".join(["d" * 100] * 9)
    source = tmp_path / "ein Name?.txt"
    source.write_bytes(b"bytes\n" * 1000)
    assert vse("register", str(source), "--to", directory).code == 0
    lfn = f"{directory}/ein Name?.txt"
    assert len(lfn) > 900
    assert vse("cat", lfn).out.encode() == source.read_bytes()
    assert json.loads(vse("stat", lfn, "--json").out)["size_bytes"] == 6000
    assert (vse.directory / "vse" / lfn[1:]).read_bytes() == source.read_bytes()


def test_files_on_the_storage_are_taken_in_by_a_scan(vse, zmumu):
    place = vse.directory / "storage/lhc/old"
    place.mkdir(parents=True)
    (place / "good.root").write_bytes(zmumu[0].read_bytes())
    (place / "notes.txt").write_text("hello\n")
    (place / "broken.root").write_bytes(zmumu[0].read_bytes()[:50_000])
    done = vse("register", "--scan", "/lhc")
    assert done.code == 8
    assert "2 files registered" in done.out
    assert "broken.root" in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert vse("ls", "/lhc/old").lines == ["good.root", "notes.txt"]


def test_get_copies_whole_or_not_at_all(vse, zmumu, tmp_path):
    vse("register", str(zmumu[0]), "--to", "/lhc")
    target = tmp_path / "mine"
    assert vse("get", f"/lhc/{zmumu[0].name}", str(target)).code == 0
    assert (target / zmumu[0].name).read_bytes() == zmumu[0].read_bytes()
    again = vse("get", f"/lhc/{zmumu[0].name}", str(target))
    assert again.code == 4
    assert "--force" in again.err
    assert vse("get", f"/lhc/{zmumu[0].name}", str(target), "--force").code == 0
    stored = vse.directory / "storage/lhc" / zmumu[0].name
    stored.chmod(0o644)
    with stored.open("r+b") as file:
        file.seek(1000)
        file.write(b"rotten")
    (target / zmumu[0].name).unlink()
    rotten = vse("get", f"/lhc/{zmumu[0].name}", str(target))
    assert rotten.code == 8
    assert "adler32" in rotten.err
    assert list(target.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["stat", "/nowhere/x.root"], 3, "/nowhere/x.root"),
        (["ls", "/nowhere"], 3, "/nowhere"),
        (["stat", "/a/../b"], 2, "'..' is not allowed"),
        (["stat", "/" + "x" * 1000], 2, "at most 255"),
        (["stat", "relative"], 2, "does not start with '/'"),
        (["stage", "Find;BasePath=/lhc;FileName=*.root"], 3, "no file matches"),
        (["analyse", "missing.py", "/lhc"], 2, "missing.py"),
        (["--set", "stager.slotz=1", "ls"], 2, "Did you mean 'slots'?"),
        (["--site", "/nowhere", "ls"], 3, "vse init"),
        (["register"], 2, "--scan"),
        (["status", "99"], 2, "99"),
        (["why", "/nowhere/x"], 3, "/nowhere/x"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(vse, words, code, message):
    answer = vse(*words)
    assert answer.code == code
    assert message in answer.err
    assert answer.err.startswith("error: cannot ")
    assert len(answer.err.strip().splitlines()) == 1
    assert "Traceback" in vse("--debug", *words).err


@pytest.mark.parametrize(
    ("words", "message", "example"),
    [
        (["find", "Find;BasPath=/lhc"], "column 6: unknown key 'BasPath'", "Write it as 'Find;BasePath="),
        (["stage", "Data;Period=LHC13d"], "column 19: Variant is missing", "Write it as 'Data;Period="),
    ],
)
def test_what_is_wrong_in_a_query_is_pointed_at(vse, words, message, example):
    answer = vse(*words)
    assert answer.code == 2
    first, query, caret, last = answer.err.strip().splitlines()
    assert first.startswith("error: cannot understand the query: ") and message in first
    assert query == f"  {words[1]}"
    column = int(message.split(":")[0].removeprefix("column "))
    assert caret == " " * (column + 1) + "^"
    assert last.startswith(example)


def test_a_typo_in_the_settings_is_found_by_its_line(vse):
    path = vse.directory / "vse.toml"
    path.write_text(path.read_text().replace("slots = 8", "slotz = 8"))
    line = (
        path.read_text()
        .splitlines()
        .index(next(one for one in path.read_text().splitlines() if one.startswith("slotz")))
    )
    answer = vse("ls")
    assert answer.code == 2
    assert f"vse.toml:{line + 1}: unknown key 'slotz'" in answer.err


def test_settings_are_shown_with_their_origin(vse):
    shown = vse(
        "--set", "stager.slots=3", "config", "show", "--origin", environment={"VSE_SITE__VO": "alice"}
    )
    rows = {line.split("\t")[0]: line.split("\t")[1:] for line in shown.lines}
    assert rows["stager.slots"] == ["3", "--set stager.slots"]
    assert rows["site.vo"] == ['"alice"', "VSE_SITE__VO"]
    assert rows["stager.backoff_s"] == ["2.0", "default"]


def test_every_command_has_help_with_an_example(vse):
    names = [
        "init",
        "demo",
        "ls",
        "stat",
        "find",
        "register",
        "stage",
        "status",
        "why",
        "cat",
        "get",
        "analyse",
    ]
    for name in [*names, "serve", "doctor", "config show"]:
        answer = vse(*name.split(), "--help")
        assert answer.code == 0
        assert f"vse {name.split()[0]}" in answer.out
        assert "Example" in answer.out or name == "config show", name


def test_doctor_mends_links_and_leaves_what_is_not_ours(vse, zmumu):
    vse("register", str(zmumu[0]), "--to", "/lhc")
    link = vse.directory / "vse/lhc" / zmumu[0].name
    link.unlink()
    assert "1 made" in vse("doctor", "--fix").err
    assert link.is_symlink()
    link.unlink()
    link.write_text("mine")
    answer = vse("doctor", "--fix")
    assert "left alone" in answer.err
    assert link.read_text() == "mine"
