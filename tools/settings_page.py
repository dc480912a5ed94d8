"""Write docs/settings.md from the code: ``python tools/settings_page.py > docs/settings.md``."""

from __future__ import annotations

import ast
import inspect
import typing

from pydantic import BaseModel, SecretStr
from pydantic_core import PydanticUndefined

from vse.config import settings as module
from vse.config.sections import Section
from vse.config.settings import ElementSettings, ProtocolSettings, Settings, UpstreamSettings, VolumeSettings
from vse.config.topology import CountryStorage, SiteStorage

INTRODUCTION = """\
# Settings

<!-- Written by tools/settings_page.py; a test holds it equal to the code. -->

One file, `vse.toml`. A value comes from, in this order, a flag (`--set stager.slots=4`), the environment
(`VSE_STAGER__SLOTS=4`; two underscores between the parts), the file, or the default; `vse config show
--origin` tells which. An unknown key or a bad value is an error that names the line and the nearest known
key. Relative paths start at the directory of `vse.toml`. Storage elements keep the names and meanings of
DIRAC's configuration; [Storage elements](storage-elements.md) tells how they are used, and how a `dirac.cfg`
is read.
"""
HIDDEN = {"name", "section", "protocols"}
NAMED = {
    "upstreams": UpstreamSettings,
    "filters": module.FilterSettings,
    "pools": module.PoolSettings,
    "sites": SiteStorage,
    "countries": CountryStorage,
}
"""Tables of sections whose names are free."""


FREE = {
    "aliases": ["| `OTHER-NAME` | the name of a storage element, or an alias |"],
    "storage_element_groups": ["| `GROUP` | the names of storage elements or groups |"],
}


def remarks(model: type[BaseModel]) -> dict[str, str]:
    """Return the string that stands below each field of a section."""
    nodes = ast.walk(ast.parse(inspect.getsource(model)))
    (body,) = [node for node in nodes if isinstance(node, ast.ClassDef)]
    found: dict[str, str] = {}
    for field, below in zip(body.body, body.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(below, ast.Expr)
            and isinstance(below.value, ast.Constant)
        ):
            found[field.target.id] = " ".join(str(below.value.value).split())
    return found


def shown(value: object) -> str:
    if value in (None, "", {}, PydanticUndefined):
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`[{', '.join(value)}]`" if value else ""
    return f"`{value}`"


def said(field: str) -> str:
    return remarks(Settings)[field]


def section(title: str, model: type[BaseModel], *, array: bool = False) -> list[str]:
    doc = inspect.cleandoc(model.__doc__ or "").partition("\n\n")[0].replace("\n", " ").replace("``", "`")
    own_doc = doc if model.__doc__ and model.__doc__ != BaseModel.__doc__ else ""
    heading = f"[[{title}]]" if array else f"[{title}]"
    lines = [f"\n## {heading}\n", *([own_doc, ""] if own_doc else []), "| key | default | |", "|---|---|---|"]
    notes = remarks(model)
    for name, field in model.model_fields.items():
        if name in HIDDEN and model is not module.Site:
            continue
        if isinstance(field.default, Section):
            continue  # has a heading of its own
        default = "required" if field.is_required() else shown(field.default)
        literal = typing.get_origin(field.annotation) is typing.Literal
        choices = typing.get_args(field.annotation) if literal else ()
        words = [f"one of {', '.join(f'`{one}`' for one in choices)}"] if choices else []
        if SecretStr in typing.get_args(field.annotation):
            words.append("secret: never shown")
        words += [notes[name].replace("``", "`")] if name in notes else []
        lines.append(f"| `{field.alias or name}` | {default} | {'; '.join(words)} |")
    return lines


def page() -> str:
    lines = [INTRODUCTION.rstrip("\n")]
    for name, field in Settings.model_fields.items():
        title = field.alias or name
        if name == "storage_elements":
            lines += section(f"{title}.NAME", ElementSettings)
            lines += section(f"{title}.NAME.SECTION", ProtocolSettings)
            lines += section(f"{title}.NAME.SECTION.Volumes", VolumeSettings, array=True)
        elif name == "storage_element_bases":
            same = "The same keys and sections as `[StorageElements.NAME]`: "
            lines += [f"\n## [{title}.NAME]\n", same + said(name)]
        elif name in ("aliases", "storage_element_groups"):
            lines += [f"\n## [{title}]\n", said(name), "", "| key | |", "|---|---|", *FREE[name]]
        elif name == "datasets":
            lines += section(title, module.DatasetSettings)
            lines += section(f"{title}.variants.NAME", module.VariantSettings)
        elif name in NAMED:
            lines += section(f"{title}.NAME", NAMED[name])
        elif name == "stager":
            lines += section(title, module.StagerSettings)
            lines += section(f"{title}.external", module.ExternalSettings)
        elif name == "doors":
            lines += section("doors.http", module.HttpDoorSettings)
            lines += section("doors.xrootd", module.XrootdDoorSettings)
        else:
            assert isinstance(field.annotation, type)
            lines += section(title, field.annotation)
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(page(), end="")
