"""What is special about a generated letter: one twist each."""

import random
from collections.abc import Callable, Iterator
from typing import Any

from signed_letters import ELSEWHERE, OWN, Draft, Letter, draft, seal

__all__ = ["letters"]

Twist = Callable[[Draft], None]


def letters(count: int, *, seed: int) -> Iterator[Letter]:
    """So many letters; each twist is used about equally often."""
    for number in range(count):
        name = [*TWISTS][number % len(TWISTS)]
        made = draft(random.Random(f"{seed} {number}"))
        made.features.add(name)
        TWISTS[name](made)
        yield made.finished()


def signed(**spec: Any) -> Twist:
    """A signature that is made in this way."""
    return lambda made: made.sign(**spec)


def tagged(selector: str = "rsa", /, **tags: str | None) -> Twist:
    """A signature with these tags."""
    return lambda made: made.sign(tags=tags, selector=selector)


def then(spec: dict[str, Any], change: Twist) -> Twist:
    """A signature, and a change on the way."""

    def twist(made: Draft) -> None:
        made.sign(**spec)
        change(made)

    return twist


def replaced(name: str, value: str) -> Twist:
    def twist(made: Draft) -> None:
        made.fields = [(one, value if one == name else text) for one, text in made.fields]

    return twist


def added(field: bytes) -> Twist:
    def twist(made: Draft) -> None:
        made.top = field + made.top

    return twist


def appended(octets: bytes) -> Twist:
    def twist(made: Draft) -> None:
        made.body += octets

    return twist


def renamed(made: Draft) -> None:
    made.fields = [(f"{name.upper()} ", text) for name, text in made.fields]


def spaced(made: Draft) -> None:
    made.fields = [(name, f" {text}\t ") for name, text in made.fields]
    made.body = made.body.replace(b" ", b" \t ")


def several(*specs: dict[str, Any]) -> Twist:
    def twist(made: Draft) -> None:
        for spec in specs:
            made.sign(**spec)

    return twist


def written(made: Draft, author: str, mail_from: str = "x@stranger.example", client: str = OWN) -> None:
    """From is this, and the reverse-path is another's."""
    made.features = {one for one in made.features if not one.startswith(("author", "sent"))}
    made.mail_from, made.client = mail_from, client
    replaced("From", f" {author}")(made)


def author(value: str, mail_from: str = "x@stranger.example", client: str = OWN, **spec: Any) -> Twist:
    def twist(made: Draft) -> None:
        written(made, value, mail_from, client)
        if spec:
            made.sign(**spec)

    return twist


def sent(mail_from: str, client: str = OWN) -> Twist:
    def twist(made: Draft) -> None:
        made.features = {one for one in made.features if not one.startswith("sent")}
        made.mail_from, made.client = mail_from, client

    return twist


def chained(count: int, change: Twist | None = None, **spec: Any) -> Twist:
    """A chain of so many sets, each by another forwarder; ``spec`` is for the last."""

    def twist(made: Draft) -> None:
        sets: list[Any] = []
        for number in range(count):
            domain = ("lists.example", "relay.example")[number % 2]
            seal(made, sets, **{"domain": domain, **(spec if number == count - 1 else {})})
        if change:
            change(made)

    return twist


def cut(octets: bytes, by: bytes = b"") -> Twist:
    def twist(made: Draft) -> None:
        assert octets in made.top
        made.top = made.top.replace(octets, by, 1)

    return twist


def body(octets: bytes, **spec: Any) -> Twist:
    def twist(made: Draft) -> None:
        made.body = octets
        made.sign(**spec)

    return twist


def no_from(made: Draft) -> None:
    written(made, "")
    made.fields = [one for one in made.fields if one[0] != "From"]


def many_received(made: Draft) -> None:
    made.fields = [("Received", f" from a{number} by b") for number in range(3)] + made.fields
    made.sign(names="received:from:received")


def whole_length(made: Draft) -> None:
    made.body = b"Hello\r\nBob\r\n"
    made.sign(length=12)


def plain(made: Draft) -> None:
    """No signature."""


LONG_NAMES = "From : To :\r\n Subject : Date :\r\n\tMessage-ID : X-None"
KEYS = (
    *("small", "ed", "plain", "revoked", "strict", "testing", "sha1", "tlsrpt", "late", "dkim2", "spaced"),
    *("tiny", "two", "beside", "dsa", "missing", "broken"),
)
SPF = (
    *("soft", "neutral", "include", "loop", "wrong", "redirect", "macro", "void", "slash", "two", "broken"),
    "none",
)
OTHER_SEAL = b"; a=rsa-sha256; cv=none; d=lists.example; s=rsa; b=AAAA\r\n"
TWISTS: dict[str, Twist] = {
    "plain": plain,
    "signed": signed(),
    "signed subdomain": lambda made: made.sign(domain=f"news.{made.author}"),
    "signed stranger": signed(domain="stranger.example"),
    "simple only": signed(canonical="simple"),
    "relaxed only": signed(canonical="relaxed"),
    "tight": signed(style=";"),
    "folded": signed(style=";\r\n\t"),
    "long names": signed(names=LONG_NAMES),
    "oversigned": signed(names="from:from:to:to:subject:subject"),
    "many received": many_received,
    "l whole": whole_length,
    "l part": then({"length": 0}, appended(b"and more\r\n")),
    "l part unchanged": body(b"Hello\r\nBob\r\n", length=7),
    "l long": tagged(l="99999"),
    "l wrong": tagged(l="-1"),
    **{f"no {tag}": tagged(**{tag: None}) for tag in ("v", "a", "b", "bh", "d", "h", "s")},
    "v 2": tagged(v="2"),
    "a unknown": tagged(a="rsa-sha512"),
    "a sha1": signed(selector="rsa", algorithm="rsa-sha1"),
    "a of another key": tagged(a="ed25519-sha256"),
    "c unknown": tagged(c="loose/loose"),
    "q http": tagged(q="http"),
    "q dns": tagged(q="dns/txt"),
    "expired": tagged(x="1700000001"),
    "expires": tagged(x="4000000000"),
    "x before t": tagged(x="1600000000"),
    "from the future": tagged(t="4000000000"),
    "t wrong": tagged(t="soon"),
    "i own": lambda made: made.sign(tags={"i": f"ann@{made.author}"}),
    "i subdomain": lambda made: made.sign(tags={"i": f"ann@news.{made.author}"}),
    "i subdomain, strict key": lambda made: made.sign(
        selector="strict", tags={"i": f"ann@news.{made.author}"}
    ),
    "i stranger": tagged(i="x@stranger.example"),
    "unknown tag": tagged(zz="1"),
    "upper-case d": lambda made: made.sign(domain=made.author.upper()),
    "twice d": then({"style": "; "}, cut(b"; s=", b"; d=stranger.example; s=")),
    "trailing semicolon": then({"selector": "rsa", "style": "; "}, cut(b"==", b"==;")),
    "From unsigned": signed(names="to:subject"),
    **{f"key {name}": signed(selector=name) for name in KEYS},
    "body changed": then({}, appended(b"Buy!\r\n")),
    "lines added": then({}, appended(b"\r\n\r\n")),
    "header changed": then({}, replaced("Subject", " Buy!")),
    "other field added": then({}, added(b"X-Other: 1\r\n")),
    "subject added": then({}, added(b"Subject: Buy!\r\n")),
    "subject added, oversigned": then({"names": "from:subject:subject"}, added(b"Subject: Buy!\r\n")),
    "From added": then({}, added(b"From: ceo@stranger.example\r\n")),
    "names changed": then({"canonical": "relaxed/relaxed"}, renamed),
    "spaces changed": then({"canonical": "relaxed/relaxed"}, spaced),
    "spaces changed, simple": then({"canonical": "simple/simple"}, spaced),
    "no body": body(b""),
    "empty lines": body(b"\r\n\r\n\r\n"),
    "blank lines": body(b" \r\n\t\r\n"),
    "blanks": body(b" " * 2000 + b"\r\n"),
    "several": several({}, {"selector": "ed"}, {"domain": "stranger.example"}),
    "several, one broken": several({"selector": "missing"}, {"selector": "revoked"}, {"selector": "ed"}),
    "twelve": several(*[{"selector": "ed"}] * 12),
    "two authors": author(" a@none.example, b@reject.example"),
    "two authors of one domain": author(" a@reject.example, b@reject.example", "x@reject.example"),
    "no From": no_from,
    "From without domain": author("root@localhost"),
    "From address literal": author("root@[192.0.2.1]"),
    "From group": author("Friends: a@reject.example, b@reject.example;"),
    "From shows another address": author('"ann@reject.example" <x@none.example>'),
    "From encoded": author("=?utf-8?q?B=C3=BCcher?= <ann@xn--bcher-kva.example>"),
    "From IDN": author("ann@bücher.example", domain="xn--bcher-kva.example"),
    "policy twice": author("a@twice.example"),
    "policy beside": author("a@beside.example"),
    "policy rua only": author("a@rua.example"),
    "policy late": author("a@late.example"),
    "policy bad sp": author("a@badsp.example"),
    "policy SERVFAIL": author("a@broken.example"),
    "policy of subdomain": author("a@news.sp.example"),
    "policy of missing subdomain": author("a@gone.np.example"),
    "policy of existing subdomain": author("a@news.np.example"),
    "policy strict, aligned": author("a@strict.example", "a@strict.example"),
    "policy strict, subdomain": author("a@strict.example", "a@news.strict.example"),
    "policy strict, DKIM of subdomain": author("a@strict.example", domain="news.strict.example"),
    "policy psd, neighbour": author("a@foo.psd.example", domain="bar.psd.example"),
    "a name that ends like the author's": author("a@reject.example", domain="notreject.example"),
    "policy psd": author("a@foo.psd.example"),
    "policy low": author("a@low.reject.example", "x@reject.example"),
    "policy below low": author("a@deep.low.reject.example", "x@reject.example"),
    "sibling": author(
        "a@a.reject.example", "x@b.reject.example", ELSEWHERE, domain="b.reject.example", selector="gone"
    ),
    **{f"spf {name}": sent(f"x@{name}.spf.example") for name in SPF},
    "bounce": sent(""),
    **{f"arc {count}": chained(count) for count in (1, 2, 3)},
    "arc 12": chained(12),
    "arc body changed": chained(2, appended(b"Buy!\r\n")),
    "arc first set changed": chained(
        2, cut(b"i=1; lists.example; dmarc=pass", b"i=1; lists.example; dmarc=fail")
    ),
    "arc set missing": chained(2, cut(b"ARC-Authentication-Results: i=1", b"X-Other: i=1")),
    "arc cv none": chained(2, cv="none"),
    "arc cv fail": chained(2, cv="fail"),
    "arc cv pass first": chained(1, cv="pass"),
    "arc l": chained(1, length=0),
    "arc From unsigned": chained(1, names="to:subject"),
    "arc key missing": chained(1, selector="missing", seal_tags={"s": "missing"}),
    "arc key broken": chained(1, selector="broken", seal_tags={"s": "broken"}),
    "arc seal with h": chained(1, seal_tags={"h": "from"}),
    "arc small key": chained(1, selector="small"),
    "arc ed key": chained(1, selector="ed"),
    "arc instance twice": chained(1, added(b"ARC-Seal: i=1" + OTHER_SEAL)),
    "arc instance 51": chained(1, added(b"ARC-Seal: i=51" + OTHER_SEAL)),
    "arc blank before semicolon": chained(1, style=" ;\r\n  "),
    "arc simple": chained(2, canonical="simple/simple"),
    "arc folded": chained(2, style=";\r\n\t"),
    "arc header changed": chained(1, replaced("Subject", " Buy!")),
    "arc and DKIM": lambda made: several({}, {})(made) or chained(1)(made),
}
