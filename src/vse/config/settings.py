"""The settings of a site, as frozen values. How they are read is in `vse.config.load`.

The storage elements keep the names and meanings of DIRAC's configuration (seed 003), so that a site
that has one can copy it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_pascal

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


def _in_site(path: Path, info: ValidationInfo) -> Path:
    """Anchor a relative path at the directory of vse.toml."""
    root: Path = (info.context or {}).get("root", Path.cwd())
    return root / path.expanduser()


SitePath = Annotated[Path, AfterValidator(_in_site)]
"""A path; where relative, it starts at the directory that holds vse.toml."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, coerce_numbers_to_str=True)


class _DiracSection(_Section):
    """A section whose keys are written as in DIRAC: ``ReadAccess``, ``AccessProtocols``."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_pascal)


class Site(_Section):
    name: str = "local"
    vo: str = ""
    """The experiment; for information."""


class DatabaseSettings(_Section):
    url: str = "sqlite:///var/vse.db"
    """A SQLAlchemy URL; ``sqlite:///relative/path`` starts at the directory of vse.toml."""
    password: SecretStr | None = None


class ProtocolSettings(_DiracSection):
    """One protocol section of a storage element. ``section`` is its name in the settings."""

    section: str = ""
    plugin_name: str = ""
    """The driver; where left out, the section is named after it."""
    protocol: str = ""
    """`file`, `http`, `https` or `davs`; where left out, the plugin's own."""
    host: str = ""
    port: int | None = Field(default=None, ge=1, le=65535)
    path: str = "/"
    ws_url: str = Field(default="", alias="WSUrl")
    """Read, not used by the drivers of this version."""
    access: Literal["remote", "local"] = "remote"
    """`local`: only where this process runs at the site of the element."""
    space_token: str = ""
    """Read, not used by the drivers of this version."""
    input_protocols: tuple[str, ...] = ()
    """Read, not used by the drivers of this version."""
    output_protocols: tuple[str, ...] = ()
    """Read, not used by the drivers of this version."""
    token_file: SitePath | None = None
    """A file that holds a bearer token (ours; DIRAC has none)."""

    @field_validator("path")
    @classmethod
    def _anchored(cls, path: str, info: ValidationInfo) -> str:
        """Anchor a relative Path: of a mounted storage at the site, of any other at the server's root."""
        known = info.data
        kind = known.get("protocol") or known.get("plugin_name") or known.get("section") or ""
        if kind.lower() == "file":
            return str(_in_site(Path(path), info))
        return path if path.startswith("/") else f"/{path}"


class ElementSettings(_DiracSection):
    """A storage element; every table inside it is a protocol section, in the order written."""

    name: str = ""
    backend_type: str = ""
    """For information, as in DIRAC."""
    se_type: str = Field(default="T0D1", alias="SEType", pattern=r"^T\dD\d$")
    """Tape and disk copies; for information in this version."""
    read_access: bool = True
    """`Active` or `Banned`, or a boolean; reading includes checking."""
    write_access: bool = True
    """Likewise."""
    check_access: bool = True
    """Looking at sizes and checksums; allowed too where reading is."""
    remove_access: bool = True
    """Likewise."""
    access_protocols: tuple[str, ...] = ()
    """This order instead of the one in `[DataManagement]`, for reading."""
    write_protocols: tuple[str, ...] = ()
    """Likewise for writing and removing."""
    protocols: tuple[ProtocolSettings, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _gather_protocols(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        plain: dict[str, Any] = {}
        sections: list[dict[str, Any]] = []
        for key, value in data.items():
            if isinstance(value, dict):
                sections.append({"Section": key, **value})
            else:
                plain[key] = (
                    value in ("Active", "True") if key.endswith("Access") and value in _ACCESS else value
                )
        return {**plain, "Protocols": sections} if sections else plain


_ACCESS = ("Active", "InActive", "Banned", "True", "False")


class DataManagement(_DiracSection):
    """The preference order of protocols for each kind of operation, for the whole site."""

    access_protocols: tuple[str, ...] = ("file", "root", "davs", "https", "http")
    write_protocols: tuple[str, ...] = ("file", "root", "davs", "https", "http")


class UpstreamSettings(_Section):
    name: str = ""
    type: Literal["vse"] = "vse"
    url: str
    """Where its door is, without a path."""
    token_file: SitePath | None = None
    """A file that holds the bearer token it wants."""
    timeout_s: Positive = 60.0
    """How long it may be silent."""
    fresh_s: Positive = 86400.0
    """How long an answer is believed (seed 002 C.3: cacheexpiresecs)."""
    negative_fresh_s: Positive = 300.0
    """How long 'not there' is believed."""


class StagerSettings(_Section):
    destination: str = ""
    """The storage element that staged files go to; where empty, the first one that can be written."""
    slots: Count = 8
    """Files on the move at once, counted over all stagers that share the database."""
    slots_per_source: Count = 8
    """Likewise from one storage element."""
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
    """How long opening and counting one ROOT file may take."""
    lease_s: Positive = 30.0
    """When another machine may take over the transfers of one that has gone silent."""
    verify: Literal["contents", "checksum"] = "contents"
    """``contents`` opens ROOT files and counts the entries of their tree; ``checksum`` does not."""


class LinkTreeSettings(_Section):
    path: SitePath = Path("vse")
    """The link of a file is at this path, followed by its LFN."""


class HttpDoorSettings(_Section):
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


class DoorSettings(_Section):
    http: HttpDoorSettings = HttpDoorSettings()


class AnalysisSettings(_Section):
    workers: int = Field(default=0, ge=0)
    """Local workers; 0 is one a processor."""
    packet_target_s: Positive = 1.0
    """How long a worker should take for a packet of entries."""
    max_failed_packets: Count = 10
    """So many packets on which the script fails are followed up to their entries."""


class Settings(_Section):
    """All of vse.toml."""

    site: Site = Site()
    database: DatabaseSettings = DatabaseSettings()
    storage_elements: dict[str, ElementSettings] = Field(default={}, alias="StorageElements")
    data_management: DataManagement = Field(default=DataManagement(), alias="DataManagement")
    upstreams: dict[str, UpstreamSettings] = {}
    stager: StagerSettings = StagerSettings()
    linktree: LinkTreeSettings = LinkTreeSettings()
    doors: DoorSettings = DoorSettings()
    analysis: AnalysisSettings = AnalysisSettings()

    @model_validator(mode="before")
    @classmethod
    def _name_the_named(cls, data: Any) -> Any:
        """Tell each element and upstream its own name; make left-out sections, so that their paths
        are anchored at the site like written ones."""
        if not isinstance(data, dict):
            return data
        named: dict[str, Any] = {
            section: {} for section in ("linktree", "doors", "stager", "analysis")
        } | data
        if isinstance(named["doors"], dict):
            named["doors"] = {"http": {}} | named["doors"]
        for table, key in (("StorageElements", "Name"), ("upstreams", "name")):
            if isinstance(named.get(table), dict):
                named[table] = {
                    name: {**section, key: name} if isinstance(section, dict) else section
                    for name, section in named[table].items()
                }
        return named
