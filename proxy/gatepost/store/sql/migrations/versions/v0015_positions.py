"""How far the desks of all nodes have come with what one of them does, on a server only."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    """Make the table; desks of the version before report on their own meanwhile."""
    if op.get_bind().dialect.name != "postgresql":
        return
    op.create_table(
        "positions",
        sa.Column("name", sa.String(collation="C"), primary_key=True),
        sa.Column("number", sa.BigInteger, nullable=False),
    )
