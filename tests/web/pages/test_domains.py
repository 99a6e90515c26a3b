"""A user of some domains sees, counts and changes the mail of these domains and nothing else."""

import json
import re

import pytest
from gatepost.config.web import WebSettings
from gatepost.model.user import Role, User
from gatepost.store import Box, State
from gatepost.web.accounts import Accounts
from gatepost.web.app import create_app
from pydantic import ValidationError

DAVE = User(name="reader", role=Role.ADMINISTRATOR, domains=frozenset({"example.net"}))
LOGIN = {"name": "reader", "password": "reader's secret"}
OTHERS = {
    "other": ("eve@other.example",),
    "mixed": ("bob@example.net", "eve@other.example"),
    "longer": ("eve@sub.example.net",),
}


@pytest.fixture
async def http(client_of, hashes):
    async with client_of(accounts=Accounts(users=[DAVE], hashes=hashes)) as client:
        assert (await client.post("/login", data=LOGIN)).status_code == 303
        yield client


@pytest.fixture
async def others(keep):
    """Messages that this user does not see; returns their ids."""
    return [
        await keep(f"hidden-{name}", to=to, box=Box.QUARANTINE if name == "other" else Box.INBOX)
        for name, to in OTHERS.items()
    ]


QUERIES = ("", "?q=hid*", "?q=to:ev*", "?query=hid*", "?query=-from:x", "?recipient=ev*", "?timeout=0")


async def test_no_page_and_no_operation_shows_or_finds_other_mail(http, keep, desk, others, requests):
    own = await keep("shown", to=("Bob@example.net",))
    transactions = [desk.archive.kept_message(one).transaction_id for one in others]
    secrets = [*others, *transactions, "hidden-", "eve@"]
    shown = 0
    for name, need in requests(create_app(desk)):
        method, path = name.split()
        if method != "GET" or path.endswith("/events"):
            continue
        asked = [path + query for query in QUERIES] if "{" not in path else [path]
        for some_id in (own, *others, *transactions) if "{id}" in path else (own,):
            for one in asked:
                answer = await http.get(re.sub(r"\{.*?\}", "1", one.replace("{id}", some_id)))
                if not DAVE.may(need):
                    assert answer.status_code == 403, one
                    continue
                found = [secret for secret in secrets if secret in answer.text and secret != some_id]
                assert found == [], one
                shown += "shown" in answer.text
                if some_id != own and "{id}" in path:
                    assert answer.status_code == 404, one
    assert shown > 10, "its own mail is"


async def test_no_operation_changes_other_mail(http, keep, desk, others):
    own = await keep("shown", to=("bob@example.net",))
    for kept_id in others:
        for path in ("release", "forward"):
            assert (await http.post(f"/messages/{kept_id}/{path}", data={"to": "own"})).status_code == 404
        assert (await http.post(f"/api/v1/quarantine/{kept_id}/release")).status_code == 404
        assert (await http.delete(f"/api/v1/messages/{kept_id}")).status_code == 404
        await http.post("/messages/change", data={"id": kept_id, "do": "delete"})
        await http.post("/messages/change", data={"id": kept_id, "do": "seen"})
    await http.post("/messages/change", data={"id": others, "do": "delete"})
    marked = await http.post("/api/v1/messages/seen", json={"ids": [*others, own]})
    assert marked.json() == {"changed": 1}
    deleted = await http.request("DELETE", "/api/v1/messages", params={"id": others})
    assert deleted.json() == {"deleted": 0}
    assert (await http.delete("/api/v1/messages?all=true")).json() == {"deleted": 1}
    await http.post("/messages/delete-all", data={"in": "messages"})
    assert [desk.archive.kept_message(one).state for one in others] == [State.HELD] * len(others)
    assert desk.mailbox.counts().unread == len(others)
    assert desk.noted.released == []


@pytest.mark.parametrize(
    ("to", "sent"), [("ann@EXAMPLE.NET", True), ("ann@example.net eve@other.example", False)]
)
async def test_a_message_is_released_to_addresses_in_the_domains_only(http, keep, desk, to, sent):
    kept_id = await keep(box=Box.QUARANTINE, to=("bob@example.net",))
    answer = await http.post(
        f"/messages/{kept_id}/release", data={"to": "others", "others": to, "state": "held"}
    )
    assert ("eve@other.example is not in example.net" in answer.text) != sent
    by_api = await http.post(f"/api/v1/quarantine/{kept_id}/release", json={"to": to.split()})
    assert by_api.status_code == (409 if sent else 403)
    assert [to for _, to in desk.noted.released] == ([("ann@EXAMPLE.NET",)] if sent else [])
    assert desk.archive.kept_message(kept_id).state is (State.RELEASED if sent else State.HELD)


async def test_a_deletion_can_be_undone_and_that_of_somebody_else_cannot(http, keep, desk, others):
    own = await keep("shown", to=("bob@example.net",))
    await desk.remove(others[0], actor="somebody")
    assert (await http.post(f"/messages/{others[0]}/undo")).status_code == 410
    await http.post("/messages/change", data={"id": own, "do": "delete"})
    assert desk.archive.kept_message(own).state is State.DELETED
    assert (await http.post(f"/messages/{own}/undo")).status_code == 204
    assert desk.archive.kept_message(own).state is State.HELD


async def test_counts_and_events_are_those_of_the_domains(http, keep, desk, others):
    await keep("shown", to=("bob@example.net",))
    counts = (await http.get("/api/v1/info")).json()["counts"]
    assert counts == {"inbox": 1, "quarantined": 0, "unread": 1}
    own = desk.of(DAVE.domains).changes
    desk.changes.number = 1  # as after a look at the store
    events = own.events()
    state = json.loads(await anext(events))
    await events.aclose()
    assert state == {"number": 1, "inbox": 1, "quarantined": 0, "unread": 1, "held": 0}


@pytest.mark.parametrize("domains", ["", "a@example.com", "*.example.com", ["example.com", "-x"], [], 7])
def test_what_is_no_domain_is_a_mistake_of_the_settings(tmp_path, domains):
    (tmp_path / "users.yaml").write_text("x")
    user = {"name": "dave", "role": "reader", "domains": domains}
    with pytest.raises(ValidationError):
        WebSettings(users_file=tmp_path / "users.yaml", users=[user])


@pytest.mark.parametrize("domains", ["Example.NET", ["example.net."], ["bücher.example", "example.net"]])
def test_domains_are_compared_in_every_spelling(tmp_path, domains):
    user = {"name": "dave", "role": "reader", "domains": domains}
    (found,) = WebSettings(users_file=tmp_path / "users.yaml", users=[user]).users
    assert found.user.owns(["Bob@example.net"])
    assert found.user.owns(["liese@xn--bcher-kva.example"]) == (len(domains) == 2)
    assert not found.user.owns(["bob@example.net", "eve@other.example"])
    assert not found.user.owns([])


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 6])
@pytest.mark.parametrize("deleted", [False, True], ids=["", "the last one of each page is deleted meanwhile"])
async def test_the_pages_of_a_list_have_each_message_once(http, keep, desk, others, limit, deleted):
    wanted = []
    for number in range(6):
        await keep("hidden-again", to=("eve@other.example",))
        wanted.insert(0, await keep(f"shown {number}", to=("bob@example.net",)))
    found, before = [], {}
    while True:
        answer = await http.get("/api/v1/messages", params={"limit": limit} | before)
        page = answer.json()
        found.append([one["id"] for one in page["messages"]])
        if page["next"] is None:
            break
        assert page["next"] == found[-1][-1], "no number, which would count the mail of others"
        before = {"before": page["next"]}
        if deleted:
            assert (await http.delete(f"/api/v1/messages/{page['next']}")).status_code == 200
    assert [one for page in found for one in page] == wanted
    assert [len(page) for page in found[:-1]] == [limit] * (len(found) - 1)
    assert found[-1] != []


@pytest.mark.parametrize("before", ["1", "99", "other's", "absent"])
async def test_no_place_in_a_list_is_named_by_what_is_not_theirs(http, keep, before):
    for number in range(3):
        await keep(f"shown {number}", to=("bob@example.net",))
    other = await keep("hidden", to=("eve@other.example",))
    named = {"other's": other, "absent": "0" * 16}.get(before, before)
    page = (await http.get("/api/v1/messages", params={"before": named})).json()
    assert page == {"messages": [], "next": None}
