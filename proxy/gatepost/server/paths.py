"""The arguments of MAIL and RCPT (RFC 5321 section 4.1.2), read strictly and kept byte for byte.

An address is what is between ``<`` and ``>``; it is checked here and never rewritten. Dots may be anywhere
in a local part, and one may end a domain: such addresses are in use, and other servers take them. What is
refused here, `odd_paths` may read.
"""

import re
from collections.abc import Callable, Collection, Mapping
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import Final, NoReturn

from gatepost.model import replies
from gatepost.model.verdict import Reply
from gatepost.server.replies import Refusal

__all__ = ["NEED_NO_OFFER", "is_mailbox", "parse_mail", "parse_rcpt"]

_MAX_DOMAIN: Final = 255
"""Octets (RFC 5321 section 4.5.3.1.2)."""
_MAX_PATH: Final = 256
"""Octets with the angle brackets (section 4.5.3.1.3).

The local part has no limit of its own: the return addresses of mailing lists (VERP) are longer than
the 64 octets of section 4.5.3.1.1, and section 4.5.3.1 asks not to enforce what need not be.
"""
_MAX_PARAMETERS: Final = 20

# Sets of characters are written as what is not in them: `re` is slow to compile great ranges, such as
# UTF8-non-ascii (RFC 6531 section 3.3), which is in all of them without the C1 control characters.
_CONTROLS = r"\x00-\x1f\x7f-\x9f"
_DOT_STRING = rf'[^{_CONTROLS} "(),:;<>@\[\\\]]+'
_LOCAL_PART = rf'{_DOT_STRING}|"(?:[^{_CONTROLS}"\\]|\\[ -~])*"'
_LABEL = rf"(?!-)[^{_CONTROLS} -,./:-@\[-^`{{-~]{{1,63}}(?<!-)"
_MAILBOX = re.compile(rf"({_LOCAL_PART})@((?:{_LABEL})(?:\.{_LABEL})*\.?|\[[0-9A-Za-z:.]+\])")
_QUOTED = r'"[^"\\]*(?:\\.[^"\\]*)*"'
_PATH = re.compile(rf' ?<([^<>"\\]*(?:{_QUOTED}[^<>"\\]*)*)>(?: (.+))?', re.DOTALL)
_SOURCE_ROUTE = re.compile(r"@[^:]+:.+", re.DOTALL)

_PARAMETER = re.compile(rf"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([^{_CONTROLS} =]+))?")
_XTEXT = r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})"  # RFC 3461 section 4
_UNICODE_POINT = (  # HEXPOINT of RFC 6533 section 3: no NUL, CR or LF, no surrogates
    r"[01][1-9]|[12]0|2B|3D|7F|5C|[89A-F][0-9A-F]|[1-9A-F][0-9A-F]{2}|[1-9A-CEF][0-9A-F]{3}"
    r"|D[0-7][0-9A-F]{2}|[1-9A-F][0-9A-F]{4}|10[0-9A-F]{4}"
)
_UTF8_XTEXT = rf"(?:[^{_CONTROLS} +=\\]|\+[0-9A-F]{{2}}|\\x\{{(?i:{_UNICODE_POINT})\}})"
_NOTIFY = re.compile(r"NEVER|(?:SUCCESS|FAILURE|DELAY)(?:,(?:SUCCESS|FAILURE|DELAY))*", re.IGNORECASE)

_MAIL_VALUES: Final = {
    "SIZE": re.compile(r"[0-9]{1,20}"),  # RFC 1870
    "BODY": re.compile(r"7BIT|8BITMIME", re.IGNORECASE),  # RFC 6152
    "SMTPUTF8": None,  # RFC 6531
    "AUTH": re.compile(rf"<>|{_XTEXT}+"),  # RFC 4954 section 5
    "RET": re.compile(r"FULL|HDRS", re.IGNORECASE),  # RFC 3461 section 4.3
    "ENVID": re.compile(rf"{_XTEXT}{{1,100}}"),  # RFC 3461 section 4.4
}
_RCPT_VALUES: Final = {
    "NOTIFY": _NOTIFY,  # RFC 3461 section 4.1
    "ORCPT": re.compile(  # RFC 3461 section 4.2, RFC 6533 section 3
        rf"(?=.{{1,500}}\Z)(?:(?i:utf-8);{_UTF8_XTEXT}+|(?!(?i:utf-8);)[A-Za-z0-9-]+;{_XTEXT}+)"
    ),
}
_EXTENSION: Final = {"BODY": "8BITMIME", "RET": "DSN", "ENVID": "DSN", "NOTIFY": "DSN", "ORCPT": "DSN"}
"""The extension that a parameter belongs to, where the two have different names."""
NEED_NO_OFFER: Final = frozenset(("SIZE", "BODY", "SMTPUTF8", "AUTH", "RET", "ENVID", "NOTIFY", "ORCPT"))
"""Parameters that are accepted even if they were not offered.

Postfix as a proxy passes on what its client has sent, whatever the server behind offers; a refusal would
lose such mail. Those of DSN and AUTH are then left out. Whether mail with SMTPUTF8 needs it is checked later.
"""


def parse_mail(
    argument: str, offered: Collection[str], *, need_no_offer: Collection[str] = NEED_NO_OFFER
) -> tuple[str, tuple[str, ...]]:
    """The reverse-path without its brackets (empty for ``<>``) and the parameters, as received.

    ``offered`` are the extensions of the EHLO reply: only their parameters are accepted, and those that
    ``need_no_offer``. Raises `Refusal`.
    """
    address, rest = _split(argument, "FROM:", replies.BAD_MAIL, replies.BAD_MAIL_FROM)
    parameters, keywords = _parameters(rest, _MAIL_VALUES, offered, need_no_offer)
    if address:
        _check_mailbox(address, replies.BAD_MAIL_FROM, smtputf8="SMTPUTF8" in keywords)
    return address, parameters


def parse_rcpt(
    argument: str,
    offered: Collection[str],
    *,
    smtputf8: bool,
    need_no_offer: Collection[str] = NEED_NO_OFFER,
) -> tuple[str, tuple[str, ...]]:
    """The forward-path without its brackets and the parameters, as received; raises `Refusal`.

    ``smtputf8`` tells whether MAIL had that parameter.
    """
    address, rest = _split(argument, "TO:", replies.BAD_RCPT, replies.BAD_RECIPIENT)
    parameters, _ = _parameters(rest, _RCPT_VALUES, offered, need_no_offer)
    if rest and not smtputf8 and not rest.isascii():  # ORCPT has a form without (RFC 6533 section 3)
        raise Refusal(replies.BAD_PARAMETER)
    if address.startswith("@") and _SOURCE_ROUTE.fullmatch(address):
        raise Refusal(replies.SOURCE_ROUTE)
    if address.lower() != "postmaster":
        _check_mailbox(address, replies.BAD_RECIPIENT, smtputf8=smtputf8)
    return address, parameters


def _split(argument: str, keyword: str, bad_command: Reply, bad_path: Reply) -> tuple[str, str | None]:
    if argument[: len(keyword)].upper() != keyword:
        raise Refusal(bad_command)
    found = _PATH.fullmatch(argument, len(keyword))
    if not found:
        raise Refusal(bad_path)
    return found[1], found[2]


def _check_mailbox(address: str, bad_path: Reply, *, smtputf8: bool) -> None:
    if len(address) > _MAX_PATH or not is_mailbox(address):
        raise Refusal(bad_path)
    if not smtputf8 and not address.isascii():
        raise Refusal(replies.NEEDS_SMTPUTF8)


@lru_cache(maxsize=4096)
def is_mailbox(address: str) -> bool:
    """True for a local part, ``@`` and a domain or address literal, within their bounds in size."""
    found = _MAILBOX.fullmatch(address)
    if not found:
        return False
    domain = found[2]
    if len(domain.encode()) > _MAX_DOMAIN or len(address.encode()) + len("<>") > _MAX_PATH:
        return False
    return domain[0] != "[" or _is_address(domain[1:-1])


def _is_address(literal: str) -> bool:
    version: Callable[[str], object] = IPv4Address
    if literal[:5].upper() == "IPV6:":
        version, literal = IPv6Address, literal[5:]
    try:
        version(literal)
    except ValueError:
        return False
    return True


def _parameters(
    text: str | None,
    values: Mapping[str, re.Pattern[str] | None],
    offered: Collection[str],
    need_no_offer: Collection[str],
) -> tuple[tuple[str, ...], Collection[str]]:
    """The parameters that count, as received, and their keywords in upper case."""
    if text is None:
        return (), ()
    parameters = text.split(" ")
    if len(parameters) > _MAX_PARAMETERS:
        raise Refusal(replies.BAD_PARAMETER)
    keywords, left_out = set(), set()
    for parameter in parameters:
        found = _PARAMETER.fullmatch(parameter) or _syntax_error()
        keyword, value = found[1].upper(), found[2]
        extension = _EXTENSION.get(keyword, keyword)
        if keyword not in values or (extension not in offered and keyword not in need_no_offer):
            raise Refusal(replies.UNKNOWN_PARAMETER)
        syntax = values[keyword]
        well_formed = value is None if syntax is None else value is not None and syntax.fullmatch(value)
        if keyword in keywords or not well_formed:
            raise Refusal(replies.BAD_PARAMETER)
        keywords.add(keyword)
        if extension in ("DSN", "AUTH") and extension not in offered:
            left_out.add(parameter)
    if left_out:
        parameters = [parameter for parameter in parameters if parameter not in left_out]
    return tuple(parameters), keywords


def _syntax_error() -> NoReturn:
    raise Refusal(replies.BAD_PARAMETER)
