"""The settings of what services tell of themselves, and of a site's own staging command."""

from __future__ import annotations

import re
import shlex
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from vse.config.sections import Names, Positive, Section, SitePath


def _command(text: str) -> str:
    try:
        shlex.split(text)
    except ValueError as error:
        raise ValueError(f"{text!r} cannot be split into words: {error}") from error
    return text


def _regex(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"{text!r} is no regular expression: {error}") from error
    return text


class ExternalSettings(Section):
    """A command of the site's own that brings files, instead of VSE (seed 002 §4.3.5.2, C.2: stagecmd)."""

    command: Annotated[str, AfterValidator(_command)] = ""
    """Split into words as a shell does; in each, $URLTOSTAGE, $TREENAME, $SOURCEURL, $LFN and $SIZE are put
    in. No shell reads it."""
    timeout_s: float = Field(default=0.0, ge=0)
    """The command, and all it started, gets SIGTERM after so long, and SIGKILL a moment later; 0 is no limit
    (seed 002 C.2: cmdtimeoutsecs)."""
    destinations: Names = ()
    """Files that go to these storage elements are brought by the command."""
    sources: Names = ()
    """Likewise files whose first source is at one of these."""


class UrlRule(Section):
    """How a URL of a list becomes the one to stage (seed 002 C.2: urlregex)."""

    regex: Annotated[str, AfterValidator(_regex)]
    subst: str
    """$1 to $9 are the groups of the expression, in order."""


class AfdsmgrdSettings(Section):
    """A directory of lists whose files are staged, as afdsmgrd kept it (seed 002 §4.3.5, C.2)."""

    repository: SitePath | None = None
    """The directory (C.2: xpd.stagereqrepo); where left out, there is none."""
    destination: str = ""
    """The storage element that the files of the lists come to; where empty, the one staged files go to."""
    purge: bool = False
    """Remove a list when nothing of it is left to stage and nothing failed (C.2: purgenoopds)."""
    url_rules: tuple[UrlRule, ...] = ()
    """An array of tables `{regex, subst}`; the first that matches is taken (C.2: urlregex to urlregex4)."""
    scan_every_s: Positive = 300.0
    """How often the directory is looked at (C.2: sleepsecs times scandseveryloops)."""


class MonitorSettings(Section):
    """What services tell."""

    events: bool = True
    """One line of JSON on standard error for each change of a file or request."""
    every_s: Positive = 60.0
    """How often plug-ins are told."""
    memory_bytes: int = Field(default=1024**3, ge=0)
    """A service that holds more memory (RSS) says so; 0 is no limit."""
    metrics: Annotated[str, Field(pattern=r"^$|^.+:\d{1,5}$")] = ""
    """`HOST:PORT` where `vse serve stager` tells its figures to Prometheus; where empty, nowhere."""
    plugins: dict[str, dict[str, Any]] = Field(default={})
    """A table `[monitor.plugins.NAME]` switches that plug-in on and holds its options: `apmon`, or one of
    the entry point group `vse.monitors`."""
