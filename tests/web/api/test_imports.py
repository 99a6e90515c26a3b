"""The API imports saved messages, and says of each what became of it."""

import tempfile
import tracemalloc
from functools import partial

import pytest
from gatepost.model.saved import IMPORTED, NOBODY
from gatepost.store import StoreFull
from gatepost.store.sql.store import SqlStore
from gatepost.web import security
from gatepost.web.api import imports
from gatepost.web.app import create_app

API = "/api/v1/messages"
FROM = b"From bounce@example.com Mon Jan  1 12:00:00 2024\n"
MESSAGE = (
    b"From: ann@example.org\r\nTo: bob@example.com, carol@example.net\r\nSubject: gr\xfc\xdfe\r\n\r\nHi\r\n"
)


@pytest.fixture
def post(http, importing):
    async def one(content, kind="message/rfc822"):
        return await http.post(API, content=content, headers={"content-type": kind})

    return one


@pytest.fixture
def post_mbox(post):
    return partial(post, kind="application/mbox")


async def test_a_message_is_imported_with_its_bytes_and_says_so(http, post):
    answer = await post(MESSAGE)
    assert answer.status_code == 200
    (imported,) = answer.json()["messages"]
    assert answer.json() == {"messages": [{"id": imported["id"], "line": 1}], "refused": []}
    assert (await http.get(f"{API}/{imported['id']}/raw")).content == MESSAGE
    message = (await http.get(f"{API}/{imported['id']}")).json()
    assert (message["mail_from"], message["recipients"]) == (
        "ann@example.org",
        ["bob@example.com", "carol@example.net"],
    )
    assert (message["box"], message["rule"], message["reason"]) == ("inbox", None, IMPORTED)
    record = message["record"]
    assert (record["client"], record["helo"], record["reply"]) == ("127.0.0.1", "", "")
    assert {(one["reason"], one["reply"]) for one in record["recipients"]} == {(IMPORTED, "")}
    conversation = await http.get(f"/api/v1/conversations/{message['id']}")
    assert conversation.status_code == 404


@pytest.mark.parametrize(
    ("data", "contents"),
    [
        (FROM + MESSAGE, [MESSAGE]),
        (FROM + MESSAGE.replace(b"\r\n", b"\n"), [MESSAGE]),
        (
            FROM + b"a: b\n\n>From x\n>>From y\n\n" + FROM + b"c: d\n\ncut of",
            [b"a: b\r\n\r\nFrom x\r\n>From y\r\n", b"c: d\r\n\r\ncut of"],
        ),
        (
            FROM + b"a: b\nContent-Length: 7\n\n>From x\n" + FROM + b"c: d\n\n",
            [b"a: b\r\nContent-Length: 7\r\n\r\n>From x", b"c: d\r\n"],
        ),
        (b"From \r\na: b\r\n\r\nx\r\n\r\nFrom \r\nc: d\r\n\r\n\r\n", [b"a: b\r\n\r\nx\r\n", b"c: d\r\n\r\n"]),
        (FROM + b"a: b\n\n\xff\x00\x1a\n", [b"a: b\r\n\r\n\xff\x00\x1a\r\n"]),
        (FROM + b"a: b\n\n" + b"x" * 3_000_000 + b"\n", [b"a: b\r\n\r\n" + b"x" * 3_000_000 + b"\r\n"]),
    ],
    ids=["one", "LF", "quoted, cut off", "mboxcl2", "Thunderbird", "8 bit", "long line"],
)
async def test_the_messages_of_an_mbox_are_imported_in_their_order(http, post_mbox, data, contents):
    answer = (await post_mbox(data)).json()
    ids = [one["id"] for one in answer["messages"]]
    assert [(await http.get(f"{API}/{one}/raw")).content for one in ids] == contents
    assert answer["refused"] == []
    listed = (await http.get(API)).json()["messages"]
    assert [one["id"] for one in listed] == ids[::-1], "the last is the newest"


async def test_what_is_not_imported_of_an_mbox_is_listed_with_its_reason(post_mbox):
    answer = await post_mbox(FROM + b"a: b\n\n\n" + FROM + b"<html>\n" + FROM + b"c: d\n" + FROM)
    assert answer.status_code == 200
    assert [one["line"] for one in answer.json()["messages"]] == [1, 7]
    expected = "expected a header field like 'Subject: Hello'"
    assert answer.json()["refused"] == [
        {"line": 6, "reason": f"found '<html>', {expected}"},
        {"line": 10, "reason": f"found nothing, {expected}"},
    ]


@pytest.mark.parametrize(
    ("kind", "data", "found"),
    [
        ("message/rfc822", b"", "nothing"),
        ("message/rfc822", b"<!doctype html>\n", "'<!doctype html>'"),
        ("message/rfc822", b"\x89PNG\r\n\x1a\n\0", r"'\x89PNG'"),
        ("message/rfc822", b"\0" * 3_000_000, "'" + r"\x00" * 60 + "'"),
        ("application/mbox", b"", "nothing"),
        ("application/mbox", MESSAGE, "'From: ann@example.org'"),
        ("application/mbox", FROM + b"<html>\n", "'<html>'"),
        ("application/mbox", (FROM + b"a: b\n") * 10_001, "more than 10,000 messages"),
    ],
)
async def test_a_file_without_a_message_is_refused(http, post, kind, data, found):
    answer = await post(data, kind)
    assert (answer.status_code, answer.json()["type"]) == (400, "/api/#problem-wrong-request")
    assert answer.json()["detail"].startswith("Nothing was imported: line ")
    assert answer.json()["errors"][0]["found"] == found
    assert (await http.get(API)).json()["messages"] == []


async def test_of_many_errors_the_first_are_named(post_mbox):
    answer = (await post_mbox((FROM + b"<html>\n") * 10_000)).json()
    assert [one["where"] for one in answer["errors"]] == [f"body line {2 * n}" for n in range(1, 21)]


async def test_a_message_without_recipients_has_one_that_cannot_be(http, post):
    kept_id = (await post(b"Subject: x\r\n\r\n")).json()["messages"][0]["id"]
    message = (await http.get(f"{API}/{kept_id}")).json()
    assert (message["mail_from"], message["recipients"]) == ("", [NOBODY])


@pytest.mark.parametrize(
    "kind", ["message/rfc822", "Message/RFC822; charset=utf-8", "application/mbox;format=mboxrd"]
)
async def test_the_media_type_may_have_parameters(post, kind):
    assert (await post(FROM + MESSAGE, kind)).status_code == 200


@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded", "message/rfc822x"])
async def test_another_media_type_is_refused(post, kind):
    answer = await post(MESSAGE, kind)
    assert (answer.status_code, answer.json()["type"]) == (415, "/api/#problem-wrong-media-type")
    assert f"{kind!r}, expected message/rfc822, or application/mbox for an mbox" in answer.json()["detail"]


async def test_a_gateway_imports_nothing(http):
    answer = await http.post(API, content=MESSAGE, headers={"content-type": "message/rfc822"})
    assert (answer.status_code, answer.json()["type"]) == (409, "/api/#problem-no-import")


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize(
    ("size", "said"), [(1001, "The file has 1001 bytes"), (1501, "A request may have at most")]
)
async def test_a_file_that_is_too_large_is_refused(post, monkeypatch, announced, size, said):
    monkeypatch.setattr(imports, "FILE_OCTETS", 1000)
    monkeypatch.setattr(security, "_FILE_OCTETS", 1500)

    async def chunks():
        for _ in range(size):
            yield b"x"

    answer = await post(b"x" * size if announced else chunks())
    assert (answer.status_code, answer.json()["type"]) == (413, "/api/#problem-too-large")
    if announced:
        assert answer.json()["detail"].startswith(said)


@pytest.mark.usefixtures("importing")
async def test_other_requests_are_as_bounded_as_before(http):
    answer = await http.post(f"{API}/seen", content=b"x" * (2 << 20))
    assert answer.status_code == 413


@pytest.mark.parametrize("fails_at", [0, 150])
async def test_where_the_store_fails_the_answer_says_what_was_imported(
    http, post_mbox, monkeypatch, fails_at
):
    real, count = SqlStore.commit, iter(range(1000))

    async def commit(self, record, kept=()):
        if next(count) == fails_at:
            raise StoreFull("the disk is full")
        await real(self, record, kept)

    monkeypatch.setattr(SqlStore, "commit", commit)
    answer = await post_mbox((FROM + b"<html>\n") + (FROM + b"a: b\n\n") * 300)
    assert (answer.status_code, answer.json()["type"]) == (503, "/api/#problem-store")
    imported = (fails_at // 100 + 1) * 100 - 1
    assert f"had imported {imported} of the messages" in answer.json()["detail"]
    ids = [one["id"] for one in answer.json()["messages"]]
    assert len(answer.json()["refused"]) == 1
    listed = (await http.get(API, params={"limit": 500})).json()["messages"]
    assert [one["id"] for one in listed] == ids[::-1]
    assert len(ids) == imported


async def test_where_the_file_cannot_be_written_nothing_is_imported(post, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    answer = await post(MESSAGE)
    assert (answer.status_code, answer.json()["type"]) == (503, "/api/#problem-store")


@pytest.mark.usefixtures("importing")
async def test_a_client_that_leaves_within_the_file_imports_nothing(desk, http, caplog):
    app = create_app(desk)
    messages = iter(
        [
            {"type": "http.request", "body": FROM + MESSAGE, "more_body": True},
            {"type": "http.disconnect"},
        ]
    )

    async def receive():
        return next(messages)

    async def send(message):
        pass

    headers = [
        (b"host", b"127.0.0.1:8025"),
        (b"content-type", b"application/mbox"),
        (b"content-length", b"900"),
    ]
    scope = {
        "type": "http",
        "method": "POST",
        "path": API,
        "root_path": "",
        "query_string": b"",
        "headers": headers,
        "client": ("127.0.0.1", 5),
        "server": ("127.0.0.1", 8025),
        "scheme": "http",
    }
    await app(scope, receive, send)
    assert (await http.get(API)).json()["messages"] == []
    assert caplog.records == []


@pytest.mark.long
async def test_a_large_file_needs_little_memory(post_mbox):
    one = FROM + b"a: b\n\n" + b"0123456789abcde\n" * 60_000 + b"\n"

    async def chunks():
        for _ in range(100):
            yield one

    tracemalloc.start()
    try:
        answer = await post_mbox(chunks())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(answer.json()["messages"]) == 100
    assert peak < 70 << 20, "the file has 96 MB"


async def test_imported_messages_are_found_and_waited_for(http, post, until):
    await post(MESSAGE)
    found = await http.get("/api/v1/wait", params={"query": "to:bob@example.com", "timeout": 10})
    assert [one["subject"] for one in found.json()["messages"]] == ["grüße"]
