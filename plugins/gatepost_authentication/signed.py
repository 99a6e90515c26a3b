"""What a signature covers: header fields, and a body by its hash; shared by DKIM and ARC."""

import asyncio
import base64
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from gatepost import Message, mailbox_key

from gatepost_authentication.canonical import Field, Fields, canonical_body, split_fields, without_signature
from gatepost_authentication.tags import TagListError, decode_base64, without_space

__all__ = [
    "Body",
    "aside",
    "author_domains",
    "canonicalization",
    "covered_fields",
    "domain_key",
    "encode",
    "is_within",
    "names_of",
    "parts_of",
    "same_digest",
    "sign_input",
    "signs_from",
]

_NAMES_LIMIT = 1000
T = TypeVar("T")
_LONG_BYTES = 64 << 10
"""To canonicalize and hash so many bytes takes about half a millisecond."""
_DOMAIN = re.compile(r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?)+")


async def aside(size: int, work: Callable[[], T]) -> T:
    """Do the work, in a thread if there are so many bytes that it would hold up the event loop."""
    if size <= _LONG_BYTES:
        return work()
    return await asyncio.get_running_loop().run_in_executor(None, work)


def parts_of(message: Message) -> tuple[Fields, "Body"]:
    """The fields and the body of a message; raises `HeaderSectionError`."""
    content, head = message.content, message.header_section
    start = len(head) + (2 if content.startswith(b"\r\n", len(head)) else 0)
    return split_fields(head), Body(memoryview(content)[start:])


class Body:
    """The body of one message. Each of its hashes is computed once."""

    def __init__(self, octets: bytes | memoryview) -> None:
        self._octets = octets
        self._canonical: dict[str, tuple[bytes, ...]] = {}
        self._digests: dict[tuple[str, int | None], bytes] = {}
        self.turn = asyncio.Lock()
        """Held while a thread works on the message: one thread at a time leaves others their time."""

    async def digest(self, how: str, length: int | None = None) -> tuple[bytes, bool]:
        """The SHA-256 hash of the canonical body, cut at ``length`` bytes, and whether that is all of it.

        Raises `TagListError` if the body has fewer bytes.
        """
        async with self.turn:
            return await aside(len(self._octets), lambda: self.digest_now(how, length))

    def digest_now(self, how: str, length: int | None = None) -> tuple[bytes, bool]:
        """The same for a thread, which may wait for a long body."""
        if (how, length) not in self._digests:
            self._compute(how, length)
        size = sum(map(len, self._canonical[how]))
        if length is not None and length > size:
            raise TagListError("the body is shorter than the tag l says")
        return self._digests[how, length], length is None or length >= size

    def _compute(self, how: str, length: int | None) -> None:
        if how not in self._canonical:
            self._canonical[how] = tuple(canonical_body(self._octets, how))
        digest, left = hashlib.sha256(), length
        for piece in self._canonical[how]:
            part = memoryview(piece)[:left]
            digest.update(part)
            if left is not None:
                left -= len(part)
        self._digests[how, length] = digest.digest()


def canonicalization(tags: Mapping[str, str], *, default: str = "simple/simple") -> tuple[str, str]:
    """The canonical forms of header and body from the tag ``c``; raises `TagListError`."""
    header, slash, body = without_space(tags.get("c", default)).lower().partition("/")
    if header not in ("simple", "relaxed") or (body if slash else "simple") not in ("simple", "relaxed"):
        raise TagListError(f"unknown canonicalization: {tags['c'][:40]}")
    return header, body if slash else "simple"


def names_of(tags: Mapping[str, str]) -> list[str]:
    """The names of the signed fields, from the tag ``h``, in lower case; raises `TagListError`."""
    names = without_space(tags["h"]).lower().split(":")
    if len(names) > _NAMES_LIMIT:
        raise TagListError(f"it signs more than {_NAMES_LIMIT} fields")
    return names


def covered_fields(fields: Fields, names: Sequence[str]) -> list[Field]:
    """The fields that are signed: for each name the next one from below (RFC 6376 section 5.4.2)."""
    below = {name: list(fields.get(name, ())) for name in names}
    return [found.pop() for name in names if (found := below[name])]


def signs_from(fields: Fields, names: Sequence[str]) -> bool:
    """True if the names of the signed fields cover every From field, so that none was added."""
    return names.count("from") >= max(1, len(fields.get("from", ())))


def sign_input(fields: Iterable[Field], own: Field, how: str) -> bytes:
    """The bytes that are signed: the fields, and the signature's own field without its value."""
    bare = Field(own.name, without_signature(own.value))
    parts = [field.canonical(how) for field in fields]
    parts.append(bare.canonical(how).removesuffix(b"\r\n"))
    return b"".join(parts)


def same_digest(tags: Mapping[str, str], digest: bytes) -> bool:
    """True if the tag ``bh`` is this hash; raises `TagListError` if it is not base64."""
    return decode_base64(tags["bh"]) == digest


def encode(octets: bytes) -> str:
    """The bytes as base64, on one line."""
    return base64.b64encode(octets).decode("ascii")


def domain_key(domain: str) -> str:
    """A domain in lower-case A-labels, as it is compared and looked up; empty if it is not a domain."""
    domain = without_space(domain).removesuffix(".")
    key = mailbox_key(f"x@{domain}").rpartition("@")[2] if domain and "@" not in domain else ""
    return key if len(key) <= 253 and _DOMAIN.fullmatch(key) else ""


def author_domains(message: Message) -> list[str]:
    """The domains of all addresses in From, each once; an empty one for an address without a domain."""
    addresses = [one.address for one in message.view.addresses("From") if one.address]
    written = dict.fromkeys(address.rpartition("@")[2] for address in addresses)
    return list(dict.fromkeys(map(domain_key, written)))


def is_within(domain: str, parent: str) -> bool:
    """True if the domain is the parent or a subdomain of it, both as `domain_key` returns them."""
    return domain == parent or domain.endswith(f".{parent}")
