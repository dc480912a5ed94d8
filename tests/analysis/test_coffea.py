"""Processors of coffea as they are: NanoEvents, schemas, accumulators, postprocess, datasets, variations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import uproot

from support.analysis_site import DATA, NANO, ZMUMU, input_file, needs_data, run
from vse.analysis.script import Script

pytest.importorskip("coffea")
pytestmark = [pytest.mark.slow, needs_data]
Write = Callable[[str], Script]

PROCESSOR = """
import awkward as ak
import hist
import numpy as np
from coffea import processor

class Muons(processor.ProcessorABC):
    def __init__(self, least=5.0):
        self.least = least

    def process(self, events):
        dataset = events.metadata["dataset"]
        muons = events.Muon[events.Muon.pt > self.least]
        pt = hist.Hist.new.StrCat([], growth=True, name="dataset").Reg(50, 0, 100, name="pt").Double()
        pt.fill(dataset=dataset, pt=ak.flatten(muons.pt))
        return {
            dataset: {"entries": len(events), "cutflow": processor.defaultdict_accumulator(int, {"all": len(muons)})},
            "pt": pt,
            "pts": processor.column_accumulator(np.sort(ak.to_numpy(ak.flatten(muons.pt)))),
            "runs": processor.set_accumulator({int(run) for run in events.run}),
            "most": processor.value_accumulator(int, int(ak.sum(ak.num(muons)))),
        }

    def postprocess(self, accumulator):
        accumulator["finished"] = True
        return accumulator
"""  # noqa: E501 - it is the user's own style


def muons_by_hand(name: str) -> Any:
    with uproot.open(DATA / name) as file:
        pt = file["Events"]["Muon_pt"].array()
    return np.asarray([value for event in pt for value in event if value > 5.0])


def test_a_processor_runs_unchanged_over_two_datasets(client: Any, write_script: Write) -> None:
    files = [replace(input_file(DATA / name), dataset=f"set{number}") for number, name in enumerate(NANO)]
    result = run(write_script(PROCESSOR), files, client, packet_entries=17, dataset="both")
    assert result.complete, (result.failed[:1], result.broken)
    assert [result.output[f"set{number}"]["entries"] for number in (0, 1)] == list(NANO.values())
    assert [result.output[f"set{number}"]["cutflow"]["all"] for number in (0, 1)] == list(NANO.values())
    expected = [muons_by_hand(name) for name in NANO]
    assert sorted(result.output["pts"].value) == pytest.approx(sorted(np.concatenate(expected)))
    assert result.output["most"].value == sum(map(len, expected))
    for number in (0, 1):
        filled = result.output["pt"][f"set{number}", :].values()
        np.testing.assert_array_equal(filled, np.histogram(expected[number], 50, (0, 100))[0])
    assert result.output["finished"]
    assert len(result.output["runs"]) >= 1


def test_one_dataset_without_a_name_is_its_query(client: Any, write_script: Write) -> None:
    name = next(iter(NANO))
    result = run(write_script(PROCESSOR), [input_file(DATA / name)], client, dataset="muons@2")
    assert result.output["muons@2"]["entries"] == NANO[name]


def test_a_schema_of_ones_own_and_a_processor_with_arguments(client: Any, write_script: Write) -> None:
    body = """
from coffea import processor
schema = "BaseSchema"
class Flat(processor.ProcessorABC):
    def __init__(self, least):
        self.least = least
    def process(self, events):
        return {"n": len(events), "heavy": int((events.M > self.least).to_numpy().sum())}
    def postprocess(self, accumulator):
        return {"share": accumulator["heavy"] / accumulator["n"], **accumulator}
processor = Flat(90.0)
"""
    result = run(write_script(body), [input_file(path) for path in ZMUMU[:2]], client)
    with uproot.open(ZMUMU[0]) as file:
        heavy = int((file["events"]["M"].array(library="np") > 90).sum())
    assert result.output["n"] == 2 * 2304
    assert result.output["heavy"] == 2 * heavy
    assert result.output["share"] == pytest.approx(heavy / 2304)


def test_a_processor_with_variations_keeps_them_apart(client: Any, write_script: Write) -> None:
    body = """
import awkward as ak
from coffea import processor
class Muons(processor.ProcessorABC):
    def process(self, events):
        return {"n": int(ak.sum(events.Muon.pt > 20))}
    def postprocess(self, accumulator):
        return {"half": accumulator["n"] / 2}
def up(events):
    events["Muon"] = ak.with_field(events.Muon, events.Muon.pt * 10, "pt")
    return events
variations = {"up": up}
"""
    name = "nanoAOD_2015_CMS_Open_Data_ttbar.root"
    result = run(write_script(body), [input_file(DATA / name)], client, packet_entries=50)
    assert result.complete, result.failed[:1]
    with uproot.open(DATA / name) as file:
        pt = [value for event in file["Events"]["Muon_pt"].array() for value in event]
    assert result.output["nominal"]["half"] == sum(value > 20 for value in pt) / 2
    assert result.output["up"]["half"] == sum(value > 2 for value in pt) / 2
