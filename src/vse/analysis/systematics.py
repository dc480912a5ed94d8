"""Systematic variations, and several datasets: one reading of the events, an output for each.

A script says either of

- ``variations = {"jes_up": function, ...}``: each function gets the events and returns them changed;
- ``variations = ["jes_up", "jes_down"]`` with ``process(events, variation)``.

The events as they are come first, as ``nominal``. A branch is read once, by the first that touches it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

NOMINAL = "nominal"


class Variations(NamedTuple):
    """``names`` without the nominal one; ``changes``: a function for each, or none at all."""

    names: tuple[str, ...] = ()
    changes: tuple[Callable[[Any], Any], ...] = ()
    are_named_to_process: bool = False


NO_VARIATIONS = Variations()


class ByVariation(dict[str, Any]):
    """The output of each variation, ``nominal`` first."""


class ByDataset(dict[str, Any]):
    """The output of each dataset, of an analysis over several."""


def outputs(process: Callable[..., Any], variations: Variations, events: Any) -> Iterator[tuple[str, Any]]:
    """Yield ``(variation, output)``; what a variation does to its events no other one sees."""
    changes = (None, *(variations.changes or [None] * len(variations.names)))
    for name, change in zip((NOMINAL, *variations.names), changes, strict=True):
        try:
            varied = events if change is None else change(_own(events))
            if varied is None:
                raise TypeError(f"the variation {name} returned nothing: end it with return events")
            yield name, process(varied, name) if variations.are_named_to_process else process(varied)
        except Exception as error:
            if variations.names:
                error.add_note(f"This was in the variation {name}.")
            raise


def finish(output: Any, postprocess: Callable[[Any], Any]) -> Any:
    """Apply ``postprocess`` to the output of each dataset and variation."""
    if output is None:
        return None
    if isinstance(output, ByDataset | ByVariation):
        for name, one in output.items():
            output[name] = finish(one, postprocess)
        return output
    finished = postprocess(output)
    return output if finished is None else finished


def _own(events: Any) -> Any:
    """Return events that can be given new fields without a change of the others; nothing is copied.

    Of a data frame every step makes a new one by itself.
    """
    return copy.copy(events) if hasattr(type(events), "__copy__") else events
