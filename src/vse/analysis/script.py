"""The user's analysis: what a script may look like, and how it is loaded.

A script holds one of

- ``def process(events)`` or ``def analyse(events)``: a plain function over an awkward array;
- ``def process(rdf)``: the same over a ROOT RDataFrame, where the ``root`` package is installed;
- a coffea-style processor: a module-level ``processor``, or the one class that has ``process(events)``.
  A real ``coffea.processor.ProcessorABC`` gets NanoEvents (of the script's ``schema``), unchanged;

and optionally ``postprocess(output)``, ``branches = [...]`` (names or globs; only these are read),
``tree = "..."`` and ``variations`` (see `vse.analysis.systematics`). Scripts travel to the workers as text,
with the modules beside them that they import, and are loaded once for each content.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import inspect
import linecache
import sys
import traceback
import types
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from vse.analysis import companions
from vse.analysis.ledger import Failure
from vse.analysis.merging import in_order
from vse.analysis.systematics import NO_VARIATIONS, NOMINAL, Variations, finish
from vse.errors import BadScript

_EXAMPLE = "write a function process(events) that returns a dict of histograms"
_MAX_MESSAGE = 240
_PACKAGES = {"coffea": "'virtual-storage-element[coffea]'", "ROOT": "root"}


class ScriptSource(NamedTuple):
    """A script as it travels. ``path`` names it in messages; the file need not be there.

    ``beside``: the user's modules that it imports, packed (`vse.analysis.companions`).
    """

    path: str
    text: str
    beside: bytes = b""

    @property
    def digest(self) -> str:
        return hashlib.sha256(f"{self.path}\0{self.text}".encode() + self.beside).hexdigest()

    @property
    def processing_digest(self) -> str:
        """The digest of all that has a part in what `process` gives: not ``postprocess``, nor comments."""
        module = ast.parse(self.text)
        classes = [one for one in module.body if isinstance(one, ast.ClassDef)]
        nodes: list[ast.Module | ast.ClassDef] = [module, *classes]
        for node in nodes:
            node.body = [one for one in node.body if getattr(one, "name", "") != "postprocess"]
        return hashlib.sha256(f"{self.path}\0{ast.dump(module)}".encode() + self.beside).hexdigest()


@dataclass(frozen=True, slots=True)
class Script:
    """A loaded script. ``branches`` None: what is touched is read; ``tree`` empty: the file's own.

    ``kind`` ``coffea`` wants NanoEvents, ``plain`` an awkward array with a field a branch, ``rdataframe``
    a ROOT RDataFrame.
    """

    source: ScriptSource
    kind: Literal["plain", "coffea", "rdataframe"]
    process: Callable[..., Any]
    postprocess: Callable[[Any], Any] | None
    branches: tuple[str, ...] | None
    tree: str
    schema: Any = None
    variations: Variations = NO_VARIATIONS

    @property
    def name(self) -> str:
        return Path(self.source.path).name

    @property
    def title(self) -> str:
        """The first line of the script's docstring, or its name."""
        doc = sys.modules[_module_name(self.source)].__doc__ or ""
        return doc.strip().partition("\n")[0] or self.name

    @property
    def modules(self) -> list[types.ModuleType]:
        """The script, and what is beside it, as far as it was imported."""
        load_source(self.source)
        names = [_module_name(self.source), *companions.unpack(self.source.beside)]
        return [sys.modules[name] for name in names if name in sys.modules]

    def finish(self, output: Any) -> Any:
        """Apply the script's ``postprocess``, which may change its argument or return a new one.

        It sees the output of one dataset and one variation at a time, as `process` gave it.
        """
        output = in_order(output)
        with redirect_stdout(sys.stderr):
            return output if self.postprocess is None else finish(output, self.postprocess)


def load_script(path: Path | str) -> Script:
    """Read and load a script. Raises `BadScript` that names the file and line."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise BadScript(f"load the script {path}", str(reason), "give the path of a Python file") from error
    return load_source(ScriptSource(str(path.absolute()), text, companions.find(path, text)))


def load_source(source: ScriptSource) -> Script:
    """Load a script from its text, once for each content. Raises `BadScript`.

    What is imported afterwards, or unpickled, is of this script.
    """
    companions.turn_to(source.beside, str(Path(source.path).parent))
    return _load(source)


@functools.lru_cache(maxsize=companions.KEPT)
def _load(source: ScriptSource) -> Script:
    module = _execute(source)
    plain, processor = _entry_points(module, source)
    if processor is not None:
        process, postprocess = processor.process, getattr(processor, "postprocess", None)
    else:
        process, postprocess = plain, getattr(module, "postprocess", None)
    variations = _variations(module, process, source)
    _check_call(process, source, variations)
    schema = getattr(module, "schema", None) or getattr(processor, "schema", None)
    return Script(
        source,
        _kind(process, schema is not None or _is_coffea(processor), source),
        process,
        postprocess,
        _branches(module, source),
        _text(module, "tree", source),
        schema,
        variations,
    )


def describe(error: BaseException, source: ScriptSource) -> Failure:
    """Return ``file:line: Type: message`` in one line, for the script's own innermost line."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename == source.path]
    name = Path(source.path).name
    if isinstance(error, SyntaxError) and error.filename == source.path:
        place, message = f"{name}:{error.lineno}", error.msg
    else:
        place = f"{name}:{own[-1].lineno}" if own else name
        message = _one_line(str(error))
    kind = type(error).__name__
    text = "".join(traceback.format_exception(error))
    return Failure(f"{place}: {kind}: {message}" if message else f"{place}: {kind}", text)


def _one_line(text: str) -> str:
    line = " ".join(text.strip().partition("\n\n")[0].split())
    return line if len(line) <= _MAX_MESSAGE else line[: _MAX_MESSAGE - 3] + "..."


def _module_name(source: ScriptSource) -> str:
    return f"vse_script_{source.digest[:16]}"


def _execute(source: ScriptSource) -> types.ModuleType:
    """Run the script as a module; classes it defines can be unpickled wherever it is loaded."""
    name = _module_name(source)
    module = types.ModuleType(name)
    module.__file__ = source.path
    lines = source.text.splitlines(keepends=True)
    linecache.cache[source.path] = (len(source.text), None, lines, source.path)
    sys.modules[name] = module
    try:
        with redirect_stdout(sys.stderr):  # what it prints is in no listing
            exec(compile(source.text, source.path, "exec"), module.__dict__)  # noqa: S102 - the user's code
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        todo = "correct it and try again"
        if isinstance(error, ModuleNotFoundError):
            module_name = (error.name or "").partition(".")[0]
            extra = _PACKAGES.get(module_name, module_name)
            todo = f"install it: pip install {extra}"
        elif isinstance(error, ImportError) and "relative import" in str(error):
            todo = "a script is in no package: import what is beside it by its name, as in import cuts"
        raise BadScript(f"load the script {source.path}", describe(error, source).message, todo) from error
    return module


def _entry_points(module: types.ModuleType, source: ScriptSource) -> tuple[Any, Any]:
    """Return ``(function, processor)``; exactly one of them is not None."""
    processor = getattr(module, "processor", None)
    if processor is not None and callable(getattr(processor, "process", None)):
        return None, _instance(processor, source)
    plain = getattr(module, "process", None) or getattr(module, "analyse", None)
    if callable(plain):
        return plain, None
    classes = [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and value.__module__ == module.__name__
        and callable(getattr(value, "process", None))
        and not inspect.isabstract(value)
    ]
    if len(classes) == 1:
        return None, _instance(classes[0], source)
    if classes:
        names = ", ".join(cls.__name__ for cls in classes)
        raise _bad(
            source, f"it has several processors ({names})", f"say which: processor = {classes[0].__name__}()"
        )
    raise _bad(source, "it has neither a function process(events) nor a processor class", _EXAMPLE)


def _instance(processor: Any, source: ScriptSource) -> Any:
    if not isinstance(processor, type):
        return processor
    try:
        return processor()
    except Exception as error:
        found = describe(error, source).message
        todo = f"make it in the script: processor = {processor.__name__}(...)"
        raise _bad(source, f"{processor.__name__}() raised {found}", todo) from error


def _check_call(process: Callable[..., Any], source: ScriptSource, variations: Variations) -> None:
    arguments = (object(), "nominal") if variations.are_named_to_process else (object(),)
    try:
        inspect.signature(process).bind(*arguments)
    except TypeError as error:
        name = getattr(process, "__name__", "process")
        found = f"{name} cannot be called with the events alone ({error})"
        if variations.names:
            found = f"{name} cannot be called with the events and the name of a variation ({error})"
        raise _bad(source, found, _EXAMPLE) from error
    except ValueError:  # a builtin without a signature; the call itself will tell
        return


def _variations(module: types.ModuleType, process: Callable[..., Any], source: ScriptSource) -> Variations:
    value = getattr(module, "variations", None)
    if value is None:
        return NO_VARIATIONS
    todo = 'write it as variations = {"up": function_of_events}, or ["up"] and process(events, variation)'
    if isinstance(value, Mapping) and all(callable(change) for change in value.values()):
        variations = Variations(tuple(map(str, value)), tuple(value.values()), _wanted(process) > 1)
    elif isinstance(value, list | tuple) and all(isinstance(name, str) for name in value):
        variations = Variations(tuple(value), (), True)
    else:
        raise _bad(source, "variations is neither names with functions nor a list of names", todo)
    if NOMINAL in variations.names:
        raise _bad(source, f"one of its variations is called {NOMINAL}, as the events unchanged are", todo)
    return variations


def _wanted(process: Callable[..., Any]) -> int:
    """How many arguments have to be given, 1 where nobody can tell."""
    try:
        parameters = inspect.signature(process).parameters.values()
    except ValueError:
        return 1
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(one.default is one.empty and one.kind in positional for one in parameters)


def _kind(
    process: Callable[..., Any], is_coffea: bool, source: ScriptSource
) -> Literal["plain", "coffea", "rdataframe"]:
    """An RDataFrame is what a function asks for that calls its first argument ``rdf``."""
    if is_coffea:
        return "coffea"
    try:
        first = next(iter(inspect.signature(process).parameters), "")
    except ValueError:
        first = ""
    if first != "rdf":
        return "plain"
    if importlib.util.find_spec("ROOT") is None:
        raise _bad(
            source,
            "process(rdf) wants a ROOT RDataFrame, and the package root is not installed",
            "install it (pip install root), or take the events as an awkward array: process(events)",
        )
    return "rdataframe"


def _is_coffea(processor: Any) -> bool:
    coffea = sys.modules.get("coffea.processor")
    return coffea is not None and isinstance(processor, coffea.ProcessorABC)


def _branches(module: types.ModuleType, source: ScriptSource) -> tuple[str, ...] | None:
    value = getattr(module, "branches", None)
    if value is None:
        return None
    names = (value,) if isinstance(value, str) else value
    if not isinstance(names, list | tuple | set) or not all(isinstance(name, str) for name in names):
        raise _bad(source, "branches is not a list of names", 'write it as branches = ["nMuon", "Muon_*"]')
    return tuple(names)


def _text(module: types.ModuleType, name: str, source: ScriptSource) -> str:
    value = getattr(module, name, "")
    if not isinstance(value, str):
        raise _bad(source, f"{name} is not a string", f'write it as {name} = "Events"')
    return value


def _bad(source: ScriptSource, found: str, todo: str) -> BadScript:
    return BadScript(f"load the script {source.path}", found, todo)
