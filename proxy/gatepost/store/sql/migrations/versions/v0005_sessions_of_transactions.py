"""The transactions of a session by its identifier, which replies and log lines name."""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Make the index."""
    op.create_index("transactions_session_id", "transactions", ["session_id"])
