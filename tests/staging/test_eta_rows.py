"""Expected times out of rows: slots of a destination, and requests of very many files; time is passed in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.staging_site import BASE, StagingSite, file_element
from vse.model import Lfn
from vse.staging.eta import Estimate
from vse.transfer.lifecycle import Progressed, State, Succeeded, Transfer
from vse.transfer.queue import Report
from vse.transfer.shares import Slots

TICK_S = 10.0


class Worked:
    """A site whose files are moved by the clock: each takes as long as its source says."""

    def __init__(
        self, root: Path, lasts_s: dict[str, float], settings: dict[str, object], url: str = ""
    ) -> None:
        self.now_s = 1e9
        self.lasts_s = lasts_s
        elements = [file_element(name, root / name.lower()) for name in (*lasts_s, "LOCAL")]
        self.site = StagingSite(root, elements=elements, settings=settings, clock=lambda: self.now_s, url=url)
        self.running: list[Transfer] = []

    def ask(self, files: dict[str, str]) -> int:
        """Ask for files, by the element that each is at."""
        for source in self.lasts_s:
            there = {name: b"some bytes" for name, se in files.items() if se == source}
            self.site.add(there, source, write=False)
        return self.site.ask()

    def tick(self) -> None:
        """Let time pass: those end that have lasted, and the free slots are filled."""
        free = self.site.settings.slots - len(self.running)
        self.running += self.site.queue.claim("me", free, Slots.of(self.site.settings))
        self.now_s += TICK_S
        for one in list(self.running):
            if self.now_s - (one.started_s or 0.0) >= self.lasts_s[one.source_se or ""]:
                self.running.remove(one)
                report = Report(one.id, one.attempts, Succeeded("u", one.size_bytes))
                self.site.queue.report("me", [report])
            else:  # its lease is renewed
                self.site.queue.heartbeat("me", {one.id: (one.attempts, Progressed(0))})

    def through(self) -> bool:
        tallies = self.site.queue.tallies()
        return not tallies[State.QUEUED].files and not self.running

    def told(self, request: int) -> Estimate:
        (status,) = self.site.progress.status(self.site.staging.get([request]))
        assert status.eta is not None
        return status.eta


@pytest.fixture
def few_slots(tmp_path: Path) -> Iterator[Worked]:
    settings = {"slots": 16, "slots_per_source": 16, "destination_slots": {"LOCAL": 2}, "lease_s": 1e6}
    worked = Worked(tmp_path, {"FAR": 10.0}, settings)
    yield worked
    worked.site.close()


def test_a_destination_of_few_slots_is_told_of_as_such(few_slots: Worked) -> None:
    """Two at a time, ten seconds each: forty files take 200 s, whatever the sixteen slots of the site."""
    request = few_slots.ask({f"f{number:02}.dat": "FAR" for number in range(80)})
    for _ in range(20):
        few_slots.tick()
    assert few_slots.site.queue.tallies()[State.DONE].files == 40
    (last,) = few_slots.site.queue.of_lfn(Lfn(f"{BASE}/f79.dat"))
    file, whole, asked_s = few_slots.site.progress.arrival(last), few_slots.told(request), few_slots.now_s
    while not few_slots.through():
        few_slots.tick()
    took_s = few_slots.now_s - asked_s
    assert took_s == 200
    for said in (file, whole):
        assert said is not None
        assert said.low_s < took_s < said.high_s
        assert said.likely_s == pytest.approx(took_s, rel=0.2)


def test_a_very_large_request_is_told_as_well_by_some_of_its_files(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its slow source has only the files that were queued first, far from the last ones."""
    settings = {"slots": 5, "slots_per_source": 4, "source_slots": {"SLOW": 1}, "lease_s": 1e6}
    worked = Worked(tmp_path, {"SLOW": 50.0, "NEAR": 10.0}, settings, database_url)
    request = worked.ask({f"{number:03}.dat": "SLOW" if number < 40 else "NEAR" for number in range(400)})
    for _ in range(20):
        worked.tick()
    exact = worked.told(request)
    monkeypatch.setattr("vse.staging.eta_rows._COUNTED", 50)
    some = worked.told(request)
    assert exact.low_s < 36 * 50 < exact.high_s
    assert some.likely_s == pytest.approx(exact.likely_s, rel=0.15)
    worked.site.close()
