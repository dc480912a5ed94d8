"""The dimuon resonances everybody knows, and whether a histogram shows them."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

RESOLUTION = 0.013
"""A typical relative mass resolution for two muons; only used to decide where to look."""


class Resonance(NamedTuple):
    """PDG 2024 mass with its error, and width, in GeV. ``label`` is for matplotlib, ``name`` for text."""

    name: str
    label: str
    mass: float
    mass_error: float
    width: float

    @property
    def spread(self) -> float:
        """The width one sees, in GeV: natural and detector together."""
        return math.hypot(RESOLUTION * self.mass, self.width / 2)


RESONANCES = (
    Resonance("eta", r"$\eta$", 0.547862, 0.000017, 1.31e-6),
    Resonance("omega", r"$\omega$", 0.78266, 0.00002, 0.00868),
    Resonance("phi", r"$\phi$", 1.019460, 0.000016, 0.004249),
    Resonance("J/psi", r"J/$\psi$", 3.096900, 0.000006, 92.6e-6),
    Resonance("psi(2S)", r"$\psi$(2S)", 3.686097, 0.000011, 293e-6),
    Resonance("Upsilon(1S)", r"$\Upsilon$(1S)", 9.46040, 0.00010, 54.02e-6),
    Resonance("Upsilon(2S)", r"$\Upsilon$(2S)", 10.0234, 0.0005, 31.98e-6),
    Resonance("Upsilon(3S)", r"$\Upsilon$(3S)", 10.3551, 0.0005, 20.32e-6),
    Resonance("Z", "Z", 91.1880, 0.0020, 2.4955),
)


class Excess(NamedTuple):
    """How many entries more than around it, and how significant that is, in standard deviations."""

    resonance: Resonance
    entries: float
    significance: float


def find_excesses(histogram: Any, min_significance: float = 5.0) -> list[Excess]:
    """Return the resonances that stand out of a 1-D mass histogram (in GeV), in order of mass."""
    edges, values = np.asarray(histogram.axes[0].edges), np.asarray(histogram.values())
    found = [_excess(edges, values, resonance) for resonance in RESONANCES]
    return [item for item in found if item is not None and item.significance >= min_significance]


def _excess(edges: Any, values: Any, resonance: Resonance) -> Excess | None:
    """Compare what is within two spreads with sidebands interpolated under it."""
    spread, mass = resonance.spread, resonance.mass
    if mass - 6 * spread < edges[0] or mass + 6 * spread > edges[-1]:
        return None
    centres, widths = (edges[1:] + edges[:-1]) / 2, np.diff(edges)
    near = _neighbours(resonance)
    inside = np.abs(centres - mass) < 2 * spread
    if inside.sum() < 3:
        return None
    left = _sideband(centres, mass - 6 * spread, mass - 3 * spread, near)
    right = _sideband(centres, mass + 3 * spread, mass + 6 * spread, near)
    densities = [values[side].sum() / widths[side].sum() for side in (left, right) if side.any()]
    if not densities:
        return None
    background = sum(densities) / len(densities) * widths[inside].sum()
    entries = float(values[inside].sum() - background)
    # The background is itself counted; 10 % of it may be shape that a straight line does not see.
    error = math.sqrt(values[inside].sum() + background + (0.1 * background) ** 2 + 1)
    return Excess(resonance, entries, entries / error)


def _sideband(centres: Any, low: float, high: float, near: list[Resonance]) -> Any:
    chosen = (centres > low) & (centres < high)
    for other in near:
        chosen &= np.abs(centres - other.mass) > 2.5 * other.spread
    return chosen


def _neighbours(resonance: Resonance) -> list[Resonance]:
    return [other for other in RESONANCES if other is not resonance]
