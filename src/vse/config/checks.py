"""The settings of what looks after the catalogue."""

from __future__ import annotations

from pydantic import Field

from vse.config.sections import Count, Section


class ConsistencySettings(Section):
    grace_s: float = Field(default=86400.0, ge=0)
    """What the catalogue or the storage got within this time is neither lost nor dark: it is on its way."""
    dark_age_s: float = Field(default=7 * 86400.0, ge=0)
    """A dark file is removed only if a run at least so long ago saw it, too (CMS waits 28 days)."""
    most_dark_fraction: float = Field(default=0.05, ge=0, le=1)
    """Nothing dark is removed where more of the held files are dark; a fraction: 0.05 is 5 of 100."""
    most_lost_fraction: float = Field(default=0.05, ge=0, le=1)
    """Nothing is marked as lost or suspect where more of the known copies are; a fraction, too."""
    keep_runs: Count = 10
    """So many runs are kept for each storage element."""
