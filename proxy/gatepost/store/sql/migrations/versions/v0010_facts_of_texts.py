"""Kept messages by their tags, rules and users, on a server; a file has an index beside it for them."""

from alembic import op
from sqlalchemy import text

revision = "0010"
down_revision = "0009"

_HAS_LZ4 = text("SELECT 'lz4' = ANY (enumvals) FROM pg_settings WHERE name = 'default_toast_compression'")


def upgrade() -> None:
    """Make the indices; texts that are read from now on are compressed so that they are searched faster."""
    if op.get_bind().dialect.name != "postgresql":
        return
    for column in ("tags", "rules"):
        op.execute(
            f"CREATE INDEX kept_texts_{column} ON kept_texts USING gin (string_to_array({column}, chr(10)))"
        )
    op.execute("CREATE INDEX kept_texts_user ON kept_texts (left(lower(authenticated), 64))")
    if op.get_bind().scalar(_HAS_LZ4):
        for column in ("seen", "fields"):
            op.execute(f"ALTER TABLE kept_texts ALTER COLUMN {column} SET COMPRESSION lz4")
