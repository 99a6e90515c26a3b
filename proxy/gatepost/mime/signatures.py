"""What DKIM signatures cover (RFC 6376), and whether a changed message still is what was signed.

Whether a signature was valid is not asked here: that needs its key.
"""

import re

from gatepost.mime.fields import header_section_end, read_fields
from gatepost.values import value

__all__ = ["BrokenSignature", "broken_signatures"]

_FIELD = b"dkim-signature"
_TAG = re.compile(rb"[ \t\r\n]*+([A-Za-z][A-Za-z0-9_]*+)[ \t\r\n]*+=([^;]*+)(?:;|\Z)")
_SPACES = re.compile(rb"[ \t\r\n]++")
_BLANKS = re.compile(rb"[ \t]++")
_BLANKS_AT_END = re.compile(rb"(?<![ \t])[ \t]++\r\n")
_SIGNATURES_LIMIT = 20


@value
class BrokenSignature:
    """A signature that covers something that was changed."""

    domain: str
    """Of the signer, from ``d=``."""
    selector: str
    """From ``s=``."""
    value: str
    """The first eight characters of ``b=``, by which signatures of a domain differ (RFC 6008)."""
    changed: tuple[str, ...]
    """The names of the fields as in ``h=``, and ``body``."""

    def __str__(self) -> str:
        """Which one, for a person."""
        return f"DKIM signature of {self.domain} ({self.selector})"


def broken_signatures(before: bytes, after: bytes) -> tuple[BrokenSignature, ...]:
    """The signatures in a message that do not cover its changed form any more."""
    if before == after:
        return ()
    old, new = read_fields(before).pairs, read_fields(after).pairs
    found: list[BrokenSignature] = []
    signatures = [text for name, text in old if name.rstrip().lower() == _FIELD]
    for signature in signatures[:_SIGNATURES_LIMIT]:
        tags = {name.lower(): _SPACES.sub(b"", text) for name, text in _TAG.findall(signature)}
        relaxed_header, relaxed_body = _canonicalization(tags.get(b"c", b""))
        names = tags.get(b"h", b"").lower().split(b":")
        changed = [
            name.decode("ascii", "replace")
            for name in dict.fromkeys(names)
            if _signed(old, name, names.count(name), relaxed=relaxed_header)
            != _signed(new, name, names.count(name), relaxed=relaxed_header)
        ]
        length = int(tags[b"l"]) if tags.get(b"l", b"").isdigit() else None
        if _body(before, relaxed=relaxed_body)[:length] != _body(after, relaxed=relaxed_body)[:length]:
            changed.append("body")
        if changed:
            found.append(
                BrokenSignature(
                    domain=tags.get(b"d", b"").decode("utf-8", "replace"),
                    selector=tags.get(b"s", b"").decode("utf-8", "replace"),
                    value=tags.get(b"b", b"")[:8].decode("ascii", "replace"),
                    changed=tuple(changed),
                )
            )
    return tuple(found)


def _canonicalization(tag: bytes) -> tuple[bool, bool]:
    """Whether header section and body are relaxed (RFC 6376 section 3.5)."""
    header, _, body = tag.lower().partition(b"/")
    return header == b"relaxed", body == b"relaxed"


def _signed(pairs: list[tuple[bytes, bytes]], name: bytes, number: int, *, relaxed: bool) -> list[bytes]:
    """The fields that ``number`` mentions in ``h=`` cover: from the last one up (RFC 6376 section 5.4.2)."""
    covered = [(own, text) for own, text in pairs if own.rstrip().lower() == name][-number:]
    if relaxed:
        return [_SPACES.sub(b" ", text).strip(b" ") for _, text in covered]
    return [own + b":" + text for own, text in covered]


def _body(content: bytes, *, relaxed: bool) -> bytes:
    """The body in its canonical form (RFC 6376 sections 3.4.3 and 3.4.4)."""
    end = header_section_end(content)
    body = content[end + 2 if content.startswith(b"\r", end) else end + 1 :]
    if relaxed:
        body = _BLANKS.sub(b" ", _BLANKS_AT_END.sub(b"\r\n", body))
    while body.endswith(b"\r\n\r\n"):
        body = body.rstrip(b"\r\n") + b"\r\n"
    return b"" if body == b"\r\n" else body
