"""Takes over what an afdsmgrd did: its configuration becomes sections of vse.toml."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from vse.config.load import Loaded, load
from vse.errors import BadRequest, StorageFault, cannot_read
from vse.staging.afdsmgrd_conf import Configuration, element_of, lay_over, parse, sections_of


class Import(NamedTuple):
    """What would become of a vse.toml. ``diff`` is empty where it says all of it already."""

    configuration: Configuration
    path: Path
    text: str
    diff: str
    notes: tuple[str, ...]


def plan_import(
    conf: Path, site: Path, element: str, environment: Mapping[str, str], flags: Mapping[str, str]
) -> Import:
    """Return the vse.toml at ``site`` with what ``conf`` says; nothing is written.

    Raises `BadSettings` with the line for a configuration that cannot be, and for a vse.toml that would not
    be one afterwards.
    """
    configuration = parse(_read(conf), str(conf))
    if not configuration.repository:
        raise BadRequest(
            f"import {conf}", "it has no xpd.stagereqrepo", "afdsmgrd did nothing without it: add the line"
        )
    before = _read(site)
    known = element in load(site, environment, flags).settings.storage_elements
    sections = sections_of(configuration, element)
    sections += [] if known else element_of(configuration, element)
    text = lay_over(before, sections)
    _check(site, text, environment, flags)
    lines = (before.splitlines(keepends=True), text.splitlines(keepends=True))
    diff = "".join(difflib.unified_diff(*lines, f"{site} (now)", f"{site} (then)"))
    return Import(configuration, site, text, diff, tuple(_notes(configuration, element, known)))


def write(plan: Import) -> None:
    """Put the new vse.toml in the place of the old one, in one step; the old one stays as ``.before``."""
    temporary = plan.path.with_name(f".{plan.path.name}.new")
    try:
        before = plan.path.read_text("utf-8")
        plan.path.with_name(f"{plan.path.name}.before").write_text(before, "utf-8")
        temporary.write_text(plan.text, "utf-8")
        temporary.chmod(plan.path.stat().st_mode & 0o777)
        temporary.replace(plan.path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise StorageFault(f"write {plan.path}", error.strerror or str(error)) from error


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8", errors="surrogateescape")
    except OSError as error:
        raise cannot_read(f"read {path}", error) from error


def _check(site: Path, text: str, environment: Mapping[str, str], flags: Mapping[str, str]) -> Loaded:
    """Read the new text as the settings of the site would be read."""
    temporary = site.with_name(f".{site.name}.{os.getpid()}.check")
    try:
        temporary.write_text(text, "utf-8")
        return load(temporary, environment, flags)
    except OSError as error:
        raise StorageFault(f"write beside {site}", error.strerror or str(error)) from error
    finally:
        temporary.unlink(missing_ok=True)


def _notes(configuration: Configuration, element: str, known: bool) -> list[str]:
    notes = []
    if configuration.command == "/bin/false":
        notes.append("there is no dsmgrd.stagecmd: every file will fail, as it did with afdsmgrd")
    if not known:
        notes.append(f"the storage element {element} is made from the first urlregex: look it over")
    if configuration.plugin and not (configuration.apmon_url and configuration.apmon_prefix):
        notes.append("dsmgrd.notifyplugin is not taken over: apmonurl and apmonprefix are not both given")
    elif configuration.plugin:
        notes.append(f"the compiled plug-in {configuration.plugin} is replaced by our own for MonALISA")
    if configuration.ignored:
        notes.append(f"passed over, as afdsmgrd did: {', '.join(configuration.ignored)}")
    return notes
