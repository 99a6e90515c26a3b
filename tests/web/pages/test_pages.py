"""What the pages of messages and of the quarantine say and do."""

import asyncio
import json
import re
import time
from dataclasses import replace
from html import unescape

import pytest
from gatepost.model import replies
from gatepost.model.edits import AddHeader, PrefixSubject
from gatepost.model.mail import new_id
from gatepost.store import Box, JournalQuery, Kept, KeptQuery, State
from gatepost.testing import make_message

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"
HX = {"hx-request": "true"}


def texts(html):
    """The characters of a page, without its markup."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", html)).split())


async def subjects(http, path):
    return re.findall(r'class="subject">([^<]*)<', (await http.get(path)).text)


async def test_the_list_shows_the_newest_first_and_leads_on_to_older_ones(http, keep):
    for number in range(60):
        await keep(f"Number {number}")
    first = await http.get("/")
    assert "60 messages" in first.text
    assert await subjects(http, "/") == [f"Number {number}" for number in range(59, 9, -1)]
    older = unescape(re.search(r'class="button is-quiet" href="([^"]+)"', first.text)[1])
    assert await subjects(http, older) == [f"Number {number}" for number in range(9, -1, -1)]
    rows = unescape(re.search(r'hx-get="(/messages/list[^"]+before[^"]+)"', first.text)[1])
    assert await subjects(http, rows) == [f"Number {number}" for number in range(9, -1, -1)]


async def test_a_search_finds_and_stays_with_the_links(http, keep, until):
    wanted = await keep("Your invoice")
    await keep("Something else")
    await until(lambda: subjects(http, "/?q=subject:invoice"), ["Your invoice"])
    page = (await http.get("/", params={"q": "subject:invoice"})).text
    assert "1 message<" in page
    assert f"/messages/{wanted}?q=subject%3Ainvoice" in page
    assert 'value="subject:invoice"' in page
    assert 'href="/?q=subject%3Ainvoice"' in (await http.get(f"/messages/{wanted}?q=subject:invoice")).text


async def test_a_query_that_cannot_be_read_is_explained(http):
    page = await http.get("/", params={"q": 'larger:"many'})
    assert page.status_code == 200
    assert "This cannot be searched for" in page.text


async def test_a_page_that_shows_the_beginning_of_a_text_leads_to_all_of_it(http, keep):
    kept_id = await keep("Long", text="<b>ä</b>\r\n" * 150_000 + "the end\r\n")
    page = (await http.get(f"/messages/{kept_id}?tab=text")).text
    assert "The text is long: only its beginning is shown. All of it: text , source" in texts(page)
    assert "the end" not in page
    assert f'href="/messages/{kept_id}/text"' in page
    answer = await http.get(f"/messages/{kept_id}/text")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
    assert answer.text == "<b>ä</b>\n" * 150_000 + "the end"
    assert "All of it" not in (await http.get(f"/messages/{await keep('Short')}")).text


@pytest.mark.parametrize("part", ["", "/source", "/html", "/text"])
async def test_the_ids_of_transaction_and_session_lead_to_the_message(http, keep, store, part):
    kept_id = await keep("Hello", html="<p>Hi</p>")
    (record,) = store.archive.records(JournalQuery(id=kept_id), limit=2)
    for some_id in (record.id, record.session_id):
        answer = await http.get(f"/messages/{some_id}{part}")
        assert (answer.status_code, answer.headers["location"]) == (303, f"/messages/{kept_id}")
    other = Kept(
        box=Box.INBOX, mail_from="", recipients=("x@y",), prepended=b"", content=b"x", rule=None, reason=""
    )
    await store.commit(replace(record, id=new_id()), (other,))
    answer = await http.get(f"/messages/{record.session_id}")
    assert (answer.status_code, answer.headers["location"]) == (303, f"/?q=id%3A{record.session_id}")
    page = (await http.get(answer.headers["location"])).text
    assert f"/messages/{kept_id}" in page
    assert f"/messages/{other.id}" in page


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/", "in the journal"),
        ("/?q=nothing", "Nothing matches"),
        ("/quarantine", "action: quarantine"),
        ("/quarantine/released", "Nothing was released yet"),
        ("/quarantine/deleted", "Nothing was deleted yet"),
    ],
)
@pytest.mark.long
async def test_an_empty_page_says_what_to_do(http, path, says):
    assert says in texts((await http.get(path)).text)


async def test_complaints_mode_says_where_to_send_mail(http, desk):
    desk.mode = "complaints"
    page = (await http.get("/")).text
    assert "swaks --server 127.0.0.1:2599" in page
    assert "none is delivered" in page


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/messages/nothing", "GET", 404),
        ("/messages/nothing/html", "GET", 404),
        ("/messages/nothing/download", "GET", 404),
        ("/messages/nothing/attachments/1", "GET", 404),
        ("/messages/nothing/release", "POST", 404),
        ("/nothing", "GET", 404),
        ("/messages/change", "GET", 404),
        ("/messages/delete-all", "GET", 404),
        ("/quarantine", "POST", 405),
    ],
)
@pytest.mark.long
async def test_what_is_not_there_is_said_in_the_look_of_the_desk(http, path, method, status):
    answer = await http.request(method, path, data={} if method == "POST" else None)
    assert answer.status_code == status
    assert 'class="brand"' in answer.text
    fragment = await http.request(method, path, headers=HX)
    assert fragment.status_code == status
    assert 'class="brand"' not in fragment.text


@pytest.mark.parametrize("tab", ["", "?tab=text"])
async def test_opening_a_message_marks_it_as_read(http, keep, desk, tab):
    kept_id = await keep()
    assert desk.mailbox.counts().unread == 1
    await http.get(f"/messages/{kept_id}{tab}")
    assert desk.mailbox.counts().unread == 0


@pytest.mark.parametrize(
    ("tab", "says"),
    [
        ("html", '<iframe name="mail-frame"'),
        ("text", "Your code is 482913"),
        ("links", "https://shop.example/confirm"),
        ("headers", "MIME-Version"),
        ("structure", "multipart/alternative"),
        ("source", "Content-Type: text/plain"),
        ("conversation", "is not kept"),
        ("verdicts", "<mark>Confirm</mark>"),
        ("checks", 'class="message-body is-checks"'),
        ("nothing", '<iframe name="mail-frame"'),
    ],
)
async def test_each_tab_shows_its_side_of_the_message(http, keep, tab, says):
    text = "Your code is 482913: https://shop.example/confirm"
    kept_id = await keep("Confirm", text=text, html=f"<p>{text}</p>", attachments={"a.pdf": b"%PDF"})
    for headers in ({}, HX):
        answer = await http.get(f"/messages/{kept_id}?tab={tab}", headers=headers)
        assert answer.status_code == 200
        assert says in answer.text
        assert ('class="brand"' in answer.text) == (not headers)


@pytest.mark.parametrize("tab", ["text", "links", "headers", "structure", "source", "verdicts", "checks"])
async def test_nothing_of_a_message_becomes_markup(http, keep, tab):
    content = make_message(
        subject=HOSTILE,
        text=f"{HOSTILE} https://a.example/?{HOSTILE}",
        headers={"From": f'"{HOSTILE[:25]}" <x@evil.example>', "X-Hostile": HOSTILE},
        attachments={f"{HOSTILE}.txt": b"x"},
    )
    kept_id = await keep(content=content, box=Box.QUARANTINE, reason=HOSTILE, to=(f"{HOSTILE}@example.com",))
    for path in (f"/messages/{kept_id}?tab={tab}", "/", "/quarantine", f"/?q={HOSTILE}"):
        page = (await http.get(path)).text
        assert "<script>alert" not in page
        assert "<img src=x" not in page
        assert "alert(1)" in unescape(page)


async def test_characters_that_hide_something_are_shown(http, keep):
    kept_id = await keep("invoice\u202efdp.exe\u200b")
    for path in ("/", f"/messages/{kept_id}"):
        page = (await http.get(path)).text
        assert "invoice\ufffdfdp.exe\ufffd" in page
        assert "\u202e" not in page


async def test_joiners_that_a_script_needs_are_shown_and_others_are_marked(http, keep):
    kept_id = await keep("می\u200cروم क्\u200dष 👩\u200d🚀 in\u200cvoice")
    for path in ("/", f"/messages/{kept_id}"):
        page = (await http.get(path)).text
        assert "می\u200cروم क्\u200dष 👩\u200d🚀 in\ufffdvoice" in page


@pytest.mark.parametrize(
    ("fields", "to", "shown", "hidden"),
    [
        ({"To": "Bob <bob@Example.NET>"}, ("BOB@example.net", "eve@example.net"), ["eve@example.net"], True),
        ({"To": "a@example.net"}, ("a@example.net",), [], False),
        ({"To": "a@example.net", "Cc": "b@example.net"}, ("b@example.net", "a@example.net"), [], False),
        ({"To": "undisclosed-recipients:;"}, ("eve@example.net",), ["eve@example.net"], True),
        ({"To": "Friends: a@example.net, b@example.net;"}, ("b@example.net",), [], False),
        ({}, ("eve@example.net",), ["eve@example.net"], True),
        ({"To": "a@xn--mnchen-3ya.example"}, ("a@MÜNCHEN.example",), [], False),
        ({"To": '"a.b"@example.net'}, ("a.b@example.net",), [], False),
        ({"To": "a@example.net", "Bcc": "b@example.net"}, ("b@example.net",), ["b@example.net"], True),
        ({"To": '"b@example.net" <a@example.net>'}, ("b@example.net",), ["b@example.net"], True),
        ({"To": "a@example.net"}, tuple(f"u{n}@example.net" for n in range(25)), ["u19@example.net"], True),
    ],
    ids=str,
)
async def test_a_recipient_whom_no_field_names_is_shown_as_bcc(http, keep, fields, to, shown, hidden):
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    kept_id = await keep(content=f"{head}Subject: Hello\r\n\r\nHi\r\n".encode(), to=to)
    page = (await http.get(f"/messages/{kept_id}")).text
    listed = page.partition(">Bcc</dt><dd>")[2].partition("</dd>")[0]
    assert (">Bcc<" in page) is hidden
    assert all(address in listed for address in shown)
    answer = (await http.get(f"/api/v1/messages/{kept_id}")).json()
    assert answer["bcc"] == (shown if len(to) < 20 else list(to))


@pytest.mark.parametrize(
    ("content", "has_code", "has_link"),
    [
        (b"Subject: x\r\n\r\nYour code is 482913. Or https://a.example/confirm?t=12\r\n", True, True),
        (b"Subject: x\r\n\r\nConfirm: https://a.example/confirm?t=12\r\n", False, True),
        (b"Subject: x\r\n\r\nYour code is 482913\r\n", True, False),
        (b"Subject: x\r\n\r\nHello\r\n", False, False),
        (b"", False, False),
    ],
)
async def test_the_bar_has_what_there_is(http, keep, content, has_code, has_link):
    page = (await http.get(f"/messages/{await keep(content=content)}")).text
    assert ("data-code" in page) is has_code
    assert ('class="essence-link"' in page) is has_link
    assert ('class="essence"' in page) is (has_code or has_link)


async def test_html_has_a_policy_of_its_own_and_no_remote_images_unless_asked(http, keep):
    html = '<p style="color:red">Hi<img src="http://tracker.example/a.gif"><script>alert(1)</script></p>'
    kept_id = await keep(html=html)
    for images, sources in ((0, "img-src data:;"), (1, "img-src data: http: https:;")):
        answer = await http.get(f"/messages/{kept_id}/html?images={images}")
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("sandbox allow-popups allow-popups-to-escape-sandbox; default-src 'none'; ")
        assert sources in policy
        assert "frame-ancestors 'self'" in policy
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "script" not in answer.text
        assert ('src="http://tracker.example/a.gif"' in answer.text) == bool(images)


@pytest.mark.parametrize(
    ("path", "content_type", "disposition"),
    [
        ("source", "text/plain; charset=utf-8", "inline"),
        ("download", "application/octet-stream", "attachment"),
        ("attachments/3", "application/octet-stream", "attachment"),
    ],
)
async def test_files_are_never_pages(http, keep, path, content_type, disposition):
    evil = b"<script>alert(1)</script>"
    kept_id = await keep(attachments={'../b\u202e"; x=ü.html': ("text/html", evil)})
    answer = await http.get(f"/messages/{kept_id}/{path}")
    assert answer.headers["content-type"] == content_type
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
    kind, plain, extended = answer.headers["content-disposition"].split("; ", 2)
    assert kind == disposition
    assert re.fullmatch(r'filename="[ -~]+"', plain)
    assert not set('/\\"') & set(plain[10:-1])
    assert extended.startswith("filename*=UTF-8''")
    if path == "attachments/3":
        assert answer.content == evil


async def test_the_downloaded_message_is_what_was_kept(http, keep, desk):
    kept_id = await keep()
    answer = await http.get(f"/messages/{kept_id}/download")
    assert answer.content == desk.archive.kept_message(kept_id).delivered_form
    assert f'filename="{kept_id}.eml"' in answer.headers["content-disposition"]


async def test_an_edited_message_is_shown_as_it_would_be_delivered_and_downloaded_as_received(
    http, store, message
):
    record, kept = message(subject="hello", box=Box.QUARANTINE)
    edits = (PrefixSubject("[held] "), AddHeader("X-Kind", "<b>news</b>"))
    kept = replace(kept, edits=edits)
    await store.commit(record, (kept,))
    page = (await http.get(f"/messages/{kept.id}")).text
    assert "[held] hello" in page
    assert "Edits on release" in page
    assert "add X-Kind: &lt;b&gt;news&lt;/b&gt;" in page
    assert (await http.get(f"/messages/{kept.id}/download")).content == b"".join(kept.pieces)
    original = await http.get(f"/messages/{kept.id}/original")
    assert original.content == kept.content
    assert f'filename="{kept.id}-original.eml"' in original.headers["content-disposition"]
    told = (await http.get(f"/api/v1/messages/{kept.id}")).json()
    assert (told["edits"], told["subject"]) == ([str(edit) for edit in edits], "[held] hello")


async def test_several_messages_are_marked_and_deleted(http, keep, desk):
    ids = [await keep() for _ in range(3)]
    answer = await http.post("/messages/change", data={"id": ids[:2], "do": "seen"}, headers=HX)
    assert answer.status_code == 204
    assert "2 messages marked as read" in json.loads(answer.headers["hx-trigger"])["desk:notice"]["text"]
    assert desk.mailbox.counts().unread == 1
    await http.post("/messages/change", data={"id": ids[0], "do": "unseen"})
    assert desk.mailbox.counts().unread == 2
    answer = await http.post("/messages/change", data={"id": ids[:2], "do": "delete", "q": "Hello"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/?q=Hello")
    assert desk.mailbox.counts().inbox == 1


@pytest.mark.parametrize(
    ("fields", "status"), [({"do": "delete"}, 204), ({"id": "x"}, 400), ({"id": "x", "do": "y"}, 400)]
)
async def test_a_change_says_what_it_means(http, keep, desk, fields, status):
    await keep()
    assert (await http.post("/messages/change", data=fields, headers=HX)).status_code == status
    assert desk.mailbox.counts().inbox == 1


async def test_delete_all_deletes_what_is_searched_for_and_nothing_else(http, keep, desk, until):
    await keep("Keep this")
    await keep("Drop this")
    await keep("Drop that", box=Box.QUARANTINE)
    await until(lambda: subjects(http, "/?q=drop"), ["Drop that", "Drop this"])
    await http.post("/messages/delete-all", data={"q": "drop", "in": "held"})
    assert (desk.mailbox.counts().inbox, desk.mailbox.counts().quarantined) == (2, 0)
    await http.post("/messages/delete-all", data={"q": "drop"})
    assert await subjects(http, "/") == ["Keep this"]
    assert (await http.post("/messages/delete-all", data={"in": "deleted"})).status_code == 400
    await http.post("/messages/delete-all", data={"q": '"'}, headers=HX)
    assert await subjects(http, "/") == ["Keep this"]


async def test_a_deleted_message_leaves_who_and_when(http, keep):
    kept_id = await keep("Gone", box=Box.QUARANTINE, reason="an attachment")
    await http.post("/messages/change", data={"id": kept_id, "do": "delete"})
    assert await subjects(http, "/quarantine") == []
    assert await subjects(http, "/quarantine/deleted") == ["Gone"]
    page = texts((await http.get(f"/messages/{kept_id}?in=deleted")).text)
    assert "deleted by web desk (127.0.0.1)" in page
    for path in ("html", "source", "download", "attachments/1"):
        assert (await http.get(f"/messages/{kept_id}/{path}")).status_code == 404


@pytest.mark.parametrize(
    ("form", "to"),
    [
        ({"to": "own"}, None),
        ({"to": "own", "others": "x@example.org"}, None),
        (
            {"to": "others", "others": "x@example.org, y@example.org\nx@example.org"},
            ("x@example.org", "y@example.org"),
        ),
    ],
)
@pytest.mark.long
async def test_a_release_notes_who_did_it_and_to_whom(http, keep, desk, form, to):
    kept_id = await keep("Held", box=Box.QUARANTINE)
    answer = await http.post(f"/messages/{kept_id}/release?in=held", data=form, headers=HX)
    assert desk.noted.released == [(kept_id, to)]
    assert json.loads(answer.headers["hx-trigger"])["desk:notice"]["text"] == "Released: 250 2.0.0 Ok: queued"
    assert "released by web desk (127.0.0.1)" in texts(answer.text)
    assert await subjects(http, "/quarantine/released") == ["Held"]
    [summary] = desk.archive.kept(KeptQuery(state=None), limit=2)
    assert summary.note == f"{', '.join(to or ('bob@example.net',))}: 250 2.0.0 Ok: queued"


@pytest.mark.parametrize(
    ("others", "says"),
    [
        ("", "Enter the recipients"),
        ("nobody", "Not an address: nobody"),
        ("a@b>\r\nRCPT", "Not an address"),
        ("a@b\u202e", "Not an address"),
        ("\n".join(f"a{n}@example.com" for n in range(101)), "At most 100"),
    ],
)
@pytest.mark.long
async def test_a_release_to_no_address_does_not_begin(http, keep, desk, others, says):
    kept_id = await keep("Held", box=Box.QUARANTINE)
    answer = await http.post(
        f"/messages/{kept_id}/release", data={"to": "others", "others": others}, headers=HX
    )
    assert says in texts(answer.text)
    assert desk.noted.released == []


async def test_a_refused_release_stays_held_and_says_why(http, keep, desk):
    kept_id = await keep("Held", box=Box.QUARANTINE)
    desk.noted.answer = "550 5.1.1 No such <b>user</b>"
    answer = await http.post(f"/messages/{kept_id}/release", data={"to": "own"}, headers=HX)
    assert "The server's reply: 550 5.1.1 No such <b>user</b>" in unescape(answer.text)
    assert "<b>" not in answer.text
    assert await subjects(http, "/quarantine") == ["Held"]


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (replies.UNREACHABLE, "The server has not answered: 451"),
        (replies.BARE_NEWLINE, "Nothing was sent: 550"),
    ],
)
async def test_what_no_server_has_said_is_not_said_to_be_its_reply(http, keep, desk, reply, says):
    kept_id = await keep("Held", box=Box.QUARANTINE)
    desk.noted.answer = str(reply)
    page = await http.post(f"/messages/{kept_id}/release", data={"to": "own"}, headers=HX)
    answer = await http.post(f"/api/v1/quarantine/{kept_id}/release")
    assert answer.status_code == 502
    for text in (texts(page.text), answer.json()["detail"]):
        assert says in text
        assert "The server's reply" not in text


async def test_a_page_that_does_not_know_of_a_release_does_not_release_again(http, keep, desk):
    kept_id = await keep("Held", box=Box.QUARANTINE)
    form = {"to": "own", "state": "held"}
    await http.post(f"/messages/{kept_id}/release", data=form, headers=HX)
    again = await http.post(f"/messages/{kept_id}/release", data=form, headers=HX)
    assert "The message was released by web desk (127.0.0.1) in the meantime" in texts(again.text)
    assert len(desk.noted.released) == 1
    await http.post(f"/messages/{kept_id}/release", data={"to": "own", "state": "released"}, headers=HX)
    assert len(desk.noted.released) == 2


async def test_two_who_release_at_the_same_time_send_it_once(http, keep, desk):
    kept_id = await keep("Held", box=Box.QUARANTINE)
    desk.release, calls = slowly(desk.release), desk.noted.released
    form = {"to": "own", "state": "held"}
    answers = await asyncio.gather(
        http.post(f"/messages/{kept_id}/release", data=form, headers=HX),
        http.post(f"/api/v1/quarantine/{kept_id}/release"),
        http.post(f"/messages/{kept_id}/release", data=form, headers=HX),
    )
    assert len(calls) == 1
    assert [answer.status_code for answer in answers].count(200) >= 2
    assert desk.archive.kept_message(kept_id).state is State.RELEASED


def slowly(release):
    def slow(*arguments):
        time.sleep(0.2)
        return release(*arguments)

    return slow


async def test_where_nothing_can_be_released_no_page_offers_it(http, keep, desk):
    desk.release = None
    kept_id = await keep("Held", box=Box.QUARANTINE)
    assert "Release" not in (await http.get(f"/messages/{kept_id}", headers=HX)).text
    assert (await http.post(f"/messages/{kept_id}/release", data={"to": "own"})).status_code == 404


@pytest.mark.long
async def test_broken_mail_is_shown_all_the_same(http, keep):
    for content in (
        b"",
        b"\r\n",
        b"no header at all",
        b"\xff\xfe\x00" * 100,
        b"Subject: =?utf-8?b?x\r\n\r\n\x80",
    ):
        kept_id = await keep(content=content)
        for tab in ("", "text", "headers", "structure", "source", "checks"):
            assert (await http.get(f"/messages/{kept_id}?tab={tab}")).status_code == 200
    assert (await http.get("/")).status_code == 200


async def test_pages_have_no_script_or_style_of_their_own(http, keep):
    kept_id = await keep(html="<p>Hi</p>")
    for path in ("/", "/quarantine", f"/messages/{kept_id}", "/nothing", "/overview", "/journal", "/live"):
        page = (await http.get(path)).text
        assert not re.search(r"<style|<script(?! src=\"/static/)|\sstyle=|\son[a-z]+=|javascript:", page), (
            path
        )
        assert not re.search(r"(?:src|href)=\"(?:https?:)?//", page), path


async def test_the_values_to_choose_from_are_harmless_and_follow_the_search(http, keep, until):
    await keep("One", to=("<b>bob+x@example.net",), attachments={"a.txt": b"x"})
    await keep("Two", to=('"a b"@example.net', "carol@example.net"))

    async def chosen(query):
        page = (await http.get("/messages/facets", params={"q": query}, headers=HX)).text
        assert "<b>" not in page
        return re.findall(r'data-search="([^"]*)" data-term="([^"]*)"', page)

    async def counted():
        return len(await chosen(""))

    await until(counted, 5)
    assert ("is:unread", "is:unread") in await chosen("")
    assert await chosen("mailbox:x") == [
        ("mailbox:x is:unread", "is:unread"),
        ("mailbox:x has:attachment", "has:attachment"),
        ("", "mailbox:x"),
        ("mailbox:x recipient:&lt;b&gt;bob+x@example.net", "recipient:&lt;b&gt;bob+x@example.net"),
    ]
    assert await chosen('"') == []


async def test_the_live_page_without_lines_says_which_setting_has_them(http):
    page = texts((await http.get("/live")).text)
    assert "store: {conversations: true}" in page
    assert "without an SMTP server" not in page
