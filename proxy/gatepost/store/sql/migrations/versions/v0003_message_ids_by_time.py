"""Message-IDs in the order of time: in their own, each record was written at another place of the index."""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Replace two indices of the journal by one."""
    op.drop_index("transactions_message_id", "transactions")
    op.drop_index("transactions_received_at", "transactions")
    op.create_index("transactions_received_at", "transactions", ["received_at", "message_id"])
