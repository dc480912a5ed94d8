"""Dimuon mass spectrum: every pair of muons of opposite charge, from 0.3 to 200 GeV.

This is a whole analysis. `process` gets some events and returns histograms; VSE calls it on many
processors, each with other events, and adds up what it returns. Copy it and change what you like:

    vse analyse dimuon.py 'Find;BasePath=/lhc/data;FileName=*.root'

It reads NanoAOD (nMuon, Muon_pt, ...) and also flat files with one pair an event (E1, px1, ...).
"""

import awkward as ak
import hist
import numpy as np

# Only these branches are read from the files; those a file does not have are passed over.
branches = [
    "nMuon", "Muon_pt", "Muon_eta", "Muon_phi", "Muon_mass", "Muon_charge",
    "E1", "px1", "py1", "pz1", "Q1", "E2", "px2", "py2", "pz2", "Q2",
]  # fmt: skip


def process(events):
    if "Muon_pt" in events.fields:  # noqa: SIM108
        mass = masses_from_nanoaod(events)
    else:
        mass = masses_from_pairs(events)

    spectrum = hist.Hist.new.Log(1200, 0.3, 200, name="mass", label=r"$m_{\mu\mu}$ [GeV]").Double()
    z_peak = hist.Hist.new.Reg(120, 60, 120, name="mass", label=r"$m_{\mu\mu}$ [GeV]").Double()
    spectrum.fill(mass)
    z_peak.fill(mass)
    return {
        "dimuon_mass": spectrum,
        "z_peak": z_peak,
        "entries": len(events),
        "pairs": len(mass),
    }


def masses_from_nanoaod(events):
    """All pairs of opposite charge, of any number of muons in an event."""
    events = events[events.nMuon >= 2]
    muons = ak.zip(
        {
            "pt": events.Muon_pt,
            "eta": events.Muon_eta,
            "phi": events.Muon_phi,
            "mass": events.Muon_mass,
            "charge": events.Muon_charge,
        }
    )
    first, second = ak.unzip(ak.combinations(muons, 2))
    opposite = first.charge != second.charge
    return pair_mass(*four_momentum(first[opposite]), *four_momentum(second[opposite]))


def masses_from_pairs(events):
    """One pair an event, as two four-momenta."""
    events = events[events.Q1 != events.Q2]
    first = [ak.to_numpy(events[name]) for name in ("E1", "px1", "py1", "pz1")]
    second = [ak.to_numpy(events[name]) for name in ("E2", "px2", "py2", "pz2")]
    return pair_mass(*first, *second)


def four_momentum(muon):
    """E, px, py, pz in GeV from what a detector measures; in double precision."""
    pt, eta, phi, mass = (
        ak.to_numpy(ak.flatten(muon[name])).astype(np.float64) for name in ("pt", "eta", "phi", "mass")
    )
    px, py, pz = pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)
    return np.sqrt(px**2 + py**2 + pz**2 + mass**2), px, py, pz


def pair_mass(e1, px1, py1, pz1, e2, px2, py2, pz2):
    """The invariant mass: m^2 = (E1 + E2)^2 - |p1 + p2|^2."""
    mass2 = (e1 + e2) ** 2 - (px1 + px2) ** 2 - (py1 + py2) ** 2 - (pz1 + pz2) ** 2
    return np.sqrt(np.maximum(mass2, 0))
