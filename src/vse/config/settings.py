"""The settings of a site, as frozen values. How they are read is in `vse.config.load`.

The storage elements keep the names and meanings of DIRAC's configuration (seed 003), so that a site
that has one can copy it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SecretStr, model_validator

from vse.config.checks import ConsistencySettings
from vse.config.datasets import DatasetSettings, VariantSettings
from vse.config.elements import DataManagement, ElementSettings, ProtocolSettings, VolumeSettings
from vse.config.filters import Depth, FilterSettings, QuarantineSettings
from vse.config.inheritance import BASES, ELEMENTS, resolve
from vse.config.pools import PoolSettings, ReplicationSettings
from vse.config.sections import Approval, Count, Names, Positive, Rate, Section, SitePath
from vse.config.services import AfdsmgrdSettings, ExternalSettings, MonitorSettings, UrlRule
from vse.config.topology import CountryStorage, SiteStorage
from vse.config.upstreams import MappingRule, UpstreamSettings
from vse.config.vaf import VafSettings

__all__ = [
    "AfdsmgrdSettings",
    "AnalysisSettings",
    "CatalogueSettings",
    "ConsistencySettings",
    "DataManagement",
    "DatabaseSettings",
    "DatasetSettings",
    "DoorSettings",
    "ElementSettings",
    "ExternalSettings",
    "FilterSettings",
    "HttpDoorSettings",
    "LimitSettings",
    "LinkTreeSettings",
    "MappingRule",
    "MonitorSettings",
    "PoolSettings",
    "ProtocolSettings",
    "QuarantineSettings",
    "ReplicationSettings",
    "Settings",
    "Site",
    "SitePath",
    "StagerSettings",
    "UpkeepSettings",
    "UpstreamSettings",
    "UrlRule",
    "VafSettings",
    "VariantSettings",
    "VolumeSettings",
    "XrootdDoorSettings",
]


class Site(Section):
    name: str = "local"
    vo: str = ""
    """The experiment; VOPath may give it paths of its own, and elements whose VO lacks it are closed."""


class DatabaseSettings(Section):
    url: str = "sqlite:///var/vse.db"
    """A SQLAlchemy URL; ``sqlite:///relative/path`` starts at the directory of vse.toml."""
    password: SecretStr | None = None


class DiracSettings(Section):
    """Configurations of DIRAC that the storage elements are taken from."""

    cfg: Annotated[
        tuple[SitePath, ...], BeforeValidator(lambda one: (one,) if isinstance(one, str) else one)
    ] = ()
    """One file or several; what a later one says holds, and what vse.toml says itself holds over all."""


class CatalogueSettings(Section):
    administrators: Names = ()
    """Users who may do all in the catalogue, beside the owner of this site's files and root."""
    trash_s: float = Field(default=604800.0, ge=0)
    """How long removed names can be had back (undelete); 0 removes at once."""
    offline: bool = False
    """Ask no upstream; serve what they told before, however old (`--offline`)."""


class StagerSettings(Section):
    destination: str = ""
    """The storage element that staged files go to; where empty, the first one that can be written."""
    slots: Count = 8
    """Files on the move at once, counted over all stagers that share the database."""
    slots_per_source: Count = 8
    """Likewise from one storage element."""
    slots_per_destination: int = Field(default=0, ge=0)
    """Likewise to one storage element; 0 is as many as `slots`."""
    source_slots: dict[str, Count] = Field(default={})
    """A table: another number for those read from the storage elements named in it."""
    destination_slots: dict[str, Count] = Field(default={})
    """A table: another number for those written to the storage elements named in it."""
    approval: Approval = "none"
    """Which requests wait until somebody approves them: `none`, `all`, or `above 1TB` that have to come."""
    approvers: Names = ()
    """Users who approve, beside the administrators of the catalogue; they need no approval themselves."""
    approver_groups: Names = ()
    """Groups whose members do."""
    max_failures: int = Field(default=3, ge=0)
    """Give a file up after so many failures; 0 tries for ever (seed 002 C.2: corruptafterfails)."""
    backoff_s: Positive = 2.0
    """The pause after a first failure; it doubles with each further one."""
    backoff_max_s: Positive = 300.0
    """The longest pause."""
    timeout_s: float = Field(default=0.0, ge=0)
    """For one attempt, in all; 0 is no limit (seed 002 C.2: cmdtimeoutsecs)."""
    no_progress_s: Positive = 60.0
    """An attempt in which no byte comes for so long has failed."""
    verify_timeout_s: Positive = 120.0
    """How long a reader of files may stay at one part of a file, such as a basket."""
    verify_memory_bytes: int = Field(default=4 * 1024**3, ge=256 * 1024**2)
    """Address space of a reader; a file that takes more has failed."""
    max_rate: Rate = 0.0
    """Bytes a second over all transfers of all stagers, as `"100MB/s"`; 0 is no cap. What storages copy by
    themselves keeps to none."""
    source_rates: dict[str, Rate] = Field(default={})
    """A table: caps for what is read from the storage elements named in it."""
    destination_rates: dict[str, Rate] = Field(default={})
    """A table: caps for what is written to the storage elements named in it."""
    lease_s: Positive = 30.0
    """When another machine may take over the transfers of one that has gone silent."""
    verify: Depth = "contents"
    """``checksum`` opens nothing; ``contents`` opens ROOT files, counts the entries of their tree, and looks
    into zip archives; ``baskets`` also decompresses every basket of every branch."""
    scratch: SitePath = Path("var/scratch")
    """Where filters and staging commands work."""
    external: ExternalSettings = ExternalSettings()
    """A command of the site's own that brings files."""


class LinkTreeSettings(Section):
    path: SitePath = Path("vse")
    """The link of a file is at this path, followed by its LFN."""


class LimitSettings(Section):
    """How many calls a process has waiting at one server at once."""

    calls_per_host: Count = 16
    """At a server that is not named in `hosts`."""
    hosts: dict[str, Count] = Field(default={})
    """A table: another number for the servers named in it, by `"HOST"` or `"HOST:PORT"`."""
    wait_s: Positive = 300.0
    """How long a call waits for one before it to end, until it fails."""


class UpkeepSettings(Section):
    """What `vse serve` does from time to time."""

    expire_every_s: Positive = 600.0
    """Erase the files that have outlived their volume."""
    pool_every_s: Positive = 60.0
    """Look whether a pool is above its high watermark."""


class HttpDoorSettings(Section):
    host: str = "127.0.0.1"
    port: int = Field(default=0, ge=0, le=65535)
    """0 takes any free port and says which."""
    element: str = ""
    """The storage element it serves; where empty, the one that staged files go to."""
    read: Literal["token", "anonymous"] = "token"
    """Who may read files and names."""
    write: Literal["none", "token"] = "none"
    """Who may write and remove files."""
    token_file: SitePath = Path("var/door.token")
    """Made, readable by its owner only, where it is missing."""


class XrootdDoorSettings(Section):
    """The root:// redirector, `vse serve xrootd`."""

    host: str = "127.0.0.1"
    port: int = Field(default=1095, ge=0, le=65535)
    """0 takes any free port and says which."""
    data: str = "127.0.0.1:1094"
    """`HOST:PORT` of the xrootd that exports the link tree; where empty, copies' own root URLs are used."""
    deny_s: float = Field(default=10.0, ge=2)
    """A file that could not be staged is refused so long, and asked for anew by the next open."""


class DoorSettings(Section):
    http: HttpDoorSettings = HttpDoorSettings()
    xrootd: XrootdDoorSettings = XrootdDoorSettings()


class AnalysisSettings(Section):
    workers: int = Field(default=0, ge=0)
    """Local workers; 0 is one a processor."""
    packet_target_s: Positive = 1.0
    """How long a worker should take for a packet of entries."""
    max_failed_packets: Count = 20
    """So often a script may fail in a packet, or a file, without any success, before its rest is left out."""
    stall_s: Positive = 60.0
    """A worker that is silent for so long, and for 20 times what its work should take, loses it."""
    hang_s: Positive = 10.0
    """A script that is at one packet for so long, and for 20 times what it should take, is said to hang."""
    max_output_bytes: int = Field(default=2 * 1024**3, ge=1)
    """An analysis ends with what it has once the merged output takes more."""


class Settings(Section):
    """All of vse.toml."""

    site: Site = Site()
    database: DatabaseSettings = DatabaseSettings()
    catalogue: CatalogueSettings = CatalogueSettings()
    datasets: DatasetSettings = DatasetSettings()
    consistency: ConsistencySettings = ConsistencySettings()
    dirac: DiracSettings = DiracSettings()
    storage_elements: dict[str, ElementSettings] = Field(default={}, alias="StorageElements")
    storage_element_bases: dict[str, ElementSettings] = Field(default={}, alias="StorageElementBases")
    """what the elements have in common that name it in BaseSE. It is no element itself."""
    aliases: dict[str, str] = Field(default={}, alias="StorageElementAliases")
    """Other names of storage elements; those that an element gives by Alias are put here, too."""
    storage_element_groups: dict[str, Names] = Field(default={}, alias="StorageElementGroups")
    """A name for several storage elements, or groups."""
    sites: dict[str, SiteStorage] = Field(default={}, alias="Sites")
    countries: dict[str, CountryStorage] = Field(default={}, alias="Countries")
    data_management: DataManagement = Field(default=DataManagement(), alias="DataManagement")
    upstreams: dict[str, UpstreamSettings] = Field(default={})
    stager: StagerSettings = StagerSettings()
    filters: dict[str, FilterSettings] = Field(default={})
    """Makes smaller files of those that are staged, under names of their own."""
    quarantine: QuarantineSettings = QuarantineSettings()
    pools: dict[str, PoolSettings] = Field(default={})
    """By the name of the storage element."""
    replication: ReplicationSettings = ReplicationSettings()
    afdsmgrd: AfdsmgrdSettings = AfdsmgrdSettings()
    monitor: MonitorSettings = MonitorSettings()
    linktree: LinkTreeSettings = LinkTreeSettings()
    limits: LimitSettings = LimitSettings()
    upkeep: UpkeepSettings = UpkeepSettings()
    doors: DoorSettings = DoorSettings()
    analysis: AnalysisSettings = AnalysisSettings()
    vaf: VafSettings = VafSettings()

    @model_validator(mode="before")
    @classmethod
    def _name_the_named(cls, data: Any) -> Any:
        """Resolve bases and aliases; tell each element and upstream its own name; make left-out
        sections, so that their paths are anchored at the site like written ones."""
        if not isinstance(data, dict):
            return data
        named: dict[str, Any] = {
            section: {} for section in ("linktree", "doors", "stager", "analysis")
        } | resolve(data).tree
        if isinstance(named["doors"], dict):
            named["doors"] = {"http": {}} | named["doors"]
        for table, key in ((ELEMENTS, "Name"), (BASES, "Name"), ("upstreams", "name")):
            if isinstance(named.get(table), dict):
                named[table] = {
                    name: {**section, key: name} if isinstance(section, dict) else section
                    for name, section in named[table].items()
                }
        return named
