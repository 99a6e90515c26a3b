"""The rules of records that were there before the triggers of version 0011."""

from alembic import op
from sqlalchemy import Connection

revision = "0012"
down_revision = "0011"

_RECORDS = 5000
"""Records of one transaction, on a server."""
_IN_SQLITE = (
    """
    INSERT INTO transaction_rules (transaction_id, rule, received_at)
    SELECT transactions.id, json_extract(value, '$.rule'), received_at
    FROM transactions, json_each(evaluations)
    WHERE (evaluations GLOB '*hit","stage":*' OR evaluations GLOB '*ject","observed":*'
        OR evaluations GLOB '*fer","observed":*')
    AND (json_extract(value, '$.result') = 'hit' OR json_extract(value, '$.action') IN ('reject', 'defer'))
    ON CONFLICT DO NOTHING
    """,
    """
    INSERT INTO transaction_rules (transaction_id, rule, received_at)
    SELECT id, rule, received_at FROM recipients JOIN transactions ON id = transaction_id
    WHERE rule IS NOT NULL
    ON CONFLICT DO NOTHING
    """,
)
_EXCLUDE_RETENTION = "SELECT pg_advisory_xact_lock(hashtext('gatepost ' || current_schema()), 2)"
_NEXT = "SELECT max(id) FROM (SELECT id FROM transactions WHERE id > %s ORDER BY id LIMIT %s) AS batch"
_IN_POSTGRESQL = (
    """
    INSERT INTO transaction_rules (transaction_id, rule, received_at)
    SELECT id, split_part(asked, '"', 1), received_at
    FROM transactions, string_to_table(evaluations, '{"rule":"') AS asked
    WHERE id > %s AND id <= %s
    AND (strpos(asked, '"result":"hit"') > 0 OR strpos(asked, '"action":"reject"') > 0
        OR strpos(asked, '"action":"defer"') > 0)
    AND split_part(asked, '"', 1) ~ '^[A-Za-z0-9._-]+$' AND length(split_part(asked, '"', 1)) <= 64
    ON CONFLICT DO NOTHING
    """,
    """
    INSERT INTO transaction_rules (transaction_id, rule, received_at)
    SELECT id, rule, received_at FROM recipients JOIN transactions ON id = transaction_id
    WHERE transaction_id > %s AND transaction_id <= %s
    AND rule ~ '^[A-Za-z0-9._-]+$' AND length(rule) <= 64
    ON CONFLICT DO NOTHING
    """,
)


def upgrade() -> None:
    """Fill the table.

    On a server with a commit after some records, so that nodes that write meanwhile are not held up: the
    caller holds a lock on migrations beyond the end of a transaction. What ends before its end begins again.
    """
    connection = op.get_bind()
    if connection.dialect.name == "sqlite":
        for statement in _IN_SQLITE:
            connection.exec_driver_sql(statement)
    else:
        _fill(connection)


def _fill(connection: Connection) -> None:
    connection.commit()  # ends the lock on the journal that it takes to make triggers
    newest = connection.exec_driver_sql("SELECT max(id) FROM transactions").scalar()
    last = ""
    while newest is not None and last < newest:
        connection.exec_driver_sql(_EXCLUDE_RETENTION)  # it would delete records that are just being read
        after, last = last, connection.exec_driver_sql(_NEXT, (last, _RECORDS)).scalar_one() or newest
        for statement in _IN_POSTGRESQL:
            connection.exec_driver_sql(statement, (after, last))
        connection.commit()
