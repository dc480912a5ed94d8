"""Transactions, readers, and what a person reads when the database cannot be used."""

from __future__ import annotations

import gc
import sqlite3
import threading
from pathlib import Path

import pytest

from vse.db import Database, engine
from vse.db.tables import links
from vse.errors import BadSettings, DatabaseBusy, StorageFault

ROW = {"lfn": "/a", "target": "x", "made_s": 1.0}


def count(database):
    return database.reader().execute("SELECT count(*) FROM links").fetchone()[0]


def test_a_write_that_raises_leaves_nothing(database):
    with pytest.raises(RuntimeError), database.write() as connection:
        connection.execute(links.insert(), ROW)
        raise RuntimeError
    assert count(database) == 0


def test_a_reader_sees_each_commit_and_waits_for_no_writer(database):
    assert count(database) == 0
    with database.write() as connection:
        connection.execute(links.insert(), ROW)
        assert count(database) == 0
    assert count(database) == 1


def test_a_snapshot_stays_as_it_was(database):
    with database.read() as snapshot:
        assert snapshot.exec_driver_sql("SELECT count(*) FROM links").scalar() == 0
        with database.write() as connection:
            connection.execute(links.insert(), ROW)
        assert snapshot.exec_driver_sql("SELECT count(*) FROM links").scalar() == 0


def test_readers_go_with_their_threads(database):
    def open_files():
        gc.collect()
        return sum("vse.db" in str(fd.readlink()) for fd in Path("/proc/self/fd").iterdir() if fd.exists())

    count(database)
    before = open_files()
    for _ in range(20):
        thread = threading.Thread(target=count, args=(database,))
        thread.start()
        thread.join()
    assert open_files() <= before + 2


def test_a_closed_database_can_be_used_again(database):
    count(database)
    database.close()
    assert count(database) == 0


def test_a_lock_that_is_never_given_back_is_told(url, monkeypatch):
    monkeypatch.setattr(engine, "_BUSY_TIMEOUT_S", 0)
    database = Database.open(url)
    with (
        database.write(),
        pytest.raises(DatabaseBusy, match="stayed locked") as raised,
        database.write() as connection,
    ):
        connection.execute(links.insert(), ROW)
    assert raised.value.retryable
    database.close()


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "nonsense", "oracle+nothing://x/y"])
def test_a_url_that_cannot_be_is_refused(url):
    with pytest.raises((BadSettings, StorageFault), match="cannot open the database"):
        Database.open(url)


def test_a_file_that_is_no_database_is_told(tmp_path):
    (tmp_path / "vse.db").write_bytes(b"something else " * 100)
    with pytest.raises(StorageFault, match="file is not a database"):
        Database.open(f"sqlite:///{tmp_path}/vse.db")


def test_a_directory_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageFault, match=r"cannot open the database .*vse\.db"):
        Database.open(f"sqlite:///{tmp_path}/file/vse.db")


def test_a_password_is_never_shown():
    with pytest.raises((BadSettings, StorageFault)) as raised:
        Database.open("postgresql+nodriver://user:s3cret@localhost/x")
    assert "s3cret" not in str(raised.value)


def test_a_damaged_database_is_told(url, tmp_path):
    Database.open(url).close()
    path = tmp_path / "var" / "vse.db"
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))
    with pytest.raises(StorageFault, match=r"malformed|not a database"):
        Database.open(url)


def test_sqlite_is_set_up_for_safety(database):
    driver = database.reader()
    assert isinstance(driver, sqlite3.Connection)
    assert driver.execute("PRAGMA foreign_keys").fetchone() == (1,)
    assert driver.execute("PRAGMA journal_mode").fetchone() == ("wal",)
