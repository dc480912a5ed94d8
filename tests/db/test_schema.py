"""The migrations make exactly the tables that the code speaks of."""

from __future__ import annotations

import subprocess
import sys

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from vse.db import Database, schema
from vse.db.tables import metadata


def test_the_head_is_the_newest_migration():
    config = Config()
    config.set_main_option("script_location", str(schema.MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_heads() == [schema.HEAD]


def test_the_migrated_schema_is_the_one_in_the_code(database):
    assert schema.current_revision(database.engine) == schema.HEAD
    with database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_the_tables_are_stored_as_they_were_designed(database):
    """Indexes and WITHOUT ROWID are not compared by Alembic: hold the SQL itself against the metadata's."""
    plain = sa.create_engine("sqlite://")
    metadata.create_all(plain)

    def shape(connection):
        rows = connection.exec_driver_sql(
            "SELECT name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' AND name != 'alembic_version'"
        )
        return {name: sorted(sql.replace(",", " , ").replace("\n", " ").split()) for name, sql in rows}

    with database.read() as migrated, plain.connect() as designed:
        assert shape(migrated) == shape(designed)
    with database.read() as connection:
        query = "SELECT name FROM sqlite_master WHERE sql LIKE '%WITHOUT ROWID%'"
        without = {row[0] for row in connection.exec_driver_sql(query)}
    assert without >= {"replicas", "answers", "attempts", "request_items"}


def test_opening_again_imports_no_alembic(url):
    Database.open(url).close()
    script = (
        "import sys; from vse.db import Database; Database.open(sys.argv[1]).close(); "
        "print('alembic' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script, url], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.slow
def test_processes_that_open_a_new_database_together_all_succeed(url):
    script = "import sys; from vse.db import Database; Database.open(sys.argv[1]).close()"
    running = [
        subprocess.Popen([sys.executable, "-c", script, url], stderr=subprocess.PIPE, text=True)
        for _ in range(6)
    ]
    for process in running:
        _, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (0, "")
