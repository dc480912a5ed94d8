"""``vse se``: the storage elements, as the settings make them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from vse.cli.context import Context, Json, settings_path
from vse.cli.helptext import Commands
from vse.cli.output import emit_json, emit_lines, err, table

if TYPE_CHECKING:
    from vse.config.load import Loaded
    from vse.config.settings import ElementSettings

app = Commands(
    help="Look at the storage elements.",
)


def loaded_settings(context: typer.Context) -> Loaded:
    """Read the settings of the site the user means, without opening it."""
    from vse.config.load import load, parse_flags

    asked: Context = context.obj
    return load(settings_path(context), os.environ, parse_flags(asked.flags))


@app.command("list")
def list_elements(context: typer.Context, as_json: Json = False) -> None:
    """Print every storage element: what it is, what it allows, how it is spoken to, its other names.

    Examples:

      vse se list

      vse se list --json
    """
    loaded = loaded_settings(context)
    facts = [_facts(loaded, element) for element in loaded.settings.storage_elements.values()]
    if as_json:
        emit_lines(facts)
        return
    columns = ("name", "type", "allows", "protocols", "aliases", "groups")
    headings = ("name", "type", "allows", "protocols", "other names", "groups")
    table(headings, ([_cell(row[column]) for column in columns] for row in facts))


@app.command()
def show(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="A storage element, or another name of one.", metavar="NAME")],
    defaults: Annotated[bool, typer.Option("--all", help="Print the options that are not set, too.")] = False,
    as_json: Json = False,
) -> None:
    """Print a storage element as it is after inheritance, and where each value came from.

    Examples:

      vse se show CERN-USER

      vse se show CERN-USER --all --json
    """
    loaded = loaded_settings(context)
    element = _element(loaded, name)
    rows = _options(loaded, element, defaults)
    remarks = [one for one in loaded.remarks if one.element == element.name]
    if as_json:
        options = [{"option": option, "value": value, "origin": origin} for option, value, origin in rows]
        emit_json(
            {
                **_facts(loaded, element),
                "asked": name,
                "options": options,
                "remarks": [one._asdict() for one in remarks],
            }
        )
        return
    if element.name != name:
        err.print(f"{name} is another name of {element.name}.", markup=False)
    table(("option", "value", "from"), rows)
    for remark in remarks:
        err.print(f"without effect: {remark}", markup=False)


def _element(loaded: Loaded, name: str) -> ElementSettings:
    """Return an element by one of its names; `NoSuchElement` names the nearest one."""
    from vse.config.topology import find_element

    return find_element(loaded.settings, name)


def _facts(loaded: Loaded, element: ElementSettings) -> dict[str, str | list[str]]:
    """Return what is known of an element in short."""
    from vse.config.topology import groups_of

    allowed = {
        "read": element.read_access,
        "write": element.write_access,
        "check": element.check_access or element.read_access,
        "remove": element.remove_access,
    }
    kind = "tape" if element.is_tape else "disk"
    return {
        "name": element.name,
        "type": f"{element.se_type} ({kind})",
        "allows": [operation for operation, yes in allowed.items() if yes],
        "protocols": list(dict.fromkeys(one.protocol or one.plugin for one in element.protocols)),
        "aliases": [other for other, name in loaded.settings.aliases.items() if name == element.name],
        "groups": groups_of(loaded.settings, element.name),
    }


def _cell(value: str | list[str]) -> str:
    return value if isinstance(value, str) else ", ".join(value) or "-"


def _options(loaded: Loaded, element: ElementSettings, defaults: bool) -> list[tuple[str, str, str]]:
    """Return ``(option, value, origin)``; an option of a protocol section has its name in front."""
    from vse.config.load import rows_of

    here = ("StorageElements", element.name)
    options: list[tuple[str, str, str]] = []
    of_all: list[tuple[str, str, str]] = []
    for key, value, origin in rows_of(loaded):
        if key[0] == "DataManagement":
            of_all.append((key[1], value, f"[DataManagement], {origin}"))
        elif key[:2] == here and (defaults or origin != "default"):
            options.append(("/".join(key[2:]), value, origin))
    own = {
        "AccessProtocols": element.access_protocols,
        "WriteProtocols": element.write_protocols,
        "StageProtocols": element.stage_protocols,
    }
    unsaid = {option for option, said in own.items() if not said}
    return [
        *(row for row in options if row[0] not in unsaid),
        *(row for row in of_all if row[0] in unsaid),
    ]
