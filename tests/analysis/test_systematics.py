"""Variations and several datasets: one reading, an output for each, and nothing runs over."""

from __future__ import annotations

import importlib.util
import pickle
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot

from support.analysis_site import ZMUMU, input_file, needs_data, run
from vse.analysis.merging import merge
from vse.analysis.processors import process_events
from vse.analysis.reading import open_file, read_events
from vse.analysis.script import ScriptSource, load_source
from vse.errors import BadScript

UP = """
def up(events):
    events["M"] = events.M * 2
    return events
def process(events):
    return {"n": len(events), "sum": float(sum(events.M))}
variations = {"up": up}
"""
NAMED = """
variations = ["up", "down"]
def process(events, variation):
    return {"n": {"nominal": 1, "up": 10, "down": 100}[variation]}
"""


def load(text: str) -> Any:
    return load_source(ScriptSource("/home/me/vary.py", text))


def travelled(output: Any) -> Any:
    return pickle.loads(pickle.dumps(output))  # noqa: S301 - it was pickled here


@pytest.fixture
def events() -> Any:
    return ak.Array({"M": [1.0, 2.0, 3.0]})


def test_each_variation_has_its_output_and_its_own_events(events: Any) -> None:
    output = process_events(load(UP), events)
    assert output == {"nominal": {"n": 3, "sum": 6.0}, "up": {"n": 3, "sum": 12.0}}
    assert events.M.tolist() == [1.0, 2.0, 3.0]


def test_a_variation_can_be_told_to_process_by_its_name(events: Any) -> None:
    assert process_events(load(NAMED), events) == {
        "nominal": {"n": 1},
        "up": {"n": 10},
        "down": {"n": 100},
    }


def test_outputs_are_kept_by_dataset_and_add_up_over_a_journey(events: Any) -> None:
    script = load(UP + "def postprocess(output):\n    output['mean'] = output['sum'] / output['n']\n")
    parts = [process_events(script, events, name) for name in ("ttbar", "dy", "dy")]
    total = None
    for part in parts:
        total = merge(total, travelled(part))
    finished = script.finish(travelled(total))
    assert finished["ttbar"]["nominal"] == {"n": 3, "sum": 6.0, "mean": 2.0}
    assert finished["dy"]["up"] == {"n": 6, "sum": 24.0, "mean": 4.0}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("def process(events): return 1\nvariations = 3\n", "neither names with functions nor a list"),
        ("def process(events): return 1\nvariations = {'up': 2}\n", "neither names with functions"),
        ("def process(events): return 1\nvariations = ['up']\n", "and the name of a variation"),
        ("def process(events, v): return 1\nvariations = ['nominal']\n", "called nominal"),
        ("def process(events, v): return 1\n", "cannot be called with the events alone"),
    ],
)
def test_variations_that_cannot_work_are_told_before_anything_is_read(text: str, found: str) -> None:
    with pytest.raises(BadScript, match=found):
        load(text)


def test_an_error_says_in_which_variation_it_was(events: Any) -> None:
    script = load(UP.replace("return events\n", "return events.nothing\n"))
    with pytest.raises(AttributeError, match="nothing") as caught:
        process_events(script, events)
    assert "This was in the variation up." in caught.value.__notes__
    silent = load(UP.replace("    return events\n", ""))
    with pytest.raises(TypeError, match="the variation up returned nothing"):
        process_events(silent, events)


@needs_data
def test_variations_read_the_events_once() -> None:
    outputs, read_bytes = [], []
    for text in (UP, UP.replace("variations =", "no_variations =")):
        script = load(text)
        file = open_file(str(ZMUMU[0]), "events")
        file.take_read_bytes()
        outputs.append(process_events(script, read_events(file, script, 0, 2304, {"dataset": "z"})))
        read_bytes.append(file.take_read_bytes())
    varied, plain = outputs
    assert varied["up"]["sum"] == pytest.approx(2 * plain["sum"])
    assert varied["nominal"] == pytest.approx(plain)
    assert read_bytes[0] == read_bytes[1] > 2304 * 4


RDF = """
def process(rdf):
    return {
        "mass": rdf.Histo1D(("mass", "dimuons;m [GeV];n", 60, 60.0, 120.0), "M"),
        "maps": {"energies": rdf.Histo2D(("e", "e", 4, 0.0, 100.0, 5, 0.0, 50.0), "E1", "E2", "M")},
        "n": rdf.Count(),
        "sum": rdf.Sum("M"),
    }
"""


def test_an_rdataframe_without_root_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        "vse.analysis.script.importlib.util.find_spec",
        lambda name, *rest: None if name == "ROOT" else real(name, *rest),
    )
    with pytest.raises(BadScript, match="pip install root"):
        load(RDF + "# without root\n")


@pytest.mark.slow
@needs_data
@pytest.mark.skipif(importlib.util.find_spec("ROOT") is None, reason="the package root is not installed")
def test_an_rdataframe_gives_what_uproot_gives(client: Any, write_script: Any) -> None:
    script = write_script(
        RDF + "def up(rdf):\n    return rdf.Redefine('M', 'M * 2')\nvariations = {'up': up}\n"
    )
    result = run(script, [input_file(ZMUMU[0])], client, packet_entries=1000)
    with uproot.open(ZMUMU[0]) as file:
        arrays = file["events"].arrays(["M", "E1", "E2"], library="np")
    nominal, up = result.output["nominal"], result.output["up"]
    assert nominal["n"] == len(arrays["M"]) == result.entries_processed
    assert up["sum"] == pytest.approx(2 * arrays["M"].sum())
    expected, _ = np.histogram(arrays["M"], 60, (60, 120))
    np.testing.assert_array_equal(nominal["mass"].values(), expected)
    assert nominal["mass"].values(flow=True).sum() == len(arrays["M"])
    assert nominal["mass"].axes[0].label == "m [GeV]"
    flat, _, _ = np.histogram2d(arrays["E1"], arrays["E2"], (4, 5), ((0, 100), (0, 50)), weights=arrays["M"])
    np.testing.assert_allclose(nominal["maps"]["energies"].values(), flat)
    assert nominal["maps"]["energies"].variances() is not None
    assert result.read_bytes > 0


@pytest.mark.slow
@needs_data
@pytest.mark.skipif(importlib.util.find_spec("ROOT") is None, reason="the package root is not installed")
def test_what_does_not_add_up_is_refused_by_its_kind(tmp_path: Path) -> None:
    from vse.analysis.processors_rdataframe import data_frame

    script = load("def process(rdf):\n    return {'p': rdf.Profile1D(('p', 'p', 4, 0., 100.), 'E1', 'M')}\n")
    with pytest.raises(BadScript, match="a TProfile does not add up"):
        process_events(script, data_frame(str(ZMUMU[0]), "events", 0, 100))
