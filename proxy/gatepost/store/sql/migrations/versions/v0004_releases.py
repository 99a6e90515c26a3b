"""Claims to release a kept message, so that only one of all processes does."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make the table of claims."""
    op.create_table(
        "kept_releases",
        sa.Column("kept_id", sa.String, sa.ForeignKey("kept.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("token", sa.String, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("claimed_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
