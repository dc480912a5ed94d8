"""The user's own modules beside a script: they travel with it, so that every worker has the same.

A worker lives longer than an analysis, and its interpreter knows a module by its name alone. Without this
an edited ``helper.py`` would be the old one for all who imported it before, and that of another script.
"""

from __future__ import annotations

import ast
import importlib.abc
import importlib.machinery
import importlib.util
import json
import linecache
import sys
import threading
import tokenize
import types
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

KEPT = 16
"""So many scripts' modules are kept loaded."""

_lock = threading.RLock()


class Companion(NamedTuple):
    """A module. ``path``: where it was; the file need not be there."""

    path: str
    text: str
    is_package: bool


def find(script: Path, text: str) -> bytes:
    """Return what ``text``, and what it imports in turn, imports from the directory of ``script``; packed.

    Imports are read, not run: those inside of functions are found, those made by calls are not. What is
    installed comes before what is beside the script, as when it is imported.
    """
    found: dict[str, Companion] = {}
    directory = script.absolute().parent
    waiting = list(_imports(text, ""))
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        parent = name.rpartition(".")[0]
        if parent and parent not in found:
            continue
        companion = _read(directory, name)
        if companion is not None and (parent or not _is_installed(name, directory)):
            found[name] = companion
            waiting += _imports(companion.text, name if companion.is_package else parent)
    return zlib.compress(json.dumps(found, sort_keys=True).encode()) if found else b""


def unpack(packed: bytes) -> dict[str, Companion]:
    """Return the modules by their names."""
    if not packed:
        return {}
    return {name: Companion(*one) for name, one in json.loads(zlib.decompress(packed)).items()}


def _imports(text: str, package: str) -> Iterator[str]:
    """Yield the names that may be modules, each after those of its packages."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):  # told when it is run
        return
    names: dict[str, None] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= dict.fromkeys(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([base] if base else [])]) if package else ""
            if base:
                names |= dict.fromkeys([base, *(f"{base}.{alias.name}" for alias in node.names)])
    whole = {".".join(name.split(".")[:end]) for name in names for end in range(1, name.count(".") + 2)}
    yield from sorted(whole, key=lambda name: -name.count("."))  # taken from the end


def _read(directory: Path, name: str) -> Companion | None:
    place = directory.joinpath(*name.split("."))
    for path, is_package in ((place / "__init__.py", True), (place.with_name(f"{place.name}.py"), False)):
        try:
            with tokenize.open(path) as file:
                return Companion(str(path), file.read(), is_package)
        except (OSError, SyntaxError, UnicodeDecodeError):
            continue
    if place.is_dir() and any(place.glob("*.py")):
        return Companion(str(place / "__init__.py"), "", True)
    return None


def _is_installed(name: str, directory: Path) -> bool:
    if name in sys.stdlib_module_names:
        return True
    ours = (str(directory), _beside.directory)
    elsewhere = [one for one in sys.path if str(Path(one or ".").absolute()) not in ours]
    found = importlib.machinery.PathFinder.find_spec(name, elsewhere)
    return found is not None and found.origin is not None


class _Beside(importlib.abc.MetaPathFinder):
    """Finds the modules of the script that is at work."""

    def __init__(self) -> None:
        self.packed = b""
        self.directory = self.asked = ""
        self.modules: Mapping[str, Companion] = {}
        self.loaded: OrderedDict[bytes, dict[str, types.ModuleType]] = OrderedDict()

    def find_spec(
        self, fullname: str, path: object = None, target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        companion = self.modules.get(fullname)
        if companion is None:
            return None
        spec = importlib.util.spec_from_loader(
            fullname, _Text(companion), origin=companion.path, is_package=companion.is_package
        )
        if spec is not None and spec.submodule_search_locations is not None:
            spec.submodule_search_locations.append(str(Path(companion.path).parent))
        return spec

    def turn_to(self, packed: bytes, directory: str) -> None:
        """Let these modules be the ones that are imported from now on, and put the others away."""
        if self.directory in sys.path:
            sys.path.remove(self.directory)
        self.asked = directory
        self.directory = "" if directory in sys.path else directory
        if self.directory:
            sys.path.append(self.directory)
        self.loaded[self.packed] = self._take_out()
        self.packed, self.modules = packed, unpack(packed)
        self._take_out()  # of another origin, under the same names
        sys.modules.update(self.loaded.pop(packed, {}))
        while len(self.loaded) > KEPT:
            self.loaded.popitem(last=False)

    def _take_out(self) -> dict[str, types.ModuleType]:
        roots = {name.partition(".")[0] for name in self.modules}
        names = [name for name in sys.modules if name.partition(".")[0] in roots]
        return {name: sys.modules.pop(name) for name in names}


class _Text(importlib.abc.Loader):
    def __init__(self, companion: Companion) -> None:
        self._companion = companion

    def exec_module(self, module: types.ModuleType) -> None:
        path, text = self._companion.path, self._companion.text
        module.__file__ = path
        linecache.cache[path] = (len(text), None, text.splitlines(keepends=True), path)
        exec(compile(text, path, "exec"), module.__dict__)  # noqa: S102 - it is the user's code


_beside = _Beside()


def turn_to(packed: bytes, directory: str) -> None:
    """Import these modules from now on, and what else is in ``directory``, where that can be reached.

    What was loaded of them already is the same as before.
    """
    with _lock:
        if _beside not in sys.meta_path:
            sys.meta_path.insert(0, _beside)
        if (packed, directory) != (_beside.packed, _beside.asked):
            _beside.turn_to(packed, directory)
