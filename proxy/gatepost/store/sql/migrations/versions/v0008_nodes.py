"""The node that wrote a record, of several that share a store."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add the column; nodes of the version before go on writing records without it."""
    op.add_column("transactions", sa.Column("node", sa.String))
