"""Read the settings of a site: defaults < vse.toml < ``VSE_*`` < flags, each value with its origin."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr, ValidationError

from vse.config.dirac_tree import lay_under, read
from vse.config.inheritance import Resolved, resolve
from vse.config.remarks import Remark, keep_to_vo, take_out_foreign, without_effect
from vse.config.sections import Key, Tree
from vse.config.settings import ElementSettings, ProtocolSettings, Settings, VolumeSettings
from vse.config.toml_lines import lines_of
from vse.errors import BadSettings, NoSuchSite
from vse.model.identity import user_name

FILE_NAME = "vse.toml"
SITE_VARIABLE = "VSE_SITE"
_PREFIX = "VSE_"
_NOT_SETTINGS = {SITE_VARIABLE, "VSE_DEBUG"}
_HIDDEN = {"Name", "Section", "Protocols"}
_RESOLVED = {"Name", "name", "BaseSE", "Alias"}
_USER = re.compile(r"://[^/@]*@")
_PASSWORD = re.compile(r"(://[^/@:\s]*):[^/@\s]*@")
_LINE = re.compile(r"(?P<before>^[ +-]*(?P<key>[\w\"'-]+)\s*=\s*)(?P<value>\S.*)$", re.MULTILINE)
_SECRET = re.compile(r"secret|passw|token|credential|access_?key|^key$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Loaded:
    """The settings of one site, the directory they belong to, and where each value came from.

    ``origins`` maps a key path (``("stager", "slots")``) to ``vse.toml:12``, ``VSE_STAGER__SLOTS`` or
    ``--set``; a key that is not in it has its default. What a storage element has from a base has the base's
    place, ``dirac.cfg:7, inherited from CERN-EOS``. ``remarks`` tell of what is written and has no effect.
    """

    settings: Settings
    root: Path
    origins: Mapping[Key, str]
    remarks: tuple[Remark, ...] = ()


def find_site(explicit: Path | None, environment: Mapping[str, str], start: Path) -> Path:
    """Return the vse.toml to use: the one asked for, ``VSE_SITE``'s, or the nearest above ``start``.

    ``explicit`` may be the file or the directory that holds it. Raises `NoSuchSite`.
    """
    asked = explicit or (Path(environment[SITE_VARIABLE]) if environment.get(SITE_VARIABLE) else None)
    if asked is not None:
        path = asked / FILE_NAME if asked.is_dir() else asked
        if path.is_file():
            # names of files are made of the site's directory: there is one way to write it
            return (path.parent.resolve() if ".." in path.parts else path.parent.absolute()) / path.name
        raise NoSuchSite(f"use the site {asked}", f"there is no {FILE_NAME}", f"make one: vse init {asked}")
    for directory in (start, *start.parents):
        if (directory / FILE_NAME).is_file():
            return (directory / FILE_NAME).absolute()
    raise NoSuchSite(
        "find a site",
        f"no {FILE_NAME} in {start} or above it",
        "make one with 'vse init DIR', see it all work with 'vse demo', or name one with --site",
    )


def load(
    path: Path, environment: Mapping[str, str] | None = None, flags: Mapping[str, str] | None = None
) -> Loaded:
    """Read ``path`` and lay the environment and the flags (``{"stager.slots": "4"}``) over it, and what
    `[dirac]` names under it.

    Raises `BadSettings` naming file, line and the nearest known key for whatever is wrong.
    """
    data, origins = _read(path)
    outside = [
        (variable.removeprefix(_PREFIX).split("__"), value, variable)
        for variable, value in sorted((environment or {}).items())
        if variable.startswith(_PREFIX) and variable not in _NOT_SETTINGS
    ]
    outside += [(dotted.split("."), value, f"--set {dotted}") for dotted, value in (flags or {}).items()]
    # where DIRAC's files are has to be known before the names in them are
    for parts, value, origin in (one for one in outside if one[0][0].lower() == "dirac"):
        _overlay(data, origins, parts, value, origin)
    remarks = _lay_dirac(data, origins, path.parent)
    for parts, value, origin in (one for one in outside if one[0][0].lower() != "dirac"):
        _overlay(data, origins, parts, value, origin)

    def place(key: Key) -> str:
        return next((origins[key[:n]] for n in range(len(key), 0, -1) if key[:n] in origins), str(path))

    remarks += take_out_foreign(data, place)
    resolved = resolve(data, place)
    _tell_origins(origins, resolved)
    remarks += keep_to_vo(resolved.tree, origins, place)
    remarks += [
        Remark(place(key), f"{key[2]} has no effect: {key[1]} is an alias", key[1])
        for key in resolved.ignored
    ]
    try:
        settings = Settings.model_validate(resolved.tree, context={"root": path.parent})
    except ValidationError as error:
        raise _explained(error, resolved.tree, place) from error
    for element in settings.storage_elements.values():
        remarks += without_effect(element, place)
    return Loaded(settings, path.parent, origins, tuple(remarks))


def _read(path: Path) -> tuple[Tree, dict[Key, str]]:
    """Return what a vse.toml says, and the place of each key."""
    try:
        text = path.read_text(encoding="utf-8")
        return tomllib.loads(text), {key: f"{path}:{line}" for key, line in lines_of(text).items()}
    except OSError as error:
        todo = f"let {user_name(os.geteuid())} read it, or name another site with --site"
        raise BadSettings(f"read the settings {path}", error.strerror or str(error), todo) from error
    except UnicodeDecodeError as error:
        found = f"it is no text in UTF-8 ({error.reason} at byte {error.start})"
        raise BadSettings(f"read the settings {path}", found, "write it in UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise BadSettings(f"read the settings {path}", f"not valid TOML: {error}") from error


def _lay_dirac(data: Tree, origins: dict[Key, str], root: Path) -> list[Remark]:
    """Lay the files that `[dirac]` names under the settings, the last of them first."""
    section = data.get("dirac")
    named = section.get("cfg", []) if isinstance(section, dict) else []
    files = [named] if isinstance(named, str) else named
    remarks: list[Remark] = []
    if isinstance(files, list) and all(isinstance(one, str) for one in files):
        for file in reversed(files):
            laid = read(root / Path(file).expanduser())
            lay_under(data, origins, laid)
            remarks += laid.remarks
    return remarks


def _tell_origins(origins: dict[Key, str], resolved: Resolved) -> None:
    """Tell of each inherited key where its base says it."""
    for key, base_key in resolved.inherited.items():
        if base_key in origins:
            origins[key] = f"{origins[base_key]}, inherited from {base_key[1]}"


def parse_flags(pairs: Sequence[str]) -> dict[str, str]:
    """Read ``["stager.slots=4"]`` as `load` takes it; raises `BadSettings` for anything else."""
    flags: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise BadSettings(f"read --set {pair!r}", "it is not KEY=VALUE", "write --set stager.slots=4")
        flags[key.strip()] = value
    return flags


def flatten(loaded: Loaded) -> list[tuple[str, str, str]]:
    """Return ``(key, value, origin)`` for every setting; secrets show as ``***``."""
    return [(_dotted(key), value, origin) for key, value, origin in rows_of(loaded)]


def rows_of(loaded: Loaded) -> list[tuple[Key, str, str]]:
    """Return what `flatten` does, with each key in its parts."""
    dumped = loaded.settings.model_dump(by_alias=True)
    rows: list[tuple[Key, str, str]] = []

    def walk(value: Any, key: Key) -> None:
        if isinstance(value, dict):
            for name, inner in value.items():
                if len(key) != 2 or name not in _RESOLVED:
                    walk(inner, (*key, name))
        elif isinstance(value, tuple) and key[-1] == "Protocols":
            for inner in value:
                section = {name: one for name, one in inner.items() if name != "Section"}
                walk(section, (*key[:-1], inner["Section"]))
        else:
            rows.append((key, shown(key, value), loaded.origins.get(key, "default")))

    walk(dumped, ())
    return rows


def shown(key: Key, value: Any) -> str:
    """Return a value as TOML writes it; ``***`` for a secret, and for an option that is named like one."""
    free = "Options" in key[3:-1] or key[:2] == ("monitor", "plugins")
    if isinstance(value, SecretStr) or (free and _SECRET.search(key[-1])):
        return "***"
    if isinstance(value, str):
        value = _USER.sub("://***@", value) if free else _PASSWORD.sub(r"\1:***@", value)
    return _toml_value(value)


def without_secrets(text: str) -> str:
    """Return lines of a vse.toml, or of a difference of two, to be shown: ``***`` where one has a secret."""

    def hidden(line: re.Match[str]) -> str:
        key = line["key"].strip("\"'")
        is_secret = _SECRET.search(key) and not key.lower().endswith("file")
        return f'{line["before"]}"***"' if is_secret else line[0]

    return _LINE.sub(hidden, _PASSWORD.sub(r"\1:***@", text))


def _overlay(data: dict[str, Any], origins: dict[Key, str], parts: list[str], raw: str, origin: str) -> None:
    """Put one value from outside the file at its place, matching names without regard to case."""
    table: Any = data
    model: Any = Settings
    key: list[str] = []
    for part in parts[:-1]:
        name, model = _step(model, table, part, origin)
        key.append(name)
        table = table.setdefault(name, {})
        if not isinstance(table, dict):
            raise BadSettings(f"use {origin}", f"{_dotted(tuple(key))} is a value, not a section")
    name, _ = _step(model, table, parts[-1], origin)
    table[name] = _parsed(raw)
    origins[(*key, name)] = origin


def _step(model: Any, table: Mapping[str, Any], part: str, origin: str) -> tuple[str, Any]:
    """Return the real spelling of ``part`` in ``table`` and the model of what lies below it."""
    fields = _known(model)
    for alike in (str.lower, _in_variables):
        for name in (*fields, *table):
            if alike(name) == alike(part):
                return name, fields.get(name) or _named_model(model)
    if _named_model(model) is not None:
        return part, _named_model(model)
    raise BadSettings(f"use {origin}", f"there is no setting {part!r}", _nearest(part, list(fields)))


def _in_variables(name: str) -> str:
    """Return a name as the environment can carry it."""
    return re.sub(r"\W", "_", name).lower()


def _parsed(raw: str) -> Any:
    """Read a value as TOML where it is some; anything else is a string."""
    try:
        return tomllib.loads(f"value = {raw}")["value"]
    except tomllib.TOMLDecodeError:
        return raw


def _known(model: Any) -> dict[str, Any]:
    """Return ``{key as written: model below it or None}`` for a section."""
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        return {}
    hidden = _HIDDEN if model in (ElementSettings, ProtocolSettings) else ()
    fields = {info.alias or name: info.annotation for name, info in model.model_fields.items()}
    return {
        name: kind if typing.get_origin(kind) is dict or isinstance(kind, type) else None
        for name, kind in fields.items()
        if name not in hidden
    }


def _named_model(model: Any) -> Any:
    """Return the model behind free names: of ``dict[str, X]``, or of an element's protocol sections."""
    if typing.get_origin(model) is dict:
        return typing.get_args(model)[1]
    return ProtocolSettings if model is ElementSettings else None


def _explained(error: ValidationError, data: Tree, place: Callable[[Key], str]) -> BadSettings:
    """Tell the first thing that is wrong, where it stands, and what was probably meant."""
    first = error.errors()[0]
    key = _written_key(first["loc"], data)
    if first["type"] == "extra_forbidden":
        model = _model_at(key[:-1])
        found = f"unknown key {key[-1]!r}" + (f" in [{_dotted(key[:-1])}]" if key[:-1] else "")
        todo = _nearest(key[-1], list(_known(model)))
        if model is ElementSettings and key[-1] in _known(ProtocolSettings):
            todo = f"it belongs into a protocol section: [{_dotted(key[:-1])}.SECTION]"
    elif first["type"] == "missing":
        found, todo = f"{_dotted(key)} is missing", "add it"
    else:
        said = first["msg"].removeprefix("Value error, ").partition(", unable to parse")[0]
        found = f"{_dotted(key)}: {said}"
        given = first.get("input")
        if isinstance(given, (str, int, float, bool)) and not _SECRET.search(key[-1]):
            found += f", not {given!r}"
        todo = ""
    more = len(error.errors()) - 1
    return BadSettings(
        f"use the settings {place(key)}", found + (f" (and {more} more)" if more else ""), todo
    )


def _written_key(location: tuple[int | str, ...], data: Mapping[str, Any]) -> Key:
    """Turn pydantic's location into the key as it stands in the file."""
    key: list[str] = []
    here: Any = data
    steps = iter(location)
    for step in steps:
        name = str(step)
        if step == "Protocols" and isinstance(here, dict):
            options = _known(ElementSettings)
            sections = [one for one, value in here.items() if isinstance(value, dict) and one not in options]
            name = sections[int(next(steps, 0))]
        if isinstance(here, dict):
            key.append(name)
            here = here.get(name)
        elif isinstance(here, list) and isinstance(step, int):
            here = here[step]
    return tuple(key)


def _model_at(key: Key) -> Any:
    model: Any = Settings
    for part in key:
        below = VolumeSettings if model is ProtocolSettings and part == "Volumes" else _known(model).get(part)
        model = below or _named_model(model)
    return model


def _nearest(part: str, known: list[str]) -> str:
    lowered = {name.lower(): name for name in known}
    near = difflib.get_close_matches(part.lower(), lowered, n=1, cutoff=0.5)
    if near:
        return f"did you mean {lowered[near[0]]!r}?"
    return f"known keys: {', '.join(sorted(known))}" if known else ""


def _dotted(key: Key) -> str:
    return ".".join(f'"{part}"' if "." in part else part for part in key)


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml_value(inner) for inner in value) + "]"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml_value(inner)}" for key, inner in value.items()) + " }"
    return '""' if value is None else f'"{value}"'
