"""Opens ROOT files for the stager, in a process of its own: ``python -m vse.transfer.verifier``.

"Badly written ROOT files lead to memory leaks and crashes, that constantly affected the whole
daemon's operations" (seed 002 §4.3.5.2): here they end this process only. One line of JSON a file comes
in on standard input, ``{"path", "tree", "timeout_s"}``; one goes out, ``{"tree", "entries"}`` or
``{"error"}``. The end of the input ends the process; so does a file that takes far too long, whether
or not anybody waits for it any more.
"""

from __future__ import annotations

import json
import math
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

_TREES = frozenset({"TTree", "TNtuple", "TNtupleD"})
_PREFERRED = ("Events", "events")
_MAGIC = b"root"


def look(path: Path, tree: str) -> dict[str, Any]:
    """Return ``{tree, entries}`` of the ROOT file at ``path``, or ``{error}`` saying what is wrong.

    ``tree`` empty takes the default one: ``Events`` or ``events``, else the first in the file; a sound
    file without any tree answers ``("", 0)``. Every basket must be where the tree says; the first and
    the last one of the branch that reaches furthest are read and decompressed.
    """
    size_bytes = path.stat().st_size
    with path.open("rb") as raw:
        if raw.read(len(_MAGIC)) != _MAGIC:
            return {"error": "it does not begin like a ROOT file"}
    import uproot
    from uproot.source.file import MultithreadedFileSource

    # Plain reads: a mapped file that shrinks would end the process, and counts as memory.
    with uproot.open(path, handler=MultithreadedFileSource, num_workers=1) as file:
        begin, end = int(file.file.fBEGIN), int(file.file.fEND)
        if not 0 < begin < end:
            return {"error": "its header is empty"}
        if size_bytes < end:
            return {"error": f"it is cut short: {size_bytes} bytes, and its header tells of {end}"}
        names = {
            name.rpartition(";")[0]: None
            for name, kind in file.iterclassnames(recursive=True)
            if kind in _TREES
        }
        chosen = tree or next((name for name in _PREFERRED if name in names), next(iter(names), ""))
        if not chosen:
            return {"tree": "", "entries": 0}
        if chosen not in names:
            return {"error": f"it holds no tree {chosen!r} (it has {', '.join(names) or 'none'})"}
        found = file[chosen]
        with path.open("rb") as raw:
            problem = _check_baskets(found, raw.fileno())
        return {"error": problem} if problem else {"tree": chosen, "entries": int(found.num_entries)}


def _check_baskets(tree: Any, handle: int) -> str:
    """Return what is wrong with the baskets of a tree; empty if nothing is.

    Each one begins with its own length, which the tree knows as well: one look a basket tells a file
    that is cut short, or that a cache filled with zeros.
    """
    furthest, branch = -1, None
    for one in tree.itervalues(recursive=True):
        written = int(one.member("fWriteBasket"))
        seeks, lengths = one.member("fBasketSeek")[:written], one.member("fBasketBytes")[:written]
        for number, (seek, length) in enumerate(zip(seeks.tolist(), lengths.tolist(), strict=True)):
            if int.from_bytes(os.pread(handle, 4, seek), "big", signed=True) != length:
                return f"basket {number} of branch {one.name!r} is not at byte {seek}, where it should be"
            if seek > furthest:
                furthest, branch = seek, one
    if branch is not None:
        for number in sorted({0, int(branch.num_baskets) - 1}):
            branch.basket(number)
    return ""


def _answer(line: str) -> dict[str, Any]:
    question = json.loads(line)
    # The default action of SIGALRM ends the process even inside a C library that never returns.
    signal.alarm(math.ceil(question["timeout_s"]) + 5)
    try:
        return look(Path(question["path"]), question["tree"])
    except MemoryError:
        return {"error": "reading it takes more memory than a file may"}
    except RecursionError:
        return {"error": "its structure refers to itself"}
    except Exception as error:
        text = " ".join(str(error).split())[:300]
        return {"error": f"the reader says {type(error).__name__}" + (f": {text}" if text else "")}
    finally:
        signal.alarm(0)


def serve(memory_bytes: int) -> None:
    """Answer questions until the input ends, with at most ``memory_bytes`` of address space."""
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    import uproot  # noqa: F401  takes a second: better before the first file is here

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the stager's business; it ends our input
    for line in sys.stdin:
        sys.stdout.write(json.dumps(_answer(line)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    serve(int(sys.argv[1]))
