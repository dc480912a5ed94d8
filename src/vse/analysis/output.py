"""What an analysis leaves on disk: histograms as ROOT file, pictures, and all its numbers."""

from __future__ import annotations

import json
import numbers
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vse.analysis.fit import PeakFit, fit_peak
from vse.analysis.pickling import dumps_with
from vse.analysis.plots import histograms, is_mass_spectrum, save_histogram, save_mass_plot
from vse.analysis.result import AnalysisResult
from vse.analysis.script import Script


def save(result: AnalysisResult, directory: Path, script: Script) -> list[Path]:
    """Write ``histograms.root``, a picture of each histogram, ``result.json`` and what else there is.

    ``directory`` is made where missing; files of an earlier run are replaced, each in one step.
    Arrays go to ``arrays.npz``; what fits nowhere else to ``others.pickle``, with the classes
    of the script that are in it. Returns what was written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    found = dict(histograms(result.output))
    fits = find_fits(result.output)
    written: list[Path] = []
    if found:
        written.append(_write_root(directory / "histograms.root", found))
    for name, histogram in found.items():
        written += _draw(directory, name, histogram, fits, result, script)
    scalars, arrays, others = _sort_out(result.output)
    if arrays:
        written.append(_write_arrays(directory / "arrays.npz", arrays))
    if others:
        written.append(_write_whole(directory / "others.pickle", dumps_with(script.modules, others)))
    content = result.to_dict() | {
        "output": scalars,
        "histograms": {name: float(_sum(histogram)) for name, histogram in found.items()},
        "fits": {name: fit.to_dict() for name, fit in fits.items()},
    }
    text = json.dumps(content, indent=1, default=str) + "\n"
    written.append(_write_whole(directory / "result.json", text.encode()))
    return written


def find_fits(output: Any) -> dict[str, PeakFit]:
    """Fit the tallest resonance of each mass histogram (one axis, in GeV) that shows one."""
    fits = {
        name: fit_peak(histogram)
        for name, histogram in histograms(output)
        if histogram.ndim == 1 and "GeV" in str(getattr(histogram.axes[0], "label", ""))
    }
    return {name: fit for name, fit in fits.items() if fit is not None}


def _draw(
    directory: Path,
    name: str,
    histogram: Any,
    fits: dict[str, PeakFit],
    result: AnalysisResult,
    script: Script,
) -> list[Path]:
    stem = directory / name.replace("/", "_")
    if not is_mass_spectrum(histogram):
        return save_histogram(histogram, stem, name, fits.get(name))
    note = f"{len(result.files)} files" if len(result.files) > 1 else "1 file"
    title = script.title.partition(":")[0].rstrip(".")
    return save_mass_plot(histogram, fits.get(name), stem, title, note)


def _sum(histogram: Any) -> float:
    values = histogram.values(flow=True)
    return float(values.sum())


def _write_root(path: Path, found: dict[str, Any]) -> Path:
    import uproot

    partial = path.with_name(f".{path.name}.partial")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with uproot.recreate(partial) as file:
            for name, histogram in found.items():
                if histogram.ndim <= 3:
                    file[name] = _with_float_counts(histogram)
    partial.replace(path)
    return path


def _with_float_counts(histogram: Any) -> Any:
    """Return a histogram that ROOT can hold: it has none of 64-bit integers (exact up to 2^53)."""
    import hist

    if histogram.storage_type not in (hist.storage.Int64, hist.storage.AtomicInt64, hist.storage.Unlimited):
        return histogram
    doubled = hist.Hist(
        *histogram.axes, storage=hist.storage.Double(), name=histogram.name, label=histogram.label
    )
    doubled[...] = histogram.values(flow=True)
    return doubled


def _write_arrays(path: Path, arrays: dict[str, Any]) -> Path:
    import numpy as np

    partial = path.with_name(f".{path.name}.partial.npz")
    np.savez_compressed(partial, **arrays)
    partial.replace(path)
    return path


def _write_whole(path: Path, data: bytes) -> Path:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(data)
    partial.replace(path)
    return path


def _sort_out(output: Any) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """Split an output into what JSON can hold (same shape), arrays by name, and the rest by name."""
    import hist
    import numpy as np

    arrays: dict[str, Any] = {}
    others: dict[str, Any] = {}

    def visit(value: Any, name: str) -> Any:
        if isinstance(value, Mapping):
            return {
                str(key): visit(item, f"{name}.{key}" if name else str(key)) for key, item in value.items()
            }
        if value is None or isinstance(value, bool | str):
            return value
        if isinstance(value, numbers.Number) and not isinstance(value, complex):
            return value.item() if isinstance(value, np.generic) else value
        if isinstance(value, set | frozenset | list | tuple) and all(
            isinstance(item, int | float | str) for item in value
        ):
            return sorted(value, key=str) if isinstance(value, set | frozenset) else list(value)
        if isinstance(value, hist.BaseHist):
            return "in histograms.root" if value.ndim <= 3 else _keep(others, name, value)
        if isinstance(value, np.ndarray) and value.dtype != object:
            arrays[name or "array"] = value
            return "in arrays.npz"
        return _keep(others, name, value)

    return visit(output, ""), arrays, others


def _keep(others: dict[str, Any], name: str, value: Any) -> str:
    others[name or "output"] = value
    return "in others.pickle"
