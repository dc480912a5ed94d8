"""Files that are made of others on their way in: by a skim, a command, an installed function."""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.command_line import InProcess
from support.two_elements import KeptReaders, TwoElements, readers
from support.waiting import until
from vse.app.site import Site
from vse.app.stage import stage_dataset
from vse.errors import BadSettings, NoSuchEntry, VseError
from vse.model import DatasetQuery, Identity, Lfn, NewFile
from vse.staging.values import FileFailed, FileStaged, News

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
pytestmark = pytest.mark.slow
SOURCE = Lfn("/lhc/data/AliAOD.root")

SKIM = """
[filters.TIGHT]
kind = "skim"
branches = ["Run", "Event", "M", "pt?"]
where = "(pt1 > 40) & (abs(eta1) < 1)"
version = "7"
"""


__all__ = ["readers"]


class Place(TwoElements):
    """A site with a real file at a remote element, and filters."""

    def __init__(self, root: Path, readers: KeptReaders) -> None:
        super().__init__(root, readers)
        self.news: list[News] = []

    def open(self, filters: str) -> Site:
        return self.open_with(filters)

    def add(self, lfn: Lfn = SOURCE, source: Path = DATA / "uproot-Zmumu.root", se: str = "REMOTE") -> None:
        path = self.root / se.lower() / lfn[1:]
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, path)
        data = path.read_bytes()
        new = NewFile(lfn, len(data), zlib.adler32(data), se, guid=bytes(range(16)), owner="anna", mode=0o640)
        assert not self.site.catalogue.register([new]).failed

    def stage(self, query: str) -> None:
        stage_dataset(self.site, DatasetQuery.parse(query)).run(self.news.append)

    def stage_one(self, lfn: Lfn) -> None:
        self.stage(f"Find;BasePath={lfn.parent};FileName={lfn.name}")

    def staged(self) -> list[FileStaged]:
        return [one for one in self.news if isinstance(one, FileStaged)]

    def failure(self) -> VseError:
        (one,) = [one for one in self.news if isinstance(one, FileFailed)]
        return one.error

    def nothing_remains(self) -> bool:
        left = [path for top in ("local", "var/scratch") for path in (self.root / top).rglob("*")]
        return not [path for path in left if path.is_file() or path.suffix == ".work"]


@pytest.fixture
def place(tmp_path: Path, readers: KeptReaders) -> Iterator[Place]:
    one = Place(tmp_path, readers)
    yield one
    one.site.close()


def made(name: str) -> Lfn:
    return Lfn(f"/lhc/data/AliAOD.FILTER_{name}.root")


def command(body: str, **settings: Any) -> str:
    """Return the settings of a filter X that runs a script, which has IN, OUT and TREE."""
    code = "import os, shutil, signal, sys, time\nIN, OUT, TREE = sys.argv[1:4]\n" + textwrap.dedent(body)
    words = json.dumps([sys.executable, "-c", code, "$IN", "$OUT", "$TREE"])
    more = "\n".join(f"{key} = {json.dumps(value)}" for key, value in settings.items())
    return f'[filters.X]\nkind = "command"\ncommand = {words}\n{more}\n'


# -- the skim ----------------------------------------------------------------------------------------


def test_a_skim_keeps_the_entries_that_numpy_selects_under_the_virtual_name(place: Place) -> None:
    import numpy as np
    import uproot

    place.open(SKIM)
    place.add()
    place.stage_one(made("TIGHT"))
    with uproot.open(DATA / "uproot-Zmumu.root") as file:
        real = file["events"].arrays(library="np")
    chosen = (real["pt1"] > 40) & (np.abs(real["eta1"]) < 1)
    with uproot.open(place.local(made("TIGHT"))) as file:
        assert file.keys() == ["events;1"]
        kept = file["events"].arrays(library="np")
    assert set(kept) == {"Run", "Event", "M", "pt1", "pt2"}
    assert 0 < chosen.sum() < len(chosen)
    for name, values in kept.items():
        np.testing.assert_array_equal(values, real[name][chosen])
    assert place.local(made("TIGHT")).stat().st_size < (DATA / "uproot-Zmumu.root").stat().st_size
    assert not place.local(SOURCE).exists()
    (news,) = place.staged()
    assert news.contents is not None
    assert news.contents == ("events", chosen.sum())


def test_the_catalogue_knows_a_made_file_and_how_it_was_made(place: Place) -> None:
    site = place.open(SKIM)
    place.add()
    place.stage_one(made("TIGHT"))
    located = site.catalogue.resolve([made("TIGHT")]).one(made("TIGHT"))
    data = place.local(made("TIGHT")).read_bytes()
    assert (located.entry.size_bytes, located.entry.adler32) == (len(data), zlib.adler32(data))
    assert (located.entry.owner, located.entry.mode) == ("anna", 0o640)
    assert located.contents is not None
    assert [one.se for one in located.replicas] == ["LOCAL"]
    (origin,) = site.catalogue.details([made("TIGHT")]).one(made("TIGHT")).origins
    url, _, told = (origin.source or "").partition(" ")
    assert url == f"filter:TIGHT:file://{place.root}/remote{SOURCE}"
    provenance = json.loads(told)
    assert provenance["settings"] == site.settings.filters["TIGHT"].fingerprint
    assert {key: provenance[key] for key in ("source", "version", "guid", "entries_in", "entries_out")} == {
        "source": SOURCE,
        "version": "7",
        "guid": "00010203-0405-0607-0809-0a0b0c0d0e0f",
        "entries_in": 2304,
        "entries_out": located.contents.entries,
    }


def test_arrays_keep_their_names_and_counters(place: Place) -> None:
    import uproot

    place.open(
        '[filters.MU]\nkind = "skim"\nwhere = "nMuon > 1"\n'
        'branches = ["run", "nMuon", "Muon_*", "HLT_IsoMu2?"]'
    )
    place.add(source=DATA / "nano_dy.root")
    place.stage_one(made("MU"))
    names = ["nMuon", "Muon_pt", "Muon_charge", "HLT_IsoMu24"]
    with uproot.open(DATA / "nano_dy.root") as real, uproot.open(place.local(made("MU"))) as file:
        expected = real["Events"].arrays(names)
        assert file["Events"].arrays(names).tolist() == expected[expected.nMuon > 1].tolist()
        globs = ("run", "nMuon", "Muon_*", "HLT_IsoMu2?")
        assert set(file["Events"].keys(filter_name=globs)) == set(real["Events"].keys(filter_name=globs))
        assert set(file["Events"].keys()) == set(file["Events"].keys(filter_name=globs))


def test_a_skim_that_keeps_nothing_writes_a_tree_without_entries(place: Place) -> None:
    place.open('[filters.NONE]\nkind = "skim"\nwhere = "pt1 > 1e9"')
    place.add()
    place.stage_one(made("NONE"))
    (news,) = place.staged()
    assert news.contents == ("events", 0)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ('where = "nonsense > 1"', "nonsense"),
        ('where = "pt1 >"', "SyntaxError"),
        ('branches = ["zzz*"]', r"no branch matches zzz\*"),
    ],
)
def test_a_skim_that_cannot_be_made_says_why(place: Place, settings: str, said: str) -> None:
    place.open(f'[filters.X]\nkind = "skim"\n{settings}')
    place.add()
    place.stage_one(made("X"))
    text = str(place.failure())
    assert "by the filter 'X'" in text
    assert said.replace("\\", "") in text
    assert place.nothing_remains()


# -- names -------------------------------------------------------------------------------------------


def test_a_virtual_name_is_found_before_its_file_is_there(place: Place) -> None:
    site = place.open(SKIM)
    place.add()
    site.close()
    vse = InProcess(place.root)
    shown = vse("stat", made("TIGHT"))
    assert (shown.code, f"made from  {SOURCE}" in shown.out) == (0, True)
    why = vse("why", made("TIGHT"))
    assert why.code == 0
    assert f"can be made from {SOURCE}" in why.out
    assert vse("ls", "/lhc/data").out.split()[-1].endswith("AliAOD.root")
    assert vse("stat", "/lhc/data/AliAOD.FILTER_OTHER.root").code == 3
    assert vse("stat", "/lhc/data/Missing.FILTER_TIGHT.root").code == 3
    staged = vse("stage", f"Find;BasePath=/lhc/data;FileName={made('TIGHT').name}")
    assert staged.code == 0, staged.err
    assert "made from" not in vse("stat", made("TIGHT")).out


def test_a_glob_asks_for_what_can_be_made_of_every_file_and_for_what_is_made_once(place: Place) -> None:
    site = place.open(SKIM)
    for name in ("001/AliAOD.root", "002/AliAOD.root", "002/AliESDs.root", "003/notes.txt"):
        place.add(Lfn(f"/lhc/data/{name}"))
    place.stage_one(Lfn("/lhc/data/001/AliAOD.FILTER_TIGHT.root"))
    query = DatasetQuery.parse("Find;BasePath=/lhc/data;FileName=*.FILTER_TIGHT.root")
    found = [(one.entry.lfn, one.entry.size_bytes is not None) for one in site.selector.find(query)]
    assert found == [
        ("/lhc/data/001/AliAOD.FILTER_TIGHT.root", True),
        ("/lhc/data/002/AliAOD.FILTER_TIGHT.root", False),
        ("/lhc/data/002/AliESDs.FILTER_TIGHT.root", False),
    ]
    plain = DatasetQuery.parse("Find;BasePath=/lhc/data;FileName=*.root")
    assert len(list(site.selector.find(plain))) == 4
    place.stage(str(query))
    assert len(place.staged()) == 3
    assert all(one.contents == place.staged()[0].contents for one in place.staged())


def test_a_file_that_is_here_already_is_made_into_another_without_any_other_copy(place: Place) -> None:
    place.open(SKIM)
    place.add(se="LOCAL")
    place.stage_one(made("TIGHT"))
    assert place.local(made("TIGHT")).is_file()
    assert place.local(SOURCE).is_file()


def test_a_made_file_that_was_evicted_is_made_again(place: Place) -> None:
    site = place.open(SKIM)
    place.add()
    place.stage_one(made("TIGHT"))
    first = place.local(made("TIGHT")).read_bytes()
    place.local(made("TIGHT")).unlink()
    site.catalogue.remove_replicas([made("TIGHT")], "LOCAL")
    place.stage_one(made("TIGHT"))
    again = place.local(made("TIGHT")).read_bytes()
    located = site.catalogue.resolve([made("TIGHT")]).one(made("TIGHT"))
    assert [one.se for one in located.replicas] == ["LOCAL"]
    assert (located.entry.size_bytes, located.entry.adler32) == (len(again), zlib.adler32(again))
    assert len(again) == pytest.approx(len(first), rel=0.05)


def test_a_made_file_that_nobody_recorded_is_taken_for_made(place: Place) -> None:
    """A stager was killed between publishing and recording; another run need not write the same bytes."""
    site = place.open(SKIM)
    place.add()
    place.stage_one(made("TIGHT"))
    before = place.local(made("TIGHT")).read_bytes()
    assert not site.catalogue.remove([made("TIGHT")], forever=True).failed
    place.stage_one(made("TIGHT"))
    assert place.local(made("TIGHT")).read_bytes() == before
    entry = site.catalogue.resolve([made("TIGHT")]).one(made("TIGHT")).entry
    assert entry.adler32 == zlib.adler32(before)


def test_what_has_the_name_and_is_another_file_is_left_alone(place: Place) -> None:
    place.open(SKIM)
    place.add()
    place.local(made("TIGHT")).parent.mkdir(parents=True)
    place.local(made("TIGHT")).write_bytes(b"somebody's notes")
    place.stage_one(made("TIGHT"))
    assert "the name is taken" in str(place.failure())
    assert place.local(made("TIGHT")).read_bytes() == b"somebody's notes"


def test_a_filter_that_is_in_the_settings_no_more_is_told_of(place: Place) -> None:
    site = place.open(SKIM)
    place.add()
    query = DatasetQuery.parse(f"Find;BasePath=/lhc/data;FileName={made('TIGHT').name}")
    request = site.staging.request(query, "anna", "LOCAL").id
    site.close()
    place.open('[filters.OTHER]\nkind = "skim"').stager(place.news.append).run(threading.Event(), [request])
    assert "no filter 'TIGHT'" in str(place.failure())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ('kind = "command"', "needs a command"),
        ('kind = "skim"\ntemplate = "{stem}.X"', "{suffix}"),
        ('kind = "skim"\ntemplate = "{stem}{suffix}"', "the name of the one it is made of"),
        ('kind = "sieve"', "sieve"),
    ],
)
def test_settings_of_a_filter_that_cannot_be_are_refused(place: Place, settings: str, message: str) -> None:
    with pytest.raises(BadSettings) as error:
        place.open(f"[filters.X]\n{settings}")
    assert message in str(error.value)
    place.open("")


def test_other_names_are_possible(place: Place) -> None:
    site = place.open(
        '[filters.muons]\nkind = "skim"\ntemplate = "skim-{filter}_{stem}{suffix}"\nmatch = "/lhc/*"'
    )
    place.add()
    assert site.names.stat([Lfn("/lhc/data/skim-muons_AliAOD.root")]).one(
        "/lhc/data/skim-muons_AliAOD.root"
    ).target == str(SOURCE)
    with pytest.raises(NoSuchEntry):
        site.names.stat([Lfn("/other/skim-muons_AliAOD.root")]).one("/other/skim-muons_AliAOD.root")


# -- commands ----------------------------------------------------------------------------------------


def test_a_command_gets_the_file_its_target_and_its_tree_and_no_shell(place: Place) -> None:
    body = """
        assert TREE == "events" and os.path.basename(IN) == "AliAOD.root"
        assert sys.argv[4] == "a $HOME; `id` b", sys.argv
        assert not [one for one in os.environ if one.startswith("VSE_")]
        shutil.copyfile(IN, OUT)
    """
    settings = command(body).replace('"$TREE"]', '"$TREE", "a $HOME; `id` b"]')
    place.open(settings)
    place.add()
    place.stage_one(made("X"))
    assert place.local(made("X")).read_bytes() == (DATA / "uproot-Zmumu.root").read_bytes()


BAD: dict[str, tuple[str, dict[str, Any], str]] = {
    "fails": ("sys.exit('out of luck')", {}, "it failed (exit code 1); it said: out of luck"),
    "crashes": ("os.kill(os.getpid(), 11)", {}, "it crashed (SIGSEGV)"),
    "writes nothing": ("pass", {}, "wrote nothing to its $OUT"),
    "writes an empty file": ("open(OUT, 'w')", {}, "wrote nothing to its $OUT"),
    "writes a link": ("os.symlink('/etc/passwd', OUT)", {}, "wrote nothing to its $OUT"),
    "writes garbage": ("open(OUT, 'wb').write(os.urandom(9999))", {}, "no sound file: it does not begin"),
    "writes half a file": (
        "shutil.copyfile(IN, OUT); os.truncate(OUT, 90000)",
        {},
        "what it wrote is no sound file",
    ),
    "hangs": ("time.sleep(3600)", {"timeout_s": 0.5}, "did not come to an end within 0.5 s"),
    "hangs deaf": (
        "signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(3600)",
        {"timeout_s": 0.5},
        "did not come to an end within 0.5 s",
    ),
    "eats memory": ("x = bytearray(10**9)", {"memory_bytes": 300 * 1024**2}, "MemoryError"),
    "fills the disk": (
        "open(OUT, 'wb').write(bytes(10**7))",
        {"output_bytes": 10**6},
        "File too large",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_filter_that_is_bad_is_a_failed_file_and_leaves_nothing(
    place: Place, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    body, settings, said = BAD[kind]
    monkeypatch.setattr("vse.staging.filters_running._GRACE_S", 0.5)
    place.open(command(body, **settings))
    place.add()
    began_s = time.monotonic()
    place.stage_one(made("X"))
    assert time.monotonic() - began_s < 20
    assert said in str(place.failure())
    assert place.nothing_remains()
    with pytest.raises(NoSuchEntry):
        place.site.catalogue.resolve([made("X")]).one(made("X"))


def test_what_a_filter_has_started_ends_with_it(place: Place) -> None:
    pid = place.root / "pid"
    place.open(
        command(
            f"""
            child = os.fork()
            if child == 0:
                time.sleep(3600)
            open({str(pid)!r}, "w").write(str(child))
            shutil.copyfile(IN, OUT)
            """
        )
    )
    place.add()
    place.stage_one(made("X"))
    assert place.local(made("X")).is_file()
    until(lambda: not _alive(int(pid.read_text())))


def test_a_stop_ends_a_filter_and_puts_the_transfer_back(place: Place) -> None:
    pid = place.root / "pid"
    site = place.open(
        command(f"open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(3600)", timeout_s=600)
    )
    place.add()
    query = DatasetQuery.parse(f"Find;BasePath=/lhc/data;FileName={made('X').name}")
    request = site.staging.request(query, "anna", "LOCAL").id
    stop = threading.Event()
    thread = threading.Thread(target=site.stager().run, args=(stop, [request]))
    thread.start()
    until(lambda: pid.is_file() and pid.read_text() != "")
    stop.set()
    thread.join(20)
    assert not thread.is_alive()
    until(lambda: not _alive(int(pid.read_text())))
    (transfer,) = site.queue.of_lfn(made("X"))
    assert (transfer.state, transfer.failures) == ("queued", 0)
    assert place.nothing_remains()


def test_scratch_files_of_a_stager_that_was_killed_are_swept(place: Place) -> None:
    left = place.root / "var/scratch/.vse-partial"
    (left / "99-dead.work" / "out").mkdir(parents=True)
    (left / "99-dead.work" / "out" / "big").write_bytes(b"x" * 1000)
    (left / "99-dead.part").write_bytes(b"x" * 1000)
    os.utime(left / "99-dead.part", (1, 1))
    place.open(SKIM)
    place.add()
    place.stage_one(made("TIGHT"))
    assert len(place.staged()) == 1
    assert list(left.iterdir()) == []


def test_a_bad_source_is_no_fault_of_the_filter(place: Place) -> None:
    place.open(SKIM)
    place.add()
    path = place.root / "remote" / SOURCE[1:]
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    place.stage_one(made("TIGHT"))
    assert "the bytes have adler32" in str(place.failure())
    assert place.nothing_remains()


# -- functions ---------------------------------------------------------------------------------------


def test_an_installed_function_is_a_filter(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A distribution of its own, with an entry point, as somebody else would install it."""
    home = place.root / "plugin"
    (home / "halver-1.dist-info").mkdir(parents=True)
    (home / "halver-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: halver\nVersion: 1\n")
    (home / "halver-1.dist-info" / "entry_points.txt").write_text("[vse.filters]\nHALF = halver:halve\n")
    (home / "halver.py").write_text(
        "import uproot\n"
        "def halve(source, target, *, tree, options):\n"
        "    with uproot.open(source) as file, uproot.recreate(target) as out:\n"
        "        array = file[tree].arrays(options['names'], entry_stop=file[tree].num_entries // 2)\n"
        "        made = out.mktree(tree, dict.fromkeys(array.fields, 'float64'))\n"
        "        made.extend({name: array[name] for name in array.fields})\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{home}:{os.environ.get('PYTHONPATH', '')}")
    place.open('[filters.HALF]\nkind = "python"\noptions = { names = ["pt1", "M"] }')
    place.add()
    place.stage_one(made("HALF"))
    (news,) = place.staged()
    assert news.contents == ("events", 1152)


def test_a_function_that_is_not_installed_is_named(place: Place) -> None:
    place.open('[filters.X]\nkind = "python"\nentry = "nowhere"')
    place.add()
    place.stage_one(made("X"))
    assert "no filter 'nowhere' is installed" in str(place.failure())


def test_permissions_of_a_virtual_name_are_those_of_its_directory(place: Place) -> None:
    site = place.open(SKIM)
    place.add()
    guarded = site.lookup_for(Identity.of_process())
    assert guarded.stat([made("TIGHT")]).one(made("TIGHT")).target == str(SOURCE)


def _alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
