"""A PostgreSQL that is restarted under programs that go on: a real one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from vse.db import Database
from vse.errors import DatabaseBusy, StorageFault
from vse.testing.postgresql import start_postgresql, stop_postgresql

pytestmark = pytest.mark.slow


def by_reader(database: Database) -> int:
    with database.mapped("count the links"):
        return int(database.reader().execute("SELECT count(*) FROM links").fetchone()[0])


def from_pool(database: Database) -> int:
    with database.read() as connection:
        return int(connection.exec_driver_sql("SELECT count(*) FROM links").scalar_one())


@pytest.mark.parametrize("mode", ["immediate", "fast"])
def test_a_thread_that_was_idle_meanwhile_does_not_notice(own_postgresql: str, mode: str) -> None:
    database = Database.open(own_postgresql)
    with ThreadPoolExecutor(1) as thread:  # one that stays, as those of a door do
        for look in (by_reader, from_pool):
            assert thread.submit(look, database).result() == 0
        stop_postgresql(own_postgresql, mode=mode)
        start_postgresql(own_postgresql)
        for look in (by_reader, from_pool):
            assert thread.submit(look, database).result() == 0
    database.close()


def test_who_asks_while_it_is_down_is_told_so_and_goes_on_when_it_is_up(
    own_postgresql: str,
) -> None:
    database = Database.open(own_postgresql)
    assert (by_reader(database), from_pool(database)) == (0, 0)
    stop_postgresql(own_postgresql)
    for look in (by_reader, from_pool, by_reader, from_pool, lambda _: Database.open(own_postgresql)):
        with pytest.raises(StorageFault, match="See that its server runs, and that"):
            look(database)
    start_postgresql(own_postgresql)
    assert (by_reader(database), from_pool(database)) == (0, 0)
    database.close()


def test_who_finds_every_connection_in_use_is_told_so(
    own_postgresql: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database.open(own_postgresql)
    monkeypatch.setattr(database.engine.pool, "_timeout", 0.1)
    with ExitStack() as held:
        for _ in range(15):
            held.enter_context(database.read())
        with pytest.raises(DatabaseBusy, match="all connections of this process are in use"):
            from_pool(database)
    assert from_pool(database) == 0
    database.close()


def test_a_transaction_that_the_server_broke_off_is_told_and_has_left_nothing(own_postgresql: str) -> None:
    database = Database.open(own_postgresql)
    with pytest.raises(StorageFault, match="See that its server runs"), database.write() as connection:
        connection.exec_driver_sql("INSERT INTO links VALUES ('/a', 'x', 1.0)")
        stop_postgresql(own_postgresql)
        start_postgresql(own_postgresql)
        connection.exec_driver_sql("INSERT INTO links VALUES ('/b', 'x', 1.0)")
    assert from_pool(database) == 0
    database.close()
