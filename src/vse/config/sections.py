"""What every section of the settings is made of: frozen values that know no unknown key."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo
from pydantic.alias_generators import to_pascal

from vse.model.sizes import parse_bytes

Key = tuple[str, ...]
"""Where a value stands: the names of the sections around it, and its own."""
Tree = dict[str, Any]
"""Settings as they were written: sections are trees."""

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


def in_site(path: Path, info: ValidationInfo) -> Path:
    """Anchor a relative path at the directory of vse.toml."""
    root: Path = (info.context or {}).get("root", Path.cwd())
    return root / path.expanduser()


def _listed(value: Any) -> Any:
    """Read DIRAC's ``a, b`` as a list; anything else stays what it is."""
    return tuple(filter(None, map(str.strip, value.split(",")))) if isinstance(value, str) else value


SitePath = Annotated[Path, AfterValidator(in_site)]
"""A path; where relative, it starts at the directory that holds vse.toml."""

Names = Annotated[tuple[str, ...], BeforeValidator(_listed)]
"""Several words: a TOML array, or as DIRAC writes them, ``a, b``."""


_RATE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kMGT]?i?)(?:B|b)?(?:/s)?\s*")
_POWERS = {"": 0, "k": 1, "M": 2, "G": 3, "T": 4}


def _rate(value: Any) -> Any:
    """Read ``100MB/s`` or ``1.5 GiB/s`` as bytes a second; a number stays what it is."""
    if not isinstance(value, str):
        return value
    found = _RATE.fullmatch(value)
    if found is None:
        raise ValueError("a rate is a number of bytes a second, as 100MB/s or 1.5 GiB/s")
    prefix = found[2]
    return float(found[1]) * (1024 if prefix.endswith("i") else 1000) ** _POWERS[prefix.rstrip("i")]


Rate = Annotated[float, Field(ge=0), BeforeValidator(_rate)]
"""Bytes a second: a number, or ``100MB/s``."""


def _approval(value: Any) -> Any:
    """Read ``above 1TB`` as ``above`` and the number of bytes; ``none`` and ``all`` stay."""
    words = value.split() if isinstance(value, str) else []
    if words in (["none"], ["all"]):
        return words[0]
    if len(words) < 2 or words[0] != "above":
        raise ValueError("it is 'none', 'all', or 'above' and a size, such as 'above 1TB'")
    return f"above {parse_bytes(' '.join(words[1:]))}"


Approval = Annotated[str, BeforeValidator(_approval)]
"""Which requests wait for somebody's word: ``none``, ``all``, or ``above BYTES``."""


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, coerce_numbers_to_str=True)


class DiracSection(Section):
    """A section whose keys are written as in DIRAC: ``ReadAccess``, ``AccessProtocols``."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_pascal)
