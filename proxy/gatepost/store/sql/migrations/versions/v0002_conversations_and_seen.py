"""The conversations of sessions, and which kept messages were seen."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the tables that version 0002 adds."""
    op.create_table(
        "sessions",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("client", sa.String, nullable=False),
        sa.Column("client_port", sa.Integer, nullable=False),
        sa.Column("listener", sa.String, nullable=False),
        sa.Column("started_at", sa.BigInteger, nullable=False),
        sa.Column("ended_at", sa.BigInteger),
        sa.Column("helo", sa.Text, nullable=False),
        sa.Column("tls", sa.String),
        sa.Column("authenticated", sa.Text),
        sa.Column("transactions", sa.Integer, nullable=False),
        sa.Column("last_reply", sa.Text, nullable=False),
        sa.Column("left_out", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("sessions_started_at", "sessions", ["started_at"])
    op.create_index("sessions_client", "sessions", ["client", "started_at"])
    op.create_table(
        "conversation_parts",
        sa.Column(
            "session_id", sa.String, sa.ForeignKey("sessions.id", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column("part", sa.Integer, primary_key=True),
        sa.Column("lines", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "kept_seen",
        sa.Column(
            "number",
            sa.BigInteger().with_variant(sa.Integer, "sqlite"),
            sa.ForeignKey("kept.number", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("seen_at", sa.BigInteger, nullable=False),
    )
    op.drop_index("kept_box", "kept")
    op.create_index("kept_box", "kept", ["box", "number", "state"])
