"""The triggers by which the database itself fills `gatepost.store.sql.schema.transaction_rules`.

So nodes of a version without that table fill it too, and no writer has more to do. Of a record of which no
rule hit or refused, the evaluations are searched for three short texts, which takes less than 1 us: SQLite
looks for the first letter of each, so it is one that is rare there. A trigger that fails would lose a record,
so PostgreSQL's functions for JSON are not used: they refuse an escaped NUL. A regular expression with groups
takes 100 us for three evaluations; to cut the text where one begins takes a tenth of that.

PostgreSQL's functions have the rights of the store's owner. They look for tables in its schema, and only then
for temporary ones of the connection: a trigger of such a table would have these rights too.

In SQLite to look for a row of ``transactions`` is to read it with all its evaluations
(findings/sqlite-foreign-key-reads-the-whole-parent.sh). So this is not done for each recipient, nor for each
rule: there is no foreign key there, and a trigger deletes.
"""

import re
from typing import Any

from sqlalchemy import Connection

__all__ = ["is_noted", "make_triggers"]

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")

_NOTE_ASKED = """\
INSERT INTO transaction_rules (transaction_id, rule, received_at)
        SELECT NEW.id, json_extract(value, '$.rule'), NEW.received_at FROM json_each(NEW.evaluations)
        WHERE json_extract(value, '$.result') = 'hit'
            OR json_extract(value, '$.action') IN ('reject', 'defer')
        ON CONFLICT DO NOTHING;"""
_NOTE_DECIDED = """\
INSERT INTO transaction_rules (transaction_id, rule, received_at)
        SELECT id, NEW.rule, received_at FROM transactions WHERE id = NEW.transaction_id
        ON CONFLICT DO NOTHING;"""
_NOT_NOTED = """\
AND NOT EXISTS (SELECT 1 FROM transaction_rules AS noted
            WHERE noted.transaction_id = NEW.transaction_id AND noted.rule = NEW.rule)"""
_SQLITE = (
    f"""
    CREATE TRIGGER transactions_rules_inserted AFTER INSERT ON transactions
    WHEN NEW.evaluations GLOB '*hit","stage":*' OR NEW.evaluations GLOB '*ject","observed":*'
        OR NEW.evaluations GLOB '*fer","observed":*'
    BEGIN
        {_NOTE_ASKED}
    END
    """,
    f"""
    CREATE TRIGGER transactions_rules_updated AFTER UPDATE OF evaluations, received_at ON transactions
    WHEN NEW.evaluations IS NOT OLD.evaluations OR NEW.received_at <> OLD.received_at
    BEGIN
        UPDATE transaction_rules SET received_at = NEW.received_at WHERE transaction_id = NEW.id;
        {_NOTE_ASKED}
    END
    """,  # noqa: S608 - our own text
    f"""
    CREATE TRIGGER recipients_rules_inserted AFTER INSERT ON recipients
    WHEN NEW.rule IS NOT NULL
        {_NOT_NOTED}
    BEGIN
        {_NOTE_DECIDED}
    END
    """,
    f"""
    CREATE TRIGGER recipients_rules_updated AFTER UPDATE OF rule ON recipients
    WHEN NEW.rule IS NOT NULL AND NEW.rule IS NOT OLD.rule
        {_NOT_NOTED}
    BEGIN
        {_NOTE_DECIDED}
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


def is_noted(rule: str) -> bool:
    """Whether the table has the records of a rule of that name, as of all that settings can name.

    An index takes no text of any length, and JSON may escape other characters.
    """
    return _NAME.fullmatch(rule) is not None


def make_triggers(_metadata: object, connection: Connection, **_options: Any) -> None:
    """Make them; an event of SQLAlchemy's calls this when it has made the tables."""
    if connection.dialect.name == "sqlite":
        for statement in _SQLITE:
            connection.exec_driver_sql(statement)
        return
    schema = connection.exec_driver_sql("SELECT quote_ident(current_schema())").scalar_one()
    for statement in _POSTGRESQL:
        connection.exec_driver_sql(statement.replace("SCHEMA", schema))
