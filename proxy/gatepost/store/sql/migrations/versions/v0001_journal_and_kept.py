"""The journal, and the messages kept in quarantine and in the inbox."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make all tables of version 0001."""
    op.create_table(
        "transactions",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("session_id", sa.String, nullable=False),
        sa.Column("received_at", sa.BigInteger, nullable=False),
        sa.Column("client", sa.String, nullable=False),
        sa.Column("helo", sa.Text, nullable=False),
        sa.Column("tls", sa.String),
        sa.Column("authenticated", sa.Text),
        sa.Column("mail_from", sa.Text),
        sa.Column("size", sa.BigInteger),
        sa.Column("message_id", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("reply", sa.Text, nullable=False),
        sa.Column("upstream", sa.Text),
        sa.Column("upstream_reply", sa.Text),
        sa.Column("seconds", sa.Float, nullable=False),
        sa.Column("evaluations", sa.Text),
        sqlite_with_rowid=False,
    )
    op.create_index("transactions_received_at", "transactions", ["received_at"])
    op.create_index("transactions_client", "transactions", ["client", "received_at"])
    op.create_index("transactions_mail_from", "transactions", [sa.text("lower(mail_from)"), "received_at"])
    op.create_index("transactions_message_id", "transactions", ["message_id"])
    op.create_table(
        "recipients",
        sa.Column(
            "transaction_id",
            sa.String,
            sa.ForeignKey("transactions.id", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("position", sa.Integer, primary_key=True),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("disposition", sa.String, nullable=False),
        sa.Column("action", sa.String, nullable=False),
        sa.Column("rule", sa.String),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("reply", sa.Text, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("recipients_address", "recipients", [sa.text("lower(address)")])
    op.create_table(
        "kept",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("id", sa.String, nullable=False, unique=True),
        sa.Column("box", sa.String, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("transaction_id", sa.String, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("client", sa.String, nullable=False),
        sa.Column("mail_from", sa.Text, nullable=False),
        sa.Column("rule", sa.String),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("header_from", sa.Text, nullable=False),
        sa.Column("message_id", sa.Text, nullable=False),
        sa.Column("changed_by", sa.Text),
        sa.Column("changed_at", sa.BigInteger),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("prepended", sa.LargeBinary, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
    )
    op.create_index("kept_box", "kept", ["box", "number"])
    op.create_index("kept_transaction_id", "kept", ["transaction_id"])
    op.create_index("kept_created_at", "kept", ["created_at"])
    op.create_index("kept_message_id", "kept", ["message_id"])
    op.create_index("kept_mail_from", "kept", [sa.text("lower(mail_from)")])
    op.create_table(
        "kept_recipients",
        sa.Column("kept_id", sa.String, sa.ForeignKey("kept.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("position", sa.Integer, primary_key=True),
        sa.Column("address", sa.Text, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("kept_recipients_address", "kept_recipients", [sa.text("lower(address)")])
