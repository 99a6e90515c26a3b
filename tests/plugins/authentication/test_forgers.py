"""What forgers try: names that never answer, authors without a domain, signatures that cover too little."""

import asyncio
import base64
import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from gatepost import Action, AddHeader, Resolver
from gatepost.testing import ask_filter, make_resolver, make_transaction
from gatepost_authentication import Authentication
from gatepost_authentication.arc import seal_input, validate
from gatepost_authentication.canonical import Field, canonical_body, split_fields
from gatepost_authentication.signed import Body, covered_fields, sign_input
from gatepost_authentication.signing import Signer

KEY = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = base64.b64encode(KEY.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()
RECORD = [f"v=DKIM1; k=ed25519; p={PUBLIC}"]
ZONE = {
    ("victim.example", "TXT"): ["v=spf1 ip4:192.0.2.1 -all"],
    ("_dmarc.victim.example", "TXT"): ["v=DMARC1; p=reject"],
    ("sel._domainkey.victim.example", "TXT"): RECORD,
    ("_dmarc.partner.example", "TXT"): ["v=DMARC1; p=reject"],
    ("_dmarc.careful.example", "TXT"): ["v=DMARC1; p=quarantine"],
    ("sel._domainkey.lists.example", "TXT"): RECORD,
    ("sel._domainkey.forger.example", "TXT"): RECORD,
}
FORGER, OWNER = "198.51.100.7", "192.0.2.1"


def resolver_with_silent(silent):
    """A resolver that answers from the table, and never about names that end like one of ``silent``."""
    known = make_resolver(ZONE)

    async def ask(name, kind):
        if name.endswith(tuple(silent)):
            await asyncio.sleep(60)
        return await known.look_up(name, kind), 60

    return Resolver(ask=ask, timeout_seconds=60)


def letter(author, *, added=b"", body=b"Hello\r\nBob\r\n"):
    head = f"From: {author}\r\nTo: bob@example.com\r\nSubject: Minutes\r\n".encode()
    return added + head + b"\r\n" + body


def parsed(content):
    head, _, body = content.partition(b"\r\n\r\n")
    return split_fields(head + b"\r\n"), body


def signature(content, domain, *, name=b"DKIM-Signature", first="v=1", names="from:to:subject", length=None):
    """A field with a signature over the content, which covers ``length`` bytes of the body."""
    fields, body = parsed(content)
    digest = base64.b64encode(
        hashlib.sha256(b"".join(canonical_body(body, "relaxed"))[:length]).digest()
    ).decode()
    some = "" if length is None else f" l={length};"
    bare = (
        f" {first}; a=ed25519-sha256; c=relaxed/relaxed; d={domain}; s=sel; h={names};{some} bh={digest}; b="
    )
    own = Field(name, bare.encode())
    value = Signer(domain, "sel", KEY).sign(
        sign_input(covered_fields(fields, names.lower().split(":")), own, "relaxed")
    )
    return Field(name, own.value + value.encode())


def line(field):
    return field.name + b":" + field.value + b"\r\n"


def signed(content, *domains, **more):
    return b"".join(line(signature(content, domain, **more)) for domain in domains) + content


def sealed(content, *, results="dmarc=pass", domain="lists.example", **more):
    """The content with a chain of one set."""
    said = Field(b"ARC-Authentication-Results", f" i=1; {domain}; {results}".encode())
    message = signature(content, domain, name=b"ARC-Message-Signature", first="i=1", **more)
    own = Field(b"ARC-Seal", f" i=1; a=ed25519-sha256; cv=none; d={domain}; s=sel; b=".encode())
    value = Signer(domain, "sel", KEY).sign(seal_input((), said, message, own))
    return line(Field(own.name, own.value + value.encode())) + line(message) + line(said) + content


class ImpatientLoop(asyncio.SelectorEventLoop):
    """An event loop that does not wait: if there is nothing to do, its clock jumps to the next time-out."""

    def __init__(self):
        super().__init__()
        self._skipped = 0.0
        self._wait = self._selector.select
        self._selector.select = self._skip

    def time(self):
        return super().time() + self._skipped

    def _skip(self, timeout):
        ready = self._wait(timeout if timeout is None else 0)
        if not ready and timeout:
            self._skipped += timeout
        return ready


def verdict_on(content, resolver, *, client=FORGER, mail_from="x@forger.example", **settings):
    transaction = make_transaction(content, client=client, mail_from=mail_from)
    with asyncio.Runner(loop_factory=ImpatientLoop) as runner:
        asked = ask_filter(
            Authentication, transaction, resolver=resolver, authserv_id="mx.example.com", **settings
        )
        clock = runner.get_loop().time
        started = clock()
        verdict = runner.run(asked)
        assert clock() - started < 30, "the deadline is 8 s, a silent name takes 60 s"
    return verdict


def judged(content, *, silent=("silent.example",), **more):
    verdict = verdict_on(content, resolver_with_silent(silent), **more)
    return verdict.action, *verdict.reason.partition(";")[0].split(", ")


SILENT = [f"s{number}.silent.example" for number in range(10)]


@pytest.mark.parametrize(
    ("content", "mail_from"),
    [
        (letter("ceo@victim.example"), "x@silent.example"),
        (signed(letter("ceo@victim.example"), "silent.example"), "x@forger.example"),
        (signed(letter("ceo@victim.example"), *SILENT), "x@silent.example"),
        (letter("x@silent.example, ceo@victim.example"), "x@silent.example"),
        (letter("ceo@victim.example, x@silent.example, y@forger.example"), "x@silent.example"),
        (letter("ceo@sub.victim.example"), "x@silent.example"),
        (letter("ceo@victim.example"), "x@victim.example.silent.example"),
        (signed(letter("ceo@victim.example"), "notvictim.example"), "x@forger.example"),
    ],
)
def test_silent_names_of_a_forger_save_no_forgery(content, mail_from):
    action, *results = judged(
        content, mail_from=mail_from, silent=("silent.example", "notvictim.example", "_dmarc.forger.example")
    )
    assert (action, results[-1]) == (Action.REJECT, "dmarc=fail")


def test_passing_strangers_whose_policy_is_silent_save_no_forgery():
    """A signature that passes, of a domain whose _dmarc name never answers."""
    content = signed(letter("ceo@victim.example"), "forger.example")
    action, *results = judged(content, silent=("_dmarc.forger.example",))
    assert (action, *results[1:]) == (Action.REJECT, "dkim=pass", "arc=none", "dmarc=fail")


@pytest.mark.parametrize(("length", "signers"), [(None, ["signed_by=forger.example"]), (2, [])])
def test_to_what_is_not_signed_anybody_may_have_added(length, signers):
    content = signed(letter("ceo@victim.example"), "forger.example", length=length)
    found = verdict_on(content, resolver_with_silent(())).auth
    assert "dkim=pass" in found
    assert [one for one in found if one.startswith("signed_by")] == signers


def test_a_silent_stranger_spoils_no_honest_signature():
    content = signed(letter("ann@victim.example"), "victim.example", "silent.example")
    action, *results = judged(content)
    assert action is Action.TAG
    assert results[1:] == ["dkim=pass", "dkim=temperror", "arc=none", "dmarc=pass"]


@pytest.mark.parametrize(
    ("content", "mail_from", "silent"),
    [
        (
            signed(letter("ann@victim.example"), "victim.example"),
            "x@forger.example",
            "sel._domainkey.victim.example",
        ),
        (letter("ann@victim.example"), "ann@victim.example", "victim.example"),
        (letter("ann@victim.example"), "ann@mail.victim.example", "mail.victim.example"),
        (letter("ann@victim.example"), "x@forger.example", "_dmarc.victim.example"),
        (
            signed(letter("ann@victim.example"), "news.victim.example"),
            "x@forger.example",
            "news.victim.example",
        ),
    ],
)
def test_silent_names_of_the_author_are_temporary(content, mail_from, silent):
    action, *results = judged(content, mail_from=mail_from, silent=(silent,))
    assert (action, results[-1]) == (Action.TAG, "dmarc=temperror")


def test_policies_are_looked_up_while_the_other_methods_wait():
    """Else a forger's silent names would leave the author's policy too little time."""
    known, asked = make_resolver(ZONE), []

    async def ask(name, kind):
        asked.append(name)
        await asyncio.sleep(60 if name == "silent.example" else 3)
        return await known.look_up(name, kind), 60

    content = letter("ceo@victim.example")
    verdict = verdict_on(content, Resolver(ask=ask, timeout_seconds=60), mail_from="x@silent.example")
    assert (verdict.action, verdict.reason.partition(";")[0][-10:]) == (Action.REJECT, "dmarc=fail")
    assert asked.count("_dmarc.victim.example") == 1


def test_dmarc_has_time_of_its_own():
    """Whether a subdomain exists is asked last, when a forger's silent names have used up the time."""
    known = make_resolver({("_dmarc.victim.example", "TXT"): ["v=DMARC1; p=none; np=reject"]})

    async def ask(name, kind):
        await asyncio.sleep(60 if name == "silent.example" else 0.5)
        return await known.look_up(name, kind), 60

    content = letter("ceo@gone.victim.example")
    verdict = verdict_on(content, Resolver(ask=ask, timeout_seconds=60), mail_from="x@silent.example")
    assert (verdict.action, verdict.reason.partition(";")[0][-10:]) == (Action.REJECT, "dmarc=fail")


@pytest.mark.parametrize(
    ("author", "result", "action"),
    [
        ("root@localhost", "permerror", Action.TAG),
        ("ann@[192.0.2.1]", "permerror", Action.TAG),
        ("ann@[IPv6:2001:db8::1]", "permerror", Action.TAG),
        ("ann@example", "permerror", Action.TAG),
        ("ann@", "permerror", Action.TAG),
        ("ann@-.example", "permerror", Action.TAG),
        ("root@localhost, ann@unknown.example", "permerror", Action.TAG),
        ("root@localhost, ceo@victim.example", "fail", Action.REJECT),
        ("ceo@victim.example, ann@[192.0.2.1]", "fail", Action.REJECT),
        (", ".join(f"a@d{n}.example" for n in range(10)), "none", Action.TAG),
        (", ".join(f"a@d{n}.example" for n in range(11)), "fail", Action.REJECT),
        (", ".join(f"a{n}@unknown.example" for n in range(50)), "none", Action.TAG),
        ("ceo@victim.example, " + ", ".join(f"a@d{n}.example" for n in range(10)), "fail", Action.REJECT),
    ],
)
def test_authors_without_a_domain_and_many_authors(author, result, action):
    found, *results = judged(letter(author))
    assert (found, results[-1]) == (action, f"dmarc={result}")


def test_the_reason_for_many_authors_is_said():
    content = letter(", ".join(f"a@d{n}.example" for n in range(11)))
    verdict = verdict_on(content, make_resolver(ZONE))
    assert verdict.reason.endswith("dmarc=fail; more than 10 author domains")
    (field,) = [edit.value for edit in verdict.edits if isinstance(edit, AddHeader)]
    assert field.endswith("; dmarc=fail (more than 10 author domains)")


@pytest.mark.parametrize(
    ("author", "action"),
    [
        ("ann@partner.example", Action.TAG),
        ("ann@partner.example, ceo@victim.example", Action.REJECT),
        ("ann@partner.example, bob@careful.example", Action.QUARANTINE),
        ("bob@careful.example, ceo@victim.example", Action.REJECT),
        ("ceo@victim.example, bob@careful.example", Action.REJECT),
    ],
)
def test_an_exception_excuses_no_other_author(author, action):
    found, *_ = judged(letter(author), dmarc={"exceptions": ["partner.example"]})
    assert found is action


TRUST = {"trusted_sealers": ["lists.example"]}


@pytest.mark.parametrize(
    ("content", "arc", "action"),
    [
        (sealed(letter("ann@victim.example")), "arc=pass", Action.TAG),
        (sealed(letter("ann@victim.example"), names="to:subject"), "arc=pass", Action.REJECT),
        (b"From: ceo@victim.example\r\n" + sealed(letter("ann@unknown.example")), "arc=pass", Action.REJECT),
        (
            b"From: ceo@victim.example\r\n" + sealed(letter("ann@unknown.example"), names="from:from"),
            "arc=fail",
            Action.REJECT,
        ),
        (sealed(letter("ann@victim.example"), length=7), "arc=fail", Action.REJECT),
        (sealed(letter("ann@victim.example"), length=0), "arc=fail", Action.REJECT),
        (sealed(letter("ann@victim.example"), length=12), "arc=pass", Action.TAG),
        (sealed(letter("ann@victim.example"), length=12) + b"Buy!\r\n", "arc=fail", Action.REJECT),
    ],
    ids=[
        "honest",
        "From unsigned",
        "From added",
        "From may not be added",
        "l=7",
        "l=0",
        "l=all",
        "text added",
    ],
)
def test_a_chain_excuses_what_it_has_signed(content, arc, action):
    found, *results = judged(content, dmarc=TRUST)
    assert (found, results[-2]) == (action, arc)


def forged_on_top(content):
    """A second set that claims to be of lists.example, on one of a domain that never answers."""
    first = sealed(content, domain="silent.example")
    second = sealed(content).replace(b"i=1", b"i=2").replace(b"cv=none", b"cv=pass")
    return second.removesuffix(content) + first


@pytest.mark.parametrize(
    ("content", "silent", "arc", "action"),
    [
        (sealed(letter("ann@victim.example")), "lists.example", "arc=temperror", Action.DEFER),
        (
            sealed(letter("ann@victim.example"), results="dmarc=fail"),
            "lists.example",
            "arc=temperror",
            Action.REJECT,
        ),
        (sealed(letter("ann@victim.example"), names="to"), "lists.example", "arc=temperror", Action.REJECT),
        (sealed(letter("ann@victim.example"), length=7), "lists.example", "arc=temperror", Action.DEFER),
        (
            sealed(letter("ann@victim.example"), domain="silent.example"),
            "silent.example",
            "arc=temperror",
            Action.REJECT,
        ),
        (forged_on_top(letter("ann@victim.example")), "silent.example", "arc=fail", Action.REJECT),
    ],
    ids=["honest", "no pass there", "From unsigned", "l=7", "not trusted", "forged"],
)
def test_a_trusted_forwarder_with_silent_names_is_asked_for_again_later(content, silent, arc, action):
    found, *results = judged(content, silent=(silent,), dmarc=TRUST)
    assert (found, results[-2]) == (action, arc)


@pytest.mark.parametrize(("names", "expected"), [("from:to", True), ("to", False), ("FROM", True)])
async def test_a_chain_tells_whether_it_signs_the_author(names, expected):
    fields, body = parsed(sealed(letter("ann@victim.example"), names=names))
    chain = await validate(fields, Body(body), make_resolver(ZONE), seconds=5)
    assert (chain.result, chain.signs_from) == ("pass", expected)


@pytest.mark.parametrize(
    ("content", "dkim", "dmarc"),
    [
        (signed(letter("ann@victim.example"), "victim.example"), "pass", "pass"),
        (
            b"From: ceo@victim.example\r\n" + signed(letter("ann@victim.example"), "victim.example"),
            "policy",
            "fail",
        ),
        (signed(letter("ann@victim.example"), "victim.example", length=7), "pass", "fail"),
        (signed(letter("ann@victim.example"), "victim.example", length=12), "pass", "pass"),
        (signed(letter("ann@victim.example"), "victim.example", names="from:from"), "pass", "pass"),
        (
            signed(
                b"From: b@victim.example\r\n" + letter("ann@victim.example"),
                "victim.example",
                names="from:from",
            ),
            "pass",
            "pass",
        ),
    ],
)
def test_a_signature_counts_for_the_author_it_covers(content, dkim, dmarc):
    _, _, *results = judged(content)
    assert results == [f"dkim={dkim}", "arc=none", f"dmarc={dmarc}"]
