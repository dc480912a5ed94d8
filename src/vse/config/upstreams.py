"""The settings of catalogues elsewhere: one section ``[upstreams.NAME]`` each."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, SecretStr, model_validator

from vse.config.name_templates import Template
from vse.config.sections import Count, Positive, Section, SitePath


class MappingRule(Section):
    """How names there become LFNs here; the first rule that matches is taken.

    ``upstream`` and ``lfn`` are templates of the same ``{placeholders}``, each of which stands for one
    or more characters other than '/', the last one ending in ``...`` for any (``{rest...}``). A name
    that no rule matches is not of this site.
    """

    upstream: str
    lfn: str

    @model_validator(mode="after")
    def _check(self) -> Self:
        there, here = Template(self.upstream), Template(self.lfn)
        if not self.lfn.startswith("/"):
            raise ValueError(f"{self.lfn!r}: an LFN starts with '/'")
        if set(there.placeholders) != set(here.placeholders):
            raise ValueError(f"{self.upstream!r} and {self.lfn!r} have different placeholders")
        if there.endless != here.endless:
            raise ValueError(f"{self.upstream!r} and {self.lfn!r}: only one of them ends in a '...'")
        return self


class UpstreamSettings(Section):
    name: str = ""
    type: Literal["vse", "rucio", "dirac", "alien", "dump"] = "vse"
    url: str
    """Where its server is; of a ``dump``, the path of the file."""
    token_file: SitePath | None = None
    """A file that holds the bearer token it wants."""
    username: str = ""
    """For a server that wants a name and password (rucio: userpass)."""
    password: SecretStr | None = None
    account: str = ""
    """The account to act as (rucio)."""
    vo: str = ""
    """The virtual organisation to name to it, where it wants one."""
    map: tuple[MappingRule, ...] = ()
    """Without rules, names there are LFNs here; a rucio's ``scope:name`` is ``/scope/name``."""
    elements: dict[str, str] = Field(default={})
    """Storage elements there, and their names here; those not listed keep theirs."""
    register_replicas: bool = False
    """Tell it of replicas made here (the third replica of seed 000), queued and retried."""
    timeout_s: Positive = 60.0
    """How long it may be silent."""
    batch: Count = 1000
    """Names asked for in one call."""
    fresh_s: Positive = 86400.0
    """How long an answer is believed (seed 002 C.3: cacheexpiresecs)."""
    stale_s: float = Field(default=0.0, ge=0)
    """How long after that it is still served at once, while the upstream is asked anew behind it."""
    negative_fresh_s: Positive = 300.0
    """How long 'not there' is believed."""
    python: str = ""
    """The Python that has the client of a ``dirac`` or ``alien``; where empty, this one."""
    environment: dict[str, str] = Field(default={})
    """What that client finds in its environment beside ours, e.g. X509_USER_PROXY, DIRACSYSCONFIG."""
    columns: dict[str, str] = Field(default={})
    """Of a ``dump``: its columns by our words: lfn, size, adler32, guid, se, url, owner, group, modified."""
    table: str = ""
    """Of a ``dump`` in SQLite: the table or view; where empty, its only one."""
    element: str = ""
    """Of a ``dump`` without a column for it: the storage element that holds the files."""
    backoff_s: Positive = 5.0
    """How long one that failed is left alone; it doubles with each further failure."""
    backoff_max_s: Positive = 300.0
    """The longest such pause."""
    offline: bool = False
    """Never ask it; serve what it told before, however old."""
