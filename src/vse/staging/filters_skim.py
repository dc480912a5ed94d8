"""The filter that comes ready: some branches and some entries of one tree, in a smaller file.

The tree keeps its name, branches theirs, and arrays that share a counter go on to share it. Other objects of
the file stay behind. A ``std::vector`` becomes an array with a counter ``nNAME``: what uproot can write.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

_STEP = "64 MB"
_GROUP = "@"
"""Before the counter of a group of arrays, to tell the group from it."""


def skim(source: Path, target: Path, tree: str, branches: Sequence[str], where: str) -> None:
    """Write the entries of ``tree`` for which ``where`` holds (empty: all), with the branches that match.

    ``where`` is an expression over branches as uproot understands it, such as
    ``(nMuon >= 2) & (abs(PV_z) < 10)``. Ends the process with a message where that cannot be done.
    """
    import uproot

    with uproot.open(source) as opened, uproot.recreate(target, compression=uproot.ZSTD(5)) as out:
        if not tree or tree not in opened:
            sys.exit(f"there is no tree {tree!r} in the file")
        read = opened[tree]
        _look_at(read, where)
        names = _chosen(read, branches)
        counters = _counters(read, names)
        plain = [one for one in names if one not in counters and one not in counters.values()]
        written = None
        for arrays in _steps(read, [*plain, *counters], where):
            columns = _columns(arrays, plain, counters)
            if written is None:
                written = _new_tree(out, tree, columns, read.title)
            if len(arrays):
                written.extend(columns)


def _look_at(tree: Any, where: str) -> None:
    """End with a message where ``where`` cannot be asked of a tree, instead of the traceback of a library."""
    if not where:
        return
    try:
        tree.arrays([], cut=where, entry_stop=1)
    except Exception as error:  # as many kinds as there are ways to write an expression wrongly
        about = (str(error).strip() or type(error).__name__).splitlines()[0]
        sys.exit(f"its where = {where!r} cannot be asked of the tree: {type(error).__name__}: {about}")


def _chosen(tree: Any, branches: Sequence[str]) -> list[str]:
    names = [one.name for one in tree.branches if not one.branches]
    from fnmatch import fnmatchcase

    chosen = [one for one in names if any(fnmatchcase(one, glob) for glob in branches)]
    if not chosen:
        sys.exit(f"no branch matches {', '.join(branches)}")
    return chosen


def _counters(tree: Any, names: Sequence[str]) -> dict[str, str]:
    """Return the counter of each branch that has entries of several values: its own, or a new one."""
    counters = {}
    for name in names:
        leaf = tree[name].member("fLeaves")[0]
        counter = leaf.member("fLeafCount")
        if counter is not None:
            counters[name] = str(counter.member("fName"))
        elif tree[name].interpretation.__class__.__name__ == "AsJagged":
            counters[name] = f"n{name}"
    return counters


def _steps(tree: Any, names: Sequence[str], where: str) -> Iterator[Any]:
    """Yield arrays of the entries that are kept; at least once, with none where there are none."""
    empty = True
    for arrays in tree.iterate(list(names), cut=where or None, step_size=_STEP):
        empty = False
        yield arrays
    if empty:
        yield tree.arrays(list(names), entry_stop=0)


def _columns(arrays: Any, plain: Sequence[str], counters: dict[str, str]) -> dict[str, Any]:
    import awkward as ak

    columns = {name: arrays[name] for name in plain}
    for counter in dict.fromkeys(counters.values()):
        columns[f"{_GROUP}{counter}"] = ak.zip(
            {name: arrays[name] for name, its in counters.items() if its == counter}
        )
    return columns


def _new_tree(out: Any, tree: str, columns: dict[str, Any], title: str) -> Any:
    import awkward as ak
    import numpy as np

    types = {}
    for name, array in columns.items():
        form = array.type.content
        numeric = ak.to_numpy(array[:0]).dtype if form.__class__.__name__ == "NumpyType" else None
        types[name] = form if numeric is None else np.dtype(numeric)
    try:
        return out.mktree(
            tree,
            types,
            title=title,
            counter_name=lambda group: group.removeprefix(_GROUP),
            field_name=lambda _, field: field,
        )
    except (TypeError, ValueError, NotImplementedError) as error:
        sys.exit(f"some of the branches cannot be written ({error}); leave them out of 'branches'")
