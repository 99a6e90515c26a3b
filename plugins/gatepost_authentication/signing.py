"""DKIM signatures (RFC 6376, RFC 8463) and ARC sets (RFC 8617) are made."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypedDict

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from gatepost_authentication.arc import ArcSet, seal_input
from gatepost_authentication.canonical import Field, Fields
from gatepost_authentication.signed import Body, covered_fields, domain_key, encode, sign_input

__all__ = ["SIGNED_NAMES", "Signer", "SigningKey", "dkim_signature", "load_key", "seal"]

SIGNED_NAMES = (
    "from", "sender", "reply-to", "to", "cc", "subject", "date", "message-id", "in-reply-to", "references",
    "mime-version", "content-type", "content-transfer-encoding", "content-id", "content-description",
    "resent-date", "resent-from", "resent-sender", "resent-to", "resent-cc", "resent-message-id",
    "list-id", "list-help", "list-unsubscribe", "list-unsubscribe-post", "list-subscribe", "list-post",
    "list-owner", "list-archive",
)  # fmt: skip
"""The fields that a signature covers if they are there (RFC 6376 section 5.4.1)."""
_ONCE_NAMES = ("from", "to", "cc", "subject", "date", "reply-to", "message-id", "content-type")
"""Fields that must not be added later: they are signed once more than they are present (section 8.15)."""
_LINE = 72
_SELECTOR = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", re.ASCII)
_CHUNKS = re.compile(r"[^:]+(?::[^:]+){0,4}:?")
_EMPTY = re.compile(rb"(?:^|;)[ \r\n]*b=(?=;|$)")


class SigningKey(TypedDict):
    """A private key of the settings."""

    domain: str
    """The domain that signs, for example ``example.com``; its subdomains are signed too."""
    selector: str
    """The name of the public key: ``SELECTOR._domainkey.DOMAIN`` in DNS."""
    file: Path
    """The private key, RSA or Ed25519, in PEM format without a password."""


@dataclass(frozen=True, slots=True)
class Signer:
    """A private key, with the domain and selector of its public key."""

    domain: str
    """In A-labels."""
    selector: str
    key: Any = field(repr=False)

    @classmethod
    def of(cls, key: SigningKey) -> Self:
        """Read the key of the settings; raises OSError, or ValueError that says what is wrong."""
        domain = domain_key(key["domain"])
        if not domain:
            raise ValueError(f"domain: {key['domain']!r}, expected a domain like example.com")
        if not _SELECTOR.fullmatch(key["selector"]):
            raise ValueError(f"selector: {key['selector']!r}, expected a name like s2026")
        return cls(domain, key["selector"], load_key(key["file"]))

    @property
    def algorithm(self) -> str:
        """The value of the tag ``a``."""
        return "rsa-sha256" if isinstance(self.key, rsa.RSAPrivateKey) else "ed25519-sha256"

    def sign(self, signed: bytes) -> str:
        """The signature over the bytes, hashed with SHA-256, as base64."""
        if isinstance(self.key, rsa.RSAPrivateKey):
            return encode(self.key.sign(signed, padding.PKCS1v15(), hashes.SHA256()))
        digest = hashes.Hash(hashes.SHA256())
        digest.update(signed)
        return encode(self.key.sign(digest.finalize()))


def load_key(file: Path) -> Any:
    """The RSA or Ed25519 key of a PEM file; raises OSError, or ValueError that says what is wrong."""
    try:
        key = load_pem_private_key(file.read_bytes(), password=None)
    except TypeError:
        raise ValueError(f"{file}: the key is encrypted, expected one without a password") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError(f"{file}: expected a private key in PEM format") from None
    if isinstance(key, rsa.RSAPrivateKey):
        if key.key_size < 1024:
            raise ValueError(f"{file}: an RSA key of {key.key_size} bits, expected at least 1024 (RFC 8301)")
    elif not isinstance(key, ed25519.Ed25519PrivateKey):
        raise ValueError(f"{file}: expected an RSA or Ed25519 key")  # noqa: TRY004 - the file is wrong
    return key


def dkim_signature(
    fields: Fields, body: Body, signer: Signer, *, now: int, expires: int | None = None
) -> bytes:
    """The value of a DKIM-Signature field for a message, with the space before it.

    ``now`` and ``expires`` in seconds since 1970.
    """
    digest, _ = body.digest_now("relaxed")
    names = [name for name in SIGNED_NAMES for _ in range(len(fields.get(name, ())) + (name in _ONCE_NAMES))]
    tags = {
        "v": "1",
        "a": signer.algorithm,
        "c": "relaxed/relaxed",
        "d": signer.domain,
        "s": signer.selector,
        "t": str(now),
        **({"x": str(expires)} if expires is not None else {}),
        "h": ":".join(names),
        "bh": encode(digest),
        "b": "",
    }
    own = Field(b"DKIM-Signature", _written(tags))
    return _with_value(own.value, signer.sign(sign_input(covered_fields(fields, names), own, "relaxed")))


def seal(
    fields: Fields,
    body: Body,
    signer: Signer,
    *,
    sets: Sequence[ArcSet],
    results: str,
    valid: str,
    now: int,
    names: Sequence[str] = (),
) -> tuple[Field, ...]:
    """The fields ARC-Seal, ARC-Message-Signature and ARC-Authentication-Results of the next instance.

    ``results`` is the value of an Authentication-Results field, ``valid`` the result for the chain as it was
    received: none, pass or fail. The caller adds the seal on top, the results below. Nothing is returned for
    a chain that is sealed as failed, since it must not be continued (RFC 8617 section 5.1).
    """
    if sets and sets[-1].seal_tags.get("cv", "").lower() == "fail":
        return ()
    instance = str(len(sets) + 1)
    digest, _ = body.digest_now("relaxed")
    names = names or [name for name in (*SIGNED_NAMES, "dkim-signature") for _ in fields.get(name, ())]
    authentication = Field(b"ARC-Authentication-Results", f" i={instance}; {results}".encode())
    common = {"a": signer.algorithm, "b": "", "d": signer.domain, "i": instance, "s": signer.selector}
    common["t"] = str(now)
    tags = {**common, "bh": encode(digest), "c": "relaxed/relaxed", "h": ":".join(names)}
    message = Field(b"ARC-Message-Signature", _written(dict(sorted(tags.items()))))
    value = signer.sign(sign_input(covered_fields(fields, names), message, "relaxed"))
    message = Field(message.name, _with_value(message.value, value))
    own = Field(b"ARC-Seal", _written(dict(sorted({**common, "cv": valid}.items()))))
    # The seal of a failed chain covers its own set only (RFC 8617 section 5.1.2).
    covered = () if valid == "fail" else sets
    signed = seal_input(covered, authentication, message, own)
    return Field(own.name, _with_value(own.value, signer.sign(signed))), message, authentication


def _written(tags: dict[str, str]) -> bytes:
    """The value of a field, folded between its tags, and a long ``h`` between its names."""
    words: list[str] = []
    for name, value in tags.items():
        chunks = _CHUNKS.findall(value) if name == "h" else [value]
        words += [f"{name}={chunks[0]}", *chunks[1:]]
        words[-1] += ";"
    words[-1] = words[-1].removesuffix(";")
    lines = [""]
    for word in words:
        if len(lines[-1]) + len(word) >= _LINE and lines[-1]:
            lines.append("")
        lines[-1] += f" {word}"
    return "\r\n".join(lines).encode("ascii")


def _with_value(value: bytes, signature: str) -> bytes:
    """The field's value with the signature in its empty tag ``b``, on one line.

    ARC-Seal signs this text too, where folds would count as spaces.
    """
    return _EMPTY.sub(lambda found: found[0] + signature.encode("ascii"), value, count=1)
