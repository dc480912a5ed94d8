"""Pictures of histograms, good enough for a talk: PNG and SVG."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vse.analysis.fit import PeakFit
from vse.analysis.resonances import Excess, find_excesses

INK, BLUE, RED, GREY = "#1b1b1f", "#2f6fb5", "#c8381e", "#7a7f87"
FORMATS = ("png", "svg")
MOST_OF_A_HEADING = 56
MOST_NAMED_BINS = 20
_STYLE = {
    "font.family": "sans-serif",
    "font.sans-serif": ["TeX Gyre Heros", "Helvetica", "Arial", "DejaVu Sans"],
    "mathtext.fontset": "stixsans",
    "font.size": 13,
    "axes.linewidth": 1.1,
    "axes.labelsize": 15,
    "xtick.direction": "in",
    "ytick.direction": "in",
    "xtick.top": True,
    "ytick.right": True,
    "xtick.minor.visible": True,
    "ytick.minor.visible": True,
    "xtick.major.size": 7,
    "ytick.major.size": 7,
    "xtick.minor.size": 3.5,
    "ytick.minor.size": 3.5,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.fonttype": "path",
    "svg.hashsalt": "vse",
}


def histograms(output: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield ``(name, hist)`` of every histogram in an output, nested names joined by '/'."""
    import hist

    if isinstance(output, hist.BaseHist):
        yield prefix or "histogram", output
    elif hasattr(output, "items"):
        for key, value in output.items():
            name = re.sub(r"[^\w.-]+", "_", str(key)).strip("_") or "unnamed"
            yield from histograms(value, f"{prefix}/{name}" if prefix else name)


def is_mass_spectrum(histogram: Any) -> bool:
    """Whether it is one-dimensional, in GeV, and wide enough to hold several resonances."""
    if histogram.ndim != 1 or "GeV" not in str(histogram.axes[0].label):
        return False
    edges = np.asarray(histogram.axes[0].edges)
    return bool(edges[0] > 0 and edges[-1] / edges[0] > 20)


def save_mass_plot(
    histogram: Any, fit: PeakFit | None, stem: Path, title: str = "", note: str = "", fine: Any = None
) -> list[Path]:
    """Draw a mass spectrum with its resonances named, and below it the fitted peak.

    ``fine``: the histogram that was fitted, where it is not the spectrum itself. Returns what was
    written: ``stem`` with each of `FORMATS`.
    """
    with drawn(11, 6.2 if fit is None else 10.4) as figure:
        ratios = (1.0,) if fit is None else (1.15, 1.0)
        rows = figure.subplots(len(ratios), 1, squeeze=False, height_ratios=ratios)
        _draw_spectrum(rows[0][0], histogram, title, note)
        if fit is not None:
            _draw_fit(rows[1][0], histogram if fine is None else fine, fit)
        return save(figure, stem)


def save_histogram(histogram: Any, stem: Path, name: str, fit: PeakFit | None = None) -> list[Path]:
    """Draw a histogram of one dimension (or a map of two); nothing is drawn for more.

    One that cannot be drawn (an axis without bins, an edge at infinity) gives a picture that says so.
    """
    if histogram.ndim > 2:
        return []
    try:
        with drawn(9, 5.8) as figure:
            axes = figure.subplots()
            _check_axes(histogram)
            if histogram.ndim == 2:
                _draw_map(figure, axes, histogram)
            elif fit is not None:
                _draw_fit(axes, histogram, fit)
            else:
                _draw_bins(axes, histogram)
            axes.set_title(_short(name), loc="left", fontsize=14, fontweight="bold", parse_math=False)
            return save(figure, stem)
    except Exception as error:  # whatever a histogram is made of, the result of the analysis is not lost
        return _save_note(f"{_short(name)} cannot be drawn: {error}", stem)


def _check_axes(histogram: Any) -> None:
    for axis in histogram.axes:
        if not len(axis):
            raise ValueError("an axis of it has no bins")
        if not np.isfinite(np.asarray(axis.edges, float)).all():
            raise ValueError("an axis of it ends at infinity")


def _save_note(text: str, stem: Path) -> list[Path]:
    with drawn(9, 1.2) as figure:
        lines = "\n".join(textwrap.wrap(text, 90))
        figure.text(0.5, 0.5, lines, ha="center", va="center", color=GREY, parse_math=False)
        return save(figure, stem)


def _draw_bins(axes: Any, histogram: Any) -> None:
    import mplhep

    mplhep.histplot(histogram, ax=axes, color=BLUE, histtype="fill", alpha=0.25, flow="none")
    mplhep.histplot(histogram, ax=axes, color=BLUE, yerr=False, linewidth=1.3, flow="none")
    if str(histogram.kind).endswith("MEAN"):
        axes.set_ylabel("Mean", loc="top")
    else:
        axes.set_ylabel("Entries / bin", loc="top")
        axes.set_title(counted(histogram), loc="right", fontsize=12, color=GREY)
    axes.set_xlabel(axis_label(histogram.axes[0]) or "value", loc="right")
    axes.margins(x=0)
    if np.min(histogram.values(), initial=0) >= 0:  # weights may be negative
        axes.set_ylim(bottom=0)


def _draw_map(figure: Any, axes: Any, histogram: Any) -> None:
    horizontal, vertical = histogram.axes
    mesh = axes.pcolormesh(horizontal.edges, vertical.edges, np.asarray(histogram.values()).T, cmap="cividis")
    figure.colorbar(mesh, ax=axes, label="Entries / bin")
    axes.set_title(counted(histogram), loc="right", fontsize=12, color=GREY)
    axes.set_xlabel(axis_label(horizontal), loc="right")
    axes.set_ylabel(axis_label(vertical), loc="top")
    for axis, side in ((horizontal, axes.xaxis), (vertical, axes.yaxis)):
        if axis.traits.discrete and len(axis) <= MOST_NAMED_BINS:
            side.set_ticks(axis.centers, [str(one) for one in axis])
            side.set_tick_params(which="minor", length=0)


def axis_label(axis: Any) -> str:
    """The label of an axis, or its name; one whose mathematics cannot be set, as it was written."""
    from matplotlib.mathtext import MathTextParser

    label = str(axis.label or axis.name or "")
    try:
        MathTextParser("path").parse(label)
    except ValueError:
        return label.replace("$", r"\$")
    return label


def _short(text: str) -> str:
    """A heading that leaves room for the count beside it."""
    return text if len(text) <= MOST_OF_A_HEADING else text[: MOST_OF_A_HEADING - 1].rstrip() + "…"


class drawn:  # noqa: N801 - a context manager
    """A figure in our style that is never shown, and always closed."""

    def __init__(self, width: float, height: float) -> None:
        self._size = (width, height)

    def __enter__(self) -> Any:
        import matplotlib as mpl
        import mplhep  # noqa: F401 - brings the fonts
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self._style = mpl.rc_context(_STYLE)
        self._style.__enter__()
        figure = Figure(figsize=self._size, layout="constrained")
        FigureCanvasAgg(figure)
        return figure

    def __exit__(self, *reason: object) -> None:
        self._style.__exit__(None, None, None)


def save(figure: Any, stem: Path) -> list[Path]:
    paths = [stem.with_name(f"{stem.name}.{kind}") for kind in FORMATS]
    for path in paths:
        metadata = {"Date": None} if path.suffix == ".svg" else {}
        figure.savefig(path, dpi=160, metadata=metadata)
    return paths


def counted(histogram: Any) -> str:
    """``1,234 entries``, and how many lie beyond the axis."""
    inside, everything = (float(np.sum(histogram.values(flow=flow))) for flow in (False, True))
    outside = everything - inside
    return f"{inside:,.0f} entries" + (f", {outside:,.0f} outside" if outside >= 0.5 else "")


def _draw_spectrum(axes: Any, histogram: Any, title: str, note: str) -> None:
    """Entries per GeV over mass, both logarithmic."""
    edges, values = np.asarray(histogram.axes[0].edges), np.asarray(histogram.values())
    edges, values = _coarser(edges, values)
    density = values / np.diff(edges)
    axes.set_xscale("log")
    axes.set_yscale("log")
    positive = density[density > 0]
    if not positive.size:
        axes.text(0.5, 0.5, "no entries", transform=axes.transAxes, ha="center", color=GREY)
        return
    floor = positive.min() / 3
    axes.stairs(density, edges, baseline=floor, fill=True, color=BLUE, alpha=0.22)
    axes.stairs(density, edges, baseline=floor, color=BLUE, linewidth=1.2)
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(floor, positive.max() * 12)
    _name_resonances(axes, edges, density, find_excesses(histogram))
    ticks = [tick for tick in (0.5, 1, 2, 5, 10, 20, 50, 100, 200) if edges[0] <= tick <= edges[-1]]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.xaxis.set_minor_formatter("")
    axes.set_xlabel(axis_label(histogram.axes[0]), loc="right")
    axes.set_ylabel("Entries / GeV", loc="top")
    heading = _short(title or "Mass spectrum")
    axes.set_title(heading, loc="left", fontsize=15, fontweight="bold", parse_math=False)
    axes.set_title(f"{values.sum():,.0f} entries{note and f', {note}'}", loc="right", fontsize=12, color=GREY)


def _coarser(edges: Any, values: Any) -> tuple[Any, Any]:
    """Join bins where there are few entries, so that the line is a spectrum and not noise."""
    factor = 1
    filled = np.sort(values[values > 0])
    while filled.size and np.median(filled) * factor < 20 and len(values) // (factor * 2) >= 120:
        factor *= 2
    kept = len(values) // factor * factor
    joined = values[:kept].reshape(-1, factor).sum(axis=1)
    return edges[: kept + 1 : factor], joined


def _name_resonances(axes: Any, edges: Any, density: Any, excesses: list[Excess]) -> None:
    """Write each name over its peak; those close to each other share one label."""
    low, high = math.log(edges[0]), math.log(edges[-1])
    groups: list[list[Excess]] = []
    for excess in excesses:
        last = groups[-1][-1].resonance.mass if groups else 0.0
        if last and math.log(excess.resonance.mass / last) < 0.045 * (high - low):
            groups[-1].append(excess)
        else:
            groups.append([excess])
    for group in groups:
        stems = {excess.resonance.label.partition("(")[0] for excess in group}
        if len(stems) == 1:
            _write_over(axes, edges, density, group, "center")
        else:  # names too close to stand side by side, and too different to be joined
            _write_over(axes, edges, density, group[:1], "center")
            for excess in group[1:]:
                _write_over(axes, edges, density, [excess], "left")


def _write_over(axes: Any, edges: Any, density: Any, group: list[Excess], align: str) -> None:
    masses = [excess.resonance.mass for excess in group]
    reach = 2 * max(excess.resonance.spread for excess in group)
    near = (edges[1:] > min(masses) - reach) & (edges[:-1] < max(masses) + reach)
    axes.annotate(
        _joined_label([excess.resonance.label for excess in group]),
        (math.sqrt(masses[0] * masses[-1]), density[near].max()),
        xytext=(-6 if align == "left" else 0, 9),
        textcoords="offset points",
        ha=align,
        va="bottom",
        fontsize=14,
        color=INK,
    )


def _joined_label(labels: list[str]) -> str:
    """``Y(1S), Y(2S), Y(3S)`` becomes ``Y(1S, 2S, 3S)``."""
    stems = {label.partition("(")[0] for label in labels}
    if len(labels) > 1 and len(stems) == 1:
        states = ", ".join(label.partition("(")[2].rstrip(")") for label in labels)
        return f"{stems.pop()}({states})"
    return ", ".join(labels)


def _draw_fit(axes: Any, histogram: Any, fit: PeakFit) -> None:
    """Data points with their errors, the fitted curve, and what came out of it."""
    all_edges = np.asarray(histogram.axes[0].edges)
    first, last = np.searchsorted(all_edges, [fit.window[0] - 1e-9, fit.window[1] + 1e-9])
    edges, values = all_edges[first:last], np.asarray(histogram.values())[first : last - 1]
    centres, widths = (edges[1:] + edges[:-1]) / 2, np.diff(edges)
    unit, scale = ("MeV", 1e3) if widths.mean() < 0.2 else ("GeV", 1.0)
    per_bin = float(widths.mean())
    axes.errorbar(
        centres,
        values / widths * per_bin,
        yerr=np.sqrt(values) / widths * per_bin,
        fmt="o",
        color=INK,
        markersize=4,
        linewidth=1.1,
        label="Data",
        zorder=3,
    )
    curve = np.linspace(*fit.window, 800)
    axes.plot(curve, fit.density(curve) * per_bin, color=RED, linewidth=2, label="Fit")
    below = fit.background(curve) * per_bin
    axes.plot(curve, below, color=BLUE, linewidth=1.6, linestyle="--", label="Background")
    axes.set_title(f"{fit.entries:,.0f} entries in this range", loc="right", fontsize=12, color=GREY)
    axes.set_xlim(fit.window)
    axes.set_ylim(0, (values / widths * per_bin).max() * 1.18)
    axes.set_xlabel(axis_label(histogram.axes[0]) or "mass [GeV]", loc="right")
    axes.set_ylabel(f"Entries / {per_bin * scale:.2g} {unit}", loc="top")
    handles, labels = axes.get_legend_handles_labels()
    order = [labels.index(name) for name in ("Data", "Fit", "Background")]
    axes.legend([handles[i] for i in order], [labels[i] for i in order], loc="upper right", fontsize=13)
    axes.text(
        0.03,
        0.94,
        "\n".join(fit_lines(fit)),
        transform=axes.transAxes,
        va="top",
        ha="left",
        fontsize=13,
        linespacing=1.55,
        color=INK,
    )


def fit_lines(fit: PeakFit) -> list[str]:
    """What a fit says, a line each, for a picture or a page (with matplotlib's mathematics)."""
    unit, scale = ("MeV", 1e3) if fit.width < 0.2 else ("GeV", 1.0)
    mass = with_error(fit.mass, fit.mass_error)
    reference = with_error(fit.resonance.mass, fit.mass_error).partition(" ")[0]
    return [
        f"{fit.resonance.label} peak",
        f"mass  {mass} GeV",
        f"PDG  {reference} GeV",
        f"resolution  {with_error(fit.width * scale, fit.width_error * scale)} {unit}",
        f"signal  {fit.signal:,.0f} $\\pm$ {fit.signal_error:,.0f}",
        f"$\\chi^2$/ndf  {fit.chi2:.0f}/{fit.ndf}",
    ]


def with_error(value: float, error: float, sign: str = "$\\pm$") -> str:
    """Write a value with two digits of its error: ``91.192 ± 0.012``."""
    if not (error > 0 and math.isfinite(error)):
        return f"{value:.4g}"
    digits = max(0, 1 - math.floor(math.log10(error)))
    return f"{value:.{digits}f} {sign} {error:.{digits}f}"
