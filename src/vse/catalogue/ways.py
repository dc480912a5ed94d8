"""The ways to names, and who refuses them: what one call of a guarded catalogue learns of directories."""

from __future__ import annotations

from collections.abc import Iterable

from vse.catalogue.links import upwards
from vse.catalogue.permissions import may
from vse.catalogue.port import Catalogue
from vse.catalogue.sql_rows import split
from vse.errors import Denied
from vse.model import Access, Identity, Lfn
from vse.model.access import ENTER, READ, STICKY, WRITE

TODO = "ask its owner or an administrator of the catalogue"


class Ways:
    """Directories are asked about once, in bulk; `learn` before the questions that need them."""

    def __init__(self, catalogue: Catalogue, identity: Identity) -> None:
        self._catalogue = catalogue
        self._identity = identity
        self._access: dict[str, Access | None] = {}
        self._entered: dict[str, str | None] = {}
        self._read: dict[tuple[str, str], tuple[str, str] | None] = {}

    def learn(self, directories: Iterable[str]) -> None:
        """Ask about directories and those above them; where links lead on, about those ways, too."""
        wanted = {place for one in set(directories) for place in self._upwards(one)}
        while wanted:
            found = self._catalogue.access([Lfn(place) for place in wanted]).ok
            self._access.update((place, found.get(place)) for place in wanted)
            led = {access.lfn for place, access in found.items() if access.lfn != place}
            wanted = {place for one in led for place in self._upwards(one)}

    def _upwards(self, directory: str) -> Iterable[str]:
        return [place for place in upwards(directory) if place not in self._access]

    def at(self, name: str) -> Access | None:
        """Return what was learnt of ``name``; None where it is not there."""
        return self._access.get(name)

    def entering(self, directory: str) -> str | None:
        """Say which directory on the way to what ``directory`` holds may not be entered; None if all may."""
        if directory in self._entered:
            return self._entered[directory]
        refusal: str | None = None
        for place in reversed([*upwards(directory)]):
            if place not in self._entered:
                self._entered[place] = refusal or self._closed(place)
            refusal = self._entered[place]
        return refusal

    def _closed(self, place: str) -> str | None:
        access = self._access.get(place)
        if access is None or access.kind != "directory":
            return None
        if access.lfn != place:
            return self.entering(access.lfn)
        return may(self._identity, access, ENTER)

    def reading(self, base: str, directory: str) -> tuple[str, str] | None:
        """Say which directory from ``base`` down to ``directory`` may not be read, the highest, and why."""
        key = (base, directory)
        if key not in self._read:
            self._read[key] = None
            for place in reversed([*upwards(directory)]):
                access = self._access.get(place)
                if access is None or not Lfn(place).is_below(base):
                    continue
                why = may(self._identity, access, READ | ENTER)
                if why is not None:
                    self._read[key] = (place, why)
                    break
        return self._read[key]

    def changing(self, directory: str) -> str | None:
        """Say why names cannot be made in or taken from ``directory``; of one not there, that above it."""
        refusal = self.entering(directory)
        if refusal is not None:
            return refusal
        access = next((one for place in upwards(directory) if (one := self._access.get(place))), None)
        if access is None or access.kind != "directory":
            return None
        return may(self._identity, access, WRITE | ENTER)

    def keeping(self, directory: str, owner: str) -> str | None:
        """Say why a sticky ``directory`` keeps a name of ``owner``; None where it does not."""
        access = self._access.get(directory)
        if access is None or not access.mode & STICKY or self._identity.name in (access.owner, owner):
            return None
        return (
            f"{access.lfn} has mode {access.mode:04o} (sticky), owner {access.owner}: only {owner} and its "
            f"owner may take this name away, not {self._identity.name}"
        )


def denied(wanted: str, why: str) -> Denied:
    return Denied(wanted, why, TODO)


def parent(lfn: str) -> str:
    return split(lfn)[0]
