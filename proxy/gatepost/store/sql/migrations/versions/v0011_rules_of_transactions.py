"""The rules of each record of the journal, which triggers note: nodes of the version before have them too."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"

_SQLITE = (
    """
    CREATE TRIGGER transactions_rules_inserted AFTER INSERT ON transactions
    WHEN NEW.evaluations GLOB '*hit","stage":*' OR NEW.evaluations GLOB '*ject","observed":*'
        OR NEW.evaluations GLOB '*fer","observed":*'
    BEGIN
        INSERT INTO transaction_rules (transaction_id, rule, received_at)
        SELECT NEW.id, json_extract(value, '$.rule'), NEW.received_at FROM json_each(NEW.evaluations)
        WHERE json_extract(value, '$.result') = 'hit'
            OR json_extract(value, '$.action') IN ('reject', 'defer')
        ON CONFLICT DO NOTHING;
    END
    """,
    """
    CREATE TRIGGER transactions_rules_updated AFTER UPDATE OF evaluations, received_at ON transactions
    WHEN NEW.evaluations IS NOT OLD.evaluations OR NEW.received_at <> OLD.received_at
    BEGIN
        UPDATE transaction_rules SET received_at = NEW.received_at WHERE transaction_id = NEW.id;
        INSERT INTO transaction_rules (transaction_id, rule, received_at)
        SELECT NEW.id, json_extract(value, '$.rule'), NEW.received_at FROM json_each(NEW.evaluations)
        WHERE json_extract(value, '$.result') = 'hit'
            OR json_extract(value, '$.action') IN ('reject', 'defer')
        ON CONFLICT DO NOTHING;
    END
    """,
    """
    CREATE TRIGGER recipients_rules_inserted AFTER INSERT ON recipients
    WHEN NEW.rule IS NOT NULL
        AND NOT EXISTS (SELECT 1 FROM transaction_rules AS noted
            WHERE noted.transaction_id = NEW.transaction_id AND noted.rule = NEW.rule)
    BEGIN
        INSERT INTO transaction_rules (transaction_id, rule, received_at)
        SELECT id, NEW.rule, received_at FROM transactions WHERE id = NEW.transaction_id
        ON CONFLICT DO NOTHING;
    END
    """,
    """
    CREATE TRIGGER recipients_rules_updated AFTER UPDATE OF rule ON recipients
    WHEN NEW.rule IS NOT NULL AND NEW.rule IS NOT OLD.rule
        AND NOT EXISTS (SELECT 1 FROM transaction_rules AS noted
            WHERE noted.transaction_id = NEW.transaction_id AND noted.rule = NEW.rule)
    BEGIN
        INSERT INTO transaction_rules (transaction_id, rule, received_at)
        SELECT id, NEW.rule, received_at FROM transactions WHERE id = NEW.transaction_id
        ON CONFLICT DO NOTHING;
    END
    """,
    """
    CREATE TRIGGER transactions_rules_deleted AFTER DELETE ON transactions
    BEGIN
        DELETE FROM transaction_rules WHERE transaction_id = OLD.id;
    END
    """,
)
_POSTGRESQL = (
    """
    CREATE FUNCTION note_rules_asked() RETURNS trigger LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = SCHEMA, pg_temp AS $$
    BEGIN
        IF TG_OP = 'UPDATE' THEN
            UPDATE transaction_rules SET received_at = NEW.received_at WHERE transaction_id = NEW.id;
        END IF;
        INSERT INTO transaction_rules (transaction_id, rule, received_at)
        SELECT NEW.id, split_part(asked, '"', 1), NEW.received_at
        FROM string_to_table(NEW.evaluations, '{"rule":"') AS asked
        WHERE (strpos(asked, '"result":"hit"') > 0 OR strpos(asked, '"action":"reject"') > 0
            OR strpos(asked, '"action":"defer"') > 0)
        AND split_part(asked, '"', 1) ~ '^[A-Za-z0-9._-]+$' AND length(split_part(asked, '"', 1)) <= 64
        ON CONFLICT DO NOTHING;
        RETURN NULL;
    END $$
    """,
    """
    CREATE FUNCTION note_rule_that_decided() RETURNS trigger LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = SCHEMA, pg_temp AS $$
    BEGIN
        INSERT INTO transaction_rules (transaction_id, rule, received_at)
        SELECT id, NEW.rule, received_at FROM transactions WHERE id = NEW.transaction_id
        ON CONFLICT DO NOTHING;
        RETURN NULL;
    END $$
    """,
    """
    CREATE TRIGGER transactions_rules_inserted AFTER INSERT ON transactions FOR EACH ROW
    WHEN (strpos(NEW.evaluations, '"result":"hit"') > 0 OR strpos(NEW.evaluations, '"action":"reject"') > 0
        OR strpos(NEW.evaluations, '"action":"defer"') > 0)
    EXECUTE FUNCTION note_rules_asked()
    """,
    """
    CREATE TRIGGER transactions_rules_updated AFTER UPDATE OF evaluations, received_at ON transactions
    FOR EACH ROW
    WHEN (NEW.evaluations IS DISTINCT FROM OLD.evaluations OR NEW.received_at <> OLD.received_at)
    EXECUTE FUNCTION note_rules_asked()
    """,
    """
    CREATE TRIGGER recipients_rules_inserted AFTER INSERT ON recipients FOR EACH ROW
    WHEN (NEW.rule ~ '^[A-Za-z0-9._-]+$' AND length(NEW.rule) <= 64)
    EXECUTE FUNCTION note_rule_that_decided()
    """,
    """
    CREATE TRIGGER recipients_rules_updated AFTER UPDATE OF rule ON recipients FOR EACH ROW
    WHEN (NEW.rule IS DISTINCT FROM OLD.rule AND NEW.rule ~ '^[A-Za-z0-9._-]+$' AND length(NEW.rule) <= 64)
    EXECUTE FUNCTION note_rule_that_decided()
    """,
)


def upgrade() -> None:
    """Make the table, its index and the triggers; `v0012_rules_of_older_transactions` fills it."""
    dialect = op.get_bind().dialect.name
    string = sa.String().with_variant(sa.String(collation="C"), "postgresql")
    of_records = sa.ForeignKeyConstraint(["transaction_id"], ["transactions.id"], ondelete="CASCADE")
    op.create_table(
        "transaction_rules",
        sa.Column("transaction_id", string, primary_key=True),
        sa.Column("rule", string, primary_key=True),
        sa.Column("received_at", sa.BigInteger, nullable=False),
        *([] if dialect == "sqlite" else [of_records]),
        sqlite_with_rowid=False,
    )
    op.create_index("transaction_rules_rule", "transaction_rules", ["rule", "received_at", "transaction_id"])
    if dialect == "sqlite":
        for statement in _SQLITE:
            op.get_bind().exec_driver_sql(statement)
        return
    schema = op.get_bind().exec_driver_sql("SELECT quote_ident(current_schema())").scalar_one()
    for statement in _POSTGRESQL:
        op.get_bind().exec_driver_sql(statement.replace("SCHEMA", schema))
