"""Lines of live conversations between the desks of all nodes, on a server only."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Make the tables; what is in them is worth nothing after a crash, so they are not logged."""
    if op.get_bind().dialect.name != "postgresql":
        return
    op.create_table(
        "live_watchers",
        sa.Column("desk", sa.String(collation="C"), primary_key=True),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=False),
        prefixes=["UNLOGGED"],
    )
    op.create_table(
        "live_batches",
        sa.Column("desk", sa.String(collation="C"), primary_key=True),
        sa.Column("number", sa.BigInteger, primary_key=True),
        sa.Column("node", sa.String(collation="C"), nullable=False),
        sa.Column("before", sa.BigInteger, nullable=False),
        sa.Column("lines", sa.Integer, nullable=False),
        sa.Column("octets", sa.LargeBinary, nullable=False),
        sa.Column("written_at", sa.DateTime(timezone=True), nullable=False),
        prefixes=["UNLOGGED"],
    )
