"""The edits of kept messages, which were part of the content or lost."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Make the table of edits.

    The empty line before a message without a header section is no longer stored: it is put there when the
    message is delivered.
    """
    op.create_table(
        "kept_edits",
        sa.Column("kept_id", sa.String, sa.ForeignKey("kept.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("edits", sa.Text, nullable=False),
        sqlite_with_rowid=False,
    )
    op.execute(
        "UPDATE kept SET prepended = substr(prepended, 1, length(prepended) - 2) "
        "WHERE substr(prepended, -4) = X'0D0A0D0A'"
    )
