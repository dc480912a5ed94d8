"""Packets as ROOT RDataFrames, and what comes out of them as histograms of the ``hist`` library.

ROOT is there where the ``root`` package is installed. Every result of a packet, of all variations, is
filled in one event loop. What adds up over packets can be returned: histograms, counts and sums.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from typing import Any

from vse.errors import BadScript

_TYPES = {"C": "i1", "S": "i2", "I": "i4", "L": "i8", "F": "f4", "D": "f8"}
_todo = "return histograms (Histo1D, Histo2D, Histo3D), Count() or Sum(column)"


def data_frame(url: str, tree: str, start: int, stop: int) -> Any:
    """Return the entries ``[start, stop)`` of a tree as RDataFrame. ``url``: a path, or what ROOT opens."""
    root = _root()
    where = url
    if url.startswith("zip://"):
        member, _, archive = url.removeprefix("zip://").partition("::")
        where = f"{archive}#{member}"
    specification = root.RDF.Experimental.RDatasetSpec()
    specification.AddSample(("events", tree, where))
    specification.WithGlobalRange((start, stop))
    return root.RDataFrame(specification)


def run_graphs(output: dict[str, Any]) -> None:
    """Fill all results in ``output`` (nested in any way) in one loop, and put their values in its place.

    Raises `BadScript` for what cannot be added up, a profile say.
    """
    lazy: list[Any] = []
    _visit(output, lazy.append)
    if lazy:
        _root().RDF.RunGraphs(lazy)
    for name, value in output.items():
        output[name] = _visit(value, lambda result: _value(result.GetValue()))


def take_read_bytes() -> int:
    """Bytes that ROOT read in this process since this was asked last; 0 where nobody uses it."""
    if "ROOT" not in sys.modules:
        return 0
    total = int(_root().TFile.GetFileBytesRead())
    fresh, _counted[0] = total - _counted[0], total
    return fresh


_counted = [0]


def _root() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the wheel says at each import that it is young
        root = importlib.import_module("ROOT")
    root.gROOT.SetBatch(True)
    return root


def _visit(value: Any, change: Any) -> Any:
    if isinstance(value, dict):
        return {key: _visit(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_visit(item, change) for item in value]
    return change(value) if hasattr(value, "GetValue") and hasattr(value, "IsReady") else value


def _value(value: Any) -> Any:
    if isinstance(value, int | float):
        return value
    kind = value.ClassName() if hasattr(value, "ClassName") else type(value).__name__
    if kind[:2] != "TH" or kind[2:3] not in "123" or kind[-1] not in _TYPES:
        raise BadScript("add up what process(rdf) returned", f"a {kind} does not add up", _todo)
    return _histogram(value, int(kind[2]), _TYPES[kind[-1]])


def _histogram(found: Any, dimensions: int, element: str) -> Any:
    """Return a ROOT histogram as `hist.Hist`, with under- and overflow, and errors where it has weights."""
    import hist
    import numpy as np

    sides = (found.GetXaxis(), found.GetYaxis(), found.GetZaxis())[:dimensions]
    axes = [_axis(side, name) for side, name in zip(sides, "xyz", strict=False)]
    shape = [side.GetNbins() + 2 for side in reversed(sides)]
    count = int(np.prod(shape))
    values = np.frombuffer(found.GetArray(), element, count).reshape(shape).T
    weighted = found.GetSumw2N() > 0
    storage = hist.storage.Weight() if weighted else hist.storage.Double()
    made = hist.Hist(*axes, storage=storage, label=str(found.GetTitle()))
    if weighted:
        made.view(flow=True).value = values
        squares = np.frombuffer(found.GetSumw2().GetArray(), "f8", count)
        made.view(flow=True).variance = squares.reshape(shape).T
    else:
        made.view(flow=True)[...] = values
    return made


def _axis(side: Any, name: str) -> Any:
    import hist

    label, bins = str(side.GetTitle()), side.GetNbins()
    if side.GetXbins().GetSize():
        edges = [side.GetBinLowEdge(number) for number in range(1, bins + 2)]
        return hist.axis.Variable(edges, name=name, label=label)
    return hist.axis.Regular(bins, side.GetXmin(), side.GetXmax(), name=name, label=label)
