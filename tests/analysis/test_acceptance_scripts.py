"""Scripts as users write them: with modules of their own beside them, and outputs of any kind."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import hist
import numpy as np
import pytest

from support.command_line import ZMUMU, Command
from vse.analysis import companions
from vse.analysis.engine import AnalysisOptions, Feed, InputFile, analyse
from vse.analysis.merging import Unmergeable, in_order, merge
from vse.analysis.output import save
from vse.analysis.script import load_script
from vse.app.init import init_site
from vse.errors import BadScript, ScriptFailed

ENTRIES = 2304 * len(ZMUMU)


def _files() -> Feed:
    return Feed([InputFile(path.name, str(path)) for path in ZMUMU], closed=True)


def _run(client: Any, path: Path, **options: Any) -> Any:
    return analyse(load_script(path), _files(), client, AnalysisOptions(**options))


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


WHO = "import cuts\ndef process(events):\n    return {'who': {cuts.NAME}, 'n': len(events)}\n"
LATE = "def process(events):\n    import cuts\n    return {'who': {cuts.NAME}, 'n': len(events)}\n"


@pytest.mark.slow
@pytest.mark.parametrize("text", [WHO, LATE])
def test_each_script_has_its_own_modules_as_they_are_now(client, tmp_path, text):
    """On workers that live on, with the same names of modules."""
    for name in ("one", "other"):
        _write(tmp_path / name / "cuts.py", f"NAME = {name!r}\n")
        script = _write(tmp_path / name / "mine.py", text)
        assert _run(client, script).output == {"who": {name}, "n": ENTRIES}
    _write(tmp_path / "one" / "cuts.py", "NAME = 'edited'\n")
    assert _run(client, tmp_path / "one" / "mine.py").output["who"] == {"edited"}
    assert _run(client, tmp_path / "other" / "mine.py").output["who"] == {"other"}


@pytest.mark.slow
def test_modules_travel_with_the_script(client, tmp_path):
    """The directory need not be where the workers are, and an edit while it runs changes nothing."""
    _write(tmp_path / "pack/__init__.py", "from . import cuts\n")
    _write(tmp_path / "pack/cuts.py", "from .deep.box import Box\nfrom other import more\nCUT = 60\n")
    _write(tmp_path / "pack/deep/box.py", BOX)
    _write(tmp_path / "other.py", "import pack\ndef more(n):\n    return n + 1\n")
    text = "from pack import cuts\ndef process(events):\n    return {'box': cuts.Box(cuts.more(cuts.CUT))}\n"
    script = load_script(_write(tmp_path / "mine.py", text))
    for path in [*tmp_path.rglob("*.py")]:
        path.write_text("raise SystemExit('it was read again')\n")
    result = analyse(script, _files(), client, AnalysisOptions(packet_entries=500))
    assert result.complete
    assert result.output["box"].n == 61 * result.packets


BOX = """
class Box:
    def __init__(self, n):
        self.n = n
    def __add__(self, other):
        return Box(self.n + other.n)
"""


def test_what_is_installed_is_not_what_is_beside(tmp_path):
    for name in ("numpy", "json", "mine_alone"):
        _write(tmp_path / f"{name}.py", "")
    _write(tmp_path / "unused.py", "")
    text = "import numpy, json, mine_alone, not_there\n"
    assert set(companions.unpack(companions.find(tmp_path / "mine.py", text))) == {"mine_alone"}
    assert companions.find(tmp_path / "mine.py", "import (") == b""


def test_a_relative_import_says_what_to_write(tmp_path):
    _write(tmp_path / "cuts.py", "")
    with pytest.raises(BadScript, match="import what is beside it by its name"):
        load_script(_write(tmp_path / "mine.py", "from . import cuts\ndef process(events):\n    return 1\n"))


def test_another_module_beside_it_is_another_script_for_a_checkpoint(tmp_path):
    script = _write(tmp_path / "mine.py", WHO)
    digests = []
    for name in ("one", "other", "one"):
        _write(tmp_path / "cuts.py", f"NAME = {name!r}\n")
        digests.append(load_script(script).source.digest)
    assert digests[0] == digests[2] != digests[1]


@pytest.mark.slow
def test_what_a_script_prints_is_in_no_listing(tmp_path, zmumu_site):
    text = "print('loaded')\ndef process(events):\n    print('events')\n    return {'n': len(events)}\n"
    text += "def postprocess(output):\n    print('done')\n"
    done = zmumu_site("analyse", str(_write(tmp_path / "mine.py", text)), "/real/*.root", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["entries_processed"] == ENTRIES
    assert {"loaded", "events", "done"} <= set(done.err.split())


@pytest.fixture
def zmumu_site(tmp_path: Path) -> Command:
    init_site(tmp_path / "site", name="test")
    vse = Command(tmp_path / "site")
    assert vse("register", *map(str, ZMUMU), "--to", "/real").code == 0
    return vse


# Outputs


@pytest.mark.slow
def test_objects_of_the_scripts_own_classes_can_be_read_anywhere(client, tmp_path):
    _write(tmp_path / "boxes.py", BOX)
    text = "from collections import defaultdict\nfrom boxes import Box\nclass Own(Box):\n    pass\n"
    text += (
        "def process(events):\n    many = defaultdict(lambda: Box(0))\n    many['n'] += Box(len(events))\n"
    )
    text += "    return {'many': many, 'own': Own(1)}\n"
    path = _write(tmp_path / "mine.py", text)
    result = _run(client, path)
    assert result.output["many"]["n"].n == ENTRIES
    save(result, tmp_path / "out", load_script(path))
    look = "import pickle; print(pickle.load(open('others.pickle', 'rb'))['many.n'].n)"
    done = subprocess.run(
        [sys.executable, "-c", look], cwd=tmp_path / "out", capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{ENTRIES}\n"


@pytest.mark.slow
def test_axes_that_grow_differently_are_brought_together(client, tmp_path):
    text = """
import hist
def process(events):
    grown = hist.Hist(
        hist.axis.StrCategory([], growth=True, name="side"),
        hist.axis.Regular(10, 80, 90, growth=True, name="mass", label="m [GeV]"),
        hist.axis.Integer(0, 1, growth=True, name="run"),
        storage=hist.storage.Int64(), label="events",
    )
    grown.fill(["low" if m < 90 else "high" for m in events.M], events.M, events.Run % 7)
    return {"grown": grown}
"""
    path = _write(tmp_path / "mine.py", text)
    whole = _run(client, path).output["grown"]
    parts = _run(client, path, packet_entries=100).output["grown"]
    assert whole.sum() == parts.sum() == ENTRIES
    assert list(parts.axes[0]) == ["high", "low"]
    assert (parts.axes[1].name, parts.axes[1].label, parts.label) == ("mass", "m [GeV]", "events")
    assert parts.axes[1].widths[0] == pytest.approx(1.0)
    assert np.array_equal(whole.values(flow=True), parts.values(flow=True))


@pytest.mark.slow
def test_a_tuple_is_refused_before_it_becomes_a_long_one(client, tmp_path):
    path = _write(tmp_path / "mine.py", "def process(events):\n    return len(events), 1\n")
    with pytest.raises(ScriptFailed, match="returned 2 things without names"):
        _run(client, path)


def test_arrays_of_other_shapes_are_no_sum():
    with pytest.raises(Unmergeable, match=r"\['high'\].*\(1,\) and \(3,\).*return an awkward array"):
        merge({"high": np.array([1.0])}, {"high": np.array([1.0, 2.0, 3.0])})


def test_tables_go_one_behind_the_other():
    pandas = pytest.importorskip("pandas")
    table = merge(pandas.DataFrame({"m": [1.0, 2.0]}), pandas.DataFrame({"m": [3.0]}))
    assert table["m"].tolist() == [1.0, 2.0, 3.0]


def test_a_table_is_kept_as_one(tmp_path):
    pandas = pytest.importorskip("pandas")
    script = load_script(_write(tmp_path / "mine.py", "def process(events):\n    return 1\n"))
    save(_Result({"m": pandas.DataFrame({"m": [1.0]})}), tmp_path / "out", script)
    assert json.loads((tmp_path / "out/result.json").read_text())["output"] == {"m": "in others.pickle"}
    kept = pickle.loads((tmp_path / "out/others.pickle").read_bytes())  # noqa: S301 - written above
    assert kept["m"]["m"].tolist() == [1.0]


class _Result:
    def __init__(self, output: Any) -> None:
        self.output = output
        self.files: list[Any] = []

    def to_dict(self) -> dict[str, Any]:
        return {}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (hist.axis.Regular(4, 0, 4, growth=True), hist.axis.Regular(4, 0.5, 4.5, growth=True)),
        (hist.axis.Regular(4, 0, 4, growth=True), hist.axis.Regular(8, 0, 4, growth=True)),
        (hist.axis.Regular(4, 0, 4), hist.axis.Regular(5, 0, 5)),
        (hist.axis.Regular(4, 0, 4, growth=True), hist.axis.Integer(0, 4, growth=True)),
        (hist.axis.Variable([0, 1, 3], growth=True), hist.axis.Variable([0, 1, 3, 4], growth=True)),
    ],
)
def test_bins_that_are_not_the_same_are_not_added(one, other):
    with pytest.raises(Unmergeable, match="Hist and Hist cannot be added"):
        merge(hist.Hist(one), hist.Hist(other))


@pytest.mark.parametrize("storage", [hist.storage.Weight(), hist.storage.Int64(), hist.storage.Double()])
def test_grown_apart_and_added_is_filled_at_once(storage):
    def filled(values: Any) -> hist.Hist:
        made = hist.Hist(
            hist.axis.Regular(7, 0.1, 1.3, growth=True, name="x"),
            hist.axis.IntCategory([], growth=True, name="n"),
            storage=storage,
        )
        made.fill(values, (values * 3).astype(int) % 5)
        return made

    random = np.random.default_rng(4)
    values = random.uniform(-9, 9, 400)
    values = np.concatenate([np.sort(values), [np.inf, -np.inf]])[:400]
    together, total = in_order(filled(values)), None
    for part in np.array_split(values, 7):
        total = merge(total, filled(part))
    assert np.array_equal(in_order(total).view(flow=True), together.view(flow=True))


@pytest.mark.slow
def test_arrays_that_a_script_returns_unread_are_read_while_their_file_is_open(client, tmp_path):
    """More files than a worker keeps open, and no collection before the end."""
    text = "def process(events):\n    return {'n': len(events), 'of': {'mass': events.M}, 'x': events.px1}\n"
    script = load_script(_write(tmp_path / "unread.py", text))
    for number in range(24):
        (tmp_path / f"{number:02}.root").hardlink_to(_local(tmp_path))
    feed = Feed([InputFile(f"{one:02}", str(tmp_path / f"{one:02}.root")) for one in range(24)], closed=True)
    options = AnalysisOptions(packet_target_s=0.01, partial_every_s=1000.0)
    result = analyse(script, feed, client, options)
    assert result.complete
    assert result.output["n"] == len(result.output["of"]["mass"]) == len(result.output["x"]) == 24 * 2304
    once = analyse(script, _files(), client, options).output["of"]["mass"]
    assert float(np.sum(result.output["of"]["mass"])) == pytest.approx(24 / len(ZMUMU) * float(np.sum(once)))


def _local(tmp_path: Path) -> Path:
    """A file that may be linked to: the data may be on another file system."""
    copy = tmp_path / "zmumu.root"
    if not copy.exists():
        copy.write_bytes(ZMUMU[0].read_bytes())
    return copy
