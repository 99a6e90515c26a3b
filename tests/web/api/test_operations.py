"""What programs ask of the desk over HTTP, and what they are told."""

import re
from dataclasses import replace

import httpx
import pytest
from gatepost.model.learnt import Learnt
from gatepost.model.mail import Stage, new_id
from gatepost.model.verdict import Action, Evaluation, Reply, Result
from gatepost.store import Box, Kept, KeptQuery, State
from gatepost.testing import make_record
from gatepost.web.api import OPERATIONS
from gatepost.web.app import create_app

API = "/api/v1"
HTML = '<p>Your code is <b>482913</b>. <a href="https://shop.example/confirm?t=1">Confirm</a></p>'


async def test_messages_come_newest_first_and_page_by_page(http, keep):
    ids = [await keep(subject=f"Mail {number}") for number in range(5)]
    seen, before = [], {}
    while True:
        page = (await http.get(f"{API}/messages", params={"limit": 2, **before})).json()
        seen += [message["id"] for message in page["messages"]]
        if page["next"] is None:
            break
        before = {"before": page["next"]}
    assert seen == ids[::-1]


async def test_a_summary_says_who_when_and_what(http, keep):
    kept_id = await keep("bob+t1@example.com", subject="Grüße", box=Box.QUARANTINE)
    (message,) = (await http.get(f"{API}/messages")).json()["messages"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", message["created_at"])
    expected = {
        "id": kept_id,
        "box": "quarantine",
        "state": "held",
        "mail_from": "ann@example.org",
        "recipients": ["bob+t1@example.com"],
        "subject": "Grüße",
        "author": "sender@example.org",
        "rule": "words",
        "unread": True,
    }
    assert expected.items() <= message.items()


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("tag:t1", ["tagged"]),
        ("user:carol", ["from carol"]),
        ("mailbox:t1", ["tagged"]),
        ("mailbox:carol", ["from carol"]),
        ("mailbox:nobody", []),
        ("is:quarantined", ["held"]),
        ("-is:quarantined -tag:t1", ["from carol"]),
    ],
)
async def test_a_query_chooses_messages(http, keep, query, found):
    await keep("bob+t1@example.com", subject="tagged")
    await keep("bob@example.com", subject="from carol", authenticated="carol")
    await keep("bob@example.com", subject="held", box=Box.QUARANTINE)
    answer = await http.get(f"{API}/messages", params={"query": query})
    assert [message["subject"] for message in answer.json()["messages"]] == found


async def test_one_message_has_all_that_can_be_known_of_it(http, keep):
    kept_id = await keep(subject="Your code", text="482913\r\n", html=HTML, attachments={"a.pdf": b"%PDF"})
    message = (await http.get(f"{API}/messages/{kept_id}")).json()
    assert message["id"] == kept_id
    assert message["subject"] == "Your code"
    assert message["text"].strip() == "482913"
    assert "Confirm" in message["html"]
    assert message["links"] == ["https://shop.example/confirm?t=1"]
    assert message["codes"] == ["482913"]
    link = {"text": "Confirm", "href": "https://shop.example/confirm?t=1"}
    assert message["anchors"] == [link | {"misleading": False}]
    assert message["main_link"] == link
    assert [(one["filename"], one["size"]) for one in message["attachments"]] == [("a.pdf", 4)]
    assert message["tree"]["content_type"] == "multipart/mixed"
    assert {"name": "Subject", "value": "Your code"} in message["headers"]
    assert message["record"]["evaluations"] == [
        {
            "rule": "words",
            "stage": "message",
            "result": "hit",
            "action": "quarantine",
            "observed": True,
            "reason": "the subject says Hello",
            "recipients": ["bob@example.com"],
            "seconds": 0.0015,
            "matches": [{"where": "subject", "text": "Hello"}],
            "score": 0.0,
        }
    ]
    assert message["record"]["recipients"][0]["disposition"] == "inbox"


async def test_octets_come_as_they_are_and_never_as_a_page(http, keep):
    content = b"Subject: \xff\n\nbare\r<script>alert(1)</script>\r\n"
    kept_id = await keep(content=content)
    raw = await http.get(f"{API}/messages/{kept_id}/raw")
    assert raw.content.endswith(b"; now\r\n" + content)
    assert raw.headers["content-type"] == "message/rfc822"
    name = '<script>"x"\r\n.html'
    kept_id = await keep(html="<p onclick=x>Hi<script>alert(1)</script>", attachments={"x.html": b"<script>"})
    number = (await http.get(f"{API}/messages/{kept_id}")).json()["attachments"][0]["number"]
    attachment = await http.get(f"{API}/messages/{kept_id}/attachments/{number}")
    assert attachment.content == b"<script>"
    assert attachment.headers["content-type"] == "application/octet-stream"
    for answer in (raw, attachment):
        assert answer.headers["content-disposition"].startswith("attachment; ")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "sandbox" in answer.headers["content-security-policy"]
    html = await http.get(f"{API}/messages/{kept_id}/html")
    assert "script" not in html.text
    assert "onclick" not in html.text
    assert "sandbox" in html.headers["content-security-policy"]
    assert name not in html.text


@pytest.mark.parametrize(("remote_images", "sources"), [("false", "img-src data:;"), ("true", "https:")])
async def test_remote_images_are_only_allowed_where_they_are_asked_for(http, keep, remote_images, sources):
    kept_id = await keep(html='<img src="https://tracker.example/pixel.png">')
    url = f"{API}/messages/{kept_id}/html"
    html = await http.get(url, params={"remote_images": remote_images})
    assert sources in html.headers["content-security-policy"]
    assert ("tracker.example/pixel" in html.text) is (remote_images == "true")


async def test_reading_marks_nothing_and_marking_does(http, keep):
    first, second = await keep(), await keep()
    await http.get(f"{API}/messages/{first}")
    assert (await http.get(f"{API}/info")).json()["counts"]["unread"] == 2
    answer = await http.post(f"{API}/messages/seen", json={"ids": [first, second]})
    assert answer.json() == {"changed": 2}
    answer = await http.post(f"{API}/messages/seen", json={"ids": [first, "nothing"], "seen": False})
    assert answer.json() == {"changed": 1}
    assert (await http.get(f"{API}/info")).json()["counts"]["unread"] == 1


@pytest.mark.parametrize(
    ("parameters", "left"),
    [
        ({"id": [0, 2]}, [1]),
        ({"query": "tag:t1"}, [0, 2]),
        ({"all": "true"}, []),
    ],
)
async def test_several_are_deleted_at_once(http, keep, parameters, left):
    ids = [await keep(), await keep("bob+t1@example.com"), await keep(box=Box.QUARANTINE)]
    if "id" in parameters:
        parameters = {"id": [ids[number] for number in parameters["id"]]}
    deleted = (await http.delete(f"{API}/messages", params=parameters)).json()["deleted"]
    assert deleted == 3 - len(left)
    page = (await http.get(f"{API}/messages")).json()
    assert [message["id"] for message in page["messages"]] == [ids[number] for number in left][::-1]


async def test_a_deleted_message_is_gone_and_who_deleted_it_is_known(http, keep, desk):
    kept_id = await keep()
    assert (await http.delete(f"{API}/messages/{kept_id}")).json() == {"deleted": 1}
    answer = await http.get(f"{API}/messages/{kept_id}")
    assert answer.status_code == 404
    assert "has deleted" in answer.json()["detail"]
    (kept,) = desk.archive.kept(KeptQuery(state=State.DELETED), limit=5)
    assert "127.0.0.1" in kept.changed_by


async def test_a_message_is_released_once_and_noted(http, keep, desk):
    kept_id = await keep(box=Box.QUARANTINE)
    await keep()
    listed = (await http.get(f"{API}/quarantine", params={"query": "tag:none"})).json()
    assert listed["messages"] == []
    listed = (await http.get(f"{API}/quarantine")).json()
    assert [message["id"] for message in listed["messages"]] == [kept_id]
    answer = await http.post(f"{API}/quarantine/{kept_id}/release", json={"to": ["eve@example.com"]})
    assert answer.json() == {"reply": "250 2.0.0 Ok: queued", "recipients": ["eve@example.com"]}
    assert desk.released == [(kept_id, ["eve@example.com"])]
    kept = desk.archive.kept_message(kept_id)
    assert kept.state is State.RELEASED
    assert "eve@example.com" in kept.note
    again = await http.post(f"{API}/quarantine/{kept_id}/release", json={})
    assert again.status_code == 409
    assert again.json()["type"] == "/api/#problem-state"
    assert len(desk.released) == 1


async def test_a_message_that_another_process_is_releasing_is_not_deleted(http, keep, desk):
    kept_id = await keep(box=Box.QUARANTINE)
    claim = desk.archive.claim_release(desk.archive.kept_message(kept_id), actor="ann")
    answer = await http.delete(f"{API}/quarantine/{kept_id}")
    assert (answer.status_code, answer.json()["type"]) == (409, "/api/#problem-state")
    assert (await http.delete(f"{API}/messages/{kept_id}")).json() == {"deleted": 0}
    desk.archive.abandon_release(claim)
    assert (await http.delete(f"{API}/quarantine/{kept_id}")).json() == {"deleted": 1}


async def test_a_message_that_another_process_is_releasing_is_not_sent(http, keep, desk):
    kept_id = await keep(box=Box.QUARANTINE)
    claim = desk.archive.claim_release(desk.archive.kept_message(kept_id), actor="ann")
    answer = await http.post(f"{API}/quarantine/{kept_id}/release")
    assert (answer.status_code, answer.json()["type"]) == (409, "/api/#problem-state")
    assert desk.released == []
    desk.archive.abandon_release(claim)
    assert (await http.post(f"{API}/quarantine/{kept_id}/release")).status_code == 200


async def test_what_the_server_does_not_take_stays_in_quarantine(http, keep, desk):
    kept_id = await keep(box=Box.QUARANTINE)
    desk.answer = Reply(code=550, enhanced="5.1.1", text="No such user")
    answer = await http.post(f"{API}/quarantine/{kept_id}/release")  # to those whom it was for
    assert answer.status_code == 502
    assert "550 5.1.1 No such user" in answer.json()["detail"]
    assert desk.archive.kept_message(kept_id).state is State.HELD
    assert (await http.delete(f"{API}/quarantine/{kept_id}")).json() == {"deleted": 1}


async def test_where_nothing_can_be_sent_nothing_is_released(http, keep, desk):
    desk.release = None
    kept_id = await keep(box=Box.QUARANTINE)
    answer = await http.post(f"{API}/quarantine/{kept_id}/release", json={})
    assert (answer.status_code, answer.json()["type"]) == (409, "/api/#problem-no-release")
    assert (await http.get(f"{API}/info")).json()["can_release"] is False


async def test_what_is_in_the_inbox_is_not_released(http, keep):
    answer = await http.post(f"{API}/quarantine/{await keep()}/release", json={})
    assert answer.status_code == 404


async def test_the_journal_is_listed_searched_and_read(http, keep):
    for number in range(3):
        await keep(f"user{number}@example.com")
    page = (await http.get(f"{API}/journal", params={"limit": 2})).json()
    assert len(page["records"]) == 2
    rest = (await http.get(f"{API}/journal", params={"limit": 2, "before": page["next"]})).json()
    assert len(rest["records"]) == 1
    assert rest["next"] is None
    assert (await http.get(f"{API}/journal", params={"limit": 3})).json()["next"] is None
    found = await http.get(
        f"{API}/journal",
        params={"recipient": "user1@*", "disposition": "inbox", "since": "2020-01-01T00:00:00Z"},
    )
    (record,) = found.json()["records"]
    read = (await http.get(f"{API}/journal/{record['id']}")).json()
    ((kept_id,),) = [[kept["id"] for kept in read.pop("kept")]]
    assert read == record
    assert (await http.get(f"{API}/messages/{kept_id}")).json()["transaction_id"] == record["id"]
    later = await http.get(f"{API}/journal", params={"since": "2990-01-01T00:00:00Z"})
    assert later.json()["records"] == []


async def test_a_conversation_is_found_and_its_transaction_cut_out(http, keep):
    kept_id = await keep("bob@example.com", spoken=True)
    await keep("carol@example.com", spoken=True)
    message = (await http.get(f"{API}/messages/{kept_id}")).json()
    assert len((await http.get(f"{API}/conversations")).json()["sessions"]) == 2
    found = await http.get(f"{API}/conversations", params={"address": "bob@example.com", "limit": "1"})
    (session,) = found.json()["sessions"]
    assert session["id"] == message["record"]["session_id"]
    assert found.json()["next"] is None, "there is no other page"
    older = await http.get(f"{API}/conversations", params={"before": session["id"]})
    assert older.json()["sessions"] == []
    url = f"{API}/conversations/{session['id']}"
    lines = (await http.get(url)).json()["lines"]
    assert [line["direction"] for line in lines] == [*"C*SCSDSC"]
    assert lines[5]["text"] == "Subject: \\xff\r\n"
    part = await http.get(url, params={"transaction": message["transaction_id"]})
    assert part.json()["lines"] == lines[:-1]


BODIES = {
    "releaseMessage": {"json": {}},
    "forwardMessage": {"json": {}},
    "learnMessage": {"json": {"kind": "spam"}},
}
TAKES_ANY_ID = [one for one in OPERATIONS if "{id}" in one.path]


@pytest.mark.parametrize("operation", TAKES_ANY_ID, ids=lambda one: one.name)
async def test_any_id_of_a_message_names_it(http, keep, operation, learning):
    learning(Learnt(rule="r", succeeded=True, text=""))
    parts = {"html": "<p>Hi</p>", "attachments": {"a.txt": b"a"}}
    names, answers = ("kept", "transaction", "session"), []
    for name in names:  # a message for each, since some operations change it
        kept_id = await keep(spoken=True, box=Box.QUARANTINE, **parts)
        message = (await http.get(f"{API}/messages/{kept_id}")).json()
        session_id = message["record"]["session_id"]
        ids = dict(zip(names, (kept_id, message["transaction_id"], session_id), strict=True))
        (number,) = [attachment["number"] for attachment in message["attachments"]]
        url = API + operation.path.replace("{id}", ids[name]).replace("{number:int}", str(number))
        body = BODIES.get(operation.name, {})
        answer = await http.request(operation.method, url, **body)
        assert answer.status_code == 200, answer.text
        if operation.method == "GET":
            assert answer.content == (await http.get(url.replace(ids[name], ids["kept"]))).content
        else:
            answers.append(answer.json())
    assert all(answer == answers[0] for answer in answers)


async def test_an_id_of_several_names_them(http, keep, store):
    kept_id = await keep(box=Box.QUARANTINE)
    (record,) = (await http.get(f"{API}/journal", params={"id": kept_id})).json()["records"]
    first = store.archive.record(record["id"])
    other = Kept(
        box=Box.QUARANTINE,
        mail_from="",
        recipients=("x@y",),
        prepended=b"",
        content=b"x",
        rule=None,
        reason="",
    )
    await store.commit(replace(first, id="other"), (other,))
    session = {"id": first.session_id}
    listed = (await http.get(f"{API}/journal", params=session)).json()["records"]
    assert {one["id"] for one in listed} == {first.id, "other"}
    for operation in TAKES_ANY_ID:
        if "conversations" in operation.path:
            continue
        url = API + operation.path.replace("{id}", first.session_id).replace("{number:int}", "1")
        body = BODIES.get(operation.name, {})
        answer = await http.request(operation.method, url, **body)
        assert (answer.status_code, answer.json()["type"]) == (409, "/api/#problem-ambiguous"), url
        assert "other" in answer.text or (kept_id in answer.text and other.id in answer.text)
    seen = await http.post(f"{API}/messages/seen", json={"ids": [first.session_id, kept_id]})
    assert seen.json() == {"changed": 2}
    deleted = await http.delete(f"{API}/messages", params=session)
    assert deleted.json() == {"deleted": 2}


async def test_a_refusal_before_rcpt_says_how_it_ended(http, store):
    refused = Evaluation(
        rule="blocked",
        stage=Stage.CONNECT,
        result=Result.HIT,
        action=Action.REJECT,
        observed=False,
        reason="on the list",
        recipients=(),
        seconds=0.0,
    )
    record = replace(make_record(), recipients=(), evaluations=(refused,), reply="550 5.7.1 No")
    await store.commit(replace(record, authenticated="ann"))
    for wanted in ({"disposition": "refused"}, {"rule": "blocked"}, {"user": "ann"}):
        (found,) = (await http.get(f"{API}/journal", params=wanted)).json()["records"]
        assert found["early_end"] == {"disposition": "refused", "rule": "blocked", "reason": "on the list"}
    assert (await http.get(f"{API}/journal", params={"user": "bob"})).json()["records"] == []


async def test_counts_are_those_of_the_journal(http, keep):
    await keep()
    await keep(box=Box.QUARANTINE)
    counts = (await http.get(f"{API}/statistics", params={"span": "hour"})).json()
    assert counts["buckets"][-1]["recipients"] == {"inbox": 1, "quarantined": 1}
    assert counts["clients"] == [{"name": "192.0.2.1", "transactions": 2}]
    assert [(rule["rule"], rule["hits"], rule["observed"]) for rule in counts["rules"]] == [("words", 2, 1)]


LISTS = [one for one in OPERATIONS if "before" in one.parameters.model_fields]


def test_these_operations_have_pages():
    paths = {"/messages", "/quarantine", "/conversations", "/journal"}
    assert {one.path for one in LISTS if one.method == "GET"} == paths


@pytest.mark.parametrize(
    "before",
    ["undefined", "null", "None", "", "-1", "1.5", "9" * 19, "\u0661", "0" * 16 + "\n", "Z" * 16, "u" * 16],
    ids=repr,
)
@pytest.mark.parametrize("operation", LISTS, ids=lambda o: o.name)
async def test_what_is_no_cursor_is_refused_by_every_list(http, keep, operation, before):
    await keep(box=Box.QUARANTINE, spoken=True)
    answer = await http.request(operation.method, API + operation.path, params={"before": before})
    assert answer.status_code == 400
    (error,) = answer.json()["errors"]
    assert (error["where"], error["found"]) == ("query before", before)
    assert "`next` of the previous page" in error["expected"]


@pytest.mark.parametrize("operation", LISTS, ids=lambda o: o.name)
async def test_the_pages_of_every_list_end(http, keep, desk, operation):
    kept = [await keep(box=Box.QUARANTINE, spoken=True) for _ in range(5)]
    found, given = [], {}
    while True:
        page = (
            await http.request(operation.method, API + operation.path, params={"limit": 2, **given})
        ).json()
        (rows,) = (value for value in page.values() if isinstance(value, list))
        found += [row["id"] for row in rows]
        if page["next"] is None:
            break
        given = {"before": page["next"]}
        if len(found) == 2:  # what the cursor names may be gone when it is used
            await http.delete(f"{API}/messages/{kept[3]}")
    assert len(found) == len(set(found)) == 5
    assert found == sorted(found, reverse=True)


@pytest.mark.parametrize("operation", LISTS, ids=lambda o: o.name)
async def test_a_cursor_that_is_not_stored_is_still_a_place_in_the_list(http, keep, store, operation):
    async def listed(**parameters):
        page = (await http.request("GET", API + operation.path, params=parameters)).json()
        (rows,) = (value for value in page.values() if isinstance(value, list))
        return [row["id"] for row in rows], page["next"]

    for _ in range(2):
        await keep(box=Box.QUARANTINE, spoken=True)
    before = new_id()
    newer = [await keep(box=Box.QUARANTINE, spoken=True) for _ in range(2)]
    _, next_page = await listed(limit=2)
    if operation.path in ("/messages", "/quarantine"):  # their cursors are numbers
        before = next_page
        await store.withdraw([newer[0]])
    every, _ = await listed()
    assert await listed(before=before) == (every[-2:], None)


@pytest.mark.parametrize("operation", [one for one in OPERATIONS if "{id}" in one.path], ids=lambda o: o.name)
async def test_what_is_not_there_is_a_clear_404(http, operation):
    url = API + operation.path.replace("{id}", "0" * 16).replace("{number:int}", "1")
    body = BODIES.get(operation.name, {})
    answer = await http.request(operation.method, url, **body)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert "0" * 16 in answer.json()["detail"]


@pytest.mark.parametrize(
    ("method", "path", "given", "where", "expected"),
    [
        ("GET", "/messages", {"params": {"limit": "0"}}, "query limit", "greater than or equal to 1"),
        ("GET", "/messages", {"params": {"limit": "501"}}, "query limit", "less than or equal to 500"),
        ("GET", "/messages", {"params": {"limit": ["1", "2"]}}, "query limit", "it once"),
        ("GET", "/messages", {"params": {"q": "x"}}, "query q", "one of: query, limit, before"),
        ("GET", "/messages", {"params": {"query": "is:blue"}}, "query query", "unread"),
        ("GET", "/messages", {"params": {"query": "x" * 3000}}, "query query", "at most 2000"),
        ("GET", "/info", {"params": {"x": "y"}}, "query x", "no parameters"),
        ("GET", "/wait", {"params": {"timeout": "nan"}}, "query timeout", "a valid number"),
        ("GET", "/wait", {"params": {"timeout": "3600"}}, "query timeout", "300"),
        ("GET", "/wait", {"params": {"count": "21"}}, "query count", "20"),
        ("GET", "/journal", {"params": {"disposition": "eaten"}}, "query disposition", "'relayed'"),
        ("GET", "/journal", {"params": {"since": "yesterday"}}, "query since", "2026-11-30T08:00:00Z"),
        ("DELETE", "/messages", {}, "query", "exactly one of query, id and all=true"),
        ("DELETE", "/messages", {"params": {"all": "true", "id": "x"}}, "query", "exactly one"),
        ("DELETE", "/messages", {"params": {"query": ""}}, "query query", "at least 1"),
        ("POST", "/messages/seen", {"content": "{"}, "body", "a JSON document"),
        ("POST", "/messages/seen", {"content": b"[" * 60_000}, "body", "a JSON document"),
        ("POST", "/messages/seen", {"json": {}}, "body ids", "a value"),
        ("POST", "/messages/seen", {"json": {"ids": [1]}}, "body ids.0", "a valid string"),
        ("POST", "/messages/seen", {"json": {"ids": ["x"], "red": 1}}, "body red", "one of: ids, seen"),
        ("POST", "/messages/seen", {"json": {"ids": ["x"], "seen": "on"}}, "body seen", "a valid boolean"),
        ("POST", "/messages/seen", {"content": b'{"ids": ["\\ud800"]}'}, "body", "a JSON document in UTF-8"),
        ("GET", "/messages", {"params": {"limit": " 5"}}, "query limit", "a valid integer"),
        ("GET", "/messages", {"params": {"limit": "1_0"}}, "query limit", "a valid integer"),
        ("GET", "/messages", {"params": {"limit": "+5"}}, "query limit", "a valid integer"),
        ("GET", "/messages", {"params": {"limit": "9" * 5000}}, "query limit", "a valid integer"),
        ("GET", "/messages/x/html", {"params": {"remote_images": "on"}}, "query remote_images", "boolean"),
        ("DELETE", "/messages", {"params": {"all": "false"}}, "query all", "True"),
        ("DELETE", "/messages", {"params": {"all": "yes"}}, "query all", "True"),
        *(
            ("GET", "/journal", {"params": {"until": moment}}, "query until", "2026-11-30T08:00:00Z")
            for moment in (
                "0.5",
                "1700000000",
                "2026-11-30",
                "2026-11-30T08:00:00",
                "2026-11-30T08:00:00 02:00",
                "2026-02-31T08:00:00Z",
                "2026-11-30T08:00:00+25:00",
                "",
            )
        ),
    ],
)
async def test_a_wrong_value_is_named_with_what_was_expected(http, method, path, given, where, expected):
    answer = await http.request(method, API + path, **given)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["type"] == "/api/#problem-wrong-request"
    (error,) = problem["errors"]
    assert error["where"] == where
    assert expected in error["expected"]


async def test_a_wrong_method_or_path_is_a_problem_too(http):
    answer = await http.put(f"{API}/messages")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, DELETE, POST, HEAD, OPTIONS")
    for path in ("/messages", "/messages/x", "/messages/x/raw"):
        there = (await http.options(API + path)).headers["allow"].split(", ")
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE", "QUERY"):
            answer = await http.request(method, API + path)
            assert (answer.status_code != 405) is (method in there), (method, path)
            assert answer.headers.get("allow", ", ".join(there)).split(", ") == there
    answer = await http.options(f"{API}/mesages")
    assert answer.status_code == 404
    answer = await http.get(f"{API}/mesages")
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")


async def test_a_body_that_is_too_large_is_not_read(http):
    answer = await http.post(f"{API}/messages/seen", content=b" " * 70_000)
    assert (answer.status_code, answer.json()["type"]) == (413, "/api/#problem-too-large")
    assert "65536" in answer.json()["detail"]


async def test_waiting_after_a_message_that_was_never_there_is_a_404(http):
    answer = await http.get(f"{API}/wait", params={"after": "nothing", "timeout": 0})
    assert (answer.status_code, answer.json()["detail"]) == (404, "after: there is no message nothing")


async def test_a_change_from_another_site_is_refused(http, keep):
    kept_id = await keep()
    answer = await http.delete(f"{API}/messages/{kept_id}", headers={"origin": "https://evil.example"})
    assert answer.status_code == 403
    assert (await http.get(f"{API}/messages/{kept_id}")).status_code == 200


async def test_a_store_in_trouble_is_a_problem_and_its_path_is_not_told(http, tmp_path):
    (tmp_path / "gatepost.db").rename(tmp_path / "elsewhere.db")
    answer = await http.get(f"{API}/messages")
    (tmp_path / "elsewhere.db").rename(tmp_path / "gatepost.db")
    assert (answer.status_code, answer.json()["type"]) == (503, "/api/#problem-store")
    assert str(tmp_path) not in answer.text


async def test_a_mistake_of_ours_is_a_problem_without_its_text(http, desk, monkeypatch, caplog):
    def break_down():
        raise RuntimeError("secret")

    monkeypatch.setattr(desk.mailbox, "counts", break_down)
    answer = await http.get(f"{API}/info")
    assert (answer.status_code, answer.json()["type"]) == (500, "/api/#problem-internal")
    assert "secret" not in answer.text
    assert "secret" in caplog.text


@pytest.mark.parametrize(
    ("method", "headers", "status", "kind"),
    [
        ("GET", {}, 401, "no-password"),
        ("GET", {"authorization": "Bearer wrong"}, 401, "no-password"),
        ("GET", {"host": "evil.example"}, 421, "other-host"),
        ("GET", {"authorization": "Bearer secret", "sec-fetch-site": "cross-site"}, 403, "foreign"),
        ("DELETE", {"authorization": "Bearer secret", "origin": "https://evil.example"}, 403, "foreign"),
        ("POST", {"authorization": "Bearer secret", "content-length": "9999999999"}, 413, "too-large"),
        ("GET", {"authorization": "Bearer secret"}, 200, None),
    ],
)
async def test_whom_the_desk_does_not_let_in_is_told_by_a_problem(desk, method, headers, status, kind):
    transport = httpx.ASGITransport(app=create_app(desk, password="secret"))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8025") as client:
        answer = await client.request(method, f"{API}/messages", headers=headers)
        page = await client.get("/api/")
    assert answer.status_code == status
    if kind:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["type"] == f"/api/#problem-{kind}"
        assert answer.json()["status"] == status
    assert page.headers["location"].startswith("/login"), "a person is asked to log in"


async def test_the_latest_message_is_read_of_all_or_of_those_that_match(http, keep):
    missing = await http.get(f"{API}/messages/latest")
    assert (missing.status_code, missing.json()["type"]) == (404, "/api/#problem-not-found")
    first = await keep("bob@example.com")
    second = await keep("carol@example.com", subject="Second")
    latest = (await http.get(f"{API}/messages/latest")).json()
    assert latest == (await http.get(f"{API}/messages/{second}")).json()
    waited = await http.get(f"{API}/wait", params={"query": "to:bob"})  # it is indexed a moment later
    assert waited.status_code == 200
    found = await http.get(f"{API}/messages/latest", params={"query": "to:bob"})
    assert found.json()["id"] == first
    nobody = await http.get(f"{API}/messages/latest", params={"query": "to:dora"})
    assert nobody.status_code == 404
    assert "'to:dora'" in nobody.json()["detail"]
    assert (await http.get(f"{API}/messages/latest", params={"query": "before:soon"})).status_code == 400
    assert (await http.get(f"{API}/messages/latest", params={"limit": "1"})).status_code == 400
    await http.delete(f"{API}/messages/{second}")
    assert (await http.get(f"{API}/messages/latest")).json()["id"] == first
