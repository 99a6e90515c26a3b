"""Deleting one message is undone by the desk, for some seconds and exactly once."""

import asyncio
import json

import pytest
from gatepost.store import Box, KeptQuery, State, StoreError
from gatepost.web import trash

FRAGMENT = {"HX-Request": "true"}


@pytest.fixture
def delete(http):
    async def post(*ids, **headers):
        return await http.post("/messages/change", data={"do": "delete", "id": ids}, headers=headers)

    return post


@pytest.mark.parametrize("box", Box)
async def test_a_message_that_was_deleted_is_gone_at_once_and_comes_back_whole(http, keep, desk, delete, box):
    kept_id = await keep("Grüße", box=box, attachments={"a.pdf": b"x"})
    desk.mailbox.mark([kept_id], seen=True)
    before, counts = desk.mailbox.message(kept_id), desk.mailbox.counts()
    answer = await delete(kept_id, **FRAGMENT)
    assert answer.status_code == 204
    assert r"Deleted: Gr\u00fc\u00dfe" in answer.headers["hx-trigger"]
    assert desk.mailbox.message(kept_id).content == b""
    assert desk.archive.kept(KeptQuery(), limit=9) == []
    assert (await http.post(f"/messages/{kept_id}/undo")).status_code == 204
    assert desk.mailbox.message(kept_id) == before
    assert desk.mailbox.counts() == counts
    again = await http.post(f"/messages/{kept_id}/undo")
    assert (again.status_code, again.text) == (410, "It is too late: the message is deleted.")


@pytest.mark.parametrize("how", ["by time", "by number", "by size", "several", "by the API"])
async def test_what_is_deleted_for_good_stays_deleted(http, keep, desk, delete, how, monkeypatch):
    kept_id, other = await keep("One"), await keep("Two")
    match how:
        case "by time":
            monkeypatch.setattr(trash, "UNDO_SECONDS", 0)
            monkeypatch.setattr(trash, "_GRACE_SECONDS", 0)
        case "by number":
            monkeypatch.setattr(trash, "_MESSAGES", 1)
        case "by size":
            monkeypatch.setattr(trash, "_OCTETS", 1)
    match how:
        case "several":
            answer = await delete(kept_id, other, **FRAGMENT)
            assert "2 messages deleted." in answer.headers["hx-trigger"]
        case "by the API":
            await http.delete(f"/api/v1/messages/{kept_id}")
        case _:
            await delete(kept_id)
            await delete(other)
    await asyncio.sleep(0.01)
    assert (await http.post(f"/messages/{kept_id}/undo")).status_code == 410
    if how in ("by number", "by size"):  # the last one is held, however large
        assert (await http.post(f"/messages/{other}/undo")).status_code == 204
    assert kept_id in [one.id for one in desk.archive.kept(KeptQuery(state=State.DELETED), limit=9)]


async def test_what_somebody_else_has_deleted_says_so(desk, keep, delete):
    kept_id = await keep("One")
    desk.mailbox.delete([kept_id], actor="ann")
    assert "was deleted already" in (await delete(kept_id, **FRAGMENT)).headers["hx-trigger"]
    assert desk.mailbox.message(kept_id).changed_by == "ann"


async def test_what_is_being_released_stays_and_says_so(desk, keep, delete):
    kept_id, other = await keep("One", box=Box.QUARANTINE), await keep("Two", box=Box.QUARANTINE)
    claim = desk.archive.claim_release(desk.archive.kept_message(kept_id), actor="ann")
    answer = await delete(kept_id, **FRAGMENT)
    assert "is being released just now. It was not deleted." in answer.headers["hx-trigger"]
    answer = await delete(kept_id, other, **FRAGMENT)
    told = json.loads(answer.headers["hx-trigger"])
    assert told["desk:notice"]["text"] == "1 message deleted."
    assert told["desk:changed"]["deleted"] == [other]
    desk.archive.abandon_release(claim)
    assert "Deleted: One" in (await delete(kept_id, **FRAGMENT)).headers["hx-trigger"]


async def test_a_store_that_fails_loses_nothing_of_what_can_be_undone(http, keep, desk, delete, monkeypatch):
    kept_id = await keep("One")
    await delete(kept_id)
    with monkeypatch.context() as failing:

        def put_back(_):
            raise StoreError("disk full")

        failing.setattr(desk.mailbox, "put_back", put_back)
        assert (await http.post(f"/messages/{kept_id}/undo")).status_code == 503
    assert (await http.post(f"/messages/{kept_id}/undo")).status_code == 204
    assert desk.mailbox.message(kept_id).content


async def test_another_site_can_undo_nothing(http, keep, desk, delete):
    kept_id = await keep("One")
    await delete(kept_id)
    answer = await http.post(f"/messages/{kept_id}/undo", headers={"Origin": "http://evil.example"})
    assert answer.status_code == 403
    assert desk.mailbox.message(kept_id).state is State.DELETED
