"""What upstream hears of the envelope: RELIABILITY 28, 38, 85, 86."""

import pytest
from gatepost.model.mail import Recipient
from gatepost.relay import DeliveryState
from gatepost.relay.internationalised import has_internationalised_header
from gatepost.testing.upstream import Close, FakeUpstream, Usual

ALL = ("PIPELINING", "SIZE 100000", "8BITMIME", "SMTPUTF8", "DSN", "AUTH PLAIN")


@pytest.mark.parametrize(
    ("extensions", "parameters", "line"),
    [
        (ALL, (), "MAIL FROM:<a@example.com>"),
        (ALL, ("SIZE=1000", "BODY=8BITMIME"), "MAIL FROM:<a@example.com> SIZE=2024 BODY=8BITMIME"),
        ((), ("SIZE=1000", "BODY=8BITMIME"), "MAIL FROM:<a@example.com>"),
        (ALL, ("body=7bit", "smtputf8"), "MAIL FROM:<a@example.com> body=7bit smtputf8"),
        (ALL[:3], ("body=7bit", "smtputf8"), "MAIL FROM:<a@example.com> body=7bit"),
        (ALL, ("RET=HDRS", "ENVID=x+2By"), "MAIL FROM:<a@example.com> RET=HDRS ENVID=x+2By"),
        (ALL, ("AUTH=somebody@example.com",), "MAIL FROM:<a@example.com> AUTH=<>"),
        ((), ("AUTH=somebody@example.com",), "MAIL FROM:<a@example.com>"),
    ],
)
async def test_mail_carries_what_upstream_knows(post, extensions, parameters, line):
    with FakeUpstream(extensions=extensions) as upstream:
        assert (await post(upstream, parameters=parameters)).state is DeliveryState.ACCEPTED
        assert upstream.commands[0][1] == line


@pytest.mark.parametrize(
    ("extensions", "envelope", "recipient", "end"),
    [
        (("SIZE 1000",), {"parameters": ("SIZE=1001",)}, "b@example.com", (552, "5.3.4")),
        (ALL[:3], {"mail_from": "ä@example.com"}, "b@example.com", (550, "5.6.7")),
        (ALL[:3], {}, "ä@example.com", (550, "5.6.7")),
        (ALL[:4], {"parameters": ("RET=FULL",)}, "b@example.com", (451, "4.3.5")),
        (ALL[:4], {"parameters": ("ENVID=1",)}, "b@example.com", (451, "4.3.5")),
        (ALL[:4], {}, Recipient(address="b@example.com", parameters=("NOTIFY=NEVER",)), (451, "4.3.5")),
    ],
)
async def test_85_what_upstream_cannot_keep_is_refused_at_rcpt(post, extensions, envelope, recipient, end):
    with FakeUpstream(extensions=extensions) as upstream:
        posted = await post(upstream, recipients=[recipient, recipient], **envelope)
        assert [(reply.code, reply.enhanced) for reply in posted.replies] == [end, end]
        assert not any(line.startswith("MAIL") for line in upstream.commands[0])


async def test_a_recipient_that_upstream_cannot_take_does_not_harm_the_others(post):
    picky = Recipient(address="b@example.com", parameters=("NOTIFY=NEVER",))
    with FakeUpstream(extensions=ALL[:4]) as upstream:
        posted = await post(upstream, recipients=[picky, "c@example.com", picky, "d@example.com"])
        assert posted.codes == [451, 250, 451, 250]
        assert [recipient.address for recipient in upstream.messages[0].recipients] == [
            "c@example.com",
            "d@example.com",
        ]


@pytest.mark.parametrize(
    ("extensions", "content", "end"),
    [
        (("SIZE 1000",), b"x" * 998 + b"\r\n" + b"y\r\n", (552, "5.3.4")),
        (("SIZE 1003",), b"x" * 998 + b"\r\n" + b"y\r\n", (250, "2.0.0")),
        (("SIZE 0",), b"x" * 998 + b"\r\n" + b"y\r\n", (250, "2.0.0")),
        (("SIZE",), b"x\r\n", (250, "2.0.0")),
        ((), "Grüße\r\n".encode(), (554, "5.6.3")),
        (("8BITMIME",), "Grüße\r\n".encode(), (250, "2.0.0")),
    ],
)
async def test_85_what_the_message_turns_out_to_be_counts(post, extensions, content, end):
    with FakeUpstream(extensions=extensions) as upstream:
        assert (await post(upstream, content=content)).end == end
        assert len(upstream.messages) == (1 if end[0] == 250 else 0)
        assert ("DATA" in upstream.commands[0]) == (end[0] == 250)


PART = b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\n%s\r\n\r\nx\r\n--b--\r\n'
FORWARDED = b"Content-Type: message/%s\r\n\r\n%s\r\n\r\nx\r\n"
PLAIN, RAW = b"Subject: Hello", "Subject: Grüße".encode()
GRUSS = "Grüße\r\n".encode()
NEEDS = {
    "subject": RAW + b"\r\n\r\nx\r\n",
    "folded": b"Subject: x\r\n " + GRUSS + b"\r\nx\r\n",
    "no body": RAW + b"\r\n",
    "bare newlines": RAW + b"\n\nx\n",
    "not even UTF-8": b"Subject: \xfc\r\n\r\nx\r\n",
    "a part": PART % (b'Content-Disposition: attachment; filename="' + GRUSS.rstrip() + b'"'),
    "the second part": PART % (PLAIN + b"\r\n\r\nx\r\n--b\r\n" + RAW),
    "a part at once": PART % (b"\r\n\r\nx\r\n--b\r\n--b\r\n" + RAW),
    "a forwarded message": FORWARDED % (b"rfc822", RAW),
    "an internationalised one": FORWARDED % (b"global", RAW),
    "a forwarded message in a part": PART % (FORWARDED % (b"rfc822", RAW)),
    "a multipart in a part": PART % (b"Content-Type: multipart/x; boundary=c\r\n\r\n--c\r\n" + RAW),
    "after a part of 8-bit text": PART % (PLAIN + b"\r\n\r\n" + GRUSS + b"--b\r\n" + RAW),
}
NEEDS_NOT = {
    "ASCII": PLAIN + b"\r\n\r\nx\r\n",
    "8-bit text": PLAIN + b"\r\n\r\n" + GRUSS,
    "8-bit text of a part": PART % (PLAIN + b"\r\n\r\n" + GRUSS),
    "8-bit text of a forwarded message": FORWARDED % (b"rfc822", PLAIN + b"\r\n\r\n" + GRUSS),
    "a signature": PLAIN + b"\r\n\r\n-- \r\nTel: 1\r\n" + GRUSS,
    "after the last delimiter": PART % PLAIN + GRUSS,
    "what looks like a part": PLAIN + b"\r\n\r\n--b\r\n" + RAW + b"\r\n",
    "no header section": b"\r\n" + GRUSS,
    "encoded-words": b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n\r\n" + GRUSS,
}


@pytest.mark.parametrize("content", NEEDS.values(), ids=NEEDS)
async def test_85_a_message_that_needs_smtputf8_goes_nowhere_without(post, content):
    """RFC 6531 section 3.2: at any level of its MIME structure."""
    with FakeUpstream(extensions=ALL[:3]) as upstream:
        posted = await post(upstream, parameters=("SMTPUTF8",), content=content)
        assert (posted.codes, posted.end) == ([250], (550, "5.6.7"))
        assert "DATA" not in upstream.commands[0]
        assert upstream.messages == ()


@pytest.mark.parametrize("content", NEEDS_NOT.values(), ids=NEEDS_NOT)
async def test_smtputf8_is_dropped_where_it_was_asked_for_in_vain(post, content):
    with FakeUpstream(extensions=ALL[:3]) as upstream:
        posted = await post(upstream, parameters=("BODY=8BITMIME", "SMTPUTF8"), content=content)
        assert posted.state is DeliveryState.ACCEPTED
        assert upstream.messages[0].parameters == ("BODY=8BITMIME",)
        assert upstream.messages[0].content == content


@pytest.mark.parametrize("content", [*NEEDS.values(), *NEEDS_NOT.values()], ids=[*NEEDS, *NEEDS_NOT])
async def test_where_upstream_has_smtputf8_or_nobody_asked_for_it_nothing_is_looked_at(post, content):
    with FakeUpstream(extensions=ALL) as first, FakeUpstream(extensions=ALL[:3]) as second:
        assert (await post(first, parameters=("SMTPUTF8",), content=content)).state is DeliveryState.ACCEPTED
        assert (await post(second, content=content)).state is DeliveryState.ACCEPTED


@pytest.mark.parametrize(
    "piece", [b"\n--b\n", b"--b\r\n\r\n", b"boundary=", b"Content-Type: message/x\n\n", b"\n", b"\n--", b"x"]
)
def test_looking_for_the_need_is_linear(piece, within_yardsticks):
    content = PART % PLAIN + piece * (1_000_000 // len(piece)) + GRUSS
    with within_yardsticks(300):
        has_internationalised_header((b"Received: x\r\n", content))


@pytest.mark.parametrize(
    ("given", "converted"),
    [
        ("ORCPT=utf-8;ü@example.com", r"ORCPT=utf-8;\x{FC}@example.com"),
        ("ORCPT=UTF-8;用户@例え.example", r"ORCPT=UTF-8;\x{7528}\x{6237}@\x{4F8B}\x{3048}.example"),
        ("ORCPT=utf-8;\U0001f600@example.com", r"ORCPT=utf-8;\x{1F600}@example.com"),
        (r"ORCPT=utf-8;\x{FC}ü@example.com", r"ORCPT=utf-8;\x{FC}\x{FC}@example.com"),
        (r"ORCPT=utf-8;\x{FC}@example.com", r"ORCPT=utf-8;\x{FC}@example.com"),
        ("ORCPT=rfc822;b+2B@example.com", "ORCPT=rfc822;b+2B@example.com"),
    ],
)
async def test_38_an_original_recipient_is_converted_only_where_upstream_has_no_smtputf8(
    post, given, converted
):
    """RFC 6533 section 3."""
    recipient = Recipient(address="b@example.com", parameters=("NOTIFY=NEVER", given))
    for extensions, expected in ((ALL, given), ((*ALL[:3], "DSN"), converted)):
        with FakeUpstream(extensions=extensions) as upstream:
            posted = await post(upstream, recipients=[recipient], parameters=("SMTPUTF8",))
            assert posted.state is DeliveryState.ACCEPTED
            assert upstream.messages[0].recipients[0].parameters == ("NOTIFY=NEVER", expected)


async def test_38_dsn_parameters_pass_through(post):
    recipient = Recipient(
        address="b@example.com", parameters=("NOTIFY=SUCCESS,DELAY", "ORCPT=rfc822;B+2B@example.com")
    )
    with FakeUpstream() as upstream:
        assert (await post(upstream, recipients=[recipient])).state is DeliveryState.ACCEPTED
        assert upstream.messages[0].recipients == (recipient,)


@pytest.mark.parametrize(
    "address",
    [
        '"a b"@example.com',
        '"a>b"@example.com',
        '"<"@example.com',
        "a,b@example.com",
        "postmaster",
        "Ä@müller.example",
        "=?utf-8?q?x=40y?=@example.com",
    ],
)
async def test_28_addresses_go_out_as_they_came(post, address):
    with FakeUpstream() as upstream:
        assert (await post(upstream, mail_from=address, recipients=[address])).state is DeliveryState.ACCEPTED
        assert upstream.commands[0][1:3] == (f"MAIL FROM:<{address}>", f"RCPT TO:<{address}>")


async def test_the_null_reverse_path_stays_it(post):
    with FakeUpstream() as upstream:
        assert (await post(upstream, mail_from="")).state is DeliveryState.ACCEPTED
        assert upstream.commands[0][1] == "MAIL FROM:<>"


@pytest.mark.parametrize("extensions", [("PIPELINING",), ()], ids=["pipelining", "one by one"])
async def test_each_recipient_has_its_own_answer_when_all_are_asked_at_once(post, extensions):
    numbers = range(60)
    asked = [f"{number}@example.com" for number in numbers]

    with FakeUpstream(extensions=extensions) as upstream:
        delivery = post.begin(upstream)
        for recipient in post.recipients(*asked, "other@example.com"):
            assert (await delivery.rcpt(recipient)).positive
        upstream.script["rcpt"] = lambda path: (
            "550 5.1.1 No more" if path == "TO:<41@example.com>" else Usual()
        )
        delivered = await post.send(delivery, asked)
        assert (delivered.state, delivered.reply.code) == (DeliveryState.UNSENT, 451)
        assert delivered.upstream_reply == "550 5.1.1 No more"


async def test_without_pipelining_nothing_follows_a_refused_mail(post):
    with FakeUpstream({"mail": "550 5.7.1 No"}, extensions=()) as upstream:
        posted = await post(upstream, recipients=["b@example.com", "c@example.com"])
        assert posted.codes == [550, 550]
        assert upstream.commands[0][1:] == ("MAIL FROM:<a@example.com>",)


@pytest.mark.parametrize("extensions", [ALL, ()], ids=["pipelining", "one by one"])
async def test_when_recipients_were_taken_out_the_rest_is_asked_anew(post, extensions):
    with FakeUpstream(extensions=extensions) as upstream:
        delivery = post.begin(upstream)
        for recipient in post.recipients("b@example.com", "c@example.com", "d@example.com"):
            assert (await delivery.rcpt(recipient)).positive
        delivered = await post.send(delivery, ["b@example.com", "d@example.com"])
        assert delivered.state is DeliveryState.ACCEPTED
        size = " SIZE=25" if extensions else ""
        assert upstream.commands[0][-5:] == (
            "RSET",
            f"MAIL FROM:<a@example.com>{size}",
            "RCPT TO:<b@example.com>",
            "RCPT TO:<d@example.com>",
            "DATA",
        )
        assert [r.address for r in upstream.messages[0].recipients] == ["b@example.com", "d@example.com"]


async def test_one_delivery_sends_different_messages_to_different_recipients(post):
    with FakeUpstream() as upstream:
        delivery = post.begin(upstream)
        for recipient in post.recipients("b@example.com", "c@example.com"):
            assert (await delivery.rcpt(recipient)).positive
        for name in "bc":
            content = f"For {name}\r\n".encode()
            assert (
                await post.send(delivery, [f"{name}@example.com"], content)
            ).state is DeliveryState.ACCEPTED
        assert [(m.recipients[0].address, m.content) for m in upstream.messages] == [
            ("b@example.com", b"For b\r\n"),
            ("c@example.com", b"For c\r\n"),
        ]
        assert upstream.connections == 1


@pytest.mark.parametrize(
    "script",
    [{}, {"dot": "550 5.7.1 No"}, {"data": "451 4.3.2 Later"}, {"dot": Close()}, {"data": Close()}],
    ids=["taken", "refused", "refused before", "in doubt", "unsent"],
)
async def test_each_recipient_of_a_message_has_the_reply_to_it(post, script):
    """One reply holds for all of them, since SMTP has no other (RFC 5321 section 4.1.1.4)."""
    with FakeUpstream(script) as upstream:
        delivery = post.begin(upstream)
        for recipient in post.recipients("b@example.com", "c@example.com", "d@example.com"):
            assert (await delivery.rcpt(recipient)).positive
        both = await post.send(delivery, ("b@example.com", "d@example.com"))
        alone = await post.send(delivery, ("c@example.com",))
        assert both.replies == (both.reply,) * 2
        assert alone.replies == (alone.reply,)


@pytest.mark.parametrize(
    "content",
    [
        b"no field\r\nContent-Type: message/rfc822\r\n--b\r\n\xc3\xa9\r\n",
        (
            b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
            b"--b\r\nno field\r\nContent-Type: message/global\r\n--c\r\n\xc3\xa9\r\n"
        ),
    ],
)
def test_a_section_that_begins_with_no_field_and_has_no_end_is_read_once(content):
    assert not has_internationalised_header((b"Received: x\r\n", content))
