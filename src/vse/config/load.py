"""Read the settings of a site: defaults < vse.toml < ``VSE_*`` < flags, each value with its origin."""

from __future__ import annotations

import difflib
import tomllib
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr, ValidationError

from vse.config.settings import ElementSettings, ProtocolSettings, Settings
from vse.config.toml_lines import lines_of
from vse.errors import BadSettings, NoSuchSite

FILE_NAME = "vse.toml"
SITE_VARIABLE = "VSE_SITE"
_PREFIX = "VSE_"
_NOT_SETTINGS = {SITE_VARIABLE, "VSE_DEBUG"}

Key = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Loaded:
    """The settings of one site, the directory they belong to, and where each value came from.

    ``origins`` maps a key path (``("stager", "slots")``) to ``vse.toml:12``, ``VSE_STAGER__SLOTS`` or
    ``--set``; a key that is not in it has its default.
    """

    settings: Settings
    root: Path
    origins: Mapping[Key, str]


def find_site(explicit: Path | None, environment: Mapping[str, str], start: Path) -> Path:
    """Return the vse.toml to use: the one asked for, ``VSE_SITE``'s, or the nearest above ``start``.

    ``explicit`` may be the file or the directory that holds it. Raises `NoSuchSite`.
    """
    asked = explicit or (Path(environment[SITE_VARIABLE]) if environment.get(SITE_VARIABLE) else None)
    if asked is not None:
        path = asked / FILE_NAME if asked.is_dir() else asked
        if path.is_file():
            return path.absolute()
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
    """Read ``path`` and lay the environment and the flags (``{"stager.slots": "4"}``) over it.

    Raises `BadSettings` naming file, line and the nearest known key for whatever is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8")
        data: dict[str, Any] = tomllib.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        raise BadSettings(f"read the settings {path}", str(error)) from error
    except tomllib.TOMLDecodeError as error:
        raise BadSettings(f"read the settings {path}", f"not valid TOML: {error}") from error
    origins: dict[Key, str] = {key: f"{path}:{line}" for key, line in lines_of(text).items()}
    for variable, value in sorted((environment or {}).items()):
        if variable.startswith(_PREFIX) and variable not in _NOT_SETTINGS:
            _overlay(data, origins, variable.removeprefix(_PREFIX).split("__"), value, variable)
    for dotted, value in (flags or {}).items():
        _overlay(data, origins, dotted.split("."), value, f"--set {dotted}")
    try:
        settings = Settings.model_validate(data, context={"root": path.parent})
    except ValidationError as error:
        raise _explained(error, data, origins, path) from error
    return Loaded(settings, path.parent, origins)


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
    dumped = loaded.settings.model_dump(by_alias=True)
    rows: list[tuple[str, str, str]] = []

    def walk(value: Any, key: Key) -> None:
        if isinstance(value, dict):
            for name, inner in value.items():
                if name not in ("Name", "name", "Section") or len(key) < 2:
                    walk(inner, (*key, name))
        elif isinstance(value, tuple) and key[-1] == "Protocols":
            for inner in value:
                walk(inner, (*key[:-1], inner["Section"]))
        else:
            shown = "***" if isinstance(value, SecretStr) else _toml_value(value)
            rows.append((_dotted(key), shown, loaded.origins.get(key, "default")))

    walk(dumped, ())
    return rows


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
    for name in (*fields, *table):
        if name.lower() == part.lower():
            return name, fields.get(name) or _named_model(model)
    if _named_model(model) is not None:
        return part, _named_model(model)
    raise BadSettings(f"use {origin}", f"there is no setting {part!r}", _nearest(part, list(fields)))


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
    hidden = {"Name", "name", "Section", "Protocols"}
    fields = {info.alias or name: info.annotation for name, info in model.model_fields.items()}
    return {
        name: kind if typing.get_origin(kind) is dict or isinstance(kind, type) else None
        for name, kind in fields.items()
        if name not in hidden or model is not ElementSettings
    }


def _named_model(model: Any) -> Any:
    """Return the model behind free names: of ``dict[str, X]``, or of an element's protocol sections."""
    if typing.get_origin(model) is dict:
        return typing.get_args(model)[1]
    return ProtocolSettings if model is ElementSettings else None


def _explained(
    error: ValidationError, data: dict[str, Any], origins: Mapping[Key, str], path: Path
) -> BadSettings:
    """Tell the first thing that is wrong, where it stands, and what was probably meant."""
    first = error.errors()[0]
    key = _written_key(first["loc"], data)
    place = next((origins[key[:n]] for n in range(len(key), 0, -1) if key[:n] in origins), str(path))
    if first["type"] == "extra_forbidden":
        known = list(_known(_model_at(key[:-1])))
        found = f"unknown key {key[-1]!r}" + (f" in [{_dotted(key[:-1])}]" if key[:-1] else "")
        todo = _nearest(key[-1], known)
    elif first["type"] == "missing":
        found, todo = f"{_dotted(key)} is missing", "add it"
    else:
        found = f"{_dotted(key)}: {first['msg'].removeprefix('Value error, ')}"
        given = first.get("input")
        found += f", not {given!r}" if isinstance(given, (str, int, float, bool)) else ""
        todo = ""
    more = len(error.errors()) - 1
    return BadSettings(f"use the settings {place}", found + (f" (and {more} more)" if more else ""), todo)


def _written_key(location: tuple[int | str, ...], data: Mapping[str, Any]) -> Key:
    """Turn pydantic's location into the key as it stands in the file."""
    key: list[str] = []
    here: Any = data
    steps = iter(location)
    for step in steps:
        name = str(step)
        if step == "Protocols" and isinstance(here, dict):
            sections = [section for section, value in here.items() if isinstance(value, dict)]
            name = sections[int(next(steps, 0))]
        if isinstance(here, dict):
            key.append(name)
            here = here.get(name)
    return tuple(key)


def _model_at(key: Key) -> Any:
    model: Any = Settings
    for part in key:
        model = _known(model).get(part) or _named_model(model)
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
    return '""' if value is None else f'"{value}"'
