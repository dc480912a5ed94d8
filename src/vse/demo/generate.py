"""Events for those who have none: NanoAOD-like files with the dimuon resonances over a background.

Muon pairs come from J/psi, psi(2S), Upsilon(1S, 2S, 3S), Z and a falling continuum. A parent gets a
transverse momentum and a rapidity, decays into two muons isotropically in its rest frame, and these are
boosted, smeared as by a detector (about 1 %) and accepted where ``|eta| < 2.4`` and above a threshold
in pt. The same seed gives the same files' contents, on any number of processors.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

MUON_MASS_GEV = 0.1056583755
"""PDG 2024."""
MAX_ETA = 2.4
MIN_PT_GEV = 3.0
MIN_SOFT_PT_GEV = 1.0
"""For light pairs (up to the J/psi): triggers for them keep such muons."""
FIRST_RUN = 160_431
EVENTS_A_SECTION = 1_000


class Resonance(NamedTuple):
    """Mass and width in GeV (PDG 2024), the share of events, the mean pt in GeV."""

    name: str
    mass: float
    width: float
    share: float
    mean_pt: float


RESONANCES = (
    Resonance("J/psi", 3.0969, 92.6e-6, 0.16, 12.0),
    Resonance("psi(2S)", 3.6861, 293e-6, 0.014, 12.0),
    Resonance("Upsilon(1S)", 9.4604, 54.0e-6, 0.060, 9.0),
    Resonance("Upsilon(2S)", 10.0234, 32.0e-6, 0.018, 9.0),
    Resonance("Upsilon(3S)", 10.3551, 20.3e-6, 0.011, 9.0),
    Resonance("Z", 91.1880, 2.4955, 0.13, 14.0),
)
CONTINUUM_GEV = (0.24, 250.0)
CONTINUUM_PT_GEV = 12.0


class GeneratedFile(NamedTuple):
    """A file that was written."""

    path: Path
    events: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Events:
    """Columns of one file: flat arrays over muons, and how many muons each event has."""

    run: Array
    luminosity_block: Array
    event: Array
    counts: Array
    pt: Array
    eta: Array
    phi: Array
    charge: Array
    dxy: Array
    isolation: Array
    met_pt: Array
    met_phi: Array


def generate(
    directory: Path,
    files: int = 20,
    events_per_file: int = 40_000,
    seed: int = 2014,
    progress: Callable[[GeneratedFile], None] | None = None,
    threads: int = 2,
) -> list[GeneratedFile]:
    """Write ``dimuon_0000.root``, ... into ``directory`` (made where missing), and return them in order.

    ``progress`` is called for each file as it is done, in order. File n depends on ``seed`` and n only.
    An existing file is replaced in one step.
    """
    directory.mkdir(parents=True, exist_ok=True)
    written: list[GeneratedFile] = []

    def write(number: int) -> GeneratedFile:
        events = make_events(events_per_file, seed, number)
        return write_file(directory / f"dimuon_{number:04d}.root", events)

    with ThreadPoolExecutor(max(1, threads)) as pool:
        for made in pool.map(write, range(files)):
            written.append(made)
            if progress is not None:
                progress(made)
    return written


def make_events(count: int, seed: int, number: int) -> Events:
    """Return ``count`` events, those of file ``number``."""
    dice = np.random.default_rng([seed, number])
    mass, mean_pt = _parents(dice, count)
    pairs, pair_charges = _decay(dice, mass, mean_pt)
    # Single muons: from pairs that lost one, from other sources, and a third one now and then.
    extra = dice.poisson(0.15, count)
    owner = np.concatenate([np.repeat(np.arange(count), 2), np.repeat(np.arange(count), extra)])
    soft = _single_muons(dice, int(extra.sum()))
    pt, eta, phi = (np.concatenate([pairs[name], soft[name]]) for name in ("pt", "eta", "phi"))
    charge = np.concatenate([pair_charges, dice.choice(np.array([-1, 1], np.int32), int(extra.sum()))])
    pt = pt * (1 + _resolution(pt, eta) * dice.standard_normal(pt.size))
    threshold = (MIN_PT_GEV - (MIN_PT_GEV - MIN_SOFT_PT_GEV) * np.exp(-((mass / 6.0) ** 2)))[owner]
    seen = (np.abs(eta) < MAX_ETA) & (pt > threshold) & (dice.random(pt.size) < 0.97)
    owner, pt, eta, phi, charge = (column[seen] for column in (owner, pt, eta, phi, charge))
    order = np.lexsort((-pt, owner))  # as in NanoAOD: by falling pt within an event
    numbers = np.arange(count, dtype=np.uint64) + np.uint64(number * count)
    return Events(
        run=np.full(count, FIRST_RUN, np.uint32),
        luminosity_block=(numbers // EVENTS_A_SECTION + 1).astype(np.uint32),
        event=numbers + np.uint64(1),
        counts=np.bincount(owner, minlength=count).astype(np.uint32),
        pt=pt[order].astype(np.float32),
        eta=eta[order].astype(np.float32),
        phi=phi[order].astype(np.float32),
        charge=charge[order].astype(np.int32),
        dxy=(0.003 * dice.standard_normal(order.size)).astype(np.float32),
        isolation=dice.exponential(0.08, order.size).astype(np.float32),
        met_pt=dice.gamma(2.0, 8.0, count).astype(np.float32),
        met_phi=dice.uniform(-np.pi, np.pi, count).astype(np.float32),
    )


def _parents(dice: np.random.Generator, count: int) -> tuple[Array, Array]:
    """Masses and mean transverse momenta of what decays."""
    shares = [resonance.share for resonance in RESONANCES]
    kind = dice.choice(len(RESONANCES) + 1, count, p=[*shares, 1 - sum(shares)])
    low, high = CONTINUUM_GEV
    slope = 0.7  # dN/dm ~ m^-(1 + slope)
    edges = low**-slope, high**-slope
    mass = (edges[0] - dice.random(count) * (edges[0] - edges[1])) ** (-1 / slope)
    mean_pt = np.full(count, CONTINUUM_PT_GEV)
    for number, resonance in enumerate(RESONANCES):
        chosen = kind == number
        mass[chosen] = _breit_wigner(dice, resonance, int(chosen.sum()))
        mean_pt[chosen] = resonance.mean_pt
    return mass, mean_pt


def _breit_wigner(dice: np.random.Generator, resonance: Resonance, count: int) -> Array:
    """Masses of a resonance, cut at 25 widths (of the Z: 29 to 154 GeV)."""
    reach = np.arctan(2 * 25.0)
    angle = dice.uniform(-reach, reach, count)
    return np.asarray(resonance.mass + 0.5 * resonance.width * np.tan(angle))


def _decay(dice: np.random.Generator, mass: Array, mean_pt: Array) -> tuple[dict[str, Array], Array]:
    """Two muons from each parent: (pt, eta, phi) with the pair's muons side by side, and charges."""
    count = mass.size
    parent_pt = dice.gamma(2.0, mean_pt / 2.0)
    reach = np.minimum(2.4, np.arccosh(np.maximum(6500 / mass, 1)))
    rapidity = dice.uniform(-reach, reach)
    parent_phi = dice.uniform(-np.pi, np.pi, count)
    transverse_mass = np.hypot(mass, parent_pt)
    parent = np.stack(
        [
            parent_pt * np.cos(parent_phi),
            parent_pt * np.sin(parent_phi),
            transverse_mass * np.sinh(rapidity),
        ]
    )
    energy = transverse_mass * np.cosh(rapidity)
    cosine, azimuth = dice.uniform(-1, 1, count), dice.uniform(-np.pi, np.pi, count)
    sine = np.sqrt(1 - cosine**2)
    momentum = np.sqrt(np.maximum(mass**2 / 4 - MUON_MASS_GEV**2, 0))
    own = momentum * np.stack([sine * np.cos(azimuth), sine * np.sin(azimuth), cosine])
    both = np.empty((3, 2 * count))
    both[:, 0::2] = boost(own, mass / 2, parent, energy, mass)
    both[:, 1::2] = boost(-own, mass / 2, parent, energy, mass)
    px, py, pz = both
    pt = np.hypot(px, py)
    first = dice.choice(np.array([-1, 1], np.int32), count)
    charges = np.empty(2 * count, np.int32)
    charges[0::2], charges[1::2] = first, -first
    return {"pt": pt, "eta": np.arcsinh(pz / pt), "phi": np.arctan2(py, px)}, charges


def boost(own: Array, own_energy: Array, parent: Array, energy: Array, mass: Array) -> Array:
    """Momenta ``own`` (3, n), given in the rest frame of ``parent`` (3, n), as seen in the laboratory.

    p = p* + P (E*/M + (P.p*) / (M (E + M))), the Lorentz boost with beta = P/E, gamma = E/M.
    """
    along = (parent * own).sum(axis=0)
    return np.asarray(own + parent * (own_energy / mass + along / (mass * (energy + mass))))


def _single_muons(dice: np.random.Generator, count: int) -> dict[str, Array]:
    return {
        "pt": 2.0 + dice.exponential(4.0, count),
        "eta": dice.uniform(-2.6, 2.6, count),
        "phi": dice.uniform(-np.pi, np.pi, count),
    }


def _resolution(pt: Array, eta: Array) -> Array:
    """Relative resolution of pt: 0.8 % in the middle, worse forward and at high pt."""
    return np.asarray(0.008 + 0.004 * np.abs(eta) + 5e-5 * pt)


def write_file(path: Path, events: Events) -> GeneratedFile:
    """Write a tree ``Events`` as NanoAOD has it: ``nMuon`` counts ``Muon_*`` (float32)."""
    import awkward as ak
    import uproot

    def jagged(flat: Array) -> ak.Array:
        return ak.unflatten(flat, events.counts)

    muon = {"pt": events.pt, "eta": events.eta, "phi": events.phi, "charge": events.charge}
    muon |= {"dxy": events.dxy, "pfRelIso04_all": events.isolation}
    muon["mass"] = np.full(events.pt.size, MUON_MASS_GEV, np.float32)
    columns: dict[str, Any] = {
        "run": events.run,
        "luminosityBlock": events.luminosity_block,
        "event": events.event,
        "MET_pt": events.met_pt,
        "MET_phi": events.met_phi,
        "Muon": ak.zip({name: jagged(flat) for name, flat in muon.items()}),
    }
    partial = path.with_name(f".{path.name}.partial")
    with uproot.recreate(partial, compression=uproot.ZSTD(1)) as file:
        kinds = {name: column.type if name == "Muon" else column.dtype for name, column in columns.items()}
        tree = file.mktree(
            "Events",
            kinds,
            title="Events",
            counter_name=lambda name: f"n{name}",
            field_name=lambda outer, inner: f"{outer}_{inner}",
        )
        tree.extend(columns)
    partial.replace(path)
    return GeneratedFile(path, int(events.run.size), path.stat().st_size)
