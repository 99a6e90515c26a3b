"""The user name of an AUTH that failed, which has a record of its own."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add the column."""
    op.add_column("transactions", sa.Column("failed_user", sa.Text))
