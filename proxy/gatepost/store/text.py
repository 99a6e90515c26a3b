"""Text of mail as every store holds it: bounded, and only characters that a database accepts."""

import re
from collections.abc import Iterable
from string import ascii_lowercase, ascii_uppercase

from gatepost.mime.fields import FieldFinder, header_section_end
from gatepost.model.addresses import domain_readings, local_readings
from gatepost.model.mail import Recipient
from gatepost.printable import storable

__all__ = ["address_tags", "ascii_lower", "domain_ends", "header_fields"]

_LOWER = str.maketrans(ascii_uppercase, ascii_lowercase)
_FOLD = re.compile(rb"\r?\n[ \t]+")
_HEADER_LIMIT = 128 << 10
"""Bytes of a message in which its header section is searched."""
_VALUE_LIMIT = 200
"""Characters of a header field's value that are kept for lists."""


def header_fields(pieces: Iterable[bytes]) -> dict[bytes, str]:
    """The first From, Subject and Message-ID, for lists: unfolded, not decoded, empty where there is none.

    Of a message in pieces that each start at a line's beginning; by their names in lower case.
    """
    content = b"".join([piece[:_HEADER_LIMIT] for piece in pieces])[:_HEADER_LIMIT]
    fields = FieldFinder(content[: header_section_end(content)])
    return {name: _listed_value(fields.first(name)) for name in (b"from", b"subject", b"message-id")}


def _listed_value(value: bytes) -> str:
    octets = _FOLD.sub(b" ", value).strip().partition(b"\r")[0]  # a bare CR ends it
    return storable(octets.decode("utf-8", "replace")[:_VALUE_LIMIT])


def ascii_lower(text: str) -> str:
    """With the ASCII letters in lower case, as SQLite's lower() returns it."""
    return text.translate(_LOWER)


def address_tags(addresses: Iterable[str]) -> list[str]:
    """The part of each local part after its first ``+``, unquoted and in lower case."""
    local_parts = (local_readings(Recipient(address=address).local_part)[0] for address in addresses)
    return [tag for local_part in local_parts if (tag := local_part.partition("+")[2])]


def domain_ends(domains: Iterable[str]) -> tuple[str, ...]:
    """How addresses in these domains end, in lower case: ``@`` and a spelling, perhaps with its last dot."""
    readings = [reading for domain in domains for reading in domain_readings(domain)]
    return tuple(f"@{reading}{dot}" for reading in readings for dot in ("", "."))
