"""Saved messages get into the inbox, each with a record that says so."""

import tracemalloc
from ipaddress import ip_address

import pytest
from gatepost.config.store import StoreSettings
from gatepost.gateway.imports import import_messages
from gatepost.model.saved import IMPORTED, SavedMessage
from gatepost.store import Box, JournalQuery, KeptQuery, StoreError, open_archive
from gatepost.store.sql.store import SqlStore

CLIENT = ip_address("192.0.2.7")


def message(number):
    content = f"Subject: number {number}\r\nMessage-ID: <{number}@x>\r\n\r\n{number}\r\n".encode()
    return SavedMessage(
        line=1, mail_from="a@example.org", recipients=("b@example.com", "c@example.net"), content=content
    )


def stored(folder):
    with open_archive(StoreSettings(), folder) as archive:
        kept = archive.kept(KeptQuery(box=Box.INBOX), limit=500)
        return (
            kept,
            archive.records(JournalQuery(), limit=500),
            [archive.kept_message(one.id) for one in kept],
        )


def test_they_are_stored_in_their_order_with_their_bytes_and_records(tmp_path):
    messages = [message(number) for number in range(250)]
    ids = import_messages(StoreSettings(), tmp_path, iter(messages), client=CLIENT)
    kept, records, read = stored(tmp_path)
    assert ids == [one.id for one in reversed(kept)]
    assert [one.content for one in reversed(read)] == [one.content for one in messages]
    assert {one.prepended for one in read} == {b""}
    assert {(one.mail_from, one.reason) for one in kept} == {("a@example.org", IMPORTED)}
    by_id = {record.id: record for record in records}
    record = by_id[kept[0].transaction_id]
    assert (record.client, record.subject, record.message_id) == ("192.0.2.7", "number 249", "<249@x>")
    assert (record.helo, record.tls, record.reply) == ("", None, "")
    assert [(r.address, r.disposition, r.reason, r.reply) for r in record.recipients] == [
        ("b@example.com", "inbox", "imported from a file", ""),
        ("c@example.net", "inbox", "imported from a file", ""),
    ]
    assert len(by_id) == 250


@pytest.mark.parametrize("fails_at", [0, 99, 150])
def test_where_the_store_fails_the_caller_learns_which_are_stored(tmp_path, monkeypatch, fails_at):
    real, count = SqlStore.commit, iter(range(1000))

    async def commit(self, record, kept=()):
        if next(count) == fails_at:
            raise StoreError("the disk is full")
        await real(self, record, kept)

    monkeypatch.setattr(SqlStore, "commit", commit)
    messages = iter([message(number) for number in range(300)])
    results = import_messages(StoreSettings(), tmp_path, messages, client=CLIENT)
    assert len(results) == (fails_at // 100 + 1) * 100
    assert len([*messages]) == 300 - len(results), "the others are not read"
    assert str(results.pop(fails_at)) == "the disk is full"
    assert results == [one.id for one in reversed(stored(tmp_path)[0])]


def test_a_store_that_cannot_be_opened_is_an_error(tmp_path):
    (tmp_path / "gatepost.db").write_text("no database")
    with pytest.raises(StoreError, match=r"gatepost\.db"):
        import_messages(StoreSettings(), tmp_path, [message(1)], client=CLIENT)


def test_few_messages_are_in_memory_at_a_time(tmp_path):
    def large():
        for number in range(60):
            content = b"Subject: x\r\n\r\n" + b"%04d\r\n" % number * 350_000
            yield SavedMessage(line=1, mail_from="", recipients=("b@example.com",), content=content)

    tracemalloc.start()
    try:
        results = import_messages(StoreSettings(), tmp_path, large(), client=CLIENT)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(results) == 60
    assert peak < 80 << 20, "60 messages have 126 MB"
