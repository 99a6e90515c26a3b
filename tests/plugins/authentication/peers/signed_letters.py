"""Letters with signatures and chains of ARC, made from a random generator, and the zone of their domains."""

import base64
import hashlib
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from gatepost_authentication.arc import ArcSet, seal_input
from gatepost_authentication.canonical import Field, canonical_body, split_fields
from gatepost_authentication.signed import covered_fields, sign_input

__all__ = ["SERVFAIL", "Draft", "Letter", "draft", "seal", "zone"]

SERVFAIL = "SERVFAIL"
RSA = rsa.generate_private_key(65537, 2048)
SMALL = rsa.generate_private_key(65537, 1024)
ED = ed25519.Ed25519PrivateKey.generate()
KEYS = {"rsa": RSA, "small": SMALL, "ed": ED}
TINY = (  # 512 bits
    "MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBALVSu0dHVDYZd8RG2ZsRMd0vNXhWXjzIEmPpyl8mLQWBpnBSQ5x1lKJ8qFqrk0H7l5w60aYJaO2S"
    "9nNJ0+lJwUECAwEAAQ=="
)
OWN, ELSEWHERE = "192.0.2.1", "198.51.100.7"
AUTHORS = {
    "reject.example": "v=DMARC1; p=reject",
    "quarantine.example": "v=DMARC1; p=quarantine",
    "none.example": "v=DMARC1; p=none",
    "nopolicy.example": None,
    "strict.example": "v=DMARC1; p=reject; adkim=s; aspf=s",
    "testing.example": "v=DMARC1; p=reject; t=y",
    "percent.example": "v=DMARC1; p=reject; pct=0",
    "sp.example": "v=DMARC1; p=reject; sp=none",
    "np.example": "v=DMARC1; p=none; np=reject",
    "upper.example": "v=DMARC1; p=REJECT",
    "bogus.example": "v=DMARC1; p=bogus; rua=mailto:d@bogus.example",
    "xn--bcher-kva.example": "v=DMARC1; p=quarantine",
}
"""Author domains and their policies."""


def public(key: Any) -> str:
    if isinstance(key, ed25519.Ed25519PrivateKey):
        octets = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    else:
        octets = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(octets).decode()


def zone() -> dict[tuple[str, str], list[str] | str]:
    """Values by name and type; TXT as one text."""
    found: dict[tuple[str, str], list[str] | str] = {}
    rsa_key, ed_key = public(RSA), public(ED)
    selectors: dict[str, list[str] | str] = {
        "rsa": [f"v=DKIM1; k=rsa; p={rsa_key}"],
        "small": [f"v=DKIM1; k=rsa; p={public(SMALL)}"],
        "ed": [f"v=DKIM1; k=ed25519; p={ed_key}"],
        "plain": [f"p={rsa_key}"],
        "revoked": ["v=DKIM1; p="],
        "strict": [f"v=DKIM1; t=s; p={rsa_key}"],
        "testing": [f"v=DKIM1; t=y; p={rsa_key}"],
        "sha1": [f"v=DKIM1; h=sha1; p={rsa_key}"],
        "tlsrpt": [f"v=DKIM1; s=tlsrpt; p={rsa_key}"],
        "late": [f"k=rsa; v=DKIM1; p={rsa_key}"],
        "dkim2": [f"v=DKIM2; p={rsa_key}"],
        "spaced": [f" v = DKIM1 ; k = rsa ; p = {rsa_key[:60]} {rsa_key[60:]} ; "],
        "tiny": [f"v=DKIM1; p={TINY}"],
        "two": [f"v=DKIM1; p={rsa_key}", f"v=DKIM1; k=rsa; p={rsa_key}"],
        "beside": ["some text", f"v=DKIM1; p={rsa_key}"],
        "dsa": [f"v=DKIM1; k=dsa; p={rsa_key}"],
        "broken": SERVFAIL,
    }
    domains = [
        *AUTHORS,
        "stranger.example",
        "lists.example",
        "relay.example",
        "bar.psd.example",
        "notreject.example",
    ]
    for domain in [*domains, *(f"news.{one}" for one in domains)]:
        found[domain, "A"] = [OWN]
        found[domain, "TXT"] = [f"v=spf1 ip4:{OWN} -all"]
        for name, record in selectors.items():
            found[f"{name}._domainkey.{domain}", "TXT"] = record
    for domain, policy in AUTHORS.items():
        if policy:
            found[f"_dmarc.{domain}", "TXT"] = [policy]
    found["_dmarc.stranger.example", "TXT"] = ["v=DMARC1; p=none"]
    for name, record in {
        "soft": "v=spf1 ~all",
        "neutral": "v=spf1 ?all",
        "include": "v=spf1 include:stranger.example -all",
        "loop": "v=spf1 include:loop.spf.example -all",
        "wrong": "v=spf1 ip5:192.0.2.1 -all",
        "redirect": "v=spf1 redirect=stranger.example",
        "macro": "v=spf1 exists:%{ir}.%{v}._spf.%{d} -all",
        "void": "v=spf1 a:v1.example a:v2.example a:v3.example ~all",
        "slash": f"v=spf1 a:stranger.example/24 ip4:{ELSEWHERE}/33 -all",
    }.items():
        found[f"{name}.spf.example", "TXT"] = [record]
    found["1.2.0.192.in-addr._spf.macro.spf.example", "A"] = ["127.0.0.2"]
    found["two.spf.example", "TXT"] = ["v=spf1 -all", "v=spf1 +all"]
    found["broken.spf.example", "TXT"] = SERVFAIL
    found["_dmarc.twice.example", "TXT"] = ["v=DMARC1; p=reject", "v=DMARC1; p=none"]
    found["_dmarc.beside.example", "TXT"] = ["some text", "v=DMARC1; p=reject"]
    found["_dmarc.rua.example", "TXT"] = ["v=DMARC1; rua=mailto:d@rua.example"]
    found["_dmarc.late.example", "TXT"] = ["p=reject; v=DMARC1"]
    found["_dmarc.badsp.example", "TXT"] = ["v=DMARC1; p=reject; sp=bogus"]
    found["_dmarc.broken.example", "TXT"] = SERVFAIL
    found["_dmarc.psd.example", "TXT"] = ["v=DMARC1; p=reject; psd=y"]
    found["_dmarc.low.reject.example", "TXT"] = ["v=DMARC1; p=none"]
    for name in ("foo.psd.example", "low.reject.example", "deep.low.reject.example"):
        found[name, "A"] = [OWN]
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A message with its envelope; ``features`` say what is special about it."""

    features: frozenset[str]
    content: bytes
    mail_from: str
    client: str


@dataclass(slots=True)
class Draft:
    """A message before it is sent; twists change it."""

    random: random.Random
    author: str
    mail_from: str
    client: str
    features: set[str] = field(default_factory=set)
    fields: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    top: bytes = b""
    """What is written above the fields: signatures, sets of ARC, and what was added on the way."""

    @property
    def content(self) -> bytes:
        head = "".join(f"{name}:{value}\r\n" for name, value in self.fields).encode()
        return self.top + head + b"\r\n" + self.body

    def sign(self, **spec: Any) -> None:
        self.top = _line(signature(self.random, self.content, **{"domain": self.author, **spec})) + self.top

    def finished(self) -> Letter:
        return Letter(
            features=frozenset(self.features),
            content=self.content,
            mail_from=self.mail_from,
            client=self.client,
        )


def _line(one: Field) -> bytes:
    return one.name + b":" + one.value + b"\r\n"


def parsed(content: bytes) -> tuple[list[Field], bytes]:
    head, _, body = content.partition(b"\r\n\r\n")
    return split_fields(head + b"\r\n"), body


STYLES = ("; ", ";", ";\r\n\t", " ;\r\n  ")


def signature(
    random: random.Random,
    content: bytes,
    *,
    domain: str,
    selector: str = "",
    canonical: str = "",
    names: str = "from:to:subject:date",
    length: int | None = None,
    tags: Mapping[str, str | None] = {},
    style: str = "",
    algorithm: str = "",
    name: bytes = b"DKIM-Signature",
    first: tuple[str, str] = ("v", "1"),
) -> Field:
    """A signature's field. ``tags`` are added or written over the right ones; None leaves one out."""
    selector = selector or random.choice(["rsa", "rsa", "ed", "small"])
    key = KEYS.get(selector, RSA)
    canonical = canonical or random.choice(
        ["simple/simple", "relaxed/relaxed", "simple/relaxed", "relaxed/simple"]
    )
    header, _, how = canonical.partition("/")
    how = how or "simple"
    fields, body = parsed(content)
    digest = hashlib.new("sha1" if algorithm.endswith("sha1") else "sha256")
    digest.update(b"".join(canonical_body(body, how))[:length])
    written: dict[str, str | None] = {
        first[0]: first[1],
        "a": algorithm or ("ed25519-sha256" if key is ED else "rsa-sha256"),
        "c": canonical,
        "d": domain,
        "s": selector,
        "t": "1700000000",
        "h": names,
        "l": None if length is None else str(length),
        "bh": base64.b64encode(digest.digest()).decode(),
        **tags,
    }
    style = style or random.choice(STYLES)
    text = style.join([*(f"{tag}={value}" for tag, value in written.items() if value is not None), "b="])
    own = Field(name, f" {text}".encode())
    signed = sign_input(covered_fields(fields, names.lower().replace(" ", "").split(":")), own, header)
    if key is ED:
        value = ED.sign(hashlib.sha256(signed).digest())
    else:
        how_hashed = hashes.SHA1() if algorithm.endswith("sha1") else hashes.SHA256()
        value = key.sign(signed, padding.PKCS1v15(), how_hashed)
    encoded = base64.b64encode(value).decode()
    if random.random() < 0.5:
        encoded = "\r\n\t".join(encoded[at : at + 60] for at in range(0, len(encoded), 60))
    if tags.get("b", "") is None:
        return Field(name, own.value.removesuffix(b"b=").rstrip(b"; \r\n\t"))
    return Field(name, own.value + encoded.encode())


def seal(
    draft: Draft,
    sets: list[ArcSet],
    *,
    results: str = "dmarc=pass",
    cv: str = "",
    domain: str = "lists.example",
    seal_tags: Mapping[str, str] = {},
    **spec: Any,
) -> None:
    """Add the next set of ARC on top."""
    number = str(len(sets) + 1)
    said = Field(b"ARC-Authentication-Results", f" i={number}; {domain}; {results}".encode())
    spec = {"selector": "rsa", "canonical": "relaxed/relaxed", "style": "; ", **spec}
    message = signature(
        draft.random, draft.content, domain=domain, name=b"ARC-Message-Signature", first=("i", number), **spec
    )
    tags = {
        "i": number,
        "a": "rsa-sha256",
        "cv": cv or ("none" if not sets else "pass"),
        "d": domain,
        "s": "rsa",
        "t": "1700000000",
        **seal_tags,
    }
    own = Field(b"ARC-Seal", f" {'; '.join(f'{tag}={value}' for tag, value in tags.items())}; b=".encode())
    value = RSA.sign(seal_input(sets, said, message, own), padding.PKCS1v15(), hashes.SHA256())
    own = Field(own.name, own.value + base64.b64encode(value))
    draft.top = _line(own) + _line(message) + _line(said) + draft.top
    sets.append(ArcSet(said, message, own, {}, {}))


def draft(random: random.Random) -> Draft:
    """An ordinary message of a random author, sent in a random way."""
    author = random.choice([*AUTHORS])
    sent = random.choice(["own", "own", "stranger", "forged", "subdomain"])
    mail_from, client = {
        "own": (f"ann@{author}", OWN),
        "stranger": ("x@stranger.example", OWN),
        "forged": (f"ann@{author}", ELSEWHERE),
        "subdomain": (f"ann@news.{author}", OWN),
    }[sent]
    made = Draft(random, author, mail_from, client, {f"author {author}", f"sent {sent}"})
    made.fields = [
        ("From", f" Ann Lee <ann@{author}>"),
        ("To", " bob@example.com"),
        ("Subject", random.choice([" Minutes", "  Two  blanks \t here", " Folded\r\n subject", ""])),
        ("Date", " Fri, 11 Jul 2025 21:00:37 -0700"),
        ("Message-ID", f" <{random.getrandbits(64)}@{author}>"),
    ]
    lines = [b"Hello Bob,", b"", b"two  blanks\tand a tab ", b"x" * 200, b".dot", b" ", b"\xc3\xa4", b""]
    made.body = b"".join(random.choice(lines) + b"\r\n" for _ in range(random.randrange(12)))
    return made
