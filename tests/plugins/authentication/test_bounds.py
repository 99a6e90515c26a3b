"""What large and hostile messages and records cost: it is bounded, linear, and beside the event loop."""

import random
import threading
from ipaddress import ip_address

import gatepost_authentication
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from gatepost import Action
from gatepost.testing import ask_filter, make_resolver, make_transaction
from gatepost_authentication import Authentication, evidence, keys, signed
from gatepost_authentication.arc import ArcSet
from gatepost_authentication.canonical import HeaderSectionError, canonical_body, split_fields
from gatepost_authentication.signed import Body, encode
from gatepost_authentication.signing import Signer, dkim_signature, seal
from gatepost_authentication.spf import check_host
from gatepost_authentication.tags import TagListError, parse_tags

KEY = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = encode(KEY.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))
ZONE = {
    ("_dmarc.example.org", "TXT"): ["v=DMARC1; p=reject"],
    ("sel._domainkey.example.org", "TXT"): [f"v=DKIM1; k=ed25519; p={PUBLIC}"],
}
SIGNER = Signer("example.org", "sel", KEY)
HEAD = b"From: ann@example.org\r\nSubject: Minutes\r\n"


def letter(head=b"", body=b"Hello\r\n"):
    """A message with a DKIM signature."""
    head += HEAD
    value = dkim_signature(split_fields(head), Body(body), SIGNER, now=1)
    return b"DKIM-Signature:" + value + b"\r\n" + head + b"\r\n" + body


def sealed(count):
    """A message with a chain of so many sets."""
    sets, top = [], b""
    for number in range(count):
        made = seal(
            split_fields(top + HEAD),
            Body(b""),
            SIGNER,
            sets=sets,
            results="lists.example; none",
            valid="pass" if number else "none",
            now=1,
        )
        own, message, results = made
        sets.append(ArcSet(results, message, own, {}, {}))
        top = b"".join(one.name + b":" + one.value + b"\r\n" for one in made) + top
    return top + HEAD + b"\r\n"


async def judged(content):
    return await ask_filter(
        Authentication, make_transaction(content), resolver=make_resolver(ZONE), authserv_id="mx.example.com"
    )


LARGE = {
    "body": (lambda: letter(body=b"Hello Bob \r\n" * 100_000), signed.Body, "_compute"),
    "signed field": (lambda: letter(b"To: " + b"  x" * 200_000 + b"\r\n"), keys.Key, "verifies"),
    "fields": (lambda: letter(b"Received: from a by b\r\n" * 9_000), evidence, "parts_of"),
    "authors": (lambda: letter(b"From: " + b"a@b.example, " * 4_000 + b"\r\n"), evidence, "author_domains"),
    "results": (
        lambda: letter(b"Authentication-Results: " + b"(" * 50_000 + b"\r\n"),
        gatepost_authentication,
        "claims_to_be",
    ),
    "chain": (lambda: sealed(50), keys.Key, "verifies"),
}


@pytest.mark.parametrize("name", LARGE)
async def test_large_messages_are_worked_on_beside_the_event_loop(name, monkeypatch):
    making, owner, function = LARGE[name]
    content = making()
    threads, original = [], getattr(owner, function)

    def noted(*args):
        threads.append(threading.current_thread())
        return original(*args)

    monkeypatch.setattr(owner, function, noted)
    await judged(content)
    assert threads[-1] is not threading.main_thread()


@pytest.mark.parametrize(
    ("owner", "function"),
    [(signed.Body, "_compute"), (keys.Key, "verifies"), (evidence, "parts_of"), (evidence, "author_domains")],
)
async def test_a_small_message_needs_no_other_thread(owner, function, monkeypatch):
    threads, original = set(), getattr(owner, function)

    def noted(*args):
        threads.add(threading.current_thread())
        return original(*args)

    monkeypatch.setattr(owner, function, noted)
    await judged(letter(body=b"Hello Bob\r\n" * 1000))
    assert threads == {threading.main_thread()}


async def test_each_hash_is_computed_once(monkeypatch):
    computed, original = [], signed.Body._compute

    def noted(self, how, length):
        computed.append((how, length))
        original(self, how, length)

    content = letter(body=b"Hello Bob\r\n" * 20_000)
    top, _, rest = content.partition(b"\r\nFrom:")
    monkeypatch.setattr(signed.Body, "_compute", noted)
    verdict = await judged((top + b"\r\n") * 10 + b"From:" + rest)
    assert verdict.reason.count("dkim=pass") == 10
    assert computed == [("relaxed", None)]


@pytest.mark.parametrize(
    "head",
    [b"X: " + b"y" * (1 << 20) + b"\r\n", b"X: y\r\n" * 10_000, b"X: y\r\n y\r\n" * 100_000],
    ids=["bytes", "fields", "both"],
)
async def test_a_header_section_without_measure_is_an_error(head):
    with pytest.raises(HeaderSectionError, match="header section has more than"):
        await judged(head + HEAD + b"\r\n")


async def test_a_large_header_section_is_read():
    head = b"X: y\r\n" * 9_000 + b"X: " + b"y" * 900_000 + b"\r\n"
    assert "dkim=pass" in (await judged(letter(head))).reason


def test_a_body_in_pieces_is_the_same():
    generator = random.Random(1)
    for _ in range(2000):
        body = b"".join(generator.choices([b"\r\n", b" ", b"\t", b"a", b"\r", b"\n"], k=12))
        for how in ("relaxed", "simple"):
            whole = b"".join(canonical_body(body, how))
            for piece in (1, 2, 5):
                assert b"".join(canonical_body(body, how, piece=piece)) == whole, body


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("; ".join(f"t{number}=" for number in range(102)), "100 tags"),
        ("p=" + "A" * (65 << 10), "65536 characters"),
    ],
)
def test_a_list_of_tags_without_measure_is_an_error(text, what):
    with pytest.raises(TagListError, match=what):
        parse_tags(text)


async def spf(record, local="ann"):
    resolver = make_resolver({("example.org", "TXT"): [record]})
    asked, look_up = [], resolver.look_up

    async def noted(name, kind):
        asked.append(name)
        return await look_up(name, kind)

    resolver.look_up = noted
    found = await check_host(
        resolver, ip_address("192.0.2.1"), "example.org", f"{local}@example.org", "h.example"
    )
    return found, asked


async def test_a_record_that_fits_into_no_packet_is_an_error():
    found, _ = await spf("v=spf1 " + "ip4:192.0.2.7 " * 300 + "ip4:192.0.2.1 -all")
    assert (found.result, found.reason) == ("permerror", "example.org: the record has more than 4096 bytes")
    found, _ = await spf("v=spf1 " + "ip4:192.0.2.7 " * 250 + "ip4:192.0.2.1 -all")
    assert found.result == "pass"


async def test_a_long_name_loses_its_first_labels_in_linear_time(within_yardsticks):
    """RFC 7208 section 7.3; the name has 400,000 labels."""
    record = "v=spf1 exists:" + "%{l}." * 800 + "example.org -all"
    with within_yardsticks(20):
        _, asked = await spf(record, local=".".join("a" * 500))
    assert asked[-1] == "a." * 121 + "example.org"


@pytest.mark.parametrize(
    "local",
    [
        "a" * 260,
        "a" * 260 + ".b",
        "b." + "a" * 253,
        "b." + "a" * 241,
        "b." + "a" * 242,
        "a.b",
        "a." * 121 + "a",
    ],
)
async def test_which_labels_a_long_name_loses(local):
    expected = f"{local}.example.org"
    while len(expected) > 253 and "." in expected:
        expected = expected.partition(".")[2]
    found, asked = await spf("v=spf1 exists:%{l}.example.org -all", local=local)
    labels = expected.split(".")
    assert asked[1:] == ([expected] if max(map(len, labels)) <= 63 else [])
    assert found.result == "fail"


async def test_many_addresses_of_one_domain_are_one_author():
    verdict = await judged(b"From: " + b"ann@example.org, " * 3000 + b"ann@EXAMPLE.org\r\n\r\n")
    assert verdict.action is Action.REJECT
    assert verdict.reason.endswith("dmarc=fail; example.org asks for p=reject")
