"""Bring a database to the schema of this version, by Alembic's migrations."""

from __future__ import annotations

import threading
from pathlib import Path

import sqlalchemy as sa

from vse.db.locks import Lock

HEAD = "0006"
"""The newest revision; a test holds it equal to what the migrations directory says."""

MIGRATIONS = Path(__file__).parent / "migrations"
_one_at_a_time = threading.Lock()  # Alembic's environment is a module-level global


def current_revision(engine: sa.Engine) -> str | None:
    """Return the revision the database is at; None for an empty one."""
    with engine.connect() as connection:
        if not sa.inspect(connection).has_table("alembic_version"):
            return None
        return connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()


def ensure_current(engine: sa.Engine) -> None:
    """Migrate to `HEAD` in one transaction; cheap and without importing Alembic where nothing is due."""
    if current_revision(engine) == HEAD:
        return
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with (
        _one_at_a_time,
        engine.connect().execution_options(vse_write=True) as connection,
        connection.begin(),
    ):
        if engine.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(Lock.MIGRATE)))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
