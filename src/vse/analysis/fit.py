"""The fit of a resonance: a binned extended likelihood of a peak over a falling background.

The peak is a Voigt profile (a Breit-Wigner of the PDG width, smeared by a Gaussian that is fitted), or
the sum of two with one mean where a single one does not describe the data; the background is
exponential within the window. `None` is the honest answer where there is no peak.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from vse.analysis.resonances import Excess, Resonance, find_excesses

MIN_ENTRIES = 30
MIN_SIGNIFICANCE = 5.0
_SIGMA_2 = 2.2
"""How much wider the second Gaussian starts."""


@dataclass(frozen=True, slots=True)
class PeakFit:
    """A fitted peak; masses and widths in GeV, one standard deviation errors.

    ``width`` is the detector's: the standard deviation of the fitted Gaussian (of the sum, where two
    were needed). ``window``: the range that was fitted, with ``entries`` in it, ``signal`` of them in the
    peak.
    """

    resonance: Resonance
    mass: float
    mass_error: float
    width: float
    width_error: float
    signal: float
    signal_error: float
    chi2: float
    ndf: int
    window: tuple[float, float]
    entries: float
    parameters: tuple[float, ...]

    @property
    def chi2_per_ndf(self) -> float:
        return self.chi2 / self.ndf if self.ndf else math.nan

    def density(self, mass: Any) -> Any:
        """Entries per GeV of the whole model at ``mass`` (an array, GeV)."""
        return _peak(mass, self.parameters, self.resonance.width) + self.background(mass)

    def background(self, mass: Any) -> Any:
        """Entries per GeV of the background alone."""
        return _background(mass, self.parameters, self.window)

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers as JSON."""
        return {
            "resonance": self.resonance.name,
            "mass_gev": self.mass,
            "mass_error_gev": self.mass_error,
            "pdg_mass_gev": self.resonance.mass,
            "width_gev": self.width,
            "width_error_gev": self.width_error,
            "natural_width_gev": self.resonance.width,
            "signal": self.signal,
            "signal_error": self.signal_error,
            "chi2": self.chi2,
            "ndf": self.ndf,
            "window_gev": list(self.window),
            "entries": self.entries,
        }


def fit_peak(histogram: Any) -> PeakFit | None:
    """Fit the tallest known resonance of a 1-D mass histogram (`hist.Hist`, GeV); None if there is none.

    Tallest is the one with most entries above what is around it. A fit that does not converge, that
    leaves its window, or whose signal is within five standard deviations of nothing, is none.
    """
    excesses = sorted(find_excesses(histogram), key=lambda excess: excess.entries, reverse=True)
    for excess in excesses[:2]:
        fitted = _fit(histogram, excess)
        if fitted is not None:
            return fitted
    return None


def _fit(histogram: Any, excess: Excess) -> PeakFit | None:
    edges, counts, window = _in_window(histogram, excess.resonance)
    if len(counts) < 8 or counts[..., 0].sum() < MIN_ENTRIES:
        return None
    single = _minimise(edges, counts, excess, window, double=False)
    best = single
    if single is None or single.chi2 > 1.3 * single.ndf:
        double = _minimise(edges, counts, excess, window, double=True)
        if double is not None and (single is None or double.chi2 < single.chi2 - 10):
            best = double
    return best


def _in_window(histogram: Any, resonance: Resonance) -> tuple[Any, Any, tuple[float, float]]:
    """Return edges, (values, variances) and the range around the peak, free of other resonances."""
    from vse.analysis.resonances import RESONANCES

    reach = 20.0 if resonance.name == "Z" else 6 * resonance.spread
    low, high = resonance.mass - reach, resonance.mass + reach
    for other in RESONANCES:
        if other.mass > resonance.mass:
            high = min(high, max(other.mass - 2.5 * other.spread, resonance.mass + 2 * resonance.spread))
        elif other.mass < resonance.mass:
            low = max(low, min(other.mass + 2.5 * other.spread, resonance.mass - 2 * resonance.spread))
    edges = np.asarray(histogram.axes[0].edges)
    first, last = np.searchsorted(edges, low), np.searchsorted(edges, high, side="right") - 1
    values = np.asarray(histogram.values())[first:last]
    variances = histogram.variances()
    variances = values if variances is None else np.asarray(variances)[first:last]
    edges = edges[first : last + 1]
    counts = np.stack([values, np.where(variances > 0, variances, 0)], axis=-1)
    return edges, counts, (float(edges[0]), float(edges[-1])) if len(edges) else (low, high)


def _peak(mass: Any, parameters: tuple[float, ...], natural_width: float) -> Any:
    from scipy.special import voigt_profile

    signal, mean, sigma, _, _, share, ratio = parameters
    core = voigt_profile(np.asarray(mass) - mean, sigma, natural_width / 2)
    if not share:
        return signal * core
    wide = voigt_profile(np.asarray(mass) - mean, sigma * ratio, natural_width / 2)
    return signal * ((1 - share) * core + share * wide)


def _background(mass: Any, parameters: tuple[float, ...], window: tuple[float, float]) -> Any:
    """An exponential, normalised over the window: ``exp(-slope * u)``, u from 0 to 1."""
    entries, slope = parameters[3], parameters[4]
    low, high = window
    u = (np.asarray(mass) - low) / (high - low)
    norm = (1 - math.exp(-slope)) / slope if abs(slope) > 1e-6 else 1.0
    return entries * np.exp(-slope * u) / norm / (high - low)


def _expected(edges: Any, parameters: tuple[float, ...], window: tuple[float, float], width: float) -> Any:
    """Entries in each bin by Simpson's rule: ``(peak, background)``."""
    middle, widths = (edges[1:] + edges[:-1]) / 2, np.diff(edges)

    def in_bins(at_edges: Any, at_middle: Any) -> Any:
        return widths * (at_edges[1:] + 4 * at_middle + at_edges[:-1]) / 6

    peak = in_bins(_peak(edges, parameters, width), _peak(middle, parameters, width))
    return peak, in_bins(_background(edges, parameters, window), _background(middle, parameters, window))


def _minimise(
    edges: Any, counts: Any, excess: Excess, window: tuple[float, float], double: bool
) -> PeakFit | None:
    from iminuit import Minuit

    resonance, total = excess.resonance, float(counts[..., 0].sum())
    # Weighted entries count as fewer: values and expectations are divided by the mean weight of a bin.
    weight = np.divide(counts[..., 1], counts[..., 0], out=np.ones(len(counts)), where=counts[..., 0] > 0)
    seen = counts[..., 0] / weight

    def likelihood_chi2(*parameters: float) -> float:
        """The Poisson likelihood ratio of Baker and Cousins (1984), distributed as chi2."""
        expected = np.maximum(sum(_expected(edges, parameters, window, resonance.width)) / weight, 1e-12)
        logs = np.log(np.where(seen > 0, seen, 1) / expected)
        return float(2 * np.sum(expected - seen + seen * logs))

    likelihood_chi2.errordef = Minuit.LEAST_SQUARES  # type: ignore[attr-defined]
    names = ("signal", "mean", "sigma", "background", "slope", "share", "ratio")
    signal = min(max(excess.entries, 1.0), total)
    sigma = 0.012 * resonance.mass
    start = (signal, resonance.mass, sigma, max(total - signal, 1.0), 0.1, 0.2 if double else 0.0, _SIGMA_2)
    minuit = Minuit(likelihood_chi2, *start, name=names)
    minuit.limits["signal", "background"] = (0, None)
    minuit.limits["mean"] = window
    minuit.limits["sigma"] = (sigma / 20, 0.06 * resonance.mass)
    minuit.limits["slope"] = (-20, 20)
    minuit.limits["share"], minuit.limits["ratio"] = (0, 0.6), (1.3, 5)
    minuit.fixed["share", "ratio"] = not double
    minuit.migrad()
    minuit.hesse()
    return _judged(minuit, resonance, edges, total)


def _judged(minuit: Any, resonance: Resonance, edges: Any, total: float) -> PeakFit | None:
    """Return the fit, or None where it cannot be believed."""
    values, errors = tuple(float(value) for value in minuit.values), minuit.errors
    parameters = dict(zip(minuit.parameters, values, strict=True))
    window = (float(edges[0]), float(edges[-1]))
    off = abs(parameters["mean"] - resonance.mass)
    significant = parameters["signal"] > MIN_SIGNIFICANCE * errors["signal"]
    if not (minuit.valid and minuit.accurate and significant and off < 3 * resonance.spread):
        return None
    share, ratio = parameters["share"], parameters["ratio"]
    stretch = math.sqrt(1 - share + share * ratio**2)
    peak, _ = _expected(edges, values, window, resonance.width)
    within = float(peak.sum()) / parameters["signal"]
    return PeakFit(
        resonance,
        parameters["mean"],
        float(errors["mean"]),
        parameters["sigma"] * stretch,
        float(errors["sigma"]) * stretch,
        parameters["signal"] * within,
        float(errors["signal"]) * within,
        float(minuit.fval),
        len(edges) - 1 - int(minuit.nfit),
        window,
        total,
        values,
    )
