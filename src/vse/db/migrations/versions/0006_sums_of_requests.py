"""An index that holds all that a request is summed up by."""

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.drop_index("ix_request_items_state", table_name="request_items")
    op.create_index(
        "ix_request_items_state",
        "request_items",
        ["request_id", "state", "transfer_id", "size_bytes"],
        unique=False,
    )
