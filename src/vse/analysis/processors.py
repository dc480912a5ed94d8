"""From the events of a packet to its output: by function, coffea processor or RDataFrame."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any

from vse.analysis import processors_rdataframe as rdataframe
from vse.analysis.systematics import ByDataset, ByVariation, outputs
from vse.errors import BadScript

if TYPE_CHECKING:
    from vse.analysis.script import Script


def process_events(script: Script, events: Any, dataset: str = "") -> Any:
    """Return what the script makes of ``events``, to be added up over all packets.

    With variations it is a `ByVariation`. ``dataset`` is the name among several: the output is kept under
    it, but for coffea's processors, which look at ``events.metadata["dataset"]`` and keep them apart
    themselves. Raises whatever the script raises, and `BadScript` where it returns nothing, or a tuple.
    """
    found = ByVariation()
    for variation, output in outputs(script.process, script.variations, events):
        if output is None:
            wanted = f"use what {script.name} returned"
            raise BadScript(wanted, "process(events) returned nothing", "end it with: return {...}")
        if type(output) is tuple:  # one behind the other, as tuples are added, is what nobody wants
            wanted = f"add up what {script.name} returned"
            todo = 'return a dict: {"mass": ..., "pairs": ...}'
            raise BadScript(wanted, f"process(events) returned {len(output)} things without names", todo)
        found[variation] = _read(output)
    if script.kind == "rdataframe":
        rdataframe.run_graphs(found)
    output = found if script.variations.names else found.popitem()[1]
    return ByDataset({dataset: output}) if dataset and script.kind != "coffea" else output


def _read(output: Any) -> Any:
    """Read the arrays that a script returned without looking into them: their file is closed before long."""
    if isinstance(output, MutableMapping):
        for key, value in output.items():
            output[key] = _read(value)
        return output
    if type(output).__module__.partition(".")[0] == "awkward":
        import awkward as ak

        return ak.materialize(output)
    return output
