"""The tables of the database, as SQLAlchemy Core describes them.

Moments are integers: microseconds since 1970, UTC. Text is free of NUL and lone surrogates, see `rows`.
A change here needs a new file in ``migrations/versions`` and a new `VERSION`.
"""

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    event,
    func,
)

from gatepost.store.sql.triggers import make_triggers

__all__ = [
    "NUMBER",
    "STRING",
    "TEXT",
    "VERSION",
    "conversation_parts",
    "kept",
    "kept_edits",
    "kept_recipients",
    "kept_releases",
    "kept_seen",
    "metadata",
    "recipients",
    "sessions",
    "transaction_rules",
    "transactions",
    "version",
]

VERSION = "0015"
"""The newest migration's revision."""

STRING = String().with_variant(String(collation="C"), "postgresql")
TEXT = Text().with_variant(Text(collation="C"), "postgresql")
"""Compared by code points, and only ASCII letters have a case, as in SQLite."""
NUMBER = BigInteger().with_variant(Integer, "sqlite")

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
    Column("id", STRING, primary_key=True),
    Column("session_id", STRING, nullable=False),
    Column("received_at", BigInteger, nullable=False),
    Column("client", STRING, nullable=False),
    Column("helo", TEXT, nullable=False),
    Column("tls", STRING),
    Column("authenticated", TEXT),
    Column("mail_from", TEXT),
    Column("size", BigInteger),
    Column("message_id", TEXT, nullable=False),
    Column("subject", TEXT, nullable=False),
    Column("reply", TEXT, nullable=False),
    Column("upstream", TEXT),
    Column("upstream_reply", TEXT),
    Column("seconds", Float, nullable=False),
    Column("evaluations", TEXT),
    Column("failed_user", TEXT),
    Column("node", STRING),
    sqlite_with_rowid=False,
)
"""The journal: one row for each transaction; ``evaluations`` is JSON, or NULL where no rule was asked."""

# A Message-ID is searched in all of this index, 0.1 s for a million records. In an index of its own, in
# random order, each record would be written to a different page, 4 us more for each message.
Index("transactions_received_at", transactions.c.received_at, transactions.c.message_id)
Index("transactions_client", transactions.c.client, transactions.c.received_at)
Index("transactions_mail_from", func.lower(transactions.c.mail_from), transactions.c.received_at)
Index("transactions_session_id", transactions.c.session_id)  # they sort by time: written at its end

recipients = Table(
    "recipients",
    metadata,
    Column("transaction_id", STRING, ForeignKey("transactions.id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("address", TEXT, nullable=False),
    Column("disposition", STRING, nullable=False),
    Column("action", STRING, nullable=False),
    Column("rule", STRING),
    Column("reason", TEXT, nullable=False),
    Column("reply", TEXT, nullable=False),
    sqlite_with_rowid=False,
)
"""The disposition of each forward-path, in the order of the transaction."""

Index("recipients_address", func.lower(recipients.c.address))

transaction_rules = Table(
    "transaction_rules",
    metadata,
    Column("transaction_id", STRING, primary_key=True),
    Column("rule", STRING, primary_key=True),
    Column("received_at", BigInteger, nullable=False),
    ForeignKeyConstraint(["transaction_id"], ["transactions.id"], ondelete="CASCADE").ddl_if("postgresql"),
    sqlite_with_rowid=False,
)
"""The rules that hit, refused, or decided for a recipient, so that the newest records of a rule are found.

Filled by triggers, from the other two tables alone: a copy of a store makes it again. A record that was
replaced may still have rules of its earlier version here: a search looks at the record as well.
"""

Index(
    "transaction_rules_rule",
    transaction_rules.c.rule,
    transaction_rules.c.received_at,
    transaction_rules.c.transaction_id,
)
event.listen(metadata, "after_create", make_triggers)

kept = Table(
    "kept",
    metadata,
    Column("number", NUMBER, primary_key=True, autoincrement=True),
    Column("id", STRING, nullable=False, unique=True),
    Column("box", STRING, nullable=False),
    Column("state", STRING, nullable=False),
    Column("transaction_id", STRING, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("client", STRING, nullable=False),
    Column("mail_from", TEXT, nullable=False),
    Column("rule", STRING),
    Column("reason", TEXT, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("subject", TEXT, nullable=False),
    Column("header_from", TEXT, nullable=False),
    Column("message_id", TEXT, nullable=False),
    Column("changed_by", TEXT),
    Column("changed_at", BigInteger),
    Column("note", TEXT, nullable=False),
    Column("prepended", LargeBinary, nullable=False),
    Column("content", LargeBinary, nullable=False),
)
"""Quarantine and inbox.

``number`` is a stable integer key, which a full-text index needs. The content is last, so that lists do not
read it.
"""

Index("kept_box", kept.c.box, kept.c.number, kept.c.state)  # the state without reading a row: they are large
Index("kept_transaction_id", kept.c.transaction_id)
Index("kept_created_at", kept.c.created_at)
Index("kept_message_id", kept.c.message_id)
Index("kept_mail_from", func.lower(kept.c.mail_from))

kept_edits = Table(
    "kept_edits",
    metadata,
    Column("kept_id", STRING, ForeignKey("kept.id", ondelete="CASCADE"), primary_key=True),
    Column("edits", TEXT, nullable=False),
    sqlite_with_rowid=False,
)
"""The edits, as JSON, of kept messages that have any; the content is as received."""

kept_recipients = Table(
    "kept_recipients",
    metadata,
    Column("kept_id", STRING, ForeignKey("kept.id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("address", TEXT, nullable=False),
    sqlite_with_rowid=False,
)
"""The forward-paths that a message is kept for."""

Index("kept_recipients_address", func.lower(kept_recipients.c.address))

kept_releases = Table(
    "kept_releases",
    metadata,
    Column("kept_id", STRING, ForeignKey("kept.id", ondelete="CASCADE"), primary_key=True),
    Column("token", STRING, nullable=False),
    Column("actor", TEXT, nullable=False),
    Column("claimed_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
"""Kept messages that are being released.

Not columns of ``kept``: to change a row of it is to write the whole message again.
"""

kept_seen = Table(
    "kept_seen",
    metadata,
    Column(
        "number",
        NUMBER,
        ForeignKey("kept.number", ondelete="CASCADE"),
        primary_key=True,
    ),
    Column("seen_at", BigInteger, nullable=False),
)
"""Kept messages that were opened, or marked as seen."""

sessions = Table(
    "sessions",
    metadata,
    Column("id", STRING, primary_key=True),
    Column("client", STRING, nullable=False),
    Column("client_port", Integer, nullable=False),
    Column("listener", STRING, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger),
    Column("helo", TEXT, nullable=False),
    Column("tls", STRING),
    Column("authenticated", TEXT),
    Column("transactions", Integer, nullable=False),
    Column("last_reply", TEXT, nullable=False),
    Column("left_out", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
"""Sessions whose conversation is kept. ``ended_at`` is NULL while it lasts, or if its end was not seen.

``transactions`` counts those that have begun, ``left_out`` the bytes of the conversation that are not kept.
"""

Index("sessions_started_at", sessions.c.started_at)
Index("sessions_client", sessions.c.client, sessions.c.started_at)

conversation_parts = Table(
    "conversation_parts",
    metadata,
    Column("session_id", STRING, ForeignKey("sessions.id", ondelete="CASCADE"), primary_key=True),
    Column("part", Integer, primary_key=True),
    Column("lines", LargeBinary, nullable=False),
)
"""The conversation of a session, in parts in the order of time."""
