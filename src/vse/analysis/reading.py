"""Events of a packet, read from a ROOT file with uproot: open files kept, only what is touched read."""

from __future__ import annotations

import re
import traceback
import warnings
from collections import OrderedDict
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from vse.analysis import processors_rdataframe
from vse.analysis.ledger import Failure
from vse.analysis.script import Script
from vse.errors import BadScript, Unreadable

KEPT_OPEN = 8
MOST_LOOKED_AT = 20
"""Branches whose clusters are looked at."""
MOST_CLUSTERS = 10_000
MOST_FIELDS = 12
"""Fields that are named where the one that was wanted is not there."""


@dataclass(slots=True)
class OpenFile:
    """A file that is open, and its tree."""

    url: str
    directory: Any
    tree_name: str
    tree: Any
    counted_bytes: int = 0

    @property
    def entries(self) -> int:
        return int(self.tree.num_entries)

    def take_read_bytes(self) -> int:
        """Bytes that were asked of the file since this was asked last (or the file was opened)."""
        total = int(self.directory.file.source.num_requested_bytes)
        fresh, self.counted_bytes = total - self.counted_bytes, total
        return fresh + processors_rdataframe.take_read_bytes()


class OpenFiles:
    """The last few files, open. A local file that was replaced meanwhile is opened anew."""

    def __init__(self, kept: int = KEPT_OPEN) -> None:
        self._kept = kept
        self._files: OrderedDict[tuple[object, ...], OpenFile] = OrderedDict()

    def get(self, url: str, tree: str) -> OpenFile:
        """Raises `Unreadable` where the file is no ROOT file or has no such tree, or OSError."""
        key = (url, tree, _identity(url))
        found = self._files.get(key)
        if found is None:
            found = open_file(url, tree)
            self._files[key] = found
            while len(self._files) > self._kept:
                self._files.popitem(last=False)[1].directory.close()
        self._files.move_to_end(key)
        return found


def local_path(url: str) -> str:
    """Return the path in a ``file:`` URL; anything else as it is."""
    return unquote(urlsplit(url).path) if url.startswith("file:") else url


def _identity(url: str) -> tuple[int, int, int] | None:
    if "://" in url and not url.startswith("file:"):
        return None
    status = Path(local_path(url)).stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def open_file(url: str, tree: str) -> OpenFile:
    """Open ``url`` and find its tree: the one named, ``Events``, or the one with most entries."""
    import uproot

    location = local_path(url)
    # A cache of its own: the tree is read once, and uproot's takes copies of a file for one and the same.
    options: dict[str, Any] = {"array_cache": None, "object_cache": {}}
    where: Any = location
    if "://" not in location:  # plain reads: less to start, and a file cut short raises, where a map kills
        where, options["handler"] = Path(location), uproot.MultithreadedFileSource
        options["use_threads"] = False
    directory = uproot.open(where, **options)
    name = tree or _default_tree(directory, url)
    if name not in directory:
        there = ", ".join(_trees(directory)) or "none"
        raise Unreadable(f"read the tree {name!r} of {url}", f"it has no such tree (trees: {there})")
    return OpenFile(url, directory, name, directory[name])


def _trees(directory: Any) -> list[str]:
    names = directory.classnames(cycle=False)
    return [name for name, kind in names.items() if kind in ("TTree", "TNtuple", "TNtupleD", "ROOT::RNTuple")]


def _default_tree(directory: Any, url: str) -> str:
    names = _trees(directory)
    if not names:
        raise Unreadable(f"analyse {url}", "it holds no tree")
    if "Events" in names:
        return "Events"
    return max(names, key=lambda name: int(directory[name].num_entries))


def read_events(file: OpenFile, script: Script, start: int, stop: int, metadata: dict[str, Any]) -> Any:
    """Return the events ``[start, stop)`` as the script wants them.

    With ``branches`` they are read at once; else each branch when it is first touched (virtual arrays).
    """
    if script.kind == "coffea":
        return _nano_events(file, script, start, stop, metadata)
    if script.kind == "rdataframe":
        return processors_rdataframe.data_frame(local_path(file.url), file.tree_name, start, stop)
    span = {"entry_start": start, "entry_stop": stop}
    if script.branches is None:
        events = file.tree.arrays(virtual=True, **span)
        events.attrs = {**events.attrs, **metadata}
        return events
    events = file.tree.arrays(filter_name=list(script.branches), **span)
    events.attrs = {**events.attrs, **metadata}
    if not events.fields:
        there = ", ".join(file.tree.keys()[:8])
        wanted = f"read the branches {', '.join(script.branches)}"
        raise BadScript(wanted, f"the tree {file.tree_name!r} has none of them (it has {there}, ...)")
    return events


def _nano_events(file: OpenFile, script: Script, start: int, stop: int, metadata: dict[str, Any]) -> Any:
    from coffea import nanoevents

    schema = script.schema
    if isinstance(schema, str):
        schema = getattr(nanoevents, schema, None)
        if schema is None:
            raise BadScript(f"use the schema {script.schema!r}", "coffea.nanoevents has none of this name")
    if schema is None:
        schema = nanoevents.NanoAODSchema if looks_like_nanoaod(file.tree.keys()) else nanoevents.BaseSchema
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # collections that a slim file does not have
        return nanoevents.NanoEventsFactory.from_root(
            file.directory,
            treepath=file.tree_name,
            mode="virtual",
            entry_start=start,
            entry_stop=stop,
            schemaclass=schema,
            metadata=metadata,
        ).events()


def clusters_of(file: OpenFile, script: Script) -> tuple[int, ...]:
    """Return the entries at which clusters of a tree begin; empty where there is one, or many thousands.

    Looks at the branches that are read where the script names them, else at a few.
    """
    try:
        names = file.tree.keys(filter_name=list(script.branches)) if script.branches else file.tree.keys()
        looked = set(names[:MOST_LOOKED_AT])
        offsets = file.tree.common_entry_offsets(filter_name=lambda name: name in looked)
    except Exception:  # an RNTuple, or a branch that is unlike others: packets are cut anywhere then
        return ()
    return tuple(int(offset) for offset in offsets) if 2 < len(offsets) <= MOST_CLUSTERS else ()


def looks_like_nanoaod(branches: list[str]) -> bool:
    """Whether there are counters (``nMuon``) of collections (``Muon_pt``)."""
    collections = {name.partition("_")[0] for name in branches if "_" in name}
    return any(re.fullmatch("n[A-Z].*", name) and name[1:] in collections for name in branches)


def is_file_trouble(error: BaseException) -> bool:
    """Whether ``error``, raised while events were used, is about the file and not the user's code.

    With virtual arrays a branch is read in the middle of the user's code; then the traceback ends in
    uproot (or what it decompresses with), and not for want of a branch.
    """
    from uproot.exceptions import KeyInFileError

    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, Unreadable):
            return True
        frames = traceback.extract_tb(seen.__traceback__)
        inside = any("/uproot/" in frame.filename for frame in frames[-4:])
        if inside and not isinstance(seen, KeyInFileError | LookupError | AttributeError | MemoryError):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def with_fields(failure: Failure, events: Any) -> Failure:
    """Where the script wanted a field that is not there, say which are, the most alike first."""
    found = re.search(r"no field (?:named )?'([^']+)'", failure.message)
    fields = list(getattr(events, "fields", ()))
    if found is None or not fields or found[1] in fields:
        return failure
    wanted = found[1].lower()
    likeness = {name: SequenceMatcher(None, wanted, name.lower()).ratio() for name in fields}
    nearest = sorted(fields, key=lambda name: -likeness[name])[:MOST_FIELDS]
    more = f" and {len(fields) - MOST_FIELDS:,} more" if len(fields) > MOST_FIELDS else ""
    return failure._replace(message=f"{failure.message} (the events have {', '.join(nearest)}{more})")


def describe_trouble(error: BaseException) -> Failure:
    """Return one line that says why a file cannot be read."""
    text = "".join(traceback.format_exception(error))
    if isinstance(error, Unreadable):
        return Failure(error.found, text)
    if isinstance(error, OSError) and error.strerror:
        return Failure(f"it cannot be read: {error.strerror}", text)
    if "expected Chunk of length" in str(error):
        return Failure("it is truncated: it ends before its content does", text)
    reason = " ".join(str(error).strip().partition("\n")[0].split())[:160]
    return Failure(f"it is damaged or no ROOT file ({type(error).__name__}: {reason})", text)
