"""The tables.

Moments are integers: microseconds since 1970, UTC. Text is free of NUL and lone surrogates, see `rows`.
A change here needs a new file in ``migrations/versions`` and a new `VERSION`.
"""

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    func,
)

__all__ = [
    "VERSION",
    "conversation_parts",
    "kept",
    "kept_recipients",
    "kept_seen",
    "metadata",
    "recipients",
    "sessions",
    "transactions",
    "version",
]

VERSION = "0003"
"""The newest migration's revision."""

metadata = MetaData()

version = Table(
    "alembic_version",
    metadata,
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)
"""Alembic's own table, named here so that a new database is made without importing alembic."""

transactions = Table(
    "transactions",
    metadata,
    Column("id", String, primary_key=True),
    Column("session_id", String, nullable=False),
    Column("received_at", BigInteger, nullable=False),
    Column("client", String, nullable=False),
    Column("helo", Text, nullable=False),
    Column("tls", String),
    Column("authenticated", Text),
    Column("mail_from", Text),
    Column("size", BigInteger),
    Column("message_id", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("reply", Text, nullable=False),
    Column("upstream", Text),
    Column("upstream_reply", Text),
    Column("seconds", Float, nullable=False),
    Column("evaluations", Text),
    sqlite_with_rowid=False,
)
"""The journal: one row a transaction; ``evaluations`` is JSON, or NULL where no rule was asked."""

# A Message-ID is looked for in all of this index, 0.1 s for a million records: in an index of its own, in
# random order, each record would be written to a page of its own, 4 us more for each message.
Index("transactions_received_at", transactions.c.received_at, transactions.c.message_id)
Index("transactions_client", transactions.c.client, transactions.c.received_at)
Index("transactions_mail_from", func.lower(transactions.c.mail_from), transactions.c.received_at)

recipients = Table(
    "recipients",
    metadata,
    Column("transaction_id", ForeignKey("transactions.id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("address", Text, nullable=False),
    Column("disposition", String, nullable=False),
    Column("action", String, nullable=False),
    Column("rule", String),
    Column("reason", Text, nullable=False),
    Column("reply", Text, nullable=False),
    sqlite_with_rowid=False,
)
"""What became of each forward-path, in the order of the transaction."""

Index("recipients_address", func.lower(recipients.c.address))

kept = Table(
    "kept",
    metadata,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("id", String, nullable=False, unique=True),
    Column("box", String, nullable=False),
    Column("state", String, nullable=False),
    Column("transaction_id", String, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("client", String, nullable=False),
    Column("mail_from", Text, nullable=False),
    Column("rule", String),
    Column("reason", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("subject", Text, nullable=False),
    Column("header_from", Text, nullable=False),
    Column("message_id", Text, nullable=False),
    Column("changed_by", Text),
    Column("changed_at", BigInteger),
    Column("note", Text, nullable=False),
    Column("prepended", LargeBinary, nullable=False),
    Column("content", LargeBinary, nullable=False),
)
"""Quarantine and inbox.

``number`` is a stable integer key, as a full-text index wants. The octets stand last, so that listing does
not read them.
"""

Index("kept_box", kept.c.box, kept.c.number, kept.c.state)  # the state without reading a row: they are large
Index("kept_transaction_id", kept.c.transaction_id)
Index("kept_created_at", kept.c.created_at)
Index("kept_message_id", kept.c.message_id)
Index("kept_mail_from", func.lower(kept.c.mail_from))

kept_recipients = Table(
    "kept_recipients",
    metadata,
    Column("kept_id", ForeignKey("kept.id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("address", Text, nullable=False),
    sqlite_with_rowid=False,
)
"""The forward-paths that a message is kept for."""

Index("kept_recipients_address", func.lower(kept_recipients.c.address))

kept_seen = Table(
    "kept_seen",
    metadata,
    Column(
        "number",
        BigInteger().with_variant(Integer, "sqlite"),
        ForeignKey("kept.number", ondelete="CASCADE"),
        primary_key=True,
    ),
    Column("seen_at", BigInteger, nullable=False),
)
"""Kept messages that somebody has opened, or marked as seen."""

sessions = Table(
    "sessions",
    metadata,
    Column("id", String, primary_key=True),
    Column("client", String, nullable=False),
    Column("client_port", Integer, nullable=False),
    Column("listener", String, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger),
    Column("helo", Text, nullable=False),
    Column("tls", String),
    Column("authenticated", Text),
    Column("transactions", Integer, nullable=False),
    Column("last_reply", Text, nullable=False),
    Column("left_out", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
"""Sessions whose conversation is kept. ``ended_at`` is NULL while it goes on, or where nobody saw its end.

``transactions`` counts those that have begun, ``left_out`` the octets of the conversation that are not kept.
"""

Index("sessions_started_at", sessions.c.started_at)
Index("sessions_client", sessions.c.client, sessions.c.started_at)

conversation_parts = Table(
    "conversation_parts",
    metadata,
    Column("session_id", ForeignKey("sessions.id", ondelete="CASCADE"), primary_key=True),
    Column("part", Integer, primary_key=True),
    Column("lines", LargeBinary, nullable=False),
)
"""What was said in a session, in pieces in the order of time."""
