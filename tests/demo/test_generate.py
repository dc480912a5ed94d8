"""The generator: physics that is right, files that everyone can open, the same every time."""

from __future__ import annotations

import warnings
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot

from vse.analysis.fit import fit_peak
from vse.analysis.script import load_script
from vse.demo import dimuon
from vse.demo.generate import MUON_MASS_GEV, boost, generate

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


def columns(path: Path) -> ak.Array:
    with uproot.open(path) as file:
        return file["Events"].arrays()


def test_the_same_seed_gives_the_same_events(tmp_path: Path) -> None:
    one = generate(tmp_path / "one", files=2, events_per_file=2000, seed=5)
    two = generate(tmp_path / "two", files=3, events_per_file=2000, seed=5, threads=1)
    for first, second in zip(one, two, strict=False):
        assert ak.array_equal(columns(first.path), columns(second.path))
    assert not ak.array_equal(columns(two[0].path).nMuon, columns(two[1].path).nMuon)
    other = generate(tmp_path / "other", files=1, events_per_file=2000, seed=6)
    assert not ak.array_equal(columns(one[0].path).nMuon, columns(other[0].path).nMuon)


def test_what_is_written_is_nanoaod(tmp_path: Path) -> None:
    seen = []
    (made,) = generate(tmp_path, files=1, events_per_file=40_000, progress=seen.append)
    assert seen == [made]
    assert [path.name for path in tmp_path.iterdir()] == ["dimuon_0000.root"]
    assert made.size_bytes == made.path.stat().st_size
    assert 2e6 < made.size_bytes < 3e6
    events = columns(made.path)
    assert len(events) == made.events == 40_000
    assert len(np.unique(ak.to_numpy(events.event))) == 40_000
    assert ak.all(events.nMuon == ak.num(events.Muon_pt))
    assert set(np.unique(ak.to_numpy(events.nMuon))) >= {0, 1, 2, 3}
    assert str(events.Muon_pt.type).endswith("var * float32")
    assert ak.all(abs(events.Muon_eta) < 2.4)
    assert ak.all(events.Muon_pt > 1.0)
    assert ak.all(abs(events.Muon_phi) <= np.float32(np.pi))
    assert set(np.unique(ak.to_numpy(ak.flatten(events.Muon_charge)))) == {-1, 1}
    assert ak.all(events.Muon_pt[:, :-1] >= events.Muon_pt[:, 1:])


@pytest.mark.slow
def test_coffea_opens_it(tmp_path: Path) -> None:
    nanoevents = pytest.importorskip("coffea.nanoevents")
    (made,) = generate(tmp_path, files=1, events_per_file=5000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of the collections that are not there
        events = nanoevents.NanoEventsFactory.from_root(
            {str(made.path): "Events"}, schemaclass=nanoevents.NanoAODSchema, mode="virtual"
        ).events()
    pairs = events.Muon[ak.num(events.Muon) == 2]
    mass = (pairs[:, 0] + pairs[:, 1]).mass
    opposite = pairs[:, 0].charge != pairs[:, 1].charge
    ours = dimuon.masses_from_nanoaod(columns(made.path)[ak.num(events.Muon) == 2])
    theirs = ak.to_numpy(mass[opposite])
    heavy = ours > 2  # coffea computes in single precision, which light pairs feel
    np.testing.assert_allclose(theirs[heavy], ours[heavy], rtol=2e-3)


def test_a_boost_keeps_the_mass_and_adds_up_to_the_parent() -> None:
    dice = np.random.default_rng(1)
    mass = np.array([3.1, 9.5, 91.2])
    parent = dice.normal(0, 30, (3, 3))
    energy = np.sqrt((parent**2).sum(axis=0) + mass**2)
    momentum = np.sqrt(mass**2 / 4 - MUON_MASS_GEV**2)
    direction = dice.normal(0, 1, (3, 3))
    own = momentum * direction / np.sqrt((direction**2).sum(axis=0))
    first = boost(own, mass / 2, parent, energy, mass)
    second = boost(-own, mass / 2, parent, energy, mass)
    np.testing.assert_allclose(first + second, parent)
    energies = [np.sqrt((leg**2).sum(axis=0) + MUON_MASS_GEV**2) for leg in (first, second)]
    np.testing.assert_allclose(energies[0] + energies[1], energy)


def test_the_resonances_are_where_they_belong(tmp_path: Path) -> None:
    made = generate(tmp_path, files=3, events_per_file=40_000)
    script = load_script(Path(dimuon.__file__))
    total = None
    for file in made:
        part = script.process(columns(file.path))
        total = part if total is None else {key: total[key] + part[key] for key in part}
    assert total is not None
    assert total["entries"] == 120_000
    peak, z_peak = fit_peak(total["dimuon_mass"]), fit_peak(total["z_peak"])
    assert peak is not None
    assert z_peak is not None
    assert (peak.resonance.name, z_peak.resonance.name) == ("J/psi", "Z")
    for fit in (peak, z_peak):
        assert abs(fit.mass - fit.resonance.mass) < 4 * fit.mass_error + 2e-4 * fit.mass
        assert 0.005 < fit.width / fit.mass < 0.02
        assert fit.chi2_per_ndf < 1.8


@pytest.mark.skipif(not DATA.is_dir(), reason="the real ROOT files are not there")
def test_the_demo_script_agrees_with_the_mass_in_the_real_file() -> None:
    with uproot.open(DATA / "uproot-Zmumu.root") as file:
        events = file["events"].arrays()
    opposite = events[events.Q1 != events.Q2]
    output = dimuon.process(events)
    assert output["entries"] == 2304
    assert output["pairs"] == len(opposite)
    np.testing.assert_allclose(dimuon.masses_from_pairs(events), ak.to_numpy(opposite.M), rtol=1e-4)
    assert output["dimuon_mass"].sum(flow=True) == len(opposite)
