"""Retention is applied by one node at a time, and by another one after that."""

from datetime import UTC, datetime, timedelta

from gatepost.config.store import Keep
from gatepost.store.postgresql import open_store
from gatepost.store.postgresql.database import _TRY_RETENTION, Database
from gatepost.store.sql import writer


async def test_what_is_too_much_is_deleted_unless_another_node_is_about_it(
    postgresql, settings, tmp_path, make_record, make_kept, monkeypatch, until, everything, caplog
):
    monkeypatch.setattr(writer, "_SWEEP_SECONDS", 0.02)
    monkeypatch.setattr(writer, "_STEP_SECONDS", 0.01)
    now = datetime.now(UTC)
    keep = Keep(messages=3, journal=5)
    tries = []
    maintenance = Database.maintenance
    monkeypatch.setattr(Database, "maintenance", lambda node: tries.append(node) or maintenance(node))
    with postgresql.connect(settings.url) as other:
        assert other.execute(str(_TRY_RETENTION)).fetchone() == (True,)
        nodes = [open_store(settings.model_copy(update={"keep": keep}), tmp_path) for _ in range(2)]
        ids = []
        for number in range(8):
            record, kept = make_record(received_at=now + timedelta(seconds=number)), make_kept()
            await nodes[number % 2].commit(record, [kept])
            ids.append((record.id, kept.id))
        before = len(tries)
        await until(lambda: all(tries[before:].count(node) >= 3 for node in {*tries}) and len({*tries}) == 2)
        assert len(everything(nodes[0])[0]) == 8
    await until(lambda: len(everything(nodes[0])[0]) == 5 and len(everything(nodes[1])[1]) == 3)
    assert everything(nodes[0]) == ({record for record, _ in ids[3:]}, {kept for _, kept in ids[5:]})
    for node in nodes:
        await node.close()
    assert caplog.text.count("messages of quarantine by number") in (1, 2), "each says what it has deleted"


async def test_age_is_that_by_the_clock_of_the_server(
    settings, tmp_path, make_record, make_kept, monkeypatch, until, everything
):
    monkeypatch.setattr(writer, "_SWEEP_SECONDS", 0.02)
    monkeypatch.setattr(writer, "_STEP_SECONDS", 0.01)
    now, asked = Database.now, []

    def later(database, connection):
        asked.append(database)
        return now(database, connection) + ahead

    ahead = timedelta(days=1)
    monkeypatch.setattr(Database, "now", later)
    keep = Keep(days=2, settling=timedelta(0))
    node = open_store(settings.model_copy(update={"keep": keep}), tmp_path)
    await node.commit(make_record(received_at=datetime.now(UTC)), [make_kept()])
    asked.clear()
    await until(lambda: len(asked) > 3)
    assert [len(part) for part in everything(node)] == [1, 1]
    ahead = timedelta(days=3)
    await until(lambda: [len(part) for part in everything(node)] == [0, 0])
    await node.close()
