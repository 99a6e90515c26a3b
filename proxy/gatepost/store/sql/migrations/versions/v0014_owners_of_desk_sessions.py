"""Whose log-ins to the web desk are counted together, on a server only."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Add the column; log-ins at nodes of the version before have none, and are only counted together."""
    if op.get_bind().dialect.name == "postgresql":
        op.add_column("desk_sessions", sa.Column("owner", sa.LargeBinary))
