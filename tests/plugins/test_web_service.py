"""The filter web_service: its answers are read strictly, and no failure of the service lets mail pass."""

import asyncio
import base64
import contextlib
import json
import re
import ssl
import subprocess
import sys
from collections import deque
from pathlib import Path

import jsonschema_rs
import pytest
import trustme
import uvloop
from gatepost import Action, AddHeader, Passed, Place, PrefixSubject, RemoveHeader, Reply, UnreachableError
from gatepost.config import ConfigError, load
from gatepost.pipeline.loader import load_rules
from gatepost.testing import make_message, make_transaction, running_gateway
from gatepost_web_service import Answer, Request, ServiceError, WebService
from ports import free_port

sys.path.insert(0, str(Path(__file__).parent))
from hostile import hostile

PAGES = Path(__file__).parents[2] / "docs" / "filters"
PAGE = (PAGES / "web_service.md").read_text()
REQUEST = json.loads((PAGES / "web_service.request.json").read_text())
ANSWER = json.loads((PAGES / "web_service.answer.json").read_text())
PLACE = Place(rule="ours", folder=Path())
LETTER = make_transaction(subject="Hello", mail_from="eve@example.org", recipients=["ann@example.com"])


def ok(body, *fields, status="200 OK"):
    """A response; ``body`` is text, or what becomes JSON."""
    octets = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(octets)}"]
    lines += fields or ["Content-Type: application/json"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + octets


def answered(**answer):
    return ok({"id": LETTER.id, **answer})


PASSED = answered(action="pass")


async def close(writer):
    writer.close()


class Closing:
    """Waits until a connection is closed."""

    def __init__(self, writer):
        self.writer = writer

    async def aclose(self):
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


class Service:
    """Reads requests and answers each with the next of its answers; None closes the connection instead."""

    def __init__(self, *answers):
        self.answers = deque(answers)
        self.requests = []
        self.connections = 0
        self.tasks = set()
        self.url = ""

    async def serve(self, reader, writer):
        self.connections += 1
        self.tasks.add(asyncio.current_task())
        async with contextlib.aclosing(Closing(writer)):
            await self.talk(reader, writer)

    async def talk(self, reader, writer):
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(re.search(rb"content-length: (\d+)", head)[1])
                self.requests.append((head, await reader.readexactly(length)))
                answer = self.answers.popleft()
                if answer is None:
                    break
                for piece in answer if isinstance(answer, list) else [answer]:
                    if callable(piece):
                        await piece(writer)
                    else:
                        writer.write(piece)
                        await writer.drain()


@contextlib.asynccontextmanager
async def serving(*answers, tls=None):
    service = Service(*answers)
    async with await asyncio.start_server(service.serve, "127.0.0.1", 0, ssl=tls) as server:
        port = server.sockets[0].getsockname()[1]
        service.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}/"
        yield service
        server.close()
        for task in service.tasks:
            task.cancel()
        await asyncio.gather(*service.tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def asking(service, **settings):
    web_service = WebService(url=service.url, place=PLACE, **settings)
    try:
        yield web_service
    finally:
        await web_service.close()


async def ask_once(answer, **settings):
    async with serving(answer, answer) as service, asking(service, **settings) as web_service:
        return await web_service.filter_message(LETTER)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"action": "pass"}, None),
        ({"action": "pass", "reason": "known"}, Passed(reason="known")),
        ({"action": "hit", "reason": "bad"}, {"reason": "bad", "action": None}),
        ({"action": "hit", "reason": "bad", "score": 3}, {"score": 3.0}),
        ({"action": "score", "reason": "bad", "score": -2.5}, {"action": Action.SCORE, "score": -2.5}),
        ({"action": "discard", "reason": "bad"}, {"action": Action.DISCARD}),
        ({"action": "quarantine", "reason": "bad"}, {"action": Action.QUARANTINE}),
        ({"action": "accept", "reason": "good"}, {"action": Action.ACCEPT}),
        (
            {"action": "reject", "reason": "bad", "reply": "554 5.7.1 No"},
            {"action": Action.REJECT, "reply": Reply.parse("554 5.7.1 No")},
        ),
        ({"action": "defer", "reason": "later", "reply": "451 later"}, {"reply": Reply.parse("451 later")}),
        (
            {
                "action": "tag",
                "reason": "news",
                "tag": {"add": {"X-Kind": "news"}, "remove": ["Precedence"], "subject": "[news] "},
            },
            {"edits": (RemoveHeader("Precedence"), AddHeader("X-Kind", "news"), PrefixSubject("[news] "))},
        ),
    ],
)
async def test_an_answer_is_the_verdict(answer, expected):
    verdict = await ask_once(answered(**answer))
    jsonschema_rs.validate(ANSWER, {"id": LETTER.id, **answer})
    if isinstance(expected, dict):
        assert {name: getattr(verdict, name) for name in expected} == expected
    else:
        assert verdict == expected


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"", "not JSON in UTF-8"),
        (b"no", "not JSON in UTF-8"),
        (b'{"id": "\xff"}', "not JSON in UTF-8"),
        ('{"id": "ü"}'.encode("utf-16"), "not JSON in UTF-8"),
        (b"\xef\xbb\xbf{}", "not JSON in UTF-8"),
        (b"[" * 100_000, "not JSON in UTF-8"),
        (b'{"action": "pass"', "not JSON in UTF-8"),
        (b'{"a": NaN}', "NaN is not a number"),
        ([], "the answer:"),
        (None, "the answer:"),
        ("pass", "the answer:"),
        ({}, "id: Field required"),
        ({"id": LETTER.id}, "action: Field required"),
        ({"id": "other", "action": "pass"}, "expected that of the request"),
        ({"id": 5, "action": "pass"}, "id: "),
        ({"id": LETTER.id, "action": "PASS"}, "action: "),
        ({"id": LETTER.id, "action": "hold", "reason": "x"}, "action: "),
        ({"id": LETTER.id, "action": "bounce", "reason": "x"}, "action: "),
        ({"id": LETTER.id, "action": None}, "action: "),
        ({"id": LETTER.id, "action": "pass", "verdict": "hit"}, "verdict: "),
        ({"id": LETTER.id, "action": "pass", "score": 5}, "action pass with score"),
        ({"id": LETTER.id, "action": "pass", "tag": {}}, "action pass with score"),
        ({"id": LETTER.id, "action": "hit"}, "without a reason"),
        ({"id": LETTER.id, "action": "hit", "reason": ""}, "without a reason"),
        ({"id": LETTER.id, "action": "hit", "reason": ["x"]}, "reason: "),
        ({"id": LETTER.id, "action": "hit", "reason": "x", "score": "5"}, "score: "),
        ({"id": LETTER.id, "action": "hit", "reason": "x", "score": 1001}, "score: "),
        ({"id": LETTER.id, "action": "hit", "reason": "x", "score": 1e400}, "Infinity is not a number"),
        ({"id": LETTER.id, "action": "reject", "reason": "x", "reply": "450 no"}, "expected 5xx"),
        ({"id": LETTER.id, "action": "reject", "reason": "x", "reply": "no"}, "is not a reply"),
        ({"id": LETTER.id, "action": "reject", "reason": "x", "reply": "250 ok"}, "expected 5xx"),
        ({"id": LETTER.id, "action": "tag", "reason": "x", "tag": {"add": {"X Y": "z"}}}, "not the name"),
        (
            {"id": LETTER.id, "action": "tag", "reason": "x", "tag": {"add": {"X": "a\r\nB: c"}}},
            "not allowed",
        ),
        ({"id": LETTER.id, "action": "tag", "reason": "x", "tag": {"remove": "X"}}, "tag.remove: "),
        ({"id": LETTER.id, "action": "tag", "reason": "x", "tag": {"body": "X"}}, "tag.body: "),
        (
            f'{{"id": "{LETTER.id}", "action": "reject", "action": "pass"}}'.encode(),
            "a key that is there twice",
        ),
        (json.dumps({"id": LETTER.id, "action": "pass", "reason": "x" * (256 << 10)}).encode(), "more than"),
    ],
    ids=lambda given: (
        given if isinstance(given, str) else ""
    ),  # the id of a message is another in each process
)
async def test_an_answer_that_is_not_understood_is_a_failure(answer, error):
    with pytest.raises(ServiceError, match=re.escape(error)) as raised:
        await ask_once(ok(answer))
    assert str(raised.value).startswith("http://127.0.0.1:")
    assert len(str(raised.value)) < 500


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (ok({}, status="204 No Content"), "status 204, expected 200"),
        (answered(action="pass").replace(b"200 OK", b"201 Created"), "status 201"),
        (
            b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n",
            "status 302, expected 200 (redirects are not followed)",
        ),
        (ok({}, status="500 No"), "status 500"),
        (ok({}, "Content-Type: text/html"), "content type 'text/html'"),
        (ok({}, "X: y"), "content type ''"),
        (ok({}, "Content-Type: application/json", "Content-Encoding: gzip"), "encoding 'gzip'"),
        ([b"220 mx.example.org ESMTP\r\n", close], "no HTTP response"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000, "no HTTP response"),
        ([PASSED[:-5], close], "no HTTP response"),
        (
            [
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n{}",
                close,
            ],
            "no HTTP response",
        ),
        ([b"HTTP/1.1 200", close], "no HTTP response"),
        (None, "the connection was closed without a response"),
        ([b"HTTP/1.1 100 Continue\r\n\r\n", close], "no HTTP response"),
        ([b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n" + b"x" * 300_000], "more than"),
    ],
)
async def test_a_response_that_is_not_one_is_a_failure(answer, error):
    with pytest.raises(ServiceError, match=re.escape(error)):
        await ask_once(answer)


async def test_chunks_and_single_bytes_are_put_together():
    body = json.dumps({"id": LETTER.id, "action": "pass"}).encode()
    head = (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Type: Application/JSON; charset=utf-8\r\n"
    )
    whole = head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    assert await ask_once([whole[n : n + 1] for n in range(len(whole))]) is None


async def test_the_request_is_as_documented():
    content = make_message(
        subject="Grüße", text="Hi", html="<p>Hi</p>", attachments={"a.zip": b"PK"}, headers={"X-A": "b"}
    )
    transaction = make_transaction(
        content=content, mail_from="", recipients=['"a b"@exämple.org'], tls="TLSv1.3", authenticated="ann"
    )
    async with serving(*[ok({"id": transaction.id, "action": "pass"})] * 2) as service:
        async with asking(service, token_file=None) as web_service:
            await web_service.filter_message(transaction)
        async with asking(service, content=False) as web_service:
            await web_service.filter_message(transaction)
    [(head, body), (_, without)] = service.requests
    request = json.loads(body)
    jsonschema_rs.validate(REQUEST, request)
    assert head.startswith(b"POST / HTTP/1.1\r\n")
    assert base64.b64decode(request["message"]["content"]) == content
    assert json.loads(without)["message"]["content"] is None
    assert request["message"]["subject"] == "Grüße"
    assert request["message"]["size"] == len(content)
    assert {"name": "X-A", "value": "b"} in request["message"]["headers"]
    assert [text["type"] for text in request["message"]["texts"]] == ["text/plain", "text/html"]
    assert [one["filenames"] for one in request["message"]["attachments"]] == [["a.zip"]]
    assert request["recipients"] == ['"a b"@exämple.org']
    assert (request["sender"], request["rule"], request["id"]) == ("", "ours", transaction.id)
    assert request["session"]["tls"] == "TLSv1.3"
    assert request["session"]["user"] == "ann"


async def test_half_a_surrogate_pair_is_sent_as_a_question_mark():
    transaction = make_transaction(helo="a\udcffb")
    async with serving(ok({"id": transaction.id, "action": "pass"})) as service, asking(service) as asked:
        await asked.filter_message(transaction)
    assert json.loads(service.requests[0][1].decode())["session"]["helo"] == "a?b"


HOSTILE = {**hostile(b"+2AA- \xff\0"), "nothing": b""}


@pytest.mark.parametrize("case", HOSTILE)
async def test_a_request_about_a_hostile_message_is_as_documented_all_the_same(case):
    transaction = make_transaction(content=HOSTILE[case])
    async with serving(ok({"id": transaction.id, "action": "pass"})) as service, asking(service) as asked:
        assert await asked.filter_message(transaction) is None
    request = json.loads(service.requests[0][1].decode())
    jsonschema_rs.validate(REQUEST, request)
    assert base64.b64decode(request["message"]["content"]) == HOSTILE[case]


def test_the_schemas_of_the_page_are_those_of_the_program():
    for schema, model in ((REQUEST, Request), (ANSWER, Answer)):
        assert {name: one for name, one in schema.items() if name != "$schema"} == model.model_json_schema()


def test_the_examples_of_the_page_fit_the_schemas():
    request, answer = map(json.loads, blocks("json"))
    jsonschema_rs.validate(REQUEST, request)
    jsonschema_rs.validate(ANSWER, answer)
    assert Answer.model_validate(answer).verdict().edits == (AddHeader("X-Kind", "newsletter"),)
    content = base64.b64decode(request["message"]["content"])
    assert len(content) == request["message"]["size"]


async def test_a_connection_is_used_again():
    async with serving(PASSED, PASSED, PASSED) as service, asking(service) as asked:
        for _ in range(3):
            await asked.filter_message(LETTER)
        assert service.connections == 1


async def test_a_connection_that_was_closed_meanwhile_is_replaced():
    closing = PASSED.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    async with serving(PASSED, None, PASSED, closing, PASSED) as service, asking(service) as asked:
        for _ in range(4):
            await asked.filter_message(LETTER)
        assert service.connections == 3
        assert len(service.requests) == 5, "the second was sent again"


async def test_an_answer_that_comes_twice_is_not_taken_for_that_of_the_next_message():
    other = make_transaction(subject="Other")
    for twice in ([PASSED + PASSED], [PASSED, lambda _: asyncio.sleep(0), PASSED]):
        hit = ok({"id": other.id, "action": "hit", "reason": "bad"})
        async with serving(twice, hit, hit) as service, asking(service) as asked:
            await asked.filter_message(LETTER)
            with contextlib.suppress(ServiceError):
                assert (await asked.filter_message(other)).reason == "bad"


async def test_a_connection_on_which_something_comes_unasked_is_closed():
    more = asyncio.Event()

    async def wait(_writer):
        await more.wait()

    hit = answered(action="hit", reason="bad")
    async with serving([PASSED, wait, PASSED], hit) as service, asking(service) as asked:
        assert await asked.filter_message(LETTER) is None
        [idle] = asked._server._idle
        more.set()
        while idle.is_usable:
            await asyncio.sleep(0.01)
        assert (await asked.filter_message(LETTER)).reason == "bad"
        assert service.connections == 2


async def test_a_service_that_is_down_is_unreachable():
    async with serving() as service:
        pass
    async with asking(service) as asked:
        with pytest.raises(UnreachableError, match=re.escape(service.url)):
            await asked.filter_message(LETTER)


async def test_a_late_answer_is_a_failure_and_its_connection_is_not_used_again():
    stuck = asyncio.Event()

    async def hang(_writer):
        await stuck.wait()

    async with serving([hang, PASSED], PASSED) as service, asking(service) as asked:
        late = asyncio.ensure_future(asked.filter_message(LETTER))
        while not service.requests:
            await asyncio.sleep(0.01)
        late.cancel()
        with pytest.raises(ServiceError, match="has not answered"):
            await late
        assert await asked.filter_message(LETTER) is None
        assert service.connections == 2
        stuck.set()


async def test_an_answer_before_the_whole_request_was_read_is_one_and_what_follows_it_is_ignored():
    large = make_transaction(b"Subject: large\r\n\r\n" + b"x" * 8_000_000)
    hit = ok({"id": large.id, "action": "hit", "reason": "bad"})

    async def serve(reader, writer):
        async with contextlib.aclosing(Closing(writer)):
            await reader.readuntil(large.id.encode())
            writer.write(hit + ok({"id": large.id, "action": "pass"}))
            await writer.drain()
            while await reader.read(1 << 16):
                pass

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        service = Service()
        service.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        async with asking(service) as asked:
            for _ in range(2):
                assert (await asked.filter_message(large)).reason == "bad"


async def test_only_so_many_requests_are_sent_at_a_time():
    go = asyncio.Event()

    async def wait(_writer):
        await go.wait()

    async with serving(*[[wait, PASSED]] * 5) as service, asking(service, at_once=2) as asked:
        asking_all = [asyncio.ensure_future(asked.filter_message(LETTER)) for _ in range(5)]
        while len(service.requests) < 2:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0)
        assert len(service.requests) == 2
        go.set()
        assert await asyncio.gather(*asking_all) == [None] * 5


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


async def test_a_certificate_is_verified(authority, tmp_path):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    other = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("mail.example.org").configure_cert(other)
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(ca_file)
    async with serving(PASSED, tls=context) as service:
        async with asking(service, ca_file=ca_file) as asked:
            assert await asked.filter_message(LETTER) is None
        async with asking(service) as asked:
            with pytest.raises(UnreachableError, match="certificate is not trusted"):
                await asked.filter_message(LETTER)
    async with serving(PASSED, tls=other) as service, asking(service, ca_file=ca_file) as asked:
        with pytest.raises(UnreachableError, match="certificate is not trusted"):
            await asked.filter_message(LETTER)
    assert not service.requests


async def test_a_token_is_sent(tmp_path):
    (tmp_path / "token").write_text("abc-123.~==\nmore\n")
    async with serving(PASSED) as service, asking(service, token_file=tmp_path / "token") as asked:
        await asked.filter_message(LETTER)
    assert b"authorization: Bearer abc-123.~==\r\n" in service.requests[0][0].lower().replace(
        b"bearer", b"Bearer"
    )


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ("url: ftp://x/", "expected an http or https URL"),
        ("url: mail.example.com", "expected an http or https URL"),
        ('url: "http://"', "expected an http or https URL"),
        ("url: http://x:0/", "expected an http or https URL"),
        ("url: http://x:99999/", "expected an http or https URL"),
        ('url: "http://x/#a"', "without a fragment"),
        ('url: "http://x/ a"', "is not a URL"),
        ("url: http://ann:secret@x/", "has a user, expected token_file"),
        ("{}", "url"),
        ("url: http://x/\n      token_file: none.txt", "token_file"),
        ("url: http://x/\n      token_file: bad.txt", "no token in"),
        ("url: http://x/\n      ca_file: bad.txt", "expected an https URL"),
        ("url: https://x/\n      ca_file: bad.txt", "expected certificates in PEM"),
        ("url: https://x/\n      ca_file: none.txt", "expected certificates in PEM"),
        ("url: http://x/\n      at_once: 0", "at_once: 0, expected at least 1"),
        ("url: http://x/\n      method: GET", "method"),
    ],
)
def test_check_says_what_is_wrong(tmp_path, settings, error):
    (tmp_path / "bad.txt").write_text("a b\n")
    (tmp_path / "rules.yaml").write_text(
        f"rules:\n  - name: ours\n    filter: web_service\n    with:\n      {settings}\n"
    )
    with pytest.raises(ConfigError) as raised:
        load_rules(load(tmp_path / "rules.yaml"))
    assert error in str(raised.value)


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(
    "fact",
    [
        test_a_connection_is_used_again,
        test_a_connection_that_was_closed_meanwhile_is_replaced,
        test_a_connection_on_which_something_comes_unasked_is_closed,
        test_a_service_that_is_down_is_unreachable,
        test_a_late_answer_is_a_failure_and_its_connection_is_not_used_again,
    ],
)
def test_the_event_loop_of_the_gateway_behaves_alike(fact):
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(fact())


@pytest.mark.real("node")
def test_the_example_of_the_page_runs_in_a_gateway(tmp_path):
    [rules], [program], port = blocks("yaml"), blocks("javascript"), free_port()
    (tmp_path / "service.js").write_text(program + 'server.on("listening", () => console.log("ready"));\n')
    command = ["node", "service.js", str(port)]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE) as service:
        try:
            assert service.stdout.readline() == b"ready\n"
            with running_gateway(rules.replace(":8080", f":{port}")) as gateway:
                letter = make_transaction(headers={"From": "Eve <e@example.org>"})
                assert gateway.send(letter).code == 250, "a score alone refuses nothing"
                [evaluation] = gateway.journal()[0].evaluations
                assert (evaluation.score, evaluation.reason) == (3.5, "from Eve <e@example.org>")
                assert gateway.send(make_transaction()).code == 250
                service.terminate()
                service.wait()
                assert gateway.send(make_transaction()).code == 451
        finally:
            service.kill()
