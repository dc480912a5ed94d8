"""Alembic's environment: it works on the connection that `vse.db.schema` hands it."""

from alembic import context

from vse.db.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
)
context.run_migrations()
