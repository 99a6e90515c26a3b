"""What people type to search the journal."""

from datetime import UTC, datetime, timedelta

import pytest
from gatepost.model.record import Disposition
from gatepost.store import JournalQuery
from gatepost.store.query import QueryError, parse_journal_query

NOW = datetime(2026, 11, 23, 18, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("", {}),
        ("   ", {}),
        ("from:ann@example.com", {"mail_from": "ann@example.com"}),
        ("from:<Ann@example.com>", {"mail_from": "Ann@example.com"}),
        ("from:<>", {"mail_from": ""}),
        ("from:ann", {"mail_from": "*ann*"}),
        ("to:@example.com", {"recipient": "*@example.com*"}),
        ("to:*@example.com", {"recipient": "*@example.com"}),
        ("client:192.0.2.*", {"client": "192.0.2.*"}),
        ("client:2001:db8::1", {"client": "2001:db8::1"}),
        ("rule:legal-words is:refused", {"rule": "legal-words", "disposition": Disposition.REFUSED}),
        ('rule:"two words"', {"rule": "two words"}),
        ("is:IN-DOUBT", {"disposition": Disposition.IN_DOUBT}),
        ("after:2h before:30m", {"since": NOW - timedelta(hours=2), "until": NOW - timedelta(minutes=30)}),
        ("after:2026-11-20T08:00+00:00", {"since": datetime(2026, 11, 20, 8, tzinfo=UTC)}),
        ("id:01M84ABCDE012345", {"id": "01m84abcde012345"}),
        ("id:<1@example.com>", {"message_id": "<1@example.com>"}),
        ("session:01m84abcde012345", {"session_id": "01m84abcde012345"}),
        ("192.0.2.1", {"client": "192.0.2.1"}),
        ("2001:DB8::1", {"client": "2001:db8::1"}),
        ("fe80::1", {"client": "fe80::1"}),
        ("<1@example.com>", {"message_id": "<1@example.com>"}),
        ("01m84abcde012345", {"id": "01m84abcde012345"}),
        ("bob@example.net", {"address": "bob@example.net"}),
        (
            "bob 192.0.2.1 is:relayed",
            {"address": "*bob*", "client": "192.0.2.1", "disposition": Disposition.RELAYED},
        ),
    ],
    ids=str,
)
def test_terms_and_words_become_a_query(text, fields):
    assert parse_journal_query(text, now=NOW) == JournalQuery(**fields)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("subject:hello", "there is no subject: to look for, expected one of from:, to:, address:"),
        ("is:lost", "'is:lost' is not understood, expected is: with one of relayed, inbox"),
        ("after:soon", "'after:soon' is not understood, expected a time like 2h"),
        ("after:999999w", "expected a time"),
        ("ann bob", "'bob': only one"),
        ("-ann", "'-ann': the journal cannot be searched for what must not match"),
        ("from:a from:b", "'from:b': only one"),
    ],
)
def test_what_cannot_be_understood_is_said(text, says):
    with pytest.raises(QueryError, match=says):
        parse_journal_query(text, now=NOW)
