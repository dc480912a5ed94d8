"""What every command is given: which site, which settings over it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from vse.app.site import Site

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Limit = Annotated[int, typer.Option("--limit", min=1, help="At most so many, the newest.", metavar="N")]
AtElement = Annotated[
    str, typer.Option("--se", help="At this storage element; default: stager.destination.", metavar="SE")
]


@dataclass
class Context:
    """The options in front of the command."""

    site: Path | None = None
    flags: list[str] = field(default_factory=list)


def settings_path(context: typer.Context) -> Path:
    """Return the vse.toml the user means."""
    from vse.config.load import find_site

    asked: Context = context.obj
    return find_site(asked.site, os.environ, Path.cwd())


@contextmanager
def open_site(context: typer.Context, *, with_catalogue: bool = True) -> Iterator[Site]:
    """Open the site the user means, and close it at the end of the command.

    ``with_catalogue`` False: for what only looks at settings and storage; the catalogue need not be there.
    """
    from vse.app.site import Site
    from vse.config.load import load, parse_flags

    asked: Context = context.obj
    loaded = load(settings_path(context), os.environ, parse_flags(asked.flags))
    with (Site.open_existing if with_catalogue else Site.open)(loaded) as site:
        yield site
