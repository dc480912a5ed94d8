"""Several volumes as one storage: the suite, and that its size is never exceeded."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from vse.config.settings import ProtocolSettings
from vse.errors import (
    AlreadyExists,
    BadRequest,
    BadSettings,
    Denied,
    NoSuchFile,
    NotEmpty,
    SourceUnavailable,
    StorageFull,
)
from vse.storage.drivers.file_upload import PARTIAL_DIRECTORY
from vse.storage.drivers.volumes import VolumesDriver
from vse.storage.volumes import Ledger, Room, choose, expired, free_together
from vse.testing.drivers import DriverConformance, fetch, names_in, pattern, store

BASE = "/store"


def volumes_at(tmp_path: Path, *sizes: int, lifetime_s: float = 0.0) -> VolumesDriver:
    places = []
    for number, size_bytes in enumerate(sizes):
        place = tmp_path / f"disk{number}"
        place.mkdir(exist_ok=True)
        places.append({"Path": str(place), "Size_bytes": size_bytes, "Lifetime_s": lifetime_s})
    section = {"Section": "VOLUMES", "Path": BASE, "Volumes": places}
    return VolumesDriver(ProtocolSettings.model_validate(section))


def on_disk(tmp_path: Path) -> int:
    """Bytes of published files on all volumes, told by the file system alone."""
    files = [path for path in tmp_path.glob("disk*/**/*") if path.is_file()]
    return sum(path.stat().st_size for path in files if PARTIAL_DIRECTORY not in path.parts)


class TestVolumesDriver(DriverConformance):
    server_name = "two directories"

    @pytest.fixture
    def driver(self, tmp_path: Path) -> VolumesDriver:
        return volumes_at(tmp_path, 100_000_000, 100_000_000, 100_000_000)

    @pytest.fixture
    def base(self) -> str:
        return BASE


def test_a_file_goes_where_most_room_is(tmp_path: Path) -> None:
    driver = volumes_at(tmp_path, 1000, 3000, 2000)
    for number, disk in enumerate(("disk1", "disk1", "disk2", "disk1", "disk2")):
        store(driver, f"{BASE}/{number}.bin", pattern(800, number))
        assert driver.local_path(f"{BASE}/{number}.bin") == tmp_path / disk / f"{number}.bin", number
    assert names_in(driver, BASE) == [f"{number}.bin" for number in range(5)]
    for number in range(5):
        assert fetch(driver, f"{BASE}/{number}.bin") == pattern(800, number)
    assert driver.space(BASE).total_bytes == 6000
    assert driver.space(BASE).free_bytes == 2000


def test_choice_is_by_the_smaller_of_declared_and_real_room() -> None:
    rooms = [Room("a", 500, 10_000, 1), Room("b", 900, 300, 2), Room("c", 400, 400, 3)]
    assert choose(rooms, 400, "write x") == 0
    assert choose(rooms[1:], 400, "write x") == 1
    assert choose([Room("a", 5, 5, 1), Room("b", 5, 5, 2)], 5, "write x") == 0
    with pytest.raises(StorageFull, match="a: 500, b: 300, c: 400"):
        choose(rooms, 501, "write x")
    assert choose([Room("a", -7, 10, 1)], 0, "write x") == 0
    assert free_together(rooms) == 500 + 300 + 400
    assert free_together([Room("a", 500, 600, 1), Room("b", 500, 600, 1)]) == 600
    assert free_together([Room("a", -500, 600, 1), Room("b", 500, 600, 1)]) == 500


def test_thirty_writers_at_once_never_exceed_the_size(tmp_path: Path) -> None:
    driver = volumes_at(tmp_path, 35_000, 25_000, 45_000)  # room for 3 + 2 + 4 files of 10,000
    start = threading.Barrier(30)
    above: list[int] = []

    def write(number: int) -> bool:
        start.wait(30)
        try:
            with driver.put(f"{BASE}/{number}.bin", 10_000) as upload:
                upload.write(pattern(10_000, number))
                upload.commit()
        except StorageFull:
            return False
        finally:
            if on_disk(tmp_path) > 105_000:
                above.append(number)
        return True

    with ThreadPoolExecutor(30) as pool:
        stored = list(pool.map(write, range(30)))
    assert sum(stored) == 9
    assert not above
    assert on_disk(tmp_path) == 90_000
    for disk, most in (("disk0", 35_000), ("disk1", 25_000), ("disk2", 45_000)):
        assert sum(file.stat().st_size for file in (tmp_path / disk).glob("*.bin")) <= most
    with pytest.raises(StorageFull):
        driver.put(f"{BASE}/one more", 10_000)
    driver.remove([f"{BASE}/{stored.index(True)}.bin"]).one(f"{BASE}/{stored.index(True)}.bin")
    store(driver, f"{BASE}/one more", pattern(10_000))


def test_what_is_reserved_is_not_given_twice_and_comes_back(tmp_path: Path) -> None:
    driver, another = volumes_at(tmp_path, 1000), volumes_at(tmp_path, 1000)
    upload = driver.put(f"{BASE}/a", 800)
    assert another.space(BASE).free_bytes == 200
    with pytest.raises(StorageFull):
        another.put(f"{BASE}/b", 300)
    upload.abort()
    assert another.space(BASE).free_bytes == 1000
    store(another, f"{BASE}/b", pattern(300))
    with pytest.raises(StorageFull):
        driver.put(f"{BASE}/c", 701)
    store(driver, f"{BASE}/c", pattern(700))
    assert driver.space(BASE).free_bytes == 0


def test_a_name_is_on_one_volume_also_when_two_write_it_at_once(tmp_path: Path) -> None:
    driver = volumes_at(tmp_path, 10_000, 10_000)
    first, second = driver.put(f"{BASE}/d/a", 100), driver.put(f"{BASE}/d/a", 100)
    for upload in (first, second):
        upload.write(pattern(100))
    first.commit()
    with pytest.raises(AlreadyExists):
        second.commit()
    assert on_disk(tmp_path) == 100
    assert driver.space(BASE).free_bytes == 19_900


WRITER = """
import os, sys
sys.path[:0] = sys.argv[3:]
from pathlib import Path
from test_volumes import volumes_at, BASE
driver = volumes_at(Path(sys.argv[1]), 1000)
upload = driver.put(f"{BASE}/killed", 800)
upload.write(b"x" * 400)
print("writing", flush=True)
sys.stdin.read()
"""


@pytest.mark.slow
def test_a_killed_writer_leaves_no_reservation(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path), "x", str(Path(__file__).parent)]
    writer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"writing\n"
        driver = volumes_at(tmp_path, 1000)
        assert driver.space(BASE).free_bytes == 200
    finally:
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
    assert driver.space(BASE).free_bytes == 1000
    store(driver, f"{BASE}/a", pattern(1000))
    now_s = time.time() + 10
    assert driver.sweep_partials(0.0, now_s) == 1
    assert not list((tmp_path / "disk0" / PARTIAL_DIRECTORY).glob("*.part"))


def test_a_file_published_just_before_a_kill_is_in_the_account(tmp_path: Path) -> None:
    driver = volumes_at(tmp_path, 1000)
    store(driver, f"{BASE}/a", pattern(600))
    account = tmp_path / "disk0" / PARTIAL_DIRECTORY / "account.json"
    account.write_text(json.dumps({"used_bytes": 0, "reserved": {"1-gone.part": 600}}))
    assert volumes_at(tmp_path, 1000).space(BASE).free_bytes == 400


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"used_bytes": "many", "reserved": {}}', "\x00" * 50])
def test_a_damaged_account_is_made_anew(tmp_path: Path, damage: str) -> None:
    driver = volumes_at(tmp_path, 1000)
    store(driver, f"{BASE}/a", pattern(600))
    (tmp_path / "disk0" / PARTIAL_DIRECTORY / "account.json").write_text(damage)
    with pytest.raises(StorageFull):
        driver.put(f"{BASE}/b", 401)
    store(driver, f"{BASE}/b", pattern(400))


def test_resynchronise_finds_what_came_and_went_by_hand(tmp_path: Path) -> None:
    driver = volumes_at(tmp_path, 1000, 1000)
    store(driver, f"{BASE}/a", pattern(600))
    (tmp_path / "disk0/a").unlink()
    (tmp_path / "disk1/dir").mkdir()
    (tmp_path / "disk1/dir/by hand").write_bytes(pattern(900))
    done = driver.resynchronise()
    assert [(one.before_bytes, one.found) for one in done] == [(600, (0, 0)), (0, (1, 900))]
    assert driver.space(BASE).free_bytes == 1100
    assert fetch(driver, f"{BASE}/dir/by hand") == pattern(900)
    (tmp_path / "disk1/dir/by hand").write_bytes(pattern(3000))
    driver.resynchronise()
    assert driver.space(BASE).free_bytes == 1000


def test_expired_files_are_erased_and_younger_ones_stay(tmp_path: Path) -> None:
    driver = volumes_at(tmp_path, 10_000, 10_000, lifetime_s=3600.0)
    for number in range(4):
        store(driver, f"{BASE}/d/{number}", pattern(1000, number))
    os.utime(tmp_path / "disk0/d/0", (0, 0))  # an old date that a file brought along does not count
    now_s = time.time()
    assert not driver.expire(now_s + 3500).ok
    gone = driver.expire(now_s + 3700)
    assert gone.ok == {f"{BASE}/d/{number}": 1000 for number in range(4)}
    assert not gone.failed
    assert on_disk(tmp_path) == 0
    assert driver.space(BASE).free_bytes == 20_000
    (tmp_path / "kept").mkdir()
    keeping = volumes_at(tmp_path / "kept", 10_000)
    store(keeping, f"{BASE}/a", b"1")
    assert not keeping.expire(now_s + 1e9).ok
    assert expired(0.0, 10.1, 10.0)
    assert not expired(0.0, 10.0, 10.0)


def test_links_cost_nothing_and_the_last_name_frees_the_bytes(tmp_path: Path) -> None:
    driver = volumes_at(tmp_path, 1000, 1000)
    store(driver, f"{BASE}/a", pattern(700))
    driver.link(f"{BASE}/a", f"{BASE}/b")
    assert driver.space(BASE).free_bytes == 1300
    driver.resynchronise()
    assert driver.space(BASE).free_bytes == 1300
    assert not driver.remove([f"{BASE}/a"]).failed
    assert driver.space(BASE).free_bytes == 1300
    assert not driver.remove([f"{BASE}/b"]).failed
    assert driver.space(BASE).free_bytes == 2000


def test_directories_span_volumes(tmp_path: Path) -> None:
    driver = volumes_at(tmp_path, 1000, 1000)
    for number in range(2):
        store(driver, f"{BASE}/d/{number}", pattern(500, number))
    assert (tmp_path / "disk0/d/0").is_file()
    assert (tmp_path / "disk1/d/1").is_file()
    assert names_in(driver, f"{BASE}/d") == ["0", "1"]
    assert names_in(driver, BASE) == ["d"]
    assert isinstance(driver.remove([f"{BASE}/d"]).failed[f"{BASE}/d"], NotEmpty)
    with pytest.raises(BadRequest, match="on 2 volumes"):
        driver.rename(f"{BASE}/d", f"{BASE}/e")
    driver.rename(f"{BASE}/d/1", f"{BASE}/e/1")
    assert (tmp_path / "disk1/e/1").read_bytes() == pattern(500, 1)
    with pytest.raises(BadRequest, match="is a file"):
        driver.put(f"{BASE}/d/0/below", 1)
    assert not driver.remove([f"{BASE}/d/0", f"{BASE}/d"]).failed
    assert not list(tmp_path.glob("disk*/d"))


def test_a_volume_that_is_not_mounted(tmp_path: Path) -> None:
    driver = volumes_at(tmp_path, 1000, 1000)
    store(driver, f"{BASE}/a", pattern(600))
    (tmp_path / "disk1").rename(tmp_path / "unmounted")
    assert fetch(driver, f"{BASE}/a") == pattern(600)
    with pytest.raises(SourceUnavailable, match="disk1"):
        driver.open(f"{BASE}/perhaps there")
    with pytest.raises(SourceUnavailable, match="disk1"):
        driver.put(f"{BASE}/b", 10)
    assert not (tmp_path / "disk1").exists()
    (tmp_path / "unmounted").rename(tmp_path / "disk1")
    store(driver, f"{BASE}/b", b"12345")


def test_nothing_leaves_a_volume(tmp_path: Path) -> None:
    driver = volumes_at(tmp_path, 1000, 1000)
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "disk0/out").symlink_to(tmp_path)
    with pytest.raises(Denied):
        driver.open(f"{BASE}/out/secret")
    with pytest.raises(BadRequest):
        driver.open(f"{BASE}/../secret")
    for path in ("/elsewhere/a", "/storeroom/a"):
        with pytest.raises(BadRequest):
            driver.put(path, 1)


def test_settings_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match="no Volumes"):
        VolumesDriver(ProtocolSettings(Section="VOLUMES"))
    places = [{"Path": str(tmp_path), "Size_bytes": 1}, {"Path": str(tmp_path / "in"), "Size_bytes": 1}]
    with pytest.raises(BadSettings, match="overlap"):
        VolumesDriver(ProtocolSettings.model_validate({"Section": "VOLUMES", "Volumes": places}))


def test_the_account_follows_every_change(tmp_path: Path) -> None:
    """However a random history goes, the account is what the disk holds."""
    import random

    chance = random.Random(7)
    driver = volumes_at(tmp_path, 5000, 5000)
    for step in range(150):
        path = f"{BASE}/{chance.randrange(12)}"
        try:
            match chance.randrange(4):
                case 0 | 1:
                    with driver.put(path, size := chance.randrange(1500)) as upload:
                        upload.write(pattern(size, step))
                        if chance.random() < 0.8:
                            upload.commit()
                case 2:
                    driver.remove([path]).one(path)
                case _:
                    driver.rename(path, f"{BASE}/{chance.randrange(12)}")
        except (AlreadyExists, NoSuchFile, StorageFull):
            pass
        assert on_disk(tmp_path) <= 10_000
    accounts = [Ledger(tmp_path / disk).known() for disk in ("disk0", "disk1")]
    assert sum(account.used_bytes for account in accounts) == on_disk(tmp_path)
    assert all(not account.reserved for account in accounts)
