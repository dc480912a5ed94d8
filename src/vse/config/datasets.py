"""The settings of datasets: where an experiment keeps its official data."""

from __future__ import annotations

import re
from string import Formatter
from typing import Annotated

from pydantic import AfterValidator, Field

from vse.config.sections import Names, Section

PLACEHOLDERS = ("year", "period", "run", "pass", "variant", "file")


def _path_template(text: str) -> str:
    try:
        fields = [(name, spec or "") for _, name, spec, _ in Formatter().parse(text) if name is not None]
    except ValueError as error:
        raise ValueError(f"{text!r}: {error}") from error
    for name, spec in fields:
        if name not in PLACEHOLDERS:
            known = ", ".join(f"{{{one}}}" for one in PLACEHOLDERS)
            raise ValueError(f"{text!r} has the placeholder {{{name}}}; there are {known}")
        if not re.fullmatch(r"0?[0-9]{0,2}d?" if name == "run" else "", spec):
            raise ValueError(
                f"{text!r}: {{{name}:{spec}}} cannot be filled in; only run takes digits, as {{run:09d}}"
            )
    if not text.startswith("/") or "//" in text or not text.rpartition("/")[2]:
        raise ValueError(f"{text!r} is no path: it starts with '/' and ends with the name of a file")
    return text


PathTemplates = Annotated[Names, AfterValidator(lambda paths: tuple(map(_path_template, paths)))]


class VariantSettings(Section):
    """One variant of official data, which a query names by this beginning: `AOD` is that of `Variant=AOD086`.

    The paths are templates of `{year}` (of the period: 2010 of LHC10h), `{period}`, `{run}` (with digits:
    `{run:09d}`), `{pass}`, `{variant}` and `{file}`; `*` stands for one directory, `**` for any number. Where
    several are given, the files of all of them are meant.
    """

    file: str
    """The file, or `ARCHIVE#MEMBER` for a member of zip archives (`root_archive.zip#AliESDs.root`)."""
    tree: str = ""
    """Its default tree."""
    data: PathTemplates = ()
    """Where `Data;...` queries look."""
    sim: PathTemplates = ()
    """Where `Sim;...` queries look."""


def alice() -> dict[str, VariantSettings]:
    """ALICE's conventions, as ROOT's TDataSetManagerAliEn knew them (seed 002 §4.3.6.1, C.3): simulations
    are below a year or not."""
    data = "/alice/data/{year}/{period}/{run:09d}/ESDs/{pass}"
    sim = ("/alice/sim/{period}/{run:06d}", "/alice/sim/{year}/{period}/{run:06d}")
    return {
        "ESD": VariantSettings(
            file="AliESDs.root",
            tree="/esdTree",
            data=(f"{data}/*.*/{{file}}",),
            sim=tuple(f"{base}/*/{{file}}" for base in sim),
        ),
        "AOD": VariantSettings(
            file="AliAOD.root",
            tree="/aodTree",
            data=(f"{data}/{{variant}}/**/{{file}}",),
            sim=tuple(f"{base}/{{variant}}/**/{{file}}" for base in sim),
        ),
    }


class DatasetSettings(Section):
    local_url: str = ""
    """The URL that a file has here, or will have, for `Mode=cache` (seed 002 C.3: urltemplate), such as
    `root://cache.example.org/{lfn}`; where empty, the one at the storage element that staged files go to."""
    finds_at_once: int = Field(default=8, ge=1, le=64)
    """So many finds of a query with several runs are asked of upstreams at the same time."""
    variants: dict[str, VariantSettings] = Field(default_factory=alice)
    """What `Data;...` and `Sim;...` queries mean: ALICE's conventions where none are given."""
