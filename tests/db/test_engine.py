"""Transactions, readers, and what a person reads when the database cannot be used."""

from __future__ import annotations

import gc
import sqlite3
import threading
from pathlib import Path

import pytest

from vse.db import Database, engine, sqlite_file
from vse.db.tables import links
from vse.errors import BadSettings, DatabaseBusy, Denied, StorageFault

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


def test_a_snapshot_stays_as_it_was(database_url):
    database = Database.open(database_url)
    with database.read() as snapshot:
        assert snapshot.exec_driver_sql("SELECT count(*) FROM links").scalar() == 0
        with database.write() as connection:
            connection.execute(links.insert(), ROW)
        assert snapshot.exec_driver_sql("SELECT count(*) FROM links").scalar() == 0
    database.close()


@pytest.mark.slow
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


@pytest.fixture
def as_a_reader(monkeypatch):
    """Opens a database as somebody who may not write its file (tests run as root, who may)."""

    def opened(url):
        with monkeypatch.context() as patched:
            patched.setattr(sqlite_file, "_writable", lambda _: False)
            return Database.open(url)

    return opened


def filled(tmp_path):
    url = f"sqlite:///{tmp_path}/vse.db"
    writer = Database.open(url)
    with writer.write() as connection:
        connection.execute(links.insert(), ROW)
    return url, writer


def test_who_may_not_write_the_file_reads_it_without_leaving_anything(tmp_path, as_a_reader):
    url, writer = filled(tmp_path)
    writer.close()
    reader = as_a_reader(url)
    assert reader.read_only
    assert count(reader) == 1
    with reader.read() as connection:
        assert connection.execute(links.select()).one().lfn == "/a"
    with pytest.raises(Denied, match="may only read the database"), reader.write():
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["vse.db"]
    reader.close()


def test_what_is_read_while_somebody_writes_is_not_believed(tmp_path, as_a_reader):
    url, writer = filled(tmp_path)
    writer.close()
    reader = as_a_reader(url)
    writer = Database.open(url)
    with writer.write() as connection:
        connection.execute(links.insert(), {**ROW, "lfn": "/b"})
    with reader.mapped("count the links"):
        assert count(reader) == 1, "it is in the log, and not yet in the file"
    writer.close()
    with pytest.raises(DatabaseBusy, match="somebody wrote"), reader.mapped("count the links"):
        count(reader)
    reader.close()


def test_a_log_that_was_left_behind_is_not_passed_over(tmp_path, as_a_reader):
    url, writer = filled(tmp_path)
    log = (tmp_path / "vse.db-wal").read_bytes()
    reader = as_a_reader(url)
    assert count(reader) == 1
    reader.close()
    writer.close()
    (tmp_path / "vse.db-wal").write_bytes(log)
    with pytest.raises(StorageFault, match="was not closed properly"):
        as_a_reader(url)


def test_an_old_schema_that_cannot_be_changed_says_so(tmp_path, as_a_reader):
    url, writer = filled(tmp_path)
    with writer.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0001'")
    writer.close()
    with pytest.raises(Denied, match="it is of version 0001"):
        as_a_reader(url)


def test_sqlite_is_set_up_for_safety(database):
    driver = database.reader()
    assert isinstance(driver, sqlite3.Connection)
    assert driver.execute("PRAGMA foreign_keys").fetchone() == (1,)
    assert driver.execute("PRAGMA journal_mode").fetchone() == ("wal",)
