"""The settings of what is done to files on their way in: filters, and what failed verification."""

from __future__ import annotations

import hashlib
import re
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from vse.config.sections import Names, Positive, Section

Depth = Literal["checksum", "contents", "baskets"]
"""How far a file is looked into before it appears: see `vse.transfer.verification`."""

_FIELDS = re.compile(r"\{(\w*)\}")


class FilterSettings(Section):
    """A filter makes a smaller file out of one that is staged (seed 002 §4.3.5.6)."""

    kind: Literal["skim", "command", "python"]
    """`skim` keeps some branches and entries, `command` runs a program, `python` an installed function."""
    template: str = "{stem}.FILTER_{filter}{suffix}"
    """What the made file is called: `AliAOD.root` becomes `AliAOD.FILTER_NAME.root`."""
    match: str = "*.root"
    """The filter may be used on files whose whole LFN matches this glob."""
    branches: Names = ("*",)
    """`skim`: the branches to keep, as globs."""
    where: str = ""
    """`skim`: the entries to keep, as an expression of branches; where empty, all."""
    command: tuple[str, ...] = ()
    """`command`: program and arguments; in each, $IN, $OUT and $TREE are put in. No shell reads it."""
    entry: str = ""
    """`python`: the name in the entry point group `vse.filters`; where empty, that of the filter."""
    options: dict[str, Any] = Field(default={})
    """`python`: a table that is handed to the function."""
    version: str = "1"
    """Kept with each file that is made. Raise it when the program that makes them has changed."""
    verify: Literal["contents", "baskets"] = "baskets"
    """How far a made file is looked into."""
    timeout_s: Positive = 3600.0
    """How long making one file may take; then the process gets SIGTERM, and SIGKILL a moment later."""
    memory_bytes: Annotated[int, Field(ge=64 * 1024**2)] = 4 * 1024**3
    """Address space of each process of the filter."""
    output_bytes: int = Field(default=0, ge=0)
    """The largest file that it may write; 0 is no limit."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        fields = sorted(_FIELDS.findall(self.template))
        if [one for one in fields if one != "filter"] != ["stem", "suffix"] or "/" in self.template:
            raise ValueError("the template has {stem} and {suffix} once each, perhaps {filter}, and no '/'")
        if not _FIELDS.sub("", self.template) and "filter" not in fields:
            raise ValueError("the template gives a made file the name of the one it is made of")
        if self.kind == "command" and not self.command:
            raise ValueError("a filter of kind 'command' needs a command, a list of program and arguments")
        return self

    @cached_property
    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits that change with whatever decides what is made."""
        said = self.model_dump_json(exclude={"match", "timeout_s", "memory_bytes", "output_bytes", "verify"})
        return hashlib.sha256(said.encode()).hexdigest()[:16]


class QuarantineSettings(Section):
    keep: bool = True
    """Keep files that failed verification, as evidence, in the storage they were to come to."""
    max_bytes: int = Field(default=10 * 1024**3, ge=0)
    """So much in each storage element, at most a twentieth of its file system; the oldest go first."""
    max_age_s: Positive = 7 * 86400.0
    """How long each is kept."""
