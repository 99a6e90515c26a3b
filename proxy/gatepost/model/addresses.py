"""Compare addresses: different spellings of one mailbox are equal.

No address is changed: on the wire and in the journal it stays as received. Every function takes
any text, raises nothing, and is linear in the length of the text; past `LONGEST` only case is ignored.
"""

import re
import unicodedata
from functools import lru_cache
from ipaddress import ip_address
from typing import Final

from gatepost.values import value

__all__ = ["LONGEST", "Mailbox", "domain_readings", "local_readings", "mailbox", "mailbox_key", "spellings"]

LONGEST: Final = 1024
"""Characters; a path has at most 256 bytes (RFC 5321 section 4.5.3.1.3)."""

_DOTS = re.compile("[.\u3002\uff0e\uff61]")  # UTS 46 section 2.3
_NOT_IN_A_NAME = re.compile(r"[\x00-,/:-@\[-^`{-\x7f]")
_LABEL: Final = 63
"""Bytes in a label (RFC 1035 section 2.3.4)."""
_PREFIX: Final = "xn--"
_QUOTED_PAIR = re.compile(r"\\(.)", re.DOTALL)
_NEEDS_QUOTES = re.compile(r'[\x00-\x20"(),:;<>@\[-\]\x7f]')
_ESCAPED = re.compile(r'(["\\])')


@value
class Mailbox:
    """One address, in the forms that are compared."""

    key: str
    """Equal for two addresses if they are the same mailbox; ``""`` is the null reverse-path."""
    domain: str
    """Lower-case A-labels without a trailing dot; empty where the address has no domain."""
    readings: tuple[str, ...]
    """What a pattern with ``*`` is compared with; it fits if one of them does."""
    sender_routed: bool
    """True if the local part may ask the next server to send the mail on.

    That is where it holds ``%``, ``!`` or ``@`` (RFC 5321 section 4.1.1.3 and appendix F.2) or a character
    that NFKC makes one of them, such as the full-width percent sign.
    """


@lru_cache(maxsize=1024)
def mailbox(address: str) -> Mailbox:
    """Read an address, as received between the angle brackets."""
    lower = address.lower()
    if len(address) > LONGEST:
        domain = domain_readings(lower.rpartition("@")[2])[0]
        return Mailbox(key=lower, domain=domain, readings=(lower,), sender_routed=True)
    local, at, domain = address.rpartition("@")
    if not at:
        local, domain = domain, ""
    is_ascii = address.isascii()
    routing = local if is_ascii else unicodedata.normalize("NFKC", local)
    routed = "%" in routing or "!" in routing or "@" in routing
    if is_ascii and '"' not in lower and "[" not in lower and _PREFIX not in lower and lower[-1:] != ".":
        return Mailbox(key=lower, domain=domain.lower(), readings=(lower,), sender_routed=routed)
    locals_, domains = local_readings(local), domain_readings(domain)
    key = locals_[0] if len(locals_) == 1 else _quoted_where_needed(locals_[0])
    return Mailbox(
        key=f"{key}{at}{domains[0]}",
        domain=domains[0],
        readings=tuple(f"{one}{at}{other}" for one in locals_ for other in domains),
        sender_routed=routed,
    )


def mailbox_key(address: str) -> str:
    """Text that is equal for two addresses if, and only if, rules take them for the same mailbox.

    The domain is in lower-case A-labels without a trailing dot; the local part has no needless quotes
    (RFC 5321 section 4.1.2) and no difference of case, also beyond ASCII. ``""`` is the null reverse-path.
    """
    return mailbox(address).key if len(address) <= LONGEST else address.lower()


def spellings(address: str) -> tuple[str, ...]:
    """Ways to write an address, the given one first: with A-labels, U-labels, and quotes or without."""
    local, at, domain = address.rpartition("@")
    if not at or len(address) > LONGEST:
        return (address,)
    plain = local_readings(local)[0]
    locals_ = (local, plain, _quoted(plain))
    ways = (f"{one}@{other}" for one in locals_ for other in (domain, *domain_readings(domain)))
    return tuple(dict.fromkeys((address, *ways)))


def local_readings(local: str) -> tuple[str, ...]:
    """A local part without regard to case; of a quoted one the text in it, then all as written.

    Beyond ASCII, case is ignored by Unicode's canonical caseless match (section 3.13, D145): of composed
    and decomposed, upper and lower case all come to one text. A server may distinguish case (RFC 5321
    section 2.4), but hardly any does, and a rule must not be evaded by it.
    """
    written = _folded(local)
    if len(written) < 2 or written[0] != '"' or written[-1] != '"':
        return (written,)
    return _QUOTED_PAIR.sub(r"\1", written[1:-1]), written


def _folded(text: str) -> str:
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", text).casefold())


def _quoted_where_needed(local: str) -> str:
    return _quoted(local) if not local or _NEEDS_QUOTES.search(local) else local


def _quoted(text: str) -> str:
    return '"' + _ESCAPED.sub(r"\\\1", text) + '"'


def domain_readings(domain: str) -> tuple[str, ...]:
    """A domain in lower-case A-labels (UTS 46, nontransitional); further readings behind it.

    These are the one in U-labels where it differs, and the first with the trailing dot that was there. An
    address literal has its shortest form. A label that IDNA knows nothing of is compared as it is, in lower
    case and NFC; so is one with ``*`` in it, which is part of a pattern.
    """
    return _domain_readings(domain) if len(domain) <= LONGEST else (domain.lower(),)


@lru_cache(maxsize=1024)
def _domain_readings(domain: str) -> tuple[str, ...]:
    if domain.startswith("[") and domain.endswith("]"):
        return (_literal(domain.lower()),)
    text = domain.lower() if domain.isascii() else ".".join(map(_mapped, _DOTS.split(domain)))
    name = text
    if text.endswith(".") and not text.endswith("*.") and len(text) > 1:
        name = text[:-1]
    if name.isascii() and _PREFIX not in name:
        found = [name]
    else:
        labels = name.split(".")
        found = [".".join(map(_a_label, labels)), ".".join(map(_u_label, labels))]
    if name != text:
        found.append(f"{found[0]}.")
    return tuple(dict.fromkeys(found))


def _literal(domain: str) -> str:
    """``[192.0.2.1]`` or ``[ipv6:2001:db8::1]`` (RFC 5321 section 4.1.3); what is neither, as it is."""
    try:
        address = ip_address(domain[1:-1].removeprefix("ipv6:"))
    except ValueError:
        return domain
    return domain if address.version == 4 else f"[ipv6:{address}]"


def _mapped(label: str) -> str:
    """A label after the mapping of UTS 46; in lower case and NFC where it has none."""
    if label.isascii():
        return label.lower()
    if "*" in label:
        return "*".join(map(_mapped, label.split("*")))
    return _uts46(label) or unicodedata.normalize("NFC", label.lower())


def _uts46(label: str) -> str:
    """Empty where the label cannot be mapped, or not to characters of a domain name."""
    import idna  # noqa: PLC0415 - its tables are for those few who have such mail

    try:
        mapped = idna.uts46_remap(label, std3_rules=False)
    except idna.IDNAError:
        return ""
    return "" if _NOT_IN_A_NAME.search(mapped) else mapped


def _a_label(label: str) -> str:
    if label.isascii() or "*" in label or len(label) > _LABEL or label.startswith(_PREFIX):
        return label
    if _uts46(label) != label:
        return label
    encoded = _PREFIX + label.encode("punycode").decode("ascii")
    return encoded if len(encoded) <= _LABEL else label


def _u_label(label: str) -> str:
    if not label.startswith(_PREFIX) or "*" in label or len(label) > _LABEL:
        return label
    try:
        decoded = label[len(_PREFIX) :].encode("ascii").decode("punycode")
    except UnicodeError:
        return label
    return decoded if not decoded.isascii() and _a_label(decoded) == label else label
