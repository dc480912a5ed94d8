"""Storage elements as DIRAC has them: the names and meanings of its options (seed 003), as frozen values.

They stand here as they are after inheritance (`vse.config.inheritance`): nothing of a base is missing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from vse.config.sections import Count, DiracSection, Names, SitePath, in_site

ALLOWED_STATUSES = ("Active", "Degraded")
"""With these, DIRAC allows an operation."""
REFUSED_STATUSES = ("Probing", "Banned", "Error", "Unknown", "InActive")
"""With these it does not (its Resource Status System knows them; InActive is of older settings)."""


def _granted(value: Any) -> Any:
    """Read an access status as whether it allows the operation: a word of DIRAC's, or a boolean."""
    if not isinstance(value, str):
        return value
    known = {word.lower(): True for word in ALLOWED_STATUSES} | {w.lower(): False for w in REFUSED_STATUSES}
    word = value.strip().lower()
    if word not in known and word not in ("true", "false", "yes", "no", "y", "n", "1", "0"):
        choices = ", ".join((*ALLOWED_STATUSES, *REFUSED_STATUSES))
        raise ValueError(f"it is one of {choices}, true and false")
    return known.get(word, word)


def _in_order(value: Any) -> Any:
    """Read the sections of a table as an array, since DIRAC's syntax has none."""
    return tuple(value.values()) if isinstance(value, dict) else value


def _lowered(value: Any) -> Any:
    return value.strip().lower() if isinstance(value, str) else value


Granted = Annotated[bool, BeforeValidator(_granted)]
"""Whether an operation is allowed: `Active` and `Degraded` do, `Probing`, `Banned`, `Error` and `Unknown` do
not; or a boolean."""


class VolumeSettings(DiracSection):
    """One of several mounted file systems that together are one storage (seed 004 §II.2.2)."""

    model_config = ConfigDict(populate_by_name=True)

    path: SitePath
    """Where it is mounted."""
    size_bytes: int = Field(alias="Size_bytes", gt=0)
    """How much of it may be used."""
    lifetime_s: float = Field(default=0.0, alias="Lifetime_s", ge=0)
    """Files older than this are erased; 0 keeps them for ever."""


class ProtocolSettings(DiracSection):
    """One protocol section of a storage element. ``section`` is its name in the settings."""

    section: str = ""
    plugin_name: str = ""
    """The driver; where left out, the section is named after it."""
    protocol: str = ""
    """The scheme of its URLs, e.g. `file`, `root`, `davs`, `s3`, `srm`; where left out, the driver's own."""
    host: str = ""
    port: int | None = Field(default=None, ge=1, le=65535)
    path: str = "/"
    """What stands before the LFN in the storage."""
    vo_path: dict[str, str] = Field(default={}, alias="VOPath")
    """A table: another Path for the experiments named in it."""
    ws_url: str = Field(default="", alias="WSUrl")
    """What stands between port and path in an SRM URL, e.g. `/srm/managerv2?SFN=`."""
    access: Annotated[Literal["remote", "local"], BeforeValidator(_lowered)] = "remote"
    """`local`: only where this process runs at the site of the element."""
    space_token: str = ""
    """The SRM space that files are written to, by a service that copies (FTS)."""
    input_protocols: Names = ()
    """The protocols whose URLs the driver takes as source, where not those it has by itself."""
    output_protocols: Names = ()
    """The protocols whose URLs it can give, where not those it has by itself."""
    token_file: SitePath | None = None
    """A file that holds a bearer token (ours; DIRAC has none)."""
    placement: Annotated[Literal["lfn", "guid"], BeforeValidator(_lowered)] = "lfn"
    """`guid`: a file is stored as `/NN/NNNNN/GUID` below Path, as AliEn does (seed 000), not by its LFN."""
    volumes: Annotated[tuple[VolumeSettings, ...], BeforeValidator(_in_order)] = ()
    """VOLUMES: an array of tables `{Path, Size_bytes, Lifetime_s}`, several mounted file systems as one."""
    bucket: str = ""
    """S3: the bucket; where left out, Path names it, as in DIRAC."""
    region: str = ""
    """S3: the region that signatures are made for."""
    secure_connection: bool = True
    """S3: `https`; if not, `http`."""
    access_key_file: SitePath | None = None
    """S3: a file that holds the access key's name."""
    secret_key_file: SitePath | None = None
    """S3: a file that holds the secret key."""
    aws_access_key_id: SecretStr | None = Field(default=None, alias="Aws_access_key_id")
    """S3: the access key's name; AccessKeyFile is the better place."""
    aws_secret_access_key: SecretStr | None = Field(default=None, alias="Aws_secret_access_key")
    """S3: the secret key; SecretKeyFile is the better place."""
    options: dict[str, Any] = Field(default={}, repr=False)
    """fsspec: a table of what its file system is given."""

    @field_validator("path")
    @classmethod
    def _anchored(cls, path: str, info: ValidationInfo) -> str:
        return _anchored_path(path, info)

    @field_validator("vo_path")
    @classmethod
    def _all_anchored(cls, paths: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        return {vo: _anchored_path(path, info) for vo, path in paths.items()}

    @property
    def plugin(self) -> str:
        """The name of the driver: PluginName, or else the section's own (seed 003)."""
        return self.plugin_name or self.section

    def for_vo(self, vo: str) -> str:
        """Return the Path of an experiment's files: VOPath's where it names the experiment, else Path."""
        return self.vo_path.get(vo, self.path)


def _anchored_path(path: str, info: ValidationInfo) -> str:
    """Anchor a relative Path: of a mounted storage at the site, of any other at the server's root."""
    known = info.data
    kind = known.get("protocol") or known.get("plugin_name") or known.get("section") or ""
    if kind.lower() == "file":
        return str(in_site(Path(path), info))
    return path if path.startswith("/") else f"/{path}"


class ElementSettings(DiracSection):
    """A storage element; every table inside it is a protocol section, in the order written."""

    name: str = ""
    backend_type: str = ""
    """For information, as in DIRAC."""
    se_type: str = Field(default="T0D1", alias="SEType", pattern=r"^T\dD\d$")
    """Copies on tape and on disk: T1D0 is tape behind a disk cache."""
    use_catalog_url: bool = Field(default=False, alias="UseCatalogURL")
    """Use the URL that the catalogue holds, instead of making it from the LFN."""
    checksum_type: Annotated[Literal["adler32", "crc32c", "md5", "sha256"], BeforeValidator(_lowered)] = (
        "adler32"
    )
    """The checksum that the storage is asked for; where not adler32, copies are verified by reading them."""
    alias: str = ""
    """This name is another one for the storage element named here; nothing else is of effect then."""
    base_se: str = Field(default="", alias="BaseSE")
    """Everything that is not said here is as in the section of `[StorageElementBases]` named here."""
    vo: Names = Field(default=(), alias="VO")
    """The experiments that may use it; where `site.vo` is none of them, every access is off."""
    read_access: Granted = True
    """`Active` or `Degraded`, or true; `Probing`, `Banned`, `Error`, `Unknown`, or false."""
    write_access: Granted = True
    """Likewise."""
    check_access: Granted = True
    """Looking at sizes and checksums; allowed too where reading is."""
    remove_access: Granted = True
    """Likewise."""
    access_protocols: Names = ()
    """This order instead of the one in `[DataManagement]`, for reading."""
    write_protocols: Names = ()
    """Likewise for writing and removing."""
    stage_protocols: Names = ()
    """Likewise for bringing files from tape."""
    occupancy_lfn: str = Field(default="", alias="OccupancyLFN")
    """The file that tells the space; where empty, `/VO/occupancy.json`."""
    occupancy_plugin: str = ""
    """How the space is found out; where empty, the driver's own way, then OccupancyLFN."""
    space_reservation: str = ""
    """The name of a part of the storage that is reserved."""
    pledged_space: float | None = Field(default=None, ge=0)
    """What the site has promised, in TB; for information."""
    archive_timeout_s: Count | None = Field(default=None, alias="ArchiveTimeout")
    """Tape: a service that copies (FTS) watches so many seconds for a written file to get there."""
    bring_online_timeout_s: Count | None = Field(default=None, alias="BringOnlineTimeout")
    """Tape: a file may take so many seconds to come."""
    protocols: tuple[ProtocolSettings, ...] = ()

    @property
    def is_tape(self) -> bool:
        """Whether files have a copy on tape (the digit after T is not 0)."""
        return self.se_type[1] != "0"

    @property
    def is_disk(self) -> bool:
        """Whether files have a permanent copy on disk."""
        return self.se_type[3] != "0"

    def occupancy_file(self, vo: str) -> str:
        """Return the LFN of the file that tells the space (seed 003, "Space occupancy")."""
        return self.occupancy_lfn or f"/{vo}/occupancy.json"

    @model_validator(mode="before")
    @classmethod
    def _gather_protocols(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        options = {info.alias for info in cls.model_fields.values()}
        within = {key: value for key, value in data.items() if isinstance(value, dict) and key not in options}
        plain = {key: value for key, value in data.items() if key not in within}
        sections = [{"Section": key, **value} for key, value in within.items()]
        return {**plain, "Protocols": sections} if sections else plain


_MOUNTED = ("file", "volumes")
_SERVED = ("root", "roots", "davs", "https", "http", "s3", "srm", "gsiftp", "mem")
_EVERY = (*_MOUNTED, *_SERVED)


class DataManagement(DiracSection):
    """The preference order of protocols for each kind of operation, for the whole site."""

    registration_protocols: Names = _EVERY
    """For the URLs that the catalogue holds."""
    access_protocols: Names = _EVERY
    """For reading."""
    write_protocols: Names = _EVERY
    """For writing and removing."""
    third_party_protocols: Names = (*_SERVED, *_MOUNTED)
    """For copies between two storage elements."""
    stage_protocols: Names = ()
    """For bringing files from tape; where empty, AccessProtocols."""
