"""Log-ins to the web desk that are valid on all nodes, on a server only."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Make the table; desks of the version before go on with sessions in memory."""
    if op.get_bind().dialect.name != "postgresql":
        return
    op.create_table(
        "desk_sessions",
        sa.Column("key", sa.LargeBinary, primary_key=True),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ends_at", sa.DateTime(timezone=True)),
    )
